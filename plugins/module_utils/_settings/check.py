# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refusing settings that the server would refuse."""

from __future__ import annotations

import difflib
import re
from typing import Any, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._secrets import holds_secret, shown
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    Definition,
    catalog_of,
    check_major,
    known_definition,
    libraries_catalog_of,
    majors_of,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.values import (
    canonical_setting,
    value_text,
)

# Settings of the cluster itself, which Debian's postgresql.conf holds.
NOT_OURS = ("config_file", "data_directory", "hba_file", "ident_file", "external_pid_file")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*\Z")
# No file may hold these, so the catalog does not know them; a role may.
_SESSION_ONLY = frozenset({"role", "session_authorization"})
_NOT_A_SESSION_S = frozenset({"internal", "postmaster", "sighup"})


def check_settings(
    settings: Any, major: int, variable: str = "postgres_settings"
) -> dict[str, str]:
    """Settings as the server names them, with their values as text; null values are left out.

    Args:
        settings: name to value; values are text, numbers, booleans or, for settings that are
            lists of names, lists.
        major: the server's major version.
        variable: where the settings come from, for error messages.

    Raises:
        ValueError: naming the setting, the value, what is allowed.
    """
    checked = check_settings_and_nulls(settings, major, variable)
    return {name: value for name, value in checked.items() if value is not None}


def check_settings_and_nulls(
    settings: Any, major: int, variable: str = "postgres_settings"
) -> dict[str, str | None]:
    """The same with null values kept, for layers of settings that are merged later."""
    if not isinstance(settings, Mapping):
        raise ValueError(f"{variable}: give a dictionary, not {type(settings).__name__}")
    check_major(major)
    checked: dict[str, str | None] = {}
    for given, value in settings.items():
        name = check_setting_name(given, major, variable)
        if name in checked:
            raise ValueError(f"{variable}.{given}: is given twice; names are not case-sensitive")
        where = f"{variable}.{given}"
        text = None if value is None else value_text(where, value)
        definition = known_definition(name, major)
        if definition and text is not None:
            check_value(where, definition, text)
        checked[name] = text
    return checked


def check_role_settings(settings: Mapping[str, str], major: int, variable: str) -> None:
    """Refuse what ALTER ROLE ... SET would refuse, as far as names, types and contexts say.

    Raises:
        ValueError: naming the setting, the value, what is allowed.
    """
    for given, text in settings.items():
        if given.lower() in _SESSION_ONLY:
            continue
        name = check_setting_name(given, major, variable)
        definition = known_definition(name, major)
        if definition is None:
            continue
        if definition.context in _NOT_A_SESSION_S:
            raise ValueError(
                f"{variable}.{given}: belongs to the whole server, not to a role; set it in"
                " postgres_settings"
            )
        check_value(f"{variable}.{given}", definition, text)


def check_setting_name(given: Any, major: int, variable: str) -> str:
    """The name as the server writes it.

    Settings (C(a.b)) of libraries that do not come with the server are taken as they are.

    Raises:
        ValueError: when that major has no such setting, or no file may hold it.
    """
    if not isinstance(given, str) or not _NAME.match(given):
        raise ValueError(f"{variable}: {given!r} is not a valid name of a setting")
    name = given.lower()
    if name in NOT_OURS:
        raise ValueError(
            f"{variable}.{given}: belongs to the cluster itself and is set in postgresql.conf"
        )
    definition = known_definition(name, major)
    if definition:
        return definition.name
    library = name.partition(".")[0]
    siblings = [other for other in libraries_catalog_of(major) if other.startswith(f"{library}.")]
    majors = majors_of(name)
    if "." in name and not siblings and not majors:
        return name
    if majors:
        first, last = majors
        span = f"exists since Postgres {first}" if major < first else f"is gone since {last + 1}"
        raise ValueError(
            f"{variable}.{given}: {span}, and this server is Postgres {major}; leave it out"
        )
    near = difflib.get_close_matches(name, siblings or sorted(catalog_of(major)), n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else ""
    owner = f"{library} of Postgres {major}" if siblings else f"Postgres {major}"
    raise ValueError(f"{variable}.{given}: {owner} has no such setting{hint}")


def check_value(where: str, definition: Definition, text: str) -> None:
    """Refuse a value that the server would refuse, as far as its type says.

    Raises:
        ValueError: naming the value and what is allowed.
    """
    try:
        canonical_setting(definition, text)
    except ValueError as error:
        raise ValueError(f"{where}: {shown(where, text)} {error}") from None
    if definition.name == "primary_conninfo" and holds_secret(text):
        raise ValueError(
            f"{where}: holds a password; put it in a password file and name that with passfile=…"
        )
