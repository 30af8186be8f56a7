# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the access that is wanted and the access there is to the statements in between."""

from __future__ import annotations

import json
import re
from typing import Any, Iterable, Iterator

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    LEAST_MAJOR,
    UTF8,
    Actual,
    RoleSetting,
    extension_homes,
    in_order,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import Change, Plan
from ansible_collections.pooled.postgres.plugins.module_utils._access.operations import (
    LIST_SETTINGS,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.database import (
    create_database,
    database_changes,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.delegated_login import (
    role_problems,
    with_temporary_membership,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.dropped_roles import (
    absence_problems,
    drop_problems,
    drop_roles,
    drop_warnings,
    give_away,
    once_given_away,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.objects import summary
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.pooler_function import (
    pooler_changes,
    pooler_problems,
    pooler_warnings,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.public import (
    maintenance_changes,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.roles import (
    role_changes,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._access.warnings.roles import (
    role_reports,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Database,
    Role,
    model_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import (
    EXTENSIONS_SCHEMA,
    POOLER_SCHEMA,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import check_name
from ansible_collections.pooled.postgres.plugins.module_utils._sql.extensions import required
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import (
    name_list,
    quote_ident,
    split_identifiers,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.scram import check_password

MODEL = "pooled_databases"
_PLAIN_YAML = re.compile(
    r"[A-Za-z_][A-Za-z0-9_ ,.()/$+-]*[A-Za-z0-9_()$]\Z|[A-Za-z_]\Z"
    r"|-?[0-9]{1,9}(us|ms|s|min|h|d|B|kB|MB|GB|TB)?\Z"
)
_UTF8_LOCALE = re.compile(r"\.utf-?8(@|\Z)", re.IGNORECASE)
_YAML_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def plan(wanted: Wanted, actual: Actual) -> Plan:
    """The changes that make the server hold the model, in order; none when it does.

    Raises:
        ValueError: when the model can't be had on this server, with one line for each reason.
    """
    actual = in_order(actual)
    problems = [*model_problems(wanted), *server_problems(wanted, actual)]
    if problems:
        raise ValueError("\n".join(problems))
    changes, warnings = role_changes(wanted, actual)
    warnings.extend(drop_warnings(wanted, actual))
    warnings.extend(pooler_warnings(wanted, actual))
    problems.extend(role_problems(wanted, actual, changes))
    for database in wanted.databases:
        changes.extend(create_database(database, actual))
    before_giving_away = actual
    actual = once_given_away(wanted, actual)
    for database in wanted.databases:
        inside, more_warnings, more_problems = database_changes(database, wanted, actual)
        inside[:0] = give_away(wanted, before_giving_away, database.name)
        inside.extend(pooler_changes(database, wanted, actual))
        changes.extend(with_temporary_membership(inside, wanted, actual))
        warnings.extend(more_warnings)
        problems.extend(more_problems)
    more, more_warnings = maintenance_changes(wanted, actual)
    changes.extend(more)
    warnings.extend(more_warnings)
    warnings.extend(role_reports(wanted, actual, changes))
    changes.extend(drop_roles(wanted, actual))
    if problems:
        raise ValueError("\n".join(problems))
    return Plan(tuple(changes), tuple(warnings))


def model_problems(wanted: Wanted) -> Iterator[str]:
    """What is wrong with the model on any server."""
    yield from absence_problems(wanted)
    if wanted.pooler_role:
        yield from _pooler_problems(wanted)
    for role in model_roles(wanted.databases):
        for name, value in role.settings:
            if name in LIST_SETTINGS:
                try:
                    split_identifiers(value)
                except ValueError as error:
                    yield f"{_setting_place(name, role.name)}: {error}"


def server_problems(wanted: Wanted, actual: Actual) -> Iterator[str]:
    """What this server can't give."""
    if actual.major < LEAST_MAJOR:
        yield f"the server is Postgres {actual.major}; {LEAST_MAJOR} or newer is needed"
    roles = model_roles(wanted.databases)
    names = {role.name for role in roles} | {wanted.pooler_role}
    for special, why in (
        (actual.login_user, "is the user that this run logs in as"),
        (actual.bootstrap_superuser, "is the server's first superuser"),
    ):
        if special in names:
            yield f"{MODEL}: role {special!r} {why}, so the model can't hold it; use another role"
            break
    for role in roles:
        for group in role.member_of:
            if group not in actual.role_names and group not in names:
                yield (
                    f"{MODEL}: member_of of role {role.name!r}: there is no role {group!r}"
                    " on the server or in the model"
                )
        for name, value in role.settings:
            message = actual.setting_errors.get((name, value))
            if message and not _stays_denied(role, name, value, actual):
                yield f"{_setting_place(name, role.name)}: {value!r} is refused: {message}"
    yield from drop_problems(wanted, actual)
    yield from pooler_problems(wanted, actual)
    yield from _template_problems(actual)
    for database in wanted.databases:
        yield from _encoding_problems(database, actual)
        yield from _extension_problems(database, actual)
    if wanted.pooler_role and not actual.login_is_superuser:
        yield (
            f"pooler_role: {actual.login_user!r} is not a superuser, so it can't make a function"
            " that reads verifiers; leave pooler_role empty and use pgbouncer_auth: userlist"
        )


def _stays_denied(role: Role, name: str, value: str, actual: Actual) -> bool:
    """Whether the role has what the login may not set: then nobody needs to."""
    existing = actual.roles.get(role.name)
    return (
        (name, value) in actual.settings_denied
        and existing is not None
        and RoleSetting("", name, value) in existing.settings
    )


def nested_text(changes: Iterable[Change], after: bool) -> str:
    """One side of the diff as YAML: only what the changes touch, each role in one place."""
    tree: dict[str, Any] = {}
    for change in changes:
        for difference in change.differences:
            value = difference.after if after else difference.before
            if value:
                _place(tree, difference.where, value)
    return "".join(_yaml_lines(tree, 0))


def _pooler_problems(wanted: Wanted) -> Iterator[str]:
    try:
        check_name("pooler_role", wanted.pooler_role, "role")
        if wanted.pooler_password is not None:
            check_password("pooler_password", wanted.pooler_password)
    except ValueError as error:
        yield str(error)
    if wanted.pooler_role in {role.name for role in model_roles(wanted.databases)}:
        yield (
            f"{MODEL}: role {wanted.pooler_role!r} is PgBouncer's own; choose another name for the"
            " model's role, or for pooler_role"
        )
    for role in model_roles(wanted.databases):
        if wanted.pooler_role in role.member_of:
            yield (
                f"{MODEL}: member_of of role {role.name!r}: {wanted.pooler_role!r} is PgBouncer's"
                " own, and its members could look up everybody's verifier; take it out"
            )
    for database in wanted.databases:
        if POOLER_SCHEMA in database.schemas:
            yield (
                f"{MODEL}: schema {POOLER_SCHEMA!r} of database {database.name!r} is where"
                " PgBouncer's function lives; choose another name"
            )


def _template_problems(actual: Actual) -> Iterator[str]:
    """Why CREATE DATABASE would fail after everything before it was done."""
    missing = [name for name, state in actual.databases.items() if not state.exists]
    what = f"{MODEL}: {name_list(missing)} can't be created from database template1"
    if actual.template_users:
        yield (
            f"{what}, which others are connected to: {summary(actual.template_users)}; end that,"
            " and let tools connect to the database postgres instead"
        )
    if actual.template_collations:
        recorded, provided = actual.template_collations
        yield (
            f"{what}, which was made with version {recorded} of the operating system's collations,"
            f" and now there is {f'version {provided}' if provided else 'none'}; run REINDEX"
            " DATABASE template1 there, and then ALTER DATABASE template1 REFRESH COLLATION VERSION"
        )


def _encoding_problems(database: Database, actual: Actual) -> Iterator[str]:
    locale = actual.pristine_locale
    created = not actual.databases[database.name].exists and actual.template_encoding != UTF8
    if created and locale not in ("C", "POSIX") and not _UTF8_LOCALE.search(locale):
        yield (
            f"{MODEL}: database {database.name!r} can't be created with encoding UTF8, because the"
            f" server's locale {locale!r} is for another one; create it yourself with CREATE"
            f" DATABASE {quote_ident(database.name)} ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE"
            " template0"
        )


def _extension_problems(database: Database, actual: Actual) -> Iterator[str]:
    available = actual.available_extensions
    for name in database.extensions:
        if available is not None and name not in available:
            yield (
                f"{MODEL}: extension {name!r} of database {database.name!r} is not available on"
                " the server; install the package that brings it, or take it out of extensions"
            )
    state = actual.databases[database.name]
    given = dict(database.extension_schemas)
    known = {*database.extensions, *state.extensions}
    place = f"{MODEL}: extension {{!r}} of database {database.name!r}"
    for name in database.extensions:
        here = place.format(name)
        fixed = actual.extensions[name].schema if name in actual.extensions else ""
        lacking = [other for other in required(name, actual.extensions) if other not in known]
        if name not in state.extensions and lacking:
            yield (
                f"{here} requires {name_list(lacking)}, which the database does not have, and"
                " nothing is created that the model does not list; add it to extensions"
            )
        there = state.extension_schemas.get(name, fixed or given.get(name))
        if name in given and there != given[name] and (fixed or name in state.immovable):
            yield (
                f"{here} {'is' if name in state.extensions else 'must be'} in schema {there!r}"
                f" and can't be moved to {given[name]!r}; leave its schema out, or give {there!r}"
            )
    home = state.schemas.get(EXTENSIONS_SCHEMA)
    if home and EXTENSIONS_SCHEMA in extension_homes(database, state):
        owner = actual.server_roles.get(home.owner)
        if owner and not owner.superuser and home.owner != actual.login_user:
            yield (
                f"database {database.name!r}: schema {EXTENSIONS_SCHEMA!r} is where extensions of"
                f" this collection's own are, but belongs to {home.owner!r}, who may create in it;"
                f" drop it, or run ALTER SCHEMA {EXTENSIONS_SCHEMA} OWNER TO"
                f" {quote_ident(actual.login_user)}"
            )


def _setting_place(name: str, role: str) -> str:
    return f"{MODEL}: settings.{name} of role {role!r}"


def _place(tree: dict[str, Any], where: tuple[str, ...], value: str) -> None:
    for part in where[:-1]:
        tree = tree.setdefault(part, {})
    held = tree.get(where[-1])
    tree[where[-1]] = f"{held}, {value}" if held else value


def _yaml_lines(tree: dict[str, Any], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, value in sorted(tree.items()):
        if isinstance(value, dict):
            yield f"{indent}{_yaml_scalar(key)}:\n"
            yield from _yaml_lines(value, depth + 1)
        else:
            yield f"{indent}{_yaml_scalar(key)}: {_yaml_scalar(value)}\n"


def _yaml_scalar(text: str) -> str:
    if _PLAIN_YAML.match(text) and text.lower() not in _YAML_WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)
