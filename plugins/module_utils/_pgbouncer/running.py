# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a PgBouncer process says about itself, and what Debian's package would start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import (
    OPTIONS,
    default_of,
    exists,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.os_user import (
    LAYOUT,
    PACKAGED,
)

# What Debian's package starts with at its installation.
PACKAGE_OPTIONS: dict[str, str] = {
    **LAYOUT,
    "listen_addr": "localhost",
    "listen_port": "6432",
    "auth_type": "md5",
    "auth_file": "/etc/pgbouncer/userlist.txt",
}


@dataclass(frozen=True)
class ShownOption:
    """A row of SHOW CONFIG."""

    value: str
    default: str
    reloads: bool


@dataclass(frozen=True)
class Running:
    """A process as it runs. C(config) is None when its console does not answer."""

    active: bool
    config: Mapping[str, ShownOption] | None = None
    databases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    users: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    descriptors: int | None = None
    certificate: str = ""  # digest of the one it serves; empty where that is not known
    peers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    os_user: str = ""  # whom its process belongs to; empty where that is not known

    @property
    def answers(self) -> bool:
        """Whether it runs and its console answers."""
        return self.active and self.config is not None

    @property
    def reads_rules(self) -> bool:
        """Whether it already lets clients in by rules for logins."""
        option = (self.config or {}).get("auth_type")
        return option is not None and option.value == "hba"


STOPPED = Running(active=False)


def package_state(version: tuple[int, int, int], descriptors: int) -> Running:
    """PgBouncer as Debian's package starts it, for predictions before it is installed."""
    config = {
        name: ShownOption(
            PACKAGE_OPTIONS.get(name, default_of(option, version)),
            default_of(option, version),
            option.reloads,
        )
        for name, option in OPTIONS.items()
        if exists(option, version)
    }
    return Running(True, config, descriptors=descriptors, os_user=PACKAGED)
