# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done for a server to have the wanted settings."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Callable, Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host import conf_file
from ansible_collections.pooled.postgres.plugins.module_utils._secrets import (
    shown_change,
    shown_setting,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    Definition,
    catalog_of,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.file import DropIn, FileRow
from ansible_collections.pooled.postgres.plugins.module_utils._settings.values import (
    canonical_setting,
    display,
)

# What pg_createcluster writes into postgresql.conf of a new cluster, where it is not the default.
CREATED_WITH = {"log_line_prefix": "%m [%p] %q%u@%d ", "ssl": "on"}
# Sources in pg_settings that hide what the files say: a role's, a database's or a session's own.
HIDDEN_SOURCES = ("database", "user", "database user", "client", "session", "global", "test")
# Sources in pg_settings that no file changes.
_BEYOND_FILES = ("override", "command line", "environment variable")


@dataclass(frozen=True)
class LiveSetting:
    """A row of pg_settings; C(setting) is what a new session starts with, in canonical form."""

    definition: Definition
    setting: str
    source: str = "default"
    pending_restart: bool = False


@dataclass(frozen=True)
class SettingChange:
    """A setting that is not what it must be; C(before) and C(after) are in display form."""

    name: str
    before: str
    after: str
    restart: bool
    expected: str


@dataclass(frozen=True)
class DropInPlan:
    """What to do.

    C(content) is the drop-in as it must be. C(resets) are settings to take out of
    postgresql.auto.conf. C(overrides) say what keeps a managed setting from taking effect.
    C(reload) is true when the server has not read what is on disk.
    C(waiting) are the settings that only a restart applies.
    """

    content: str
    changes: tuple[SettingChange, ...]
    resets: tuple[str, ...]
    overrides: tuple[str, ...]
    reload: bool
    waiting: tuple[str, ...]


def running_values(wanted: Iterable[str], live: Mapping[str, LiveSetting]) -> dict[str, str]:
    """The values with which a server runs, of those settings that are not the default."""
    rows = [live[name.lower()] for name in wanted if name.lower() in live]
    return {row.definition.name: row.setting for row in rows if row.source != "default"}


def waiting_lines(
    waiting: Iterable[str],
    live: Mapping[str, LiveSetting],
    rows: Sequence[FileRow],
    plan: DropInPlan,
) -> list[str]:
    """What the server runs with and what is wanted, of settings that wait for a restart."""
    changes = {change.name: change for change in plan.changes}
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


def new_cluster(major: int) -> dict[str, LiveSetting]:
    """pg_settings of a cluster as Debian's package creates it, by lower-case name."""
    live = {}
    for name, definition in catalog_of(major).items():
        setting = CREATED_WITH.get(name, definition.default)
        live[name] = LiveSetting(definition, setting)
    return live


def plan_drop_in(
    wanted: Mapping[str, str],
    drop_in: DropIn,
    live: Mapping[str, LiveSetting],
    rows: Sequence[FileRow],
    normalise: Callable[[Definition, str], str] = canonical_setting,
    libraries: Mapping[str, Definition] = MappingProxyType({}),
) -> DropInPlan:
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
    changes: list[SettingChange] = []
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
        changes.append(SettingChange(name, *shown_change(name, before, after), restart, goal))
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
        changes.append(
            SettingChange(definition.name, before, after, definition.needs_restart, goal)
        )
    in_auto_conf = {row.name.lower() for row in rows if _in_auto_conf(row)}
    resets = tuple(sorted(held[key] for key in in_auto_conf & set(held)))
    content = conf_file.render(kept)
    changes.sort(key=lambda change: change.name.lower())
    return DropInPlan(
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


def _overriding(drop_in: DropIn, own: Sequence[FileRow], row: LiveSetting | None) -> str:
    """What beats the managed file and can't be reset; empty when nothing does."""
    if row and row.source in ("command line", "environment variable"):
        return f"the server's {row.source}"
    ours = [index for index, other in enumerate(own) if other.path == drop_in.path]
    later = own[ours[-1] + 1 :] if ours else [other for other in own if drop_in.precedes(other)]
    return f"{later[-1].path}:{later[-1].line}" if later else ""


def _effective(
    row: LiveSetting, own: Sequence[FileRow], normalise: Callable[[Definition, str], str]
) -> str:
    """The value that sessions get unless a role or database says otherwise."""
    if row.source in HIDDEN_SOURCES:
        return _from_files(row, own, normalise)
    return row.setting


def _works_out(
    row: LiveSetting | None, old: str | None, goal: str, normalise: Callable[[Definition, str], str]
) -> bool:
    """Whether the server itself has chosen a value, as it is asked to."""
    if row is None or row.pending_restart or row.source not in ("override", "default"):
        return False
    # Since 15, what it works out is a default too, but not the one that is built in.
    asked = old if old is not None and row.source == "override" else row.definition.default
    return _equal(row.definition, asked, goal, normalise)


def _from_files(
    row: LiveSetting, own: Sequence[FileRow], normalise: Callable[[Definition, str], str]
) -> str:
    if not own:
        return row.definition.default
    try:
        return normalise(row.definition, own[-1].value)
    except ValueError:
        return own[-1].value


def diff_lines(
    changes: Sequence[SettingChange], before: str, after: str
) -> tuple[list[str], list[str]]:
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
