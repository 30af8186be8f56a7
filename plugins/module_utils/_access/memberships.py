# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is a member of whom once the run is done, and what roles outside the model have by it."""

from __future__ import annotations

from typing import Callable, Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    Link,
    ServerRole,
    UnmanagedRole,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.roles import wanted_roles
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted


def planned_links(wanted: Wanted, links: Iterable[Link]) -> tuple[Link, ...]:
    """All memberships as they are once the model's roles have theirs."""
    member_of = {role.name: role.member_of for role in wanted_roles(wanted)}
    kept = [
        link
        for link in links
        if link.member not in member_of
        or not wanted.exclusive
        or link.group in member_of[link.member]
    ]
    known = {(link.member, link.group) for link in kept if link.inherits}
    added = [
        Link(member, group)
        for member, groups in member_of.items()
        for group in groups
        if (member, group) not in known
    ]
    return (*kept, *added)


def unmanaged_roles(
    wanted: Wanted,
    server_roles: Mapping[str, ServerRole],
    links: Iterable[Link],
    dropped: Iterable[str] = (),
) -> tuple[UnmanagedRole, ...]:
    """Roles outside the model that somebody can be, in the order of their names.

    Superusers are not among them, because they need no rights, nor are the server's own roles.

    Args:
        wanted: the model.
        server_roles: every role of the server.
        links: every membership.
        dropped: roles that this run drops.
    """
    planned = planned_links(wanted, links)
    holding, becoming = groups_of(planned, _inherits), groups_of(planned, _may_set)
    ours = {role.name for role in wanted_roles(wanted)} | set(dropped) | {wanted.monitor_role}
    outside = [
        role
        for name, role in sorted(server_roles.items())
        if not role.superuser and name not in ours and not name.startswith("pg_")
    ]
    used_by: dict[str, set[str]] = {}
    for role in outside:
        if role.login:
            for name in reached(role.name, becoming):
                used_by.setdefault(name, set()).add(role.name)
    return tuple(
        UnmanagedRole(
            role.name,
            reached(role.name, holding),
            role.login,
            frozenset(used_by[role.name]),
        )
        for role in outside
        if role.name in used_by
    )


def groups_of(
    links: Iterable[Link], follows: Callable[[Link], bool] | None = None
) -> dict[str, list[str]]:
    """Of each member its groups, by the memberships that are followed, or all."""
    groups: dict[str, list[str]] = {}
    for link in links:
        if follows is None or follows(link):
            groups.setdefault(link.member, []).append(link.group)
    return groups


def reached(name: str, groups: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """A role and all that it reaches through the groups of members."""
    found = {name}
    waiting = [name]
    while waiting:
        for group in groups.get(waiting.pop(), ()):
            if group not in found:
                found.add(group)
                waiting.append(group)
    return frozenset(found)


def holding_groups(wanted: Wanted, links: Iterable[Link]) -> dict[str, list[str]]:
    """Whose rights each role has by membership, once the run is done."""
    return groups_of(planned_links(wanted, links), _inherits)


def becoming_groups(wanted: Wanted, links: Iterable[Link]) -> dict[str, list[str]]:
    """Whom each role may SET ROLE to, once the run is done."""
    return groups_of(planned_links(wanted, links), _may_set)


def _inherits(link: Link) -> bool:
    return link.inherits


def _may_set(link: Link) -> bool:
    return link.may_set
