# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan does to roles, databases and rights, one class for each kind of statement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterable

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import DatabaseObject
from ansible_collections.pooled.postgres.plugins.module_utils._secrets import (
    MASK,
    holds_secret,
    is_secret_name,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import LARGE_OBJECTS
from ansible_collections.pooled.postgres.plugins.module_utils._sql.operations import Operation
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import (
    join_idents,
    quote_ident,
    quote_literal,
    split_identifiers,
)

# Settings that hold a list of names, each of which ALTER ROLE wants as a constant of its own.
LIST_SETTINGS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)

GRANT = "GRANT"
REVOKE_OPTION = "REVOKE GRANT OPTION FOR"
REVOKE = "REVOKE"
VERBS = (GRANT, REVOKE_OPTION, REVOKE)

_KEYWORD = {
    "tables": "TABLE",
    "sequences": "SEQUENCE",
    "routines": "ROUTINE",
    "types": "TYPE",
    LARGE_OBJECTS: "LARGE OBJECT",
}
# How many names the reader sees of a statement that may have thousands.
_SHOWN_IN_STATEMENT = 20


@dataclass(frozen=True)
class RoleOperation(Operation):
    """What changes a role itself, which takes CREATEROLE and not just ADMIN OPTION on it."""

    role: str


@dataclass(frozen=True)
class CreateRole(RoleOperation):
    """C(words) are attributes and limits, as the statement names them."""

    words: tuple[str, ...]

    @property
    def sql(self) -> str:
        return " ".join([f"CREATE ROLE {quote_ident(self.role)}", *self.words])


@dataclass(frozen=True)
class AlterRole(RoleOperation):
    words: tuple[str, ...]

    @property
    def sql(self) -> str:
        return " ".join([f"ALTER ROLE {quote_ident(self.role)}", *self.words])


@dataclass(frozen=True)
class DropRole(RoleOperation):
    @property
    def sql(self) -> str:
        return f"DROP ROLE {quote_ident(self.role)}"


@dataclass(frozen=True)
class SetRoleSetting(RoleOperation):
    name: str
    value: str = field(repr=False)

    @property
    def sql(self) -> str:
        value = setting_value_sql(self.name, self.value).strip()
        return f"ALTER ROLE {quote_ident(self.role)} SET {setting_name_sql(self.name)} = {value}"

    @property
    def secret(self) -> bool:
        return is_secret_name(self.name) or holds_secret(self.value)


@dataclass(frozen=True)
class ResetRoleSetting(RoleOperation):
    """Of one database, or (with C(database) empty) of all."""

    name: str
    database: str = ""

    @property
    def sql(self) -> str:
        inside = f" IN DATABASE {quote_ident(self.database)}" if self.database else ""
        return f"ALTER ROLE {quote_ident(self.role)}{inside} RESET {setting_name_sql(self.name)}"


@dataclass(frozen=True)
class SetPassword(RoleOperation):
    verifier: str = field(repr=False)

    @property
    def sql(self) -> str:
        return self._to(quote_literal(self.verifier))

    @property
    def shown(self) -> str:
        return self._to(f"'{MASK}'")

    @property
    def secret(self) -> bool:
        return True

    def _to(self, constant: str) -> str:
        return f"ALTER ROLE {quote_ident(self.role)} PASSWORD {constant}"


@dataclass(frozen=True)
class RemovePassword(RoleOperation):
    @property
    def sql(self) -> str:
        return f"ALTER ROLE {quote_ident(self.role)} PASSWORD NULL"


@dataclass(frozen=True)
class GrantMembership(Operation):
    group: str
    member: str
    with_inherit: bool = False

    @property
    def sql(self) -> str:
        inherit = " WITH INHERIT TRUE" if self.with_inherit else ""
        return f"GRANT {quote_ident(self.group)} TO {quote_ident(self.member)}{inherit}"


@dataclass(frozen=True)
class RevokeMembership(Operation):
    """A membership, or only one C(option) of it; C(grantor) is empty where it need not be named."""

    group: str
    member: str
    option: str = ""
    grantor: str = ""

    @property
    def sql(self) -> str:
        option = f"{self.option} OPTION FOR " if self.option else ""
        by = f" GRANTED BY {quote_ident(self.grantor)}" if self.grantor else ""
        return f"REVOKE {option}{quote_ident(self.group)} FROM {quote_ident(self.member)}{by}"


@dataclass(frozen=True)
class CreateDatabase(Operation):
    """C(template) is empty for the server's usual one."""

    database: str
    encoding: str
    template: str = ""

    @property
    def sql(self) -> str:
        template = f" TEMPLATE {quote_ident(self.template)}" if self.template else ""
        return f"CREATE DATABASE {quote_ident(self.database)} ENCODING '{self.encoding}'{template}"


@dataclass(frozen=True)
class ReassignOwned(Operation):
    role: str
    new_owner: str

    @property
    def sql(self) -> str:
        return f"REASSIGN OWNED BY {quote_ident(self.role)} TO {quote_ident(self.new_owner)}"


@dataclass(frozen=True)
class DropOwned(Operation):
    role: str

    @property
    def sql(self) -> str:
        return f"DROP OWNED BY {quote_ident(self.role)}"


@dataclass(frozen=True)
class CreateFunction(Operation):
    """C(definition) is the function as SQL, C(replace) whether one is there that keeps its name."""

    definition: str
    replace: bool = False

    @property
    def sql(self) -> str:
        return f"CREATE {'OR REPLACE ' if self.replace else ''}FUNCTION {self.definition}"


@dataclass(frozen=True)
class DropFunction(Operation):
    """C(signature) is its name with its arguments' types, as SQL."""

    signature: str

    @property
    def sql(self) -> str:
        return f"DROP FUNCTION {self.signature}"


@dataclass(frozen=True)
class Need:
    """What must happen to one access control list, for roles that need the same.

    C(again) grants as the owner what roles outside the model have from one of the model, which is
    about to lose the option to grant it; C(grantable) with that option. C(cascade) says that there
    are such grants, which go with the option.
    """

    verb: str
    privileges: tuple[str, ...]
    grantees: tuple[str, ...]
    as_role: str
    again: bool = False
    grantable: bool = False
    cascade: bool = False


class Target:
    """What rights are on: what follows ON."""

    @property
    def sql(self) -> str:
        """All of it."""
        raise NotImplementedError

    @property
    def shown(self) -> str:
        """What people see of it."""
        return self.sql

    def privilege_sql(self, privilege: str) -> str:
        """A privilege on it."""
        return privilege


@dataclass(frozen=True)
class OnDatabase(Target):
    database: str

    @property
    def sql(self) -> str:
        return f"DATABASE {quote_ident(self.database)}"


@dataclass(frozen=True)
class OnSchemas(Target):
    schemas: tuple[str, ...]

    @property
    def sql(self) -> str:
        return f"SCHEMA {join_idents(self.schemas)}"


@dataclass(frozen=True)
class OnFunction(Target):
    """C(signature) is its name with its arguments' types, as SQL."""

    signature: str

    @property
    def sql(self) -> str:
        return f"FUNCTION {self.signature}"


@dataclass(frozen=True)
class OnAllInSchema(Target):
    kind: str
    schema: str

    @property
    def sql(self) -> str:
        return f"ALL {self.kind.upper()} IN SCHEMA {quote_ident(self.schema)}"


@dataclass(frozen=True)
class OnObjects(Target):
    """Objects of one kind."""

    items: tuple[DatabaseObject, ...]

    @property
    def sql(self) -> str:
        return self._list(self.items)

    @property
    def shown(self) -> str:
        more = len(self.items) - _SHOWN_IN_STATEMENT
        if more <= 0:
            return self.sql
        return f"{self._list(self.items[:_SHOWN_IN_STATEMENT])} /* and {more} more */"

    def _list(self, items: Iterable[DatabaseObject]) -> str:
        return f"{_KEYWORD[self.items[0].kind]} {', '.join(_object_sql(item) for item in items)}"


@dataclass(frozen=True)
class OnColumns(Target):
    schema: str
    table: str
    columns: tuple[str, ...]

    @property
    def sql(self) -> str:
        return f"TABLE {quote_ident(self.schema)}.{quote_ident(self.table)}"

    def privilege_sql(self, privilege: str) -> str:
        return f"{privilege} ({join_idents(self.columns)})"


@dataclass(frozen=True)
class ChangeRights(Operation):
    """GRANT or REVOKE of rights on what there is."""

    need: Need
    target: Target

    @property
    def sql(self) -> str:
        return self._on(self.target.sql)

    @property
    def shown(self) -> str:
        return self._on(self.target.shown)

    def _on(self, target: str) -> str:
        return _rights_sql(self.need, map(self.target.privilege_sql, self.need.privileges), target)


@dataclass(frozen=True)
class ChangeDefaultRights(Operation):
    """GRANT or REVOKE of rights on what roles will create, anywhere or in some schemas."""

    need: Need
    kind: str
    creators: tuple[str, ...]
    schemas: tuple[str, ...]

    @property
    def sql(self) -> str:
        where = f" IN SCHEMA {join_idents(self.schemas)}" if self.schemas else ""
        return (
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {join_idents(self.creators)}{where}"
            f" {_rights_sql(self.need, self.need.privileges, self.kind.upper())}"
        )


def list_elements(value: str) -> tuple[str, ...]:
    """A list setting's elements; an empty one is stored as a list of one empty name."""
    return split_identifiers(value) or ("",)


def setting_name_sql(name: str) -> str:
    """The name of a setting, each of its parts an identifier."""
    return ".".join(quote_ident(part) for part in name.split("."))


def setting_value_sql(name: str, value: str) -> str:
    """A value of a setting as constants, one for each element of a list."""
    if name not in LIST_SETTINGS:
        return quote_literal(value)
    return ", ".join(quote_literal(element) for element in list_elements(value))


def _object_sql(item: DatabaseObject) -> str:
    if item.kind == LARGE_OBJECTS:
        return item.name
    name = f"{quote_ident(item.schema)}.{quote_ident(item.name)}"
    return f"{name}({item.arguments})" if item.kind == "routines" else name


def _rights_sql(need: Need, privileges: Iterable[str], target: str) -> str:
    preposition = "TO" if need.verb == GRANT else "FROM"
    grantees = ", ".join(quote_ident(name) if name else "PUBLIC" for name in need.grantees)
    tail = " WITH GRANT OPTION" if need.grantable else " CASCADE" if need.cascade else ""
    return f"{need.verb} {', '.join(privileges)} ON {target} {preposition} {grantees}{tail}"
