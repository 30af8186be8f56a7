# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hardening profiles: what each brings, why, and for which point of the CIS Benchmark.

The numbers of points are those of the CIS PostgreSQL 16 Benchmark, as pgdsat 2.0 prints them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Collection, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._settings.check import (
    check_setting_name,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    check_major,
)

STANDARD = "standard"
CIS = "cis"
PROFILES = (STANDARD, CIS)

# Suites with forward secrecy and authenticated encryption. TLS 1.3 has no others.
CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)

LOG_DIRECTORY = "/var/log/postgresql"
# From this major on log_connections has a list of stages.
_STAGES_SINCE = 18
# In the managed file, so that what a profile preloaded goes with it and nothing else does.
MARKER = "pooled.hardening"
SOCKET = "unix_socket_permissions"
# Few enough that one role does not take all connections, enough for migrations that run at once.
LEAST_LIMIT = 10
_LIMIT_FACTOR = 2
# The server never enforces a superuser's; it would hold once the role is a superuser no more.
SUPERUSER_LIMIT = LEAST_LIMIT


@dataclass(frozen=True)
class Point:
    """A setting of a profile; C(cis) has also what C(standard) has.

    C(value) may name {major} and {cluster}; C(value_18) is what 18 and newer call the same.
    """

    setting: str
    value: str
    profile: str
    cis: str
    reason: str
    value_18: str = ""


@dataclass(frozen=True)
class Library:
    """A library that a profile preloads; C(package) is its part of the package's name.

    It is empty for those that come with the server.
    """

    name: str
    cis: str
    reason: str
    package: str = ""


POINTS = (
    Point(MARKER, CIS, CIS, "none", "says which profile the server has"),
    Point(
        "log_connections",
        "on",
        STANDARD,
        "3.1.20, 6.2",
        "who came in, from where and as whom",
        value_18="authorization",
    ),
    Point("log_disconnections", "on", STANDARD, "3.1.21, 6.2", "how long they stayed"),
    Point(
        "log_line_prefix",
        "%m [%p] %q%u@%d %a %h ",
        STANDARD,
        "3.1.24",
        "when, process, role, database, application and address",
    ),
    Point(
        "log_replication_commands",
        "on",
        STANDARD,
        "7.2",
        "who copies the whole server",
    ),
    Point(
        "password_encryption",
        "scram-sha-256",
        STANDARD,
        "5.12",
        "new passwords are stored as SCRAM verifiers",
    ),
    Point(
        "logging_collector",
        "on",
        CIS,
        "3.1.3",
        "no line is lost or torn; the lines go to the file that Debian rotates, as without it",
    ),
    Point("log_directory", LOG_DIRECTORY, CIS, "3.1.4, 3.1.27", "outside the data directory"),
    Point(
        "log_filename",
        "postgresql-{major}-{cluster}.log",
        CIS,
        "3.1.5",
        "the name that Debian's tools know",
    ),
    Point("log_file_mode", "0600", CIS, "3.1.6", "a file that the collector makes is the server's"),
    Point(
        "log_truncate_on_rotation",
        "on",
        CIS,
        "3.1.7",
        "has no effect while logrotate turns the file over",
    ),
    Point("log_rotation_age", "0", CIS, "3.1.8", "Debian's logrotate turns the file over"),
    Point("log_rotation_size", "0", CIS, "3.1.9", "Debian's logrotate turns the file over"),
    Point(
        "log_error_verbosity",
        "verbose",
        CIS,
        "3.1.22",
        "errors with their SQLSTATE and place in the source",
    ),
    Point("log_statement", "ddl", CIS, "3.1.25", "who created, altered or dropped what"),
    Point("log_timezone", "UTC", CIS, "3.1.26", "lines of several servers can be compared"),
    Point(
        "pgaudit.log",
        "ddl, role, write",
        CIS,
        "3.2",
        "statements that change data, objects or rights, in pgaudit's format",
    ),
    Point(
        "set_user.superuser_allowlist",
        "",
        CIS,
        "4.8",
        "nobody becomes superuser through set_user until you name who may",
    ),
    Point(
        SOCKET,
        "0770",
        CIS,
        "2.6",
        "only the server's OS user connects over the unix socket",
    ),
    Point(
        "auth_delay.milliseconds",
        "500",
        CIS,
        "5.7",
        "guessing passwords takes half a second for each",
    ),
    Point("ssl", "on", CIS, "6.8", "clients from elsewhere must use TLS"),
    Point("ssl_min_protocol_version", "TLSv1.3", CIS, "6.8", "no older protocol"),
    Point("ssl_ciphers", ":".join(CIPHERS), CIS, "6.10", "forward secrecy and nothing weaker"),
)

LIBRARIES = (
    Library("auth_delay", "5.7", "delays the answer to a wrong password"),
    Library(
        "passwordcheck",
        "5.6",
        "refuses weak passwords given as plain text; of verifiers, which it can't look into,"
        " only a password that is the role's name",
    ),
    Library("pgaudit", "3.2", "writes the audit log that pgaudit.log asks for", "pgaudit"),
    Library(
        "set_user",
        "4.8",
        "lets named roles become superuser for a while, with all they do in the log",
        "set-user",
    ),
)


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


def hardening(
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


def connection_limit(counted: int) -> int:
    """A limit for a role that the model gives none: twice what the connection budget counts."""
    return max(_LIMIT_FACTOR * counted, LEAST_LIMIT)


def with_connection_limits(
    databases: Sequence[Mapping[str, Any]], counted: Mapping[str, int] | None
) -> list[Any]:
    """The model with a limit for each of its roles.

    Args:
        databases: the model.
        counted: connections of each role in the connection budget; None when there is none.

    Raises:
        ValueError: naming the roles that have no limit, when there is no budget.
    """
    missing: list[str] = []

    def limited(role: Any) -> Any:
        if not isinstance(role, Mapping) or role.get("connection_limit") is not None:
            return role
        if role.get("state", "present") == "absent":
            return role
        name = str(role.get("name", ""))
        if counted is None:
            missing.append(name)
            return role
        return {**role, "connection_limit": connection_limit(int(counted.get(name, 0)))}

    result = [
        {**database, "roles": [limited(role) for role in database["roles"]]}
        if isinstance(database, Mapping) and isinstance(database.get("roles"), Sequence)
        else database
        for database in databases
    ]
    if missing:
        raise ValueError(
            "pooled_databases: with the hardening profile cis each role needs a limit, and there is"
            f" no connection budget to derive one from: {', '.join(dict.fromkeys(missing))}; give"
            " each a connection_limit, or run the role postgres before, as the playbook site does"
        )
    return result
