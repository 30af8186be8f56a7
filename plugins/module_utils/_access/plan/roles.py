# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to the roles themselves: attributes, limits, settings, memberships, passwords."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterator

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    ADMIN_OPTION_MAJOR,
    ATTRIBUTES,
    CREATED_ATTRIBUTES,
    Actual,
    ActualRole,
    Membership,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import (
    Change,
    Difference,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.operations import (
    LIST_SETTINGS,
    AlterRole,
    CreateRole,
    GrantMembership,
    RemovePassword,
    ResetRoleSetting,
    RevokeMembership,
    SetPassword,
    SetRoleSetting,
    list_elements,
    setting_name_sql,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Role,
    model_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.role_kinds import (
    ALL_KINDS,
    POOLER,
)
from ansible_collections.pooled.postgres.plugins.module_utils._secrets import (
    shown_change,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.profiles import (
    CIS,
    SUPERUSER_LIMIT,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.operations import Operation
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import (
    quote_ident,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.scram import (
    is_verifier,
    password_matches,
    verifier_to_send,
)

NO_LIMIT = -1
NEVER = "infinity"
# From this major on every grant of a membership is kept apart by who granted it.
GRANTED_BY_MAJOR = 16
# From this major on a role may give BYPASSRLS to others when it has it itself.
DELEGATED_BYPASSRLS_MAJOR = 16


def wanted_roles(wanted: Wanted) -> tuple[Role, ...]:
    """The model's roles and, after them, PgBouncer's own."""
    roles = model_roles(wanted.databases)
    if not wanted.pooler_role:
        return roles
    settings = tuple(sorted(ALL_KINDS[POOLER].settings.items()))
    limit = wanted.pooler_connection_limit
    pooler = Role(wanted.pooler_role, POOLER, wanted.pooler_password, limit, settings, ())
    return (*roles, pooler)


def role_changes(wanted: Wanted, actual: Actual) -> tuple[list[Change], list[str]]:
    """Changes in the whole cluster, passwords last, and warnings."""
    changes: list[Change] = []
    warnings: list[str] = []
    roles = wanted_roles(wanted)
    for role in roles:
        changes.extend(_attributes(role, actual, warnings))
    changes.extend(_superuser_limit(wanted, actual))
    for role in roles:
        changes.extend(_settings(role, wanted, actual, warnings))
    for role in roles:
        changes.extend(_memberships(role, wanted, actual, warnings))
    changes.extend(_members_of_pooler(wanted, actual))
    for role in roles:
        changes.extend(_password(role, actual, warnings))
    return changes, warnings


def _attributes(role: Role, actual: Actual, warnings: list[str]) -> Iterator[Change]:
    existing = actual.roles.get(role.name)
    had = existing.attributes if existing else CREATED_ATTRIBUTES
    attributes = set(ALL_KINDS[role.kind].attributes)
    if "BYPASSRLS" in attributes - had and not _may_give_bypassrls(actual):
        attributes.discard("BYPASSRLS")
        warnings.append(
            f"role {role.name!r} stays without BYPASSRLS, because {actual.login_user!r} may not"
            " give it: row-level security hides rows from this admin"
        )
    words = [
        word if word in attributes else "NO" + word
        for word in ATTRIBUTES
        if (word in attributes) != (word in had)
    ]
    limit_before = existing.connection_limit if existing else NO_LIMIT
    if role.connection_limit != limit_before:
        words.append(f"CONNECTION LIMIT {role.connection_limit}")
    if existing and existing.valid_until:
        words.append(f"VALID UNTIL '{NEVER}'")
    if existing and not words:
        return
    operation = AlterRole if existing else CreateRole
    yield _change(
        role,
        operation(role.name, tuple(words)),
        *_attribute_differences(role, existing, attributes),
    )


def _superuser_limit(wanted: Wanted, actual: Actual) -> Iterator[Change]:
    """A limit for the first superuser where the hardening profile wants one for every role."""
    name = actual.bootstrap_superuser
    if wanted.hardening != CIS or actual.login_user != name or actual.superuser_limit != NO_LIMIT:
        return
    operation = AlterRole(name, (f"CONNECTION LIMIT {SUPERUSER_LIMIT}",))
    where = (f"role {name}", "connection limit")
    difference = Difference(where, str(NO_LIMIT), str(SUPERUSER_LIMIT))
    yield Change(None, operation, f"role {name!r}", (difference,))


def _attribute_differences(
    role: Role, existing: ActualRole | None, attributes: set[str]
) -> Iterator[Difference]:
    where = (f"role {role.name}",)
    before = _words(existing.attributes) if existing else ""
    if before != _words(attributes):
        yield Difference((*where, "attributes"), before, _words(attributes))
    limit_before = existing.connection_limit if existing else NO_LIMIT
    if limit_before != role.connection_limit:
        yield Difference(
            (*where, "connection limit"),
            str(limit_before) if existing else "",
            str(role.connection_limit),
        )
    if existing and existing.valid_until:
        yield Difference((*where, "valid until"), existing.valid_until, NEVER)


def _words(attributes: frozenset[str] | set[str]) -> str:
    return " ".join(word for word in ATTRIBUTES if word in attributes)


def _may_give_bypassrls(actual: Actual) -> bool:
    return actual.login_is_superuser or (
        actual.major >= DELEGATED_BYPASSRLS_MAJOR and actual.login_bypasses_rls
    )


def _settings(role: Role, wanted: Wanted, actual: Actual, warnings: list[str]) -> Iterator[Change]:
    existing = actual.roles.get(role.name)
    names = {database.name for database in wanted.databases}
    stored = existing.settings if existing else ()
    everywhere = {item.name.lower(): item.value for item in stored if not item.database}

    def change(operation: Operation, difference: Difference) -> Change:
        outdates = role.name if existing else ""
        return replace(_change(role, operation, difference), outdates=outdates)

    for name, value in role.settings:
        before = everywhere.pop(name, None)
        if before is None or not same_value(name, before, value, actual):
            yield change(
                SetRoleSetting(role.name, name, value),
                _setting_difference(role, "settings", name, before, value),
            )
    for name, before in sorted(everywhere.items()):
        if (name, before) in actual.settings_denied:
            warnings.append(_denied_reset(role, name, before, "", actual))
            continue
        yield change(
            ResetRoleSetting(role.name, name),
            _setting_difference(role, "settings", name, before, None),
        )
    for item in sorted(stored, key=lambda item: (item.database, item.name)):
        if item.database in names:
            if (item.name.lower(), item.value) in actual.settings_denied:
                inside = f" IN DATABASE {quote_ident(item.database)}"
                warnings.append(_denied_reset(role, item.name, item.value, inside, actual))
                continue
            label = f"settings in database {item.database}"
            yield change(
                ResetRoleSetting(role.name, item.name.lower(), item.database),
                _setting_difference(role, label, item.name, item.value, None),
            )


def _denied_reset(role: Role, name: str, value: str, inside: str, actual: Actual) -> str:
    return (
        f"role {role.name!r} keeps {name} = {value!r}, which {actual.login_user!r} may not reset;"
        f" as a superuser run ALTER ROLE {quote_ident(role.name)}{inside} RESET"
        f" {setting_name_sql(name)}"
    )


def same_value(name: str, left: str, right: str, actual: Actual) -> bool:
    """Whether two values of a setting mean the same to the server."""
    if name in LIST_SETTINGS:
        try:
            return list_elements(left) == list_elements(right)
        except ValueError:
            return left == right
    return actual.canonical.get((name, left), left) == actual.canonical.get((name, right), right)


def _setting_difference(
    role: Role, label: str, name: str, before: str | None, after: str | None
) -> Difference:
    return Difference(
        (f"role {role.name}", label, name), *shown_change(name, before or "", after or "")
    )


def _memberships(
    role: Role, wanted: Wanted, actual: Actual, warnings: list[str]
) -> Iterator[Change]:
    existing = actual.roles.get(role.name)
    current = existing.memberships if existing else ()
    held = {membership.role: membership.inherits for membership in current}
    held.update({membership.role: True for membership in current if membership.inherits})
    for group in role.member_of:
        if not held.get(group):
            without = group in held
            operation = GrantMembership(group, role.name, without)
            before = "member without its rights" if without else ""
            difference = _membership_difference(role, group, before, "member")
            yield replace(_change(role, operation, difference), acts_for=frozenset({group}))
    if not wanted.exclusive and role.kind != POOLER:
        return
    for membership in sorted(current, key=lambda item: (item.role, item.grantor)):
        group = membership.role
        if group == wanted.pooler_role:
            continue  # that role's own business
        before = "member with admin option" if membership.admin else "member"
        by = _granted_by(membership.grantor, actual)
        if group in role.member_of and not membership.admin:
            continue
        if not _may_take(membership, actual):
            warnings.append(
                f"role {role.name!r} stays {before} of {group!r}, because {membership.grantor!r}"
                f" granted it and {actual.login_user!r} may not take it back"
            )
            continue
        if group not in role.member_of:
            revoked = RevokeMembership(group, role.name, grantor=by)
            yield replace(
                _change(role, revoked, _membership_difference(role, group, before, "")),
                acts_for=frozenset(),
                takes_from=frozenset({role.name}),
            )
        else:
            revoked = RevokeMembership(group, role.name, "ADMIN", by)
            yield replace(
                _change(role, revoked, _membership_difference(role, group, before, "member")),
                acts_for=frozenset(),
            )


def _members_of_pooler(wanted: Wanted, actual: Actual) -> Iterator[Change]:
    """Take PgBouncer's role from its members, who could look up everybody's verifier with it."""
    left = list(actual.pooler_members)
    while left:
        grantors = {grantor for _member, grantor in left}
        # What a member has passed on goes first.
        member, grantor = next((one for one in left if one[0] not in grantors), left[0])
        left.remove((member, grantor))
        by = _granted_by(grantor, actual)
        yield Change(
            None,
            RevokeMembership(wanted.pooler_role, member, grantor=by),
            f"role {wanted.pooler_role!r}",
            (Difference((f"role {wanted.pooler_role}", "members", member), "member", ""),),
            takes_from=frozenset({member}),
        )


def _may_take(membership: Membership, actual: Actual) -> bool:
    if actual.login is None:
        return True
    if actual.major >= ADMIN_OPTION_MAJOR:
        return membership.grantor in actual.login.holds
    return membership.role in actual.login.administers


def _granted_by(grantor: str, actual: Actual) -> str:
    """Who has to be named as the grantor of a membership; empty for nobody."""
    if actual.major < GRANTED_BY_MAJOR or grantor == actual.bootstrap_superuser:
        return ""
    return grantor


def _membership_difference(role: Role, group: str, before: str, after: str) -> Difference:
    return Difference((f"role {role.name}", "member of", group), before, after)


def _password(role: Role, actual: Actual, warnings: list[str]) -> Iterator[Change]:
    existing = actual.roles.get(role.name)
    if role.password is None:
        if role.kind == POOLER and existing and (existing.password or not actual.reads_passwords):
            # One that somebody else has set would be a way in for them.
            operation = RemovePassword(role.name)
            yield _change(role, operation, Difference((f"role {role.name}", "password"), "set", ""))
        return
    if existing and actual.reads_passwords and password_matches(role.password, existing.password):
        return
    if existing and not actual.reads_passwords:
        logs_in = actual.passwords_tried.get(role.name)
        if logs_in is None:
            warnings.append(_untold_password(role, actual))
        if logs_in is not False:
            return
    verifier = verifier_to_send(role.password, actual.scram_iterations)
    before = "set" if existing and (existing.password or not actual.reads_passwords) else ""
    after = "changed" if before else "set"
    difference = Difference((f"role {role.name}", "password"), before, after)
    yield _change(role, SetPassword(role.name, verifier), difference)


def _untold_password(role: Role, actual: Actual) -> str:
    start = (
        f"the password of role {role.name!r} is left as it is, because {actual.login_user!r} may"
        " not read what the server stores, and"
    )
    if is_verifier(role.password or ""):
        return f"{start} nobody can log in with a verifier to try it; give the plain text"
    return (
        f"{start} logging in as {role.name!r} from here does not tell whether it differs: the"
        " server must ask for a password over the module's connection"
    )


def _change(role: Role, operation: Operation, *differences: Difference) -> Change:
    subject = f"role {role.name!r}"
    return Change(None, operation, subject, differences, acts_for=frozenset({role.name}))
