# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creating an extension so that its script calls nothing that less trusted roles have made.

A script runs with a superuser's rights, and finds what is in its schema by bare names. The scripts
of trusted extensions are written for schemas where others create; of others nobody can know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._sql.operations import (
    CreateExtension,
    CreateSchema,
    DropSchema,
    MoveExtension,
    Operation,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import (
    name_list,
)

# Extensions that the collection itself asks for: applications don't call them, and what reflects
# their schemas must not find them there.
OWN = ("pg_stat_statements",)
# What extensions of contrib require, for where no server can be asked yet.
_REQUIRES = {
    "bool_plperl": ("plperl",),
    "bool_plperlu": ("plperlu",),
    "earthdistance": ("cube",),
    "hstore_plperl": ("hstore", "plperl"),
    "hstore_plperlu": ("hstore", "plperlu"),
    "hstore_plpython3u": ("hstore", "plpython3u"),
    "jsonb_plperl": ("plperl",),
    "jsonb_plperlu": ("plperlu",),
    "jsonb_plpython3u": ("plpython3u",),
    "ltree_plpython3u": ("ltree", "plpython3u"),
}
# Where a script runs when its own schema is open to others, dropped when it has run.
ALONE = "pooled_extension"


@dataclass(frozen=True)
class Extension:
    """What the control file of an extension says; C(schema) is empty when it leaves the choice."""

    schema: str = ""
    relocatable: bool = False
    trusted: bool = False
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """What of a database bears on an extension's script.

    C(present) has the schema of each extension, C(schemas) are all. In the C(creatable) ones roles
    that are not superusers may create, C(holding) ones have functions or operators of such roles.
    """

    present: Mapping[str, str]
    creatable: frozenset[str] = frozenset()
    holding: frozenset[str] = frozenset()
    schemas: frozenset[str] = frozenset()


def required(name: str, extensions: Mapping[str, Extension]) -> tuple[str, ...]:
    """The extensions that one needs before it."""
    return extensions[name].requires if name in extensions else _REQUIRES.get(name, ())


def in_order(names: Iterable[str], extensions: Mapping[str, Extension]) -> tuple[str, ...]:
    """Extensions so that each comes after those that it requires, otherwise as they are given."""
    given = tuple(names)
    ordered: dict[str, None] = {}

    def add(name: str) -> None:
        for other in required(name, extensions):
            if other in given and other not in ordered:
                add(other)
        ordered[name] = None

    for name in given:
        add(name)
    return tuple(ordered)


def creation(
    name: str,
    home: str,
    extension: Extension,
    around: Surroundings,
    new_database: bool = False,
    shown_schema: str | None = None,
) -> tuple[Operation, ...]:
    """The statements that create an extension.

    Args:
        name: the extension.
        home: the schema that it must be in, where it leaves the choice.
        extension: what it says of itself.
        around: the database.
        new_database: whether nobody else has been in it yet, so that only what its template brought
            counts.
        shown_schema: the schema that people see, where that is another one than the server gets.

    Raises:
        ValueError: when its script would run where others create, naming the schemas.
    """
    unsafe = around.holding if new_database else around.holding | around.creatable
    schema = extension.schema or home
    needed = {around.present[other] for other in extension.requires if other in around.present}
    if extension.trusted or not unsafe & {schema, *needed}:
        return (CreateExtension(name, "" if extension.schema else home, shown_schema),)
    if extension.schema or not extension.relocatable or unsafe & needed:
        raise ValueError(
            f"the script of extension {name!r} would run with a superuser's rights and find what"
            f" others may create in schema {name_list(sorted(unsafe & {schema, *needed}))}; revoke"
            " CREATE there and drop their functions and operators, or create the extension yourself"
            " in a schema of its own"
        )
    return (
        CreateSchema(ALONE),
        CreateExtension(name, ALONE),
        MoveExtension(name, home),
        DropSchema(ALONE),
    )
