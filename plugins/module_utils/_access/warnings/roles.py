# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What in the whole server goes beyond the model of its roles: reported, never touched."""

from __future__ import annotations

from collections import Counter
from typing import Iterable, Iterator, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import Actual
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import Change
from ansible_collections.pooled.postgres.plugins.module_utils._access.memberships import (
    groups_of,
    planned_links,
    reached,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._access.warnings.database import (
    rights_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Role,
    model_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.role_kinds import KINDS
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import name_list

# The server's own roles whose members no kind of role binds.
_POWERS = {
    "pg_execute_server_program": "run programs on the server's host",
    "pg_read_server_files": "read files on the server's host",
    "pg_write_all_data": "write all data of all databases",
    "pg_write_server_files": "write files on the server's host",
}


def role_reports(wanted: Wanted, actual: Actual, changes: Iterable[Change]) -> Iterator[str]:
    """What roles of the model may do beyond it, and who loses what they lose."""
    # Any membership counts: what a role does not inherit, it may mostly become.
    groups = groups_of(planned_links(wanted, actual.links))
    owned = _owned(wanted, actual)
    for role in model_roles(wanted.databases):
        reachable = reached(role.name, groups) - {role.name}
        for group, power in _powers(role, reachable, owned, wanted, actual):
            yield (
                f"role {role.name!r} of kind {role.kind} is a member of {group!r}, directly or"
                f" through other roles, and so may {power}; take it out of member_of unless that"
                " is meant"
            )
    if actual.unmanaged_rights:
        yield (
            "roles of the model have rights on what is the whole server's, which stay as they are:"
            f" {rights_text(actual.unmanaged_rights)}"
        )
    found: dict[str, list[str]] = {}
    for database, name, count in actual.unmanaged_databases:
        found.setdefault(database, []).append(f"{name!r} on {count} object(s)")
    for database, texts in found.items():
        yield (
            f"database {database!r} is not in the model, and roles of the model own or have rights"
            f" there, which stay as they are: {', '.join(texts)}"
        )
    yield from _losers(wanted, actual, changes)


def _powers(
    role: Role,
    groups: frozenset[str],
    owned: Mapping[str, str],
    wanted: Wanted,
    actual: Actual,
) -> Iterator[tuple[str, str]]:
    migrators = {other.name for other in model_roles(wanted.databases) if other.kind == "migrator"}
    for group in sorted(groups):
        other = actual.server_roles.get(group)
        if other and other.superuser:
            yield group, "become a superuser"
        elif other and other.bypasses_rls and "BYPASSRLS" not in KINDS[role.kind].attributes:
            yield group, "get around row-level security"
        if group in _POWERS:
            yield group, _POWERS[group]
        if role.kind == "migrator":
            continue
        if group in migrators:
            yield group, "do what a migrator may"
        elif group in owned:
            yield group, f"do anything with what it owns: {owned[group]}"


def _owned(wanted: Wanted, actual: Actual) -> dict[str, str]:
    """What of the model each role owns."""
    parts: dict[str, list[str]] = {}
    for database in wanted.databases:
        state = actual.databases[database.name]
        parts.setdefault(state.owner, []).append(f"database {database.name}")
        for name in database.schemas:
            if name in state.schemas:
                owner = state.schemas[name].owner
                parts.setdefault(owner, []).append(f"schema {name} of {database.name}")
        schemas = set(database.schemas)
        tables = Counter(
            item.owner for item in state.objects if item.kind == "tables" and item.schema in schemas
        )
        for owner, count in tables.items():
            parts.setdefault(owner, []).append(f"{count} table(s) of {database.name}")
    return {owner: ", ".join(texts) for owner, texts in parts.items()}


def _losers(wanted: Wanted, actual: Actual, changes: Iterable[Change]) -> Iterator[str]:
    """Roles outside the model that are members of a role that this run takes something from."""
    ours = {role.name for role in model_roles(wanted.databases)}
    losing = {name for change in changes for name in change.takes_from} & ours
    groups = groups_of(planned_links(wanted, actual.links))
    for name in sorted(losing):
        members = [
            unmanaged.name
            for unmanaged in actual.unmanaged_roles
            if name in reached(unmanaged.name, groups) and unmanaged.name != actual.login_user
        ]
        if members:
            yield (
                f"{name_list(members)} outside the model has, as a member, the rights of role"
                f" {name!r}, and loses with it those that go beyond its kind"
            )
