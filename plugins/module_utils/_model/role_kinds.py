# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kind of role means: attributes, rights and settings. The one table of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import (
    LARGE_OBJECTS,
    OBJECT_CLASSES,
    SCHEMAS,
)

# The kind of PgBouncer's own login role, which the model does not list.
POOLER = "pooler"

# A schema that the model names for extensions, and not for its roles to work in.
EXTENSION_SCHEMA = "extension schema"

_NONE: Mapping[str, tuple[str, ...]] = dict.fromkeys((*OBJECT_CLASSES, LARGE_OBJECTS), ())
_USER: Mapping[str, tuple[str, ...]] = {
    "database": ("CONNECT",),
    "schema": ("USAGE",),
    EXTENSION_SCHEMA: ("USAGE",),
    "tables": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "sequences": ("SELECT", "USAGE"),
    "routines": ("EXECUTE",),
    "types": ("USAGE",),
    LARGE_OBJECTS: ("SELECT", "UPDATE"),
}


@dataclass(frozen=True)
class Kind:
    """What a role of one kind has.

    C(rights) are those on each class of objects; a class that is not in there is none of the
    model's business. C(settings) are what ALTER ROLE ... SET gives it. Clients' startup parameters
    do not survive transaction pooling; these do, because PgBouncer logs in to the server as the
    role itself.
    """

    rights: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, str]
    attributes: frozenset[str] = field(default=frozenset({"LOGIN", "INHERIT"}))


# The kinds that a role of the model can have.
KINDS: Mapping[str, Kind] = {
    "user": Kind(
        _USER,
        {
            "jit": "off",
            "statement_timeout": "30s",
            "idle_in_transaction_session_timeout": "60s",
            "lock_timeout": "5s",
        },
    ),
    # It executes no routines: a SECURITY DEFINER routine writes with its owner's rights.
    "reader": Kind(
        {
            "database": ("CONNECT",),
            "schema": ("USAGE",),
            EXTENSION_SCHEMA: ("USAGE",),
            "tables": ("SELECT",),
            "sequences": ("SELECT",),
            "routines": (),
            "types": (),
            LARGE_OBJECTS: ("SELECT",),
        },
        {
            "jit": "off",
            "statement_timeout": "30s",
            "idle_in_transaction_session_timeout": "60s",
            "lock_timeout": "5s",
        },
    ),
    # It owns what it creates, so its rights on single objects are its own business: neither granted
    # nor revoked. A migration may take long, but its DDL must not queue behind a long query:
    # everybody who comes later would queue behind it.
    "migrator": Kind(
        {
            "database": ("CREATE", "CONNECT", "TEMPORARY"),
            "schema": ("USAGE", "CREATE"),
            EXTENSION_SCHEMA: ("USAGE",),
        },
        {"jit": "off", "lock_timeout": "5s"},
    ),
    "admin": Kind(
        _USER,
        {
            "jit": "off",
            "idle_in_transaction_session_timeout": "10min",
            "lock_timeout": "5s",
        },
        frozenset({"LOGIN", "INHERIT", "BYPASSRLS"}),
    ),
}
# These, and that of the role that PgBouncer itself logs in as, which looks verifiers up and does
# nothing else: short answers, and nothing that can write by mistake.
ALL_KINDS: Mapping[str, Kind] = {
    **KINDS,
    POOLER: Kind(
        {"database": ("CONNECT",), "schema": (), EXTENSION_SCHEMA: (), **_NONE},
        {
            "default_transaction_read_only": "on",
            "idle_in_transaction_session_timeout": "10s",
            "lock_timeout": "5s",
            "search_path": "pg_catalog",
            "statement_timeout": "10s",
            "temp_file_limit": "0",
        },
    ),
}

# What a role of the model has in a database that does not list it.
UNLISTED_RIGHTS: Mapping[str, tuple[str, ...]] = {
    "database": (),
    "schema": (),
    EXTENSION_SCHEMA: (),
    **_NONE,
}
# What PUBLIC may get of everything that a migrator creates: what the server gives it anyway.
PUBLIC_DEFAULTS: Mapping[str, tuple[str, ...]] = {**_NONE, "types": ("USAGE",), SCHEMAS: ()}
# What nobody else gets of it.
NO_DEFAULTS: Mapping[str, tuple[str, ...]] = {**_NONE, SCHEMAS: ()}
