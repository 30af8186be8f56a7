# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model as an option of modules, the same in each that takes it."""

from __future__ import annotations

from typing import Any, Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    CLIENT_VIA,
    STATES,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.role_kinds import KINDS


def databases_argument_spec() -> dict[str, Any]:
    """Argument spec of the C(model) documentation fragment."""
    names = {"type": "list", "elements": "str"}
    role = {
        "name": {"type": "str", "required": True},
        "kind": {"type": "str", "choices": list(KINDS)},
        "password": {"type": "str", "no_log": True},
        "connection_limit": {"type": "int"},
        "settings": {"type": "dict"},
        "member_of": names,
        "pools": {"type": "dict"},
        "pooled": {"type": "bool"},
        "state": {"type": "str", "choices": list(STATES)},
        "reassign_owned_to": {"type": "str"},
    }
    client = {
        "name": {"type": "str", "required": True},
        "role": {"type": "str", "required": True},
        "replicas": {"type": "int"},
        "surge": {"type": "str"},
        "workers": {"type": "int"},
        "pool_size": {"type": "int"},
        "max_overflow": {"type": "int"},
        "via": {"type": "str", "choices": list(CLIENT_VIA)},
        "alias": {"type": "str"},
    }
    database = {
        "name": {"type": "str", "required": True},
        "schemas": names,
        "extensions": {"type": "list", "elements": "raw"},
        "roles": {"type": "list", "elements": "dict", "options": role},
        "clients": {"type": "list", "elements": "dict", "options": client},
        "pools": {"type": "dict"},
        "aliases": {"type": "list", "elements": "dict"},
    }
    return {
        "databases": {"type": "list", "elements": "dict", "required": True, "options": database}
    }


def passwords_argument_spec() -> dict[str, Any]:
    """Argument spec of the C(model.passwords) documentation fragment."""
    return {"passwords": {"type": "dict", "default": {}, "no_log": True}}


def given_databases(
    databases: Iterable[Mapping[str, Any]], passwords: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """A module's databases without the keys that only its argument spec put there.

    Args:
        databases: as the argument spec has them.
        passwords: those of roles, by the role's name, which are put into their entries.

    Raises:
        ValueError: for a password that fits no role, or not what the role's own entry says. It
            never quotes one.
    """
    given = [
        {
            key: [_given(entry) for entry in value] if key in ("roles", "clients") else value
            for key, value in _given(database).items()
        }
        for database in databases
    ]
    roles = [role for database in given for role in database.get("roles", ())]
    for name, password in (passwords or {}).items():
        entries = [role for role in roles if role["name"] == name]
        if not entries:
            raise ValueError(
                f"passwords: {name!r} is not a role of databases; correct the name, or leave it out"
            )
        for entry in entries:
            if entry.setdefault("password", password) != password:
                raise ValueError(
                    f"passwords: role {name!r} has another password in its entry in databases;"
                    " leave the key password out there"
                )
    return given


def _given(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value is not None}
