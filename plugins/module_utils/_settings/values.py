# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the value of a setting means.

Values have three forms: the text of a file (C(1GB)), the canonical form of
C(pg_settings.setting), which is in the setting's base unit (C(131072)), and the display form of
C(SHOW) (C(1GB)). Values are compared in canonical form only.
"""

from __future__ import annotations

import math
import re
from typing import Any

from ansible_collections.pooled.postgres.plugins.module_utils._model.setting_text import (
    setting_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    Definition,
)

_MEMORY_BYTES = {"TB": 2.0**40, "GB": 2.0**30, "MB": 2.0**20, "kB": 2.0**10, "B": 1.0}
_TIME_MS = {"d": 86400e3, "h": 3600e3, "min": 60e3, "s": 1e3, "ms": 1.0, "us": 1e-3}
_INT_MAX = 2**31 - 1
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
# Words that the server takes for values of enums and does not show.
_ENUM_WORDS = {
    "debug": "debug2",
    **dict.fromkeys(_TRUE, "on"),
    **dict.fromkeys(_FALSE, "off"),
}
_OLD_WAL_LEVELS = ("archive", "hot_standby")
_OCTAL = ("data_directory_mode", "log_file_mode", "unix_socket_permissions")


def value_text(where: str, value: Any) -> str:
    """A value as the text of a file; a list becomes a list of names.

    Raises:
        ValueError: for what is not a valid value.
    """
    if isinstance(value, (list, tuple)):
        return ", ".join(list_element(setting_text(where, element)) for element in value)
    return setting_text(where, value)


def list_element(text: str) -> str:
    """An element of a list of names, in quotes where it needs them."""
    if re.match(r"[^\s,\"]+\Z", text):
        return text
    return '"{}"'.format(text.replace('"', '""'))


def canonical_setting(definition: Definition, text: str) -> str:
    """The value as C(pg_settings.setting) shows it, by the rules of the server's own parser.

    Raises:
        ValueError: saying why it is not a valid value, without naming it.
    """
    if definition.vartype == "bool":
        return _canonical_bool(text)
    if definition.vartype == "enum":
        return _canonical_enum(definition, text)
    if definition.vartype in ("integer", "real"):
        return _canonical_number(definition, text)
    return text


def _canonical_bool(text: str) -> str:
    word = text.lower()
    for words, result in ((_TRUE, "on"), (_FALSE, "off")):
        for whole in words:
            # Unique prefixes will do; "o" is not unique.
            if word and whole.startswith(word) and word != "o":
                return result
    raise ValueError("is not a valid boolean; use on or off")


def _canonical_enum(definition: Definition, text: str) -> str:
    for value in definition.values:
        if value.lower() == text.lower():
            return value
    # Enums that grew out of booleans still take all the words.
    meant = _ENUM_WORDS.get(text.lower(), "")
    if definition.name == "wal_level" and text.lower() in _OLD_WAL_LEVELS:
        meant = "replica"
    if meant in definition.values and meant:
        return meant
    raise ValueError(f"is not allowed; choose one of {', '.join(definition.values)}")


def _canonical_number(definition: Definition, text: str) -> str:
    number, rest = _leading_number(text, definition.vartype == "real")
    unit = rest.strip()
    if unit:
        number = _in_base_unit(number, unit, definition.unit)
    if definition.vartype == "integer":
        number = _rint(number)
        if abs(number) > _INT_MAX + 1:
            raise ValueError(f"is outside the range {_range(definition)}")
    least, most = float(definition.least or "-inf"), float(definition.most or "inf")
    if not least <= number <= most:
        raise ValueError(f"is outside the range {_range(definition)}")
    return str(int(number)) if definition.vartype == "integer" else f"{number:g}"


def _leading_number(text: str, real: bool) -> tuple[float, str]:
    stripped = text.lstrip()
    found = re.match(r"[+-]?(?:0[xX][0-9A-Fa-f]+|[0-9]+)", stripped)
    if found and not real and not re.match(r"[.eE]", stripped[found.end() :]):
        digits = found.group(0)
        bare = digits.lstrip("+-").lower()
        if bare.startswith("0x"):
            return float(int(digits, 16)), stripped[found.end() :]
        if not bare.startswith("0") or bare == "0":
            return float(int(digits)), stripped[found.end() :]
        octal = re.match(r"[+-]?0[0-7]*", stripped)
        if octal:
            return float(int(octal.group(0), 8)), stripped[octal.end() :]
    found = re.match(r"[+-]?0[xX][0-9A-Fa-f]+", stripped)
    if found:
        return float(int(found.group(0), 16)), stripped[found.end() :]
    found = re.match(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", stripped)
    if not found:
        raise ValueError("is not a valid number")
    return float(found.group(0)), stripped[found.end() :]


def _in_base_unit(number: float, unit: str, base: str) -> float:
    memory, time = base.endswith("B"), base in _TIME_MS
    if not memory and not time:
        raise ValueError("is not a valid number; this setting takes no unit")
    units = _MEMORY_BYTES if memory else _TIME_MS
    if unit not in units:
        allowed = ", ".join(reversed(list(units)))
        raise ValueError(f"has no valid unit; valid are {allowed} (capitals matter)")
    base_size = _unit_size(base)
    value = number * (units[unit] / base_size)
    # A fraction is rounded to a whole number of the next smaller unit, before anything else.
    smaller = list(units)[list(units).index(unit) + 1 :]
    if smaller:
        step = units[smaller[0]] / base_size
        value = _rint(value / step) * step
    return value


def _unit_size(unit: str) -> float:
    """Bytes or milliseconds of a unit such as C(8kB), C(MB) or C(s)."""
    found = re.match(r"([0-9]*)([A-Za-z]+)\Z", unit)
    if not found:
        raise ValueError(f"{unit!r} is not a valid unit")
    sizes = _MEMORY_BYTES if found.group(2) in _MEMORY_BYTES else _TIME_MS
    return int(found.group(1) or 1) * sizes[found.group(2)]


def _rint(number: float) -> float:
    """Round half to even, as C's rint() does."""
    return math.copysign(round(number), number) if math.isfinite(number) else number


def _range(definition: Definition) -> str:
    def shown(bound: str) -> str:
        text = display(definition, bound)
        return f"{bound} ({text})" if text != bound else bound

    return f"{shown(definition.least)} .. {shown(definition.most)}"


def display(definition: Definition, setting: str) -> str:
    """A canonical value as SHOW writes it: in the largest unit that holds it without a fraction."""
    if definition.name in _OCTAL and re.match(r"[0-9]+\Z", setting):
        return f"0{int(setting):o}"
    if not definition.unit or definition.vartype not in ("integer", "real"):
        return setting
    try:
        number = float(setting)
    except ValueError:
        return setting
    if number <= 0 or not math.isfinite(number):
        return setting
    units = _MEMORY_BYTES if definition.unit.endswith("B") else _TIME_MS
    # Whole numbers of bytes or microseconds, so that nothing is lost on the way.
    scale = 1 if units is _MEMORY_BYTES else 1000
    total = number * round(_unit_size(definition.unit) * scale)
    for unit, size in units.items():
        count = total / round(size * scale)
        whole = total % round(size * scale) == 0
        if definition.vartype == "real":
            whole = abs(round(count) / count - 1) <= 1e-8
        if whole:
            return f"{round(count)}{unit}"
    return f"{number:g}{definition.unit}"


def names_of_libraries(value: str) -> list[str]:
    """The names in a list such as shared_preload_libraries."""
    found = re.findall(r'"((?:[^"]|"")*)"|([^\s,"]+)', value)
    return [quoted.replace('""', '"') if quoted else plain for quoted, plain in found]
