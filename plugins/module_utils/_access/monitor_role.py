# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role that an exporter logs in as: what it must be, and which statements make it so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterator, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._model.names import EXTENSIONS_SCHEMA
from ansible_collections.pooled.postgres.plugins.module_utils._sql.extensions import (
    Extension,
    Surroundings,
    creation,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.operations import (
    CreateExtension,
    Operation,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import (
    quote_ident,
    quote_literal,
)

GROUP = "pg_monitor"
NO_LIMIT = -1
# Attributes of a role as the catalog calls them, with the word that takes each away.
POWERS = {
    "rolsuper": "NOSUPERUSER",
    "rolcreaterole": "NOCREATEROLE",
    "rolcreatedb": "NOCREATEDB",
    "rolreplication": "NOREPLICATION",
    "rolbypassrls": "NOBYPASSRLS",
}
# What its sessions start with: whatever an application's migrations create in a database, an
# exporter calls none of it, changes nothing, and does not wait for ever.
SETTINGS = {
    "search_path": "pg_catalog",
    "default_transaction_read_only": "on",
    "statement_timeout": "30s",
}


@dataclass(frozen=True)
class MonitorRole:
    """A role of the server; C(powers) are those of POWERS that it has.

    C(settings) are those of ALTER ROLE ... SET, by database (empty for all of them) and name.
    """

    login: bool
    inherits: bool
    powers: tuple[str, ...]
    member_of: tuple[str, ...]
    settings: Mapping[tuple[str, str], str] = field(default_factory=dict)
    connection_limit: int = NO_LIMIT


@dataclass(frozen=True)
class MonitorState:
    """What the server has.

    C(connects) says of each existing database whether the role may connect to it by name, and
    C(extensions) of each available one whether it is created. C(available) says more of those,
    C(around) what bears on their creation; None when nobody can know yet.
    C(schemas) are those that hold one of these, and whether the role has USAGE on it by name.
    """

    role: MonitorRole | None
    connects: Mapping[str, bool]
    extensions: Mapping[str, bool]
    available: Mapping[str, Extension] = field(default_factory=dict)
    around: Surroundings | None = None
    schemas: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class MonitorChange:
    """A statement, and what it changes for a diff; C(sql) where more is sent than is shown."""

    statement: str
    what: str
    before: str
    after: str
    sql: str = ""


def nothing_yet() -> MonitorState:
    """A server that a run will create."""
    return MonitorState(None, {}, {})


def monitor_changes(
    name: str,
    databases: tuple[str, ...],
    extensions: tuple[str, ...],
    state: MonitorState,
    connection_limit: int = NO_LIMIT,
) -> tuple[MonitorChange, ...]:
    """What makes the role able to read the statistics, and nothing more.

    Args:
        name: the role.
        databases: those that it connects to.
        extensions: those of the database that the statistics are read in.
        state: what there is.
        connection_limit: of the role.

    Raises:
        ValueError: when an extension can't be created safely.
    """
    missing = tuple(name for name in extensions if not state.extensions.get(name, False))
    homes = set(extension_schemas(missing, state).values()) - {"pg_catalog"}
    schemas = {**dict.fromkeys(homes, False), **state.schemas}
    return (
        *_role_changes(name, state.role, connection_limit),
        *(
            MonitorChange(
                f"GRANT CONNECT ON DATABASE {quote_ident(database)} TO {quote_ident(name)}",
                f"database {database}",
                "",
                "CONNECT",
            )
            for database in databases
            if not state.connects.get(database, False)
        ),
        *_home(homes, state),
        *(change for extension in missing for change in _creation(extension, state)),
        *(
            MonitorChange(
                f"GRANT USAGE ON SCHEMA {quote_ident(schema)} TO {quote_ident(name)}",
                f"schema {schema}",
                "",
                "USAGE",
            )
            for schema, granted in sorted(schemas.items())
            if not granted
        ),
    )


def extension_schemas(extensions: tuple[str, ...], state: MonitorState) -> dict[str, str]:
    """The schema that each extension is or will be in."""
    present = state.around.present if state.around else {}
    return {
        name: present.get(name)
        or state.available.get(name, Extension()).schema
        or EXTENSIONS_SCHEMA
        for name in extensions
    }


def _home(homes: set[str], state: MonitorState) -> Iterator[MonitorChange]:
    """The schema for the extensions, in which nobody else may create."""
    if EXTENSIONS_SCHEMA not in homes:
        return
    if state.around is not None and EXTENSIONS_SCHEMA in state.around.creatable:
        raise ValueError(
            f"schema {EXTENSIONS_SCHEMA!r} is where extensions of this collection's own are, but"
            " roles that are not superusers may create in it; drop it, or make a superuser its"
            " owner and revoke CREATE on it"
        )
    if state.around is None or EXTENSIONS_SCHEMA not in state.around.schemas:
        sql = f"CREATE SCHEMA {EXTENSIONS_SCHEMA}"
        yield MonitorChange(sql, f"schema {EXTENSIONS_SCHEMA}", "", "yes")


def _creation(extension: str, state: MonitorState) -> Iterator[MonitorChange]:
    home = state.available.get(extension, Extension()).schema or EXTENSIONS_SCHEMA
    shown_schema = home if home == EXTENSIONS_SCHEMA else ""
    operations: tuple[Operation, ...] = (CreateExtension(extension, shown_schema),)
    if state.around is not None and extension in state.available:
        operations = creation(
            extension,
            EXTENSIONS_SCHEMA,
            state.available[extension],
            state.around,
            shown_schema=shown_schema,
        )
    for operation in operations:
        after = "yes" if isinstance(operation, CreateExtension) else ""
        what = f"extension {extension}"
        yield MonitorChange(operation.shown, what, "", after, operation.sql)


def _role_changes(name: str, role: MonitorRole | None, limit: int) -> Iterator[MonitorChange]:
    ident = quote_ident(name)
    limited = f" CONNECTION LIMIT {limit}" if limit != NO_LIMIT else ""
    if role is None:
        yield MonitorChange(f"CREATE ROLE {ident} LOGIN{limited}", "role", "", f"LOGIN{limited}")
        yield MonitorChange(f"GRANT {GROUP} TO {ident}", "member of", "", GROUP)
        yield from _settings_changes(ident, {})
        return
    words = [] if role.login else ["LOGIN"]
    words += [] if role.inherits else ["INHERIT"]
    words += [word for power, word in POWERS.items() if power in role.powers]
    if words:
        text = " ".join(words)
        had = ", ".join(power[3:] for power in POWERS if power in role.powers)
        yield MonitorChange(f"ALTER ROLE {ident} {text}", "role", had, text)
    if role.connection_limit != limit:
        text = f"ALTER ROLE {ident} CONNECTION LIMIT {limit}"
        yield MonitorChange(text, "connection limit", str(role.connection_limit), str(limit))
    others = sorted(set(role.member_of) - {GROUP})
    if others:
        groups = ", ".join(quote_ident(other) for other in others)
        yield MonitorChange(f"REVOKE {groups} FROM {ident}", "member of", groups, "")
    if GROUP not in role.member_of:
        yield MonitorChange(f"GRANT {GROUP} TO {ident}", "member of", "", GROUP)
    yield from _settings_changes(ident, role.settings)


def _settings_changes(
    ident: str, settings: Mapping[tuple[str, str], str]
) -> Iterator[MonitorChange]:
    """What makes the role's settings exactly SETTINGS."""
    for database in sorted({database for database, _name in settings} - {""}):
        own = ", ".join(
            f"{name}={value}" for (at, name), value in settings.items() if at == database
        )
        sql = f"ALTER ROLE {ident} IN DATABASE {quote_ident(database)} RESET ALL"
        yield MonitorChange(sql, f"settings in database {database}", own, "")
    held = {name: value for (database, name), value in settings.items() if not database}
    beyond = {name: value for name, value in held.items() if name not in SETTINGS}
    if beyond:
        own = ", ".join(f"{name}={value}" for name, value in beyond.items())
        yield MonitorChange(f"ALTER ROLE {ident} RESET ALL", "settings", own, "")
        held = {}
    for name, value in SETTINGS.items():
        if held.get(name) != value:
            sql = f"ALTER ROLE {ident} SET {name} = {quote_literal(value)}"
            yield MonitorChange(sql, f"setting {name}", held.get(name, ""), value)


def shown(changes: tuple[MonitorChange, ...], *, after: bool) -> str:
    """One side of a diff."""
    lines = [
        f"{change.what}: {change.after if after else change.before}"
        for change in changes
        if (change.after if after else change.before)
    ]
    return "".join(f"{line}\n" for line in lines)
