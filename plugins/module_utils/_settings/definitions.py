# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which settings there are: for each major, and of the libraries that come with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._settings.catalog import (
    FIRST_MAJOR,
    LAST_MAJOR,
    TABLE,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.libraries import (
    TABLE as TABLE_OF_LIBRARIES,
)


@dataclass(frozen=True)
class Definition:
    """A setting as one major knows it."""

    name: str
    context: str
    vartype: str
    unit: str
    least: str
    most: str
    values: tuple[str, ...]
    default: str

    @property
    def needs_restart(self) -> bool:
        """Whether only a restart applies it."""
        return self.context == "postmaster"


def _catalog(table: str) -> dict[str, list[tuple[int, int, Definition]]]:
    catalog: dict[str, list[tuple[int, int, Definition]]] = {}
    for line in table.splitlines():
        name, majors, context, vartype, unit, least, most, values, default, _end = line.split("|")
        first, last = (int(major) for major in majors.split("-"))
        allowed = tuple(values.split(",")) if values else ()
        definition = Definition(name, context, vartype, unit, least, most, allowed, default)
        catalog.setdefault(name.lower(), []).append((first, last, definition))
    return catalog


_CATALOG = _catalog(TABLE)
_LIBRARIES = _catalog(TABLE_OF_LIBRARIES)


def known_definition(name: str, major: int) -> Definition | None:
    """What the catalogs say of a setting; None when that major has none of that name.

    Settings of libraries that do not come with the server are not known.
    """
    key = name.lower()
    for first, last, definition in _CATALOG.get(key) or _LIBRARIES.get(key, []):
        if first <= major <= last:
            return definition
    return None


def majors_of(name: str) -> tuple[int, int] | None:
    """The first and the last major that the catalogs have a setting of; None for an unknown one."""
    rows = _CATALOG.get(name.lower()) or _LIBRARIES.get(name.lower())
    return (rows[0][0], rows[-1][1]) if rows else None


def catalog_of(major: int) -> dict[str, Definition]:
    """All settings of a major's server, without its libraries', by lower-case name."""
    return _of_major(_CATALOG, major)


def libraries_catalog_of(major: int) -> dict[str, Definition]:
    """All settings of the libraries that come with a major, by lower-case name."""
    return _of_major(_LIBRARIES, major)


def _of_major(
    catalog: Mapping[str, list[tuple[int, int, Definition]]], major: int
) -> dict[str, Definition]:
    found = {name: known_definition(name, major) for name in catalog}
    return {name: definition for name, definition in found.items() if definition}


def check_major(major: int, variable: str = "postgres_version") -> int:
    """The major, when the catalog has it.

    Raises:
        ValueError: when not.
    """
    if not FIRST_MAJOR <= major <= LAST_MAJOR:
        raise ValueError(
            f"{variable}: Postgres {major} is not supported; supported are majors"
            f" {FIRST_MAJOR} to {LAST_MAJOR}"
        )
    return major
