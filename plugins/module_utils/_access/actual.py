# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The access that a server gives, as data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Database
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import EXTENSIONS_SCHEMA
from ansible_collections.pooled.postgres.plugins.module_utils._settings.profiles import (
    CIS,
    STANDARD,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import (
    Grant,
    default_database_acl,
    owner_grants,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.extensions import (
    OWN,
    Extension,
    Surroundings,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.scram import DEFAULT_ITERATIONS

# Attributes of a role by the words of CREATE ROLE; with NO before them they are taken away.
ATTRIBUTES = (
    "SUPERUSER",
    "INHERIT",
    "CREATEROLE",
    "CREATEDB",
    "LOGIN",
    "REPLICATION",
    "BYPASSRLS",
)
# What CREATE ROLE gives by default.
CREATED_ATTRIBUTES = frozenset({"INHERIT"})

# The encoding of each database of the model.
UTF8 = "UTF8"
# From this major on only the database's owner may create in schema public.
PUBLIC_SCHEMA_CLOSED_MAJOR = 15
LEAST_MAJOR = 13
# From this major on CREATEROLE reaches only roles that it has ADMIN OPTION on, which it gets on
# those that it creates; and what a member may do is part of each membership.
ADMIN_OPTION_MAJOR = 16


@dataclass(frozen=True)
class Membership:
    """That a role is a member of another one, as granted by a third, with its rights or without."""

    role: str
    admin: bool
    grantor: str
    inherits: bool = True


@dataclass(frozen=True)
class RoleSetting:
    """What ALTER ROLE ... SET left, in one database or (with C(database) empty) in all."""

    database: str
    name: str
    value: str


@dataclass(frozen=True)
class ActualRole:
    """A role of the model that the server has.

    C(password) is what it stores, if we may see it; C(valid_until) is empty when it never expires.
    """

    name: str
    attributes: frozenset[str]
    connection_limit: int
    password: str | None = field(default=None, repr=False)
    settings: tuple[RoleSetting, ...] = ()
    memberships: tuple[Membership, ...] = ()
    valid_until: str = ""


@dataclass(frozen=True)
class UnmanagedRole:
    """A role outside the model, and every role whose rights it has, itself included.

    One that can't log in itself is C(used_by) those that may SET ROLE to it.
    """

    name: str
    holds: frozenset[str]
    login: bool = True
    used_by: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ServerRole:
    """Any role of the server, with what it may do whatever rights it has."""

    name: str
    login: bool = True
    superuser: bool = False
    bypasses_rls: bool = False


@dataclass(frozen=True)
class Link:
    """A membership of any role in any other, and what a member has of it."""

    member: str
    group: str
    inherits: bool = True
    may_set: bool = True


@dataclass(frozen=True)
class Belongings:
    """What a role owns and holds in one database.

    C(owned) has for each type of object how many and the first names, C(rights) counts objects that
    it has rights on. C(policies) apply to it alone, C(passed_on) are rights that others have from
    it: both would go with the role.
    """

    owned: tuple[tuple[str, int, tuple[str, ...]], ...] = ()
    rights: int = 0
    policies: tuple[str, ...] = ()
    passed_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnmanagedSchema:
    """A schema outside the model; C(tables) counts those that migrators own in it."""

    name: str
    owner: str
    tables: int


@dataclass(frozen=True)
class UnmanagedRight:
    """Rights of a role of the model on things that the model says nothing about.

    C(kind) says what C(count) things they are, C(place) in which schema, C(names) a few of them.
    """

    role: str
    privileges: tuple[str, ...]
    kind: str
    place: str
    count: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class RoleToDrop:
    """A role to drop that is there.

    C(sessions) and C(elsewhere) say for a database how many sessions it has there, and how many
    objects it owns or holds rights on there outside the model. C(shared) says whether it owns or
    holds anything that is the whole server's. C(granted_memberships)
    are memberships that other roles have from it.
    """

    name: str
    sessions: tuple[tuple[str, int], ...] = ()
    prepared: int = 0
    members: tuple[str, ...] = ()
    granted_memberships: tuple[tuple[str, str], ...] = ()
    elsewhere: tuple[tuple[str, int], ...] = ()
    shared: bool = False


@dataclass(frozen=True)
class Schema:
    """A schema and who may do what in it; C(kind) is C(schema) or EXTENSION_SCHEMA."""

    name: str
    owner: str
    grants: tuple[Grant, ...]
    kind: str = "schema"


@dataclass(frozen=True)
class DatabaseObject:
    """An object in a schema, or a large object in none.

    C(kind) is one of OBJECT_CLASSES or LARGE_OBJECTS; C(arguments) are a routine's types, as SQL.
    """

    kind: str
    schema: str
    name: str
    arguments: str
    owner: str
    grants: tuple[Grant, ...]


@dataclass(frozen=True)
class Column:
    """A column that has rights of its own."""

    schema: str
    table: str
    name: str
    owner: str
    grants: tuple[Grant, ...]


@dataclass(frozen=True)
class DefaultRights:
    """Rights on what a role will create: in one schema or (with C(schema) empty) anywhere."""

    creator: str
    schema: str
    kind: str
    grants: tuple[Grant, ...]


@dataclass(frozen=True)
class PoolerFunction:
    """The function that PgBouncer asks, as it is.

    C(needed_by) are objects that depend on it, as Postgres describes them.
    """

    result: str
    arguments: str
    definition: tuple[str, ...]
    owner: str
    owner_is_superuser: bool
    grants: tuple[Grant, ...]
    needed_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class PoolerSchema:
    """What bears upon the safety of that function's schema.

    C(other_objects) are all objects in it but the function, as Postgres describes them.
    """

    owner_is_superuser: bool
    other_objects: tuple[str, ...] = ()


@dataclass(frozen=True)
class ActualDatabase:
    """A database as it is; one that is missing is what its template makes of it.

    C(mixed) are the (schema, class) pairs that hold objects of extensions too. C(definers_of_all)
    are the (schema, name) of routines that anybody executes with their owner's rights.
    C(extension_schemas) say where each extension is, C(immovable) which have to stay there. The
    C(surroundings) of extensions are None when nobody can know yet. C(collations) are the versions
    of the operating system's collations that it was made with and that there are now; empty where
    they are the same.
    """

    name: str
    exists: bool
    owner: str
    grants: tuple[Grant, ...]
    schemas: Mapping[str, Schema] = field(default_factory=dict)
    extensions: frozenset[str] = frozenset()
    extension_schemas: Mapping[str, str] = field(default_factory=dict)
    immovable: frozenset[str] = frozenset()
    objects: tuple[DatabaseObject, ...] = ()
    columns: tuple[Column, ...] = ()
    large_objects: tuple[DatabaseObject, ...] = ()
    default_rights: tuple[DefaultRights, ...] = ()
    mixed: frozenset[tuple[str, str]] = frozenset()
    pooler_function: PoolerFunction | None = None
    pooler_schema: PoolerSchema | None = None
    belongings: Mapping[str, Belongings] = field(default_factory=dict)
    unmanaged_schemas: tuple[UnmanagedSchema, ...] = ()
    unmanaged_rights: tuple[UnmanagedRight, ...] = ()
    definers_of_all: tuple[tuple[str, str], ...] = ()
    surroundings: Surroundings | None = None
    connection_limit: int = -1
    collations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Login:
    """What the login may do, when it is not a superuser.

    It has the rights of the roles that it C(holds), may SET ROLE to those that it C(becomes), and
    may alter and grant those that it C(administers). C(granted_to_itself) are memberships that it
    has from itself; C(holds_created_roles) says whether it will hold the roles that it creates.
    """

    attributes: frozenset[str]
    holds: frozenset[str]
    becomes: frozenset[str]
    administers: frozenset[str]
    granted_to_itself: frozenset[str] = frozenset()
    holds_created_roles: bool = False


@dataclass(frozen=True)
class Actual:
    """A server as it is.

    C(available_extensions) is None when nobody can know yet, and C(extensions) says more of those
    that the model names. C(canonical) is what the server makes
    of a setting's value, C(setting_errors) what it says about one it does not take, and
    C(settings_denied) are those that only somebody else may set. C(login) is None for a superuser,
    who may do anything. C(passwords_tried) says of roles whether logging in with the model's
    password worked, where what the server stores can't be read. C(unmanaged_databases) are
    (database, role, number) of objects that roles of the model own or have rights on outside it.
    C(pooler_members) are the members of PgBouncer's role, each with who granted it.
    C(maintenance) are the databases that every server has, with their schema public, where the
    hardening profile closes them. C(superuser_limit) is the first superuser's connection limit.
    C(pristine_locale) is what a database made from template0 classes characters by.
    C(template_users) are sessions in the template that databases are made from, in words, and
    C(template_collations) are its collations as in ActualDatabase.
    """

    major: int
    login_user: str
    login_is_superuser: bool
    login_bypasses_rls: bool
    reads_passwords: bool
    bootstrap_superuser: str
    template_encoding: str
    role_names: frozenset[str]
    roles: Mapping[str, ActualRole]
    databases: Mapping[str, ActualDatabase]
    scram_iterations: int = DEFAULT_ITERATIONS
    unmanaged_roles: tuple[UnmanagedRole, ...] = ()
    server_roles: Mapping[str, ServerRole] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    roles_to_drop: Mapping[str, RoleToDrop] = field(default_factory=dict)
    unmanaged_rights: tuple[UnmanagedRight, ...] = ()
    unmanaged_databases: tuple[tuple[str, str, int], ...] = ()
    available_extensions: frozenset[str] | None = None
    extensions: Mapping[str, Extension] = field(default_factory=dict)
    canonical: Mapping[tuple[str, str], str] = field(default_factory=dict)
    setting_errors: Mapping[tuple[str, str], str] = field(default_factory=dict)
    settings_denied: frozenset[tuple[str, str]] = frozenset()
    login: Login | None = None
    passwords_tried: Mapping[str, bool] = field(default_factory=dict)
    pooler_members: tuple[tuple[str, str], ...] = ()
    maintenance: Mapping[str, ActualDatabase] = field(default_factory=dict)
    superuser_limit: int = -1
    pristine_locale: str = "C"
    template_users: tuple[str, ...] = ()
    template_collations: tuple[str, ...] = ()


def in_order(actual: Actual) -> Actual:
    """The same with everything in the order of names, whatever order the catalogs' rows had."""
    return replace(
        actual,
        unmanaged_roles=tuple(sorted(actual.unmanaged_roles, key=lambda role: role.name)),
        databases={
            name: replace(
                state,
                objects=tuple(sorted(state.objects, key=_place)),
                columns=tuple(
                    sorted(state.columns, key=lambda item: (item.schema, item.table, item.name))
                ),
                large_objects=tuple(sorted(state.large_objects, key=lambda item: int(item.name))),
                default_rights=tuple(
                    sorted(
                        state.default_rights,
                        key=lambda item: (item.creator, item.schema, item.kind),
                    )
                ),
            )
            for name, state in actual.databases.items()
        },
    )


def _place(item: DatabaseObject) -> tuple[str, str, str, str]:
    return (item.schema, item.kind, item.name, item.arguments)


def created_database(name: str, owner: str, template: ActualDatabase) -> ActualDatabase:
    """A database that is missing, as CREATE DATABASE will make it."""
    return ActualDatabase(
        name=name,
        exists=False,
        owner=owner,
        grants=default_database_acl(owner),
        schemas=template.schemas,
        extensions=template.extensions,
        extension_schemas=template.extension_schemas,
        immovable=template.immovable,
        objects=template.objects,
        columns=template.columns,
        large_objects=template.large_objects,
        default_rights=template.default_rights,
        mixed=template.mixed,
        pooler_function=template.pooler_function,
        pooler_schema=template.pooler_schema,
        surroundings=template.surroundings,
    )


def new_cluster(
    major: int, login_user: str, databases: tuple[str, ...], hardening: str = STANDARD
) -> Actual:
    """A server just made by initdb with encoding UTF8, which has none of the databases yet."""
    template = replace(pristine(major, login_user), name="template1")
    first = replace(template, name="postgres", grants=default_database_acl(login_user))
    return Actual(
        major=major,
        login_user=login_user,
        login_is_superuser=True,
        login_bypasses_rls=True,
        reads_passwords=True,
        bootstrap_superuser=login_user,
        template_encoding="UTF8",
        role_names=frozenset({login_user}),
        roles={},
        databases={name: created_database(name, login_user, template) for name in databases},
        maintenance={state.name: state for state in (first, template) if hardening == CIS},
    )


def extension_homes(database: Database, state: ActualDatabase) -> tuple[str, ...]:
    """Schemas outside the model's own that hold its extensions, because it or this code says so."""
    given = dict(database.extension_schemas)
    homes = [
        given.get(name, EXTENSIONS_SCHEMA)
        for name in database.extensions
        if name in given
        or (
            name in OWN
            and state.extension_schemas.get(name, EXTENSIONS_SCHEMA) == EXTENSIONS_SCHEMA
        )
    ]
    return tuple(dict.fromkeys(name for name in homes if name not in database.schemas))


def pristine(major: int, superuser: str) -> ActualDatabase:
    """What initdb makes, and template0 stays: nobody connects to it.

    Args:
        major: of the server.
        superuser: its first one.
    """
    closed = major >= PUBLIC_SCHEMA_CLOSED_MAJOR
    owner = "pg_database_owner" if closed else superuser
    public = Schema(
        "public",
        owner,
        (
            *owner_grants(owner, ("USAGE", "CREATE")),
            Grant("", "USAGE", False, owner),
            *(() if closed else (Grant("", "CREATE", False, owner),)),
        ),
    )
    return ActualDatabase(
        "template0",
        True,
        superuser,
        (Grant("", "CONNECT", False, superuser),),
        {"public": public},
        frozenset({"plpgsql"}),
        {"plpgsql": "pg_catalog"},
        frozenset({"plpgsql"}),
    )
