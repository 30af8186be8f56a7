# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the server: what exists, what a value means, and what has to be done about it.

Values have three forms here: the text of a file (C(1GB)), the canonical form of
C(pg_settings.setting), which is in the setting's base unit (C(131072)), and the display form of
C(SHOW) (C(1GB)). Values are compared in canonical form only.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host import conf_file
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import setting_text
from ansible_collections.pooled.postgres.plugins.module_utils._secrets import (
    holds_secret,
    shown,
    shown_change,
    shown_setting,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.catalog import (
    FIRST_MAJOR,
    LAST_MAJOR,
    TABLE,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.libraries import (
    TABLE as TABLE_OF_LIBRARIES,
)

# What pg_createcluster writes into postgresql.conf of a new cluster, where it is not the default.
CREATED_WITH = {"log_line_prefix": "%m [%p] %q%u@%d ", "ssl": "on"}

# Settings of the cluster itself, which Debian's postgresql.conf holds.
NOT_OURS = ("config_file", "data_directory", "hba_file", "ident_file", "external_pid_file")


# The setting in a candidate file whose presence proves that the server reads that file.
MARKER = "pooled.candidate"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*\Z")
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
_INCLUDE = re.compile(
    r"""(?P<indent>\s*)(?P<kind>include|include_if_exists|include_dir)(?:\s*=\s*|\s+)
    (?:'(?P<quoted>(?:[^']|'')*)'|(?P<plain>[^\s'\#=]+))\s*(?:\#.*)?\Z""",
    re.VERBOSE | re.IGNORECASE,
)
# Sources in pg_settings that hide what the files say: a role's, a database's or a session's own.
HIDDEN_SOURCES = ("database", "user", "database user", "client", "session", "global", "test")
# Sources in pg_settings that no file changes.
_BEYOND_FILES = ("override", "command line", "environment variable")


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


@dataclass(frozen=True)
class Live:
    """A row of pg_settings; C(setting) is what a new session starts with, in canonical form."""

    definition: Definition
    setting: str
    source: str = "default"
    pending_restart: bool = False


@dataclass(frozen=True)
class FileRow:
    """A row of pg_file_settings: an entry of a file on disk, in the order of reading."""

    path: str
    line: int
    name: str
    value: str
    applied: bool
    error: str | None = None


@dataclass(frozen=True)
class DropIn:
    """The managed file: its path, its text (empty when there is none), and where it is included.

    C(main) is the path of postgresql.conf, C(line) the number of its line that includes the file.
    """

    path: str
    text: str
    main: str
    line: int

    def settings(self) -> dict[str, str]:
        """What it sets, by lower-case name; nothing when it can't be read."""
        try:
            return dict(conf_file.parse(self.text))
        except ValueError:
            return {}

    def precedes(self, row: FileRow) -> bool:
        """Whether an entry elsewhere is read later and so wins."""
        if row.path == self.main:
            return row.line > self.line
        directory, name = self.path.rsplit("/", 1)
        other_directory, other_name = row.path.rsplit("/", 1)
        return other_directory == directory and other_name.encode() > name.encode()


@dataclass(frozen=True)
class Change:
    """A setting that is not what it must be; C(before) and C(after) are in display form."""

    name: str
    before: str
    after: str
    restart: bool
    expected: str


@dataclass(frozen=True)
class Plan:
    """What to do.

    C(content) is the drop-in as it must be. C(resets) are settings to take out of
    postgresql.auto.conf. C(overrides) say what keeps a managed setting from taking effect.
    C(reload) is true when the server has not read what is on disk.
    C(waiting) are the settings that only a restart applies.
    """

    content: str
    changes: tuple[Change, ...]
    resets: tuple[str, ...]
    overrides: tuple[str, ...]
    reload: bool
    waiting: tuple[str, ...]


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
    majors = _CATALOG.get(name) or _LIBRARIES.get(name)
    if "." in name and not siblings and not majors:
        return name
    if majors:
        first, last = majors[0][0], majors[-1][1]
        span = f"exists since Postgres {first}" if major < first else f"is gone since {last + 1}"
        raise ValueError(
            f"{variable}.{given}: {span}, and this server is Postgres {major}; leave it out"
        )
    near = difflib.get_close_matches(name, siblings or sorted(catalog_of(major)), n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else ""
    owner = f"{library} of Postgres {major}" if siblings else f"Postgres {major}"
    raise ValueError(f"{variable}.{given}: {owner} has no such setting{hint}")


def value_text(where: str, value: Any) -> str:
    """A value as the text of a file; a list becomes a list of names.

    Raises:
        ValueError: for what is not a valid value.
    """
    if isinstance(value, (list, tuple)):
        return ", ".join(_list_element(setting_text(where, element)) for element in value)
    return setting_text(where, value)


def _list_element(text: str) -> str:
    if re.match(r"[^\s,\"]+\Z", text):
        return text
    return '"{}"'.format(text.replace('"', '""'))


def check_value(where: str, definition: Definition, text: str) -> None:
    """Refuse a value that the server would refuse, as far as its type says.

    Raises:
        ValueError: naming the value and what is allowed.
    """
    try:
        canonical(definition, text)
    except ValueError as error:
        raise ValueError(f"{where}: {shown(where, text)} {error}") from None
    if definition.name == "primary_conninfo" and holds_secret(text):
        raise ValueError(
            f"{where}: holds a password; put it in a password file and name that with passfile=…"
        )


def canonical(definition: Definition, text: str) -> str:
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


def last_good(wanted: str, before: str, waiting: Iterable[str]) -> str:
    """The managed file with which a server runs while settings wait for its restart.

    Args:
        wanted: the file as it is now, all of which the server has read.
        before: the file that it last started with.
        waiting: settings of which it still has the value from before.
    """
    settings = dict(conf_file.parse(wanted))
    try:
        old = dict(conf_file.parse(before))
    except ValueError:
        old = {}
    for name in (name.lower() for name in waiting):
        settings.pop(name, None)
        if name in old:
            settings[name] = old[name]
    return conf_file.render(settings)


def running(wanted: Iterable[str], live: Mapping[str, Live]) -> dict[str, str]:
    """The values with which a server runs, of those settings that are not the default."""
    rows = [live[name.lower()] for name in wanted if name.lower() in live]
    return {row.definition.name: row.setting for row in rows if row.source != "default"}


def waiting_lines(
    waiting: Iterable[str], live: Mapping[str, Live], rows: Sequence[FileRow], plan_: Plan
) -> list[str]:
    """What the server runs with and what is wanted, of settings that wait for a restart."""
    changes = {change.name: change for change in plan_.changes}
    lines = []
    for name in sorted(waiting, key=str.lower):
        row, change = live.get(name.lower()), changes.get(name)
        own = [other for other in rows if other.name.lower() == name.lower()]
        if change:
            lines.append(f"{name} is {change.before}, wanted is {change.after}")
        elif row:
            now = shown_setting(name, display(row.definition, row.setting))
            place = (
                f"{own[-1].path}:{own[-1].line} says {shown_setting(name, own[-1].value)}"
                if own
                else "no file has it"
            )
            lines.append(f"{name} is {now}, but {place}")
    return lines


def with_candidate(
    main_text: str, main: str, drop_in: str, candidate: str, files_in: Callable[[str], list[str]]
) -> tuple[str, int]:
    """The main configuration file with the candidate read in the drop-in's place.

    Every include is written out with absolute paths, so that the result can be read from anywhere
    and means the same.

    Args:
        main_text: text of postgresql.conf.
        main: its path.
        drop_in: path of the managed file, which need not exist.
        candidate: path of the file to read instead.
        files_in: the names in a directory; empty when there is none.

    Returns:
        The text, and the number of the line in the original that includes the drop-in; 0 for none.
    """
    directory, drop_in_name = drop_in.rsplit("/", 1)
    result = []
    included_at = 0
    for number, line in enumerate(main_text.splitlines(), 1):
        found = _INCLUDE.match(line)
        if not found:
            result.append(line)
            continue
        given = found.group("plain") or found.group("quoted").replace("''", "'")
        target = given if given.startswith("/") else f"{main.rpartition('/')[0]}/{given}"
        kind = found.group("kind").lower()
        targets = [target]
        if kind == "include_dir":
            base = target.rstrip("/")
            names = {name for name in files_in(base) if name.endswith(".conf") and name[0] != "."}
            if directory == base:
                names.add(drop_in_name)
            targets = [f"{base}/{name}" for name in sorted(names, key=str.encode)]
        directive = "include_if_exists" if kind == "include_if_exists" else "include"
        for path in targets:
            if path == drop_in:
                included_at = number
            read = candidate if path == drop_in else path
            result.append(f"{directive} {conf_file.quoted(read)}")
    return "\n".join(result) + "\n", included_at


def names_of_libraries(value: str) -> list[str]:
    """The names in a list such as shared_preload_libraries."""
    found = re.findall(r'"((?:[^"]|"")*)"|([^\s,"]+)', value)
    return [quoted.replace('""', '"') if quoted else plain for quoted, plain in found]


def with_libraries(
    wanted: Iterable[str], rows: Iterable[FileRow], drop_in: str = "", unwanted: Iterable[str] = ()
) -> str:
    """A value of shared_preload_libraries: what any file already preloads, then what is wanted.

    Args:
        wanted: libraries.
        rows: pg_file_settings.
        drop_in: path of the managed file.
        unwanted: libraries that it has from an earlier run, and that are to go.
    """
    names: list[str] = []
    gone = frozenset(unwanted)
    for row in rows:
        if row.name.lower() == "shared_preload_libraries":
            found = names_of_libraries(row.value)
            names += [name for name in found if row.path != drop_in or name not in gone]
    names += wanted
    return ", ".join(_list_element(name) for name in dict.fromkeys(names))


def new_cluster(major: int) -> dict[str, Live]:
    """pg_settings of a cluster as Debian's package creates it, by lower-case name."""
    live = {}
    for name, definition in catalog_of(major).items():
        setting = CREATED_WITH.get(name, definition.default)
        live[name] = Live(definition, setting)
    return live


def plan(
    wanted: Mapping[str, str],
    drop_in: DropIn,
    live: Mapping[str, Live],
    rows: Sequence[FileRow],
    normalise: Callable[[Definition, str], str] = canonical,
    libraries: Mapping[str, Definition] = MappingProxyType({}),
) -> Plan:
    """What has to happen for the server to have the wanted settings, and no others of ours.

    Args:
        wanted: checked settings.
        drop_in: the managed file as it is.
        live: pg_settings by lower-case name.
        rows: pg_file_settings.
        normalise: canonical form of a value, the server's own where types do not say it;
            ValueError for what is not a valid value.
        libraries: settings of libraries that the server may not have loaded, by lower-case name.
    """
    held = {name.lower(): name for name in wanted}
    old = drop_in.settings()
    kept: dict[str, str] = {}
    changes: list[Change] = []
    overrides: list[str] = []
    reload = False
    for key, name in held.items():
        row = live.get(key)
        definition = row.definition if row else libraries.get(key) or _placeholder(name)
        goal = normalise(definition, wanted[name])
        kept[name] = wanted[name]
        if key in old and _equal(definition, old[key], goal, normalise):
            kept[name] = old[key]
        own = [other for other in rows if other.name.lower() == key]
        above = _overriding(drop_in, [other for other in own if not _in_auto_conf(other)], row)
        if above:
            overrides.append(f"{name} is overridden by {above}")
            continue
        if row is None:
            # Nothing reads it before its library is loaded, so that no restart waits for it alone.
            text = own[-1].value if own else old.get(key)
            now = goal if text and _equal(definition, text, goal, normalise) else text
            restart = False
        else:
            now = _effective(row, own, normalise)
            restart = definition.needs_restart
        if now == goal:
            continue
        if _works_out(row, old.get(key), goal, normalise):
            if key not in old:
                # In a file it would be another value than the one that works, until a restart.
                del kept[name]
            continue
        before, after = _shown(definition, now), display(definition, goal)
        changes.append(Change(name, *shown_change(name, before, after), restart, goal))
        if not (restart and row and row.pending_restart):
            reload = True
    unheld = set(old) | {key for key, row in live.items() if row.pending_restart}
    for key in sorted(unheld - set(held)):
        row = live.get(key)
        if row is None or row.source in _BEYOND_FILES:
            continue
        own = [other for other in rows if other.name.lower() == key]
        elsewhere = [other for other in own if other.path != drop_in.path]
        goal = _from_files(row, elsewhere, normalise)
        now = _effective(row, own, normalise)
        stays = now == goal and not elsewhere and row.source != "default"
        if stays and row.definition.needs_restart:
            # Postgres says of a setting that goes from all files that it waits for a restart,
            # whatever its value: it stays, as long as nothing else says another.
            kept[row.definition.name] = old.get(key, row.setting)
        if now == goal or key not in old:
            continue
        definition = row.definition
        before, after = _shown(definition, now), display(definition, goal)
        before, after = shown_change(definition.name, before, after)
        changes.append(Change(definition.name, before, after, definition.needs_restart, goal))
    in_auto_conf = {row.name.lower() for row in rows if _in_auto_conf(row)}
    resets = tuple(sorted(held[key] for key in in_auto_conf & set(held)))
    content = conf_file.render(kept)
    changes.sort(key=lambda change: change.name.lower())
    return Plan(
        content=content,
        changes=tuple(changes),
        resets=resets,
        overrides=tuple(sorted(overrides)),
        reload=reload or content != drop_in.text or bool(resets),
        waiting=tuple(change.name for change in changes if change.restart),
    )


def _placeholder(name: str) -> Definition:
    """A setting of a library that is neither loaded nor known: any text will do."""
    return Definition(name, "user", "string", "", "", "", (), "")


def _equal(
    definition: Definition, text: str, goal: str, normalise: Callable[[Definition, str], str]
) -> bool:
    try:
        return normalise(definition, text) == goal
    except ValueError:
        return False


def _in_auto_conf(row: FileRow) -> bool:
    return row.path.rpartition("/")[2] == "postgresql.auto.conf"


def _overriding(drop_in: DropIn, own: Sequence[FileRow], row: Live | None) -> str:
    """What beats the managed file and can't be reset; empty when nothing does."""
    if row and row.source in ("command line", "environment variable"):
        return f"the server's {row.source}"
    ours = [index for index, other in enumerate(own) if other.path == drop_in.path]
    later = own[ours[-1] + 1 :] if ours else [other for other in own if drop_in.precedes(other)]
    return f"{later[-1].path}:{later[-1].line}" if later else ""


def _effective(
    row: Live, own: Sequence[FileRow], normalise: Callable[[Definition, str], str]
) -> str:
    """The value that sessions get unless a role or database says otherwise."""
    if row.source in HIDDEN_SOURCES:
        return _from_files(row, own, normalise)
    return row.setting


def _works_out(
    row: Live | None, old: str | None, goal: str, normalise: Callable[[Definition, str], str]
) -> bool:
    """Whether the server itself has chosen a value, as it is asked to."""
    if row is None or row.pending_restart or row.source not in ("override", "default"):
        return False
    # Since 15, what it works out is a default too, but not the one that is built in.
    asked = old if old is not None and row.source == "override" else row.definition.default
    return _equal(row.definition, asked, goal, normalise)


def _from_files(
    row: Live, own: Sequence[FileRow], normalise: Callable[[Definition, str], str]
) -> str:
    if not own:
        return row.definition.default
    try:
        return normalise(row.definition, own[-1].value)
    except ValueError:
        return own[-1].value


def diff_lines(changes: Sequence[Change], before: str, after: str) -> tuple[list[str], list[str]]:
    """What differs, as lines to read: values of the server, then entries of the file alone.

    Args:
        changes: settings that the server has otherwise.
        before: the managed file's text.
        after: the text it must have.
    """
    lines = (
        [f"{change.name} = {change.before}" for change in changes],
        [f"{change.name} = {change.after}" for change in changes],
    )
    changed = {change.name.lower() for change in changes}
    sides = []
    for text in (before, after):
        try:
            sides.append(conf_file.parse(text))
        except ValueError as error:
            sides.append([("(unreadable)", str(error))])
    for side, own, other in ((lines[0], sides[0], sides[1]), (lines[1], sides[1], sides[0])):
        side += [
            f"in the file only: {name} = {shown_setting(name, value)}"
            for name, value in own
            if (name, value) not in other and name not in changed
        ]
    return lines


def _shown(definition: Definition, setting: str | None) -> str:
    return "(not set)" if setting is None else display(definition, setting)
