# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hardening profile brings to one server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Collection, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._settings.check import (
    check_setting_name,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    check_major,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.profiles import (
    CIS,
    LIBRARIES,
    POINTS,
    PROFILES,
    SOCKET,
    STANDARD,
    Library,
    Point,
)

# From this major on log_connections has a list of stages.
_STAGES_SINCE = 18


@dataclass(frozen=True)
class Hardening:
    """What a profile brings to one server; C(left_out) says what not, and why.

    C(new) are those of the libraries that C(packages) bring, which are not installed yet, and
    C(unwanted) those that an earlier profile has preloaded.
    """

    settings: Mapping[str, str]
    libraries: tuple[str, ...]
    new: tuple[str, ...]
    packages: tuple[str, ...]
    unwanted: tuple[str, ...]
    reasons: Mapping[str, str]
    left_out: tuple[str, ...]


def check_profile(profile: Any, variable: str = "pooled_hardening") -> str:
    """The profile, when there is one of that name.

    Raises:
        ValueError: when not.
    """
    if profile not in PROFILES:
        raise ValueError(
            f"{variable}: {profile!r} is not a valid profile; choose one of {', '.join(PROFILES)}"
        )
    return str(profile)


def hardening_for(
    profile: str,
    major: int,
    cluster: str = "main",
    *,
    installed: Collection[str] = (),
    packaged: bool = True,
    private_socket: bool = True,
    before: str = "",
    variable: str = "pooled_hardening",
) -> Hardening:
    """The settings and libraries of a profile.

    Args:
        profile: one of PROFILES.
        major: the server's.
        cluster: its name, as Debian names it.
        installed: libraries that are there already, of those that come in packages of their own.
        packaged: whether there are packages for this major.
        private_socket: whether nobody but the server's OS user needs the unix socket.
        before: what the managed file has as MARKER.
        variable: where the profile comes from, for error messages.

    Raises:
        ValueError: for a profile that there is not, or a major that is not supported.
    """
    check_profile(profile, variable)
    check_major(major)
    left_out: list[str] = []
    points = [point for point in POINTS if point.profile in (STANDARD, profile)]
    libraries: tuple[Library, ...] = LIBRARIES if profile == CIS else ()
    new = [item for item in libraries if item.package and item.name not in installed]
    if new and not packaged:
        names = tuple(f"{item.name}." for item in new)
        points = [point for point in points if not point.setting.startswith(names)]
        left_out += [
            f"{item.name}: there is no package of it for Postgres {major} here; install the"
            " library, and the next run uses it"
            for item in new
        ]
        libraries = tuple(item for item in libraries if item not in new)
        new = []
    if profile == CIS and not private_socket:
        points = [point for point in points if point.setting != SOCKET]
        left_out.append(
            f"{SOCKET}: an exporter or PgBouncer connects over the unix socket as an OS user of its"
            " own, which pg_hba.conf lets in by name"
        )
    return Hardening(
        settings={
            check_setting_name(point.setting, major, variable): _value(point, major, cluster)
            for point in points
        },
        libraries=tuple(item.name for item in libraries),
        new=tuple(item.name for item in new),
        packages=tuple(f"postgresql-{major}-{item.package}" for item in new),
        unwanted=tuple(item.name for item in LIBRARIES if before == CIS and item not in libraries),
        reasons={point.setting: f"{point.reason} (CIS {point.cis})" for point in points},
        left_out=tuple(left_out),
    )


def as_data(found: Hardening) -> dict[str, Any]:
    """The profile in dictionaries and lists, as Ansible keeps it."""
    return {
        "settings": dict(found.settings),
        "libraries": list(found.libraries),
        "new": list(found.new),
        "packages": list(found.packages),
        "unwanted": list(found.unwanted),
        "reasons": dict(found.reasons),
        "left_out": list(found.left_out),
    }


def _value(point: Point, major: int, cluster: str) -> str:
    if point.value_18 and major >= _STAGES_SINCE:
        return point.value_18
    if "{cluster}" in point.value:
        # It is a pattern for strftime.
        return point.value.format(major=major, cluster=cluster.replace("%", "%%"))
    return point.value
