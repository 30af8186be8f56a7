# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What about the model's roles, in the whole server, goes beyond the model: told, never touched."""

from __future__ import annotations

from typing import Iterable, Iterator

from ansible_collections.pooled.postgres.plugins.module_utils._access_outside import (
    planned_links,
    reached,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access_report import rights_text
from ansible_collections.pooled.postgres.plugins.module_utils._access_state import (
    Actual,
    Change,
    Wanted,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model import Role, model_roles
from ansible_collections.pooled.postgres.plugins.module_utils._quote import name_list

# The server's own roles whose members no kind of role binds.
_POWERS = {
    "pg_execute_server_program": "run programs on the server's host",
    "pg_read_server_files": "read files on the server's host",
    "pg_write_all_data": "write all data of all databases",
    "pg_write_server_files": "write files on the server's host",
}


def role_reports(wanted: Wanted, actual: Actual, changes: Iterable[Change]) -> Iterator[str]:
    """What roles of the model may do beyond it, and who loses what they lose."""
    for role in model_roles(wanted.databases):
        for group, power in _powers(role, wanted, actual):
            yield (
                f"role {role.name!r} of kind {role.kind} is a member of {group!r}, directly or by"
                f" way of others, and so may {power}; take it out of member_of unless that is meant"
            )
    if actual.other_rights:
        yield (
            "roles of the model have rights on what is the whole server's, which stay as they are:"
            f" {rights_text(actual.other_rights)}"
        )
    found: dict[str, list[str]] = {}
    for database, name, count in actual.other_databases:
        found.setdefault(database, []).append(f"{name!r} on {count} object(s)")
    for database, texts in found.items():
        yield (
            f"database {database!r} is not in the model, and roles of the model own or have rights"
            f" there, which stay as they are: {', '.join(texts)}"
        )
    yield from _losers(wanted, actual, changes)


def _powers(role: Role, wanted: Wanted, actual: Actual) -> Iterator[tuple[str, str]]:
    links = planned_links(wanted, actual.links)
    groups = reached(role.name, links, lambda link: link.inherits or link.may_set) - {role.name}
    migrators = {other.name for other in model_roles(wanted.databases) if other.kind == "migrator"}
    for group in sorted(groups):
        other = actual.others.get(group)
        if other and other.superuser:
            yield group, "become a superuser"
        elif other and other.bypasses_rls and role.kind != "admin":
            yield group, "get around row-level security"
        if group in _POWERS:
            yield group, _POWERS[group]
        if role.kind == "migrator":
            continue
        if group in migrators:
            yield group, "do what a migrator may"
            continue
        owned = _owned_by(group, wanted, actual)
        if owned:
            yield group, f"do anything with what it owns: {owned}"


def _owned_by(group: str, wanted: Wanted, actual: Actual) -> str:
    """What of the model a group owns."""
    parts = []
    for database in wanted.databases:
        state = actual.databases[database.name]
        if state.owner == group:
            parts.append(f"database {database.name}")
        schemas = [
            name
            for name in database.schemas
            if name in state.schemas and state.schemas[name].owner == group
        ]
        parts.extend(f"schema {name} of {database.name}" for name in schemas)
        tables = sum(
            item.owner == group and item.kind == "tables" and item.schema in database.schemas
            for item in state.securables
        )
        if tables:
            parts.append(f"{tables} table(s) of {database.name}")
    return ", ".join(parts)


def _losers(wanted: Wanted, actual: Actual, changes: Iterable[Change]) -> Iterator[str]:
    """Roles outside the model that are members of a role that this run takes something from."""
    ours = {role.name for role in model_roles(wanted.databases)}
    losing = {name for change in changes for name in change.takes_from} & ours
    links = planned_links(wanted, actual.links)
    for name in sorted(losing):
        members = [
            outsider.name
            for outsider in actual.outsiders
            if name in reached(outsider.name, links, lambda link: link.inherits or link.may_set)
            and outsider.name != actual.login_user
        ]
        if members:
            yield (
                f"{name_list(members)} outside the model has, as a member, the rights of role"
                f" {name!r}, and loses with it those that go beyond its kind"
            )
