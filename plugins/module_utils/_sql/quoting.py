# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Identifiers and literals as SQL text, exact for any name and made without a server."""

from __future__ import annotations

import re
from typing import Iterable

# Every word that pg_get_keywords() calls anything but unreserved, in any of Postgres 13 to 18.
_KEYWORDS_TEXT = """
all analyse analyze and any array as asc asymmetric authorization between bigint binary bit
boolean both case cast char character check coalesce collate collation column concurrently
constraint create cross current_catalog current_date current_role current_schema current_time
current_timestamp current_user dec decimal default deferrable desc distinct do else end except
exists extract false fetch float for foreign freeze from full grant greatest group grouping
having ilike in initially inner inout int integer intersect interval into is isnull join json
json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar
json_serialize json_table json_value lateral leading least left like limit localtime
localtimestamp merge_action national natural nchar none normalize not notnull null nullif
numeric offset on only or order out outer overlaps overlay placing position precision primary
real references returning right row select session_user setof similar smallint some substring
symmetric system_user table tablesample then time timestamp to trailing treat trim true union
unique user using values varchar variadic verbose when where window with xmlattributes
xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize
xmltable
"""
KEYWORDS = frozenset(_KEYWORDS_TEXT.split())

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*\Z")
_LIST_ITEM = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^\s,"]+))\s*(,|\Z)')


def quote_ident(name: str) -> str:
    """An identifier; quoted only where Postgres needs it, so that statements read well."""
    if _PLAIN.match(name) and name not in KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def quote_literal(value: str) -> str:
    """A string constant, whatever standard_conforming_strings says."""
    quoted = "'" + value.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in value else quoted


def join_idents(names: Iterable[str]) -> str:
    """Identifiers separated by commas."""
    return ", ".join(quote_ident(name) for name in names)


def name_list(names: Iterable[str]) -> str:
    """Names as a sentence shows them; not SQL."""
    return ", ".join(repr(name) for name in names)


def split_identifiers(text: str) -> tuple[str, ...]:
    """The elements of a list such as that of search_path, as the server reads it.

    Raises:
        ValueError: when it is not such a list.
    """
    elements: list[str] = []
    position = 0
    if not text.strip():
        return ()
    while True:
        match = _LIST_ITEM.match(text, position)
        if not match:
            raise ValueError(f"{text!r} is not a valid list of names separated by commas")
        quoted, plain, separator = match.groups()
        elements.append(plain.lower() if quoted is None else quoted.replace('""', '"'))
        if not separator:
            return tuple(elements)
        position = match.end()
