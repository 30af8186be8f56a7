# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access control lists as Postgres writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Iterable, Mapping

# Who a right is granted to when it is granted to everybody.
PUBLIC = ""

# The order in which Postgres itself lists privileges, and statements here name them.
PRIVILEGES: Mapping[str, str] = {
    "r": "SELECT",
    "a": "INSERT",
    "w": "UPDATE",
    "d": "DELETE",
    "D": "TRUNCATE",
    "x": "REFERENCES",
    "t": "TRIGGER",
    "m": "MAINTAIN",
    "X": "EXECUTE",
    "U": "USAGE",
    "C": "CREATE",
    "c": "CONNECT",
    "T": "TEMPORARY",
    "s": "SET",
    "A": "ALTER SYSTEM",
}
_ORDER = {privilege: index for index, privilege in enumerate(PRIVILEGES.values())}

# Classes of objects in a schema, as they are called in ... ON ALL x IN SCHEMA, and in order.
OBJECT_CLASSES = ("tables", "sequences", "routines", "types")

# They are in no schema, and there is no ALL of them.
LARGE_OBJECTS = "large objects"

# What default privileges call the schemas that a role will create.
SCHEMAS = "schemas"

_ITEM = re.compile(
    r'(?:"((?:[^"]|"")*)"|([^="]*))=((?:[A-Za-z]\*?)*)/(?:"((?:[^"]|"")*)"|([^"]*))\Z'
)


@dataclass(frozen=True)
class Grant:
    """One privilege that one role, or C(PUBLIC), holds."""

    grantee: str
    privilege: str
    grantable: bool
    grantor: str


@lru_cache(maxsize=None)
def parse_acl(items: tuple[str, ...]) -> tuple[Grant, ...]:
    """The grants of an access control list given as the text of its items.

    Raises:
        ValueError: for an item in no form that Postgres writes.
    """
    return tuple(grant for item in items for grant in _parse_item(item))


def in_order(privileges: Iterable[str]) -> tuple[str, ...]:
    """Privileges without duplicates, in the order that Postgres lists them."""
    return tuple(sorted(set(privileges), key=lambda name: (_ORDER.get(name, len(_ORDER)), name)))


def held(grants: Iterable[Grant], grantee: str) -> frozenset[str]:
    """The privileges that a role holds by name."""
    return frozenset(grant.privilege for grant in grants if grant.grantee == grantee)


def default_database_acl(owner: str) -> tuple[Grant, ...]:
    """The rights on a database that was just created."""
    public = (Grant(PUBLIC, privilege, False, owner) for privilege in ("TEMPORARY", "CONNECT"))
    return (*public, *owner_grants(owner, ("CREATE", "TEMPORARY", "CONNECT")))


def owner_grants(owner: str, privileges: Iterable[str]) -> tuple[Grant, ...]:
    """What an owner holds on its own object."""
    return tuple(Grant(owner, privilege, False, owner) for privilege in privileges)


def _parse_item(item: str) -> Iterable[Grant]:
    match = _ITEM.match(item)
    if not match:
        raise ValueError(f"{item!r} is not a valid item of an access control list")
    quoted_grantee, grantee, letters, quoted_grantor, grantor = match.groups()
    for letter, star in re.findall(r"([A-Za-z])(\*?)", letters):
        yield Grant(
            _unquote(quoted_grantee, grantee),
            PRIVILEGES.get(letter, letter),
            bool(star),
            _unquote(quoted_grantor, grantor),
        )


def _unquote(quoted: str | None, plain: str) -> str:
    return plain if quoted is None else quoted.replace('""', '"')
