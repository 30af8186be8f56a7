# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sessions in the pools still carry from when they were opened."""

from __future__ import annotations

from typing import Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Database,
    Role,
    model_roles,
)

# What an entry in [databases] says when a server connection is opened. PgBouncer lets connections
# go itself when the rest of an entry has changed.
_SESSION_PARAMETERS = ("application_name", "client_encoding", "datestyle", "timezone")


def role_settings_lines(databases: Iterable[Database]) -> list[str]:
    """What pooled sessions carry from their roles, a line for each role.

    Written into the file as a comment: a session keeps the settings it logged in with, so a
    change of these lines means that the pools have to log in again.
    """
    return [
        _settings_line(role) for role in sorted(model_roles(databases), key=lambda role: role.name)
    ]


def carries_old_settings(noted: Sequence[str], databases: Iterable[Database]) -> bool:
    """Whether sessions may be in the pools that carry other settings than their roles have now.

    Args:
        noted: role_settings_lines() when the pools last logged in; empty when nobody noted it.
        databases: the model now. A role that nobody noted is new and has no sessions, and nobody
            logs in any more as one that is only noted.
    """
    roles = model_roles(databases)
    if not noted:
        return bool(roles)
    return any(
        _settings_line(role) not in noted
        and any(line.startswith(f"{role.name}:") for line in noted)
        for role in roles
    )


def carries_old_parameters(
    noted: Mapping[str, Mapping[str, str]], entries: Mapping[str, Mapping[str, str]]
) -> bool:
    """Whether sessions may be in the pools that were opened with other parameters than now.

    Args:
        noted: [databases] when the pools last logged in.
        entries: [databases] now.
    """
    return any(
        noted[name].get(key) != entry.get(key)
        for name, entry in entries.items()
        if name in noted
        for key in _SESSION_PARAMETERS
    )


def _settings_line(role: Role) -> str:
    return " ".join([f"{role.name}:", *(f"{name}={value}" for name, value in role.settings)])
