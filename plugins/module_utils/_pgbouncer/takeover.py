# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an unmanaged PgBouncer has, and what of it would go when its files are replaced.

Secrets are not part of what is found, so that it may be shown and sent to the controller.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model.names import POOLER_USER
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    ini,
    secrets,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import (
    OPTIONS,
    canonical_option,
    default_of,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.running import (
    PACKAGE_OPTIONS,
)
from ansible_collections.pooled.postgres.plugins.module_utils._secrets import MASK, shown_setting

ALL_DATABASES = "*"
# Options whose defaults decide how applications work and who gets in, so that they count unset too.
_COUNT_UNSET = ("auth_type", "pool_mode")
# Keys of entries that may hold anything, such as a key of the application's.
_NEVER_SHOWN = ("connect_query", "password")
_SAME_SERVER = ("", "127.0.0.1", "::1", "localhost")
_KEY_DEFAULTS = {"port": "5432"}
_SPELLINGS = {"reserve_pool": "reserve_pool_size"}


@dataclass(frozen=True)
class Unmanaged:
    """A configuration that this collection did not write, without secrets.

    C(auth_file) is the file whose users are C(listed), and C(unread) are files that are part of it
    and can't be read.
    """

    path: str
    options: Mapping[str, str] = field(default_factory=dict)
    databases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    users: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    peers: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    auth_file: str = ""
    listed: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def serves(self) -> bool:
        """Whether it has anything for clients."""
        entries = self.databases or self.users or self.peers
        return bool(entries or self.includes or self.listed or self.unread)

    @property
    def is_bare(self) -> bool:
        """Whether it says no more than what Debian's package installs."""
        return not self.serves and all(
            PACKAGE_OPTIONS.get(name) == value for name, value in self.options.items()
        )

    def as_fact(self) -> dict[str, Any]:
        """As plain data, for from_fact()."""
        return asdict(self)


def from_fact(fact: Mapping[str, Any]) -> Unmanaged:
    """What as_fact() made."""
    lists = ("peers", "includes", "listed", "unread")
    values: dict[str, Any] = {
        key: tuple(value) if key in lists else value for key, value in fact.items()
    }
    return Unmanaged(**values)


def found(
    path: str, text: str, read: Callable[[str], str | None], auth_file: str = ""
) -> Unmanaged | None:
    """The unmanaged configuration that files hold; none where they are this collection's.

    Args:
        path: PgBouncer's configuration file.
        text: what is in it; empty where there is no such file.
        read: the text of another file that it names, empty where there is none; None when it can't
            be read.
        auth_file: the auth file to come; empty where that is not known.
    """
    if ini.is_managed(text):
        if auth_file in ("", ini.option_in(text, "auth_file")):
            return None
        other = Unmanaged(path, auth_file=auth_file)
    else:
        parsed = ini.parsed(text, read)
        options = parsed.sections.get("pgbouncer", {})
        other = Unmanaged(
            path,
            {name: shown_setting(name, value) for name, value in options.items()},
            _entries(parsed, "databases"),
            _entries(parsed, "users"),
            tuple(sorted(parsed.sections.get("peers", {}))),
            parsed.included,
            options.get("auth_file", auth_file),
            unread=parsed.unread,
        )
    if not other.auth_file:
        return other
    userlist = read(other.auth_file)
    if userlist is None:
        return replace(other, unread=(*other.unread, other.auth_file))
    listed = ini.secrets_in(userlist)
    if secrets.is_ours(listed):
        return other
    return replace(other, listed=tuple(sorted(listed)))


def losses(
    unmanaged: Unmanaged,
    *,
    options: Mapping[str, str],
    databases: Mapping[str, Mapping[str, str]],
    users: Mapping[str, Mapping[str, str]],
    roles: Iterable[str],
    auth_role: str,
    version: tuple[int, int, int],
) -> list[str]:
    """Each thing that would go or change, in words.

    Args:
        unmanaged: what there is.
        options: [pgbouncer] to come, before rules for logins change its auth_type.
        databases: [databases] to come.
        users: [users] to come.
        roles: who can log in.
        auth_role: the role that PgBouncer itself logs in as.
        version: PgBouncer's.
    """
    if unmanaged.is_bare:
        return []
    lines = [f"file {path}, which it includes" for path in unmanaged.includes]
    lines += [f"file {path}, which can't be read" for path in unmanaged.unread]
    for name, entry in unmanaged.databases.items():
        if name == ALL_DATABASES:
            lines.append("database *, which is every database that has no entry of its own")
        elif name not in databases:
            lines.append(f"database {name}")
        else:
            changes = _changed_keys(_whole_entry(name, entry), databases[name])
            lines += [f"database {name}: {change}" for change in changes]
    for name, entry in unmanaged.users.items():
        if name in users:
            lines += [f"user {name}: {change}" for change in _changed_keys(entry, users[name])]
        elif entry:
            lines.append(f"user {name} with {', '.join(sorted(entry))}")
    lines += [f"peer {name}" for name in unmanaged.peers]
    lines += _changed_options(unmanaged, options, version)
    stay = {*roles, auth_role, POOLER_USER}
    for option in ("admin_users", "stats_users"):
        stay |= {name.strip() for name in options.get(option, "").split(",")}
    lines += [
        f"user {name} of {unmanaged.auth_file}" for name in unmanaged.listed if name not in stay
    ]
    return lines


def refusal(unmanaged: Unmanaged, lines: Sequence[str], where: str = "takeover") -> str:
    """Why the run does not go on, and what to do.

    Args:
        unmanaged: what there is.
        lines: the losses().
        where: the variable, for the message.
    """
    return (
        f"{where}: {unmanaged.path} is not managed by this collection, and a run would take away:"
        f" {'; '.join(lines)}. Nothing was changed. Add what must stay to the inventory: databases"
        " and roles to pgbouncer_databases (aliases for further names), options to"
        " pgbouncer_<option>, pgbouncer_settings, pgbouncer_database_options or"
        " pgbouncer_user_options. To let the rest"
        f" go, set {where} to true; copies of the files are kept beside them"
    )


def warning(unmanaged: Unmanaged, lines: Sequence[str], copies: Sequence[str]) -> str:
    """What was taken over, for those who have allowed it."""
    kept = f" Copies: {', '.join(copies)}" if copies else ""
    return (
        f"{unmanaged.path} was not managed by this collection. It loses: {'; '.join(lines)}.{kept}"
    )


def copy_names(path: str) -> Iterable[str]:
    """Where a copy of a file may be, in the order in which the names are tried."""
    yield f"{path}.before-pooled"
    for number in range(2, 100):
        yield f"{path}.before-pooled-{number}"


def _entries(parsed: ini.Parsed, section: str) -> dict[str, dict[str, str]]:
    return {
        name: {
            _SPELLINGS.get(key, key): MASK if key in _NEVER_SHOWN else shown_setting(key, setting)
            for key, setting in ini.parameters_in(value).items()
        }
        for name, value in parsed.sections.get(section, {}).items()
    }


def _whole_entry(name: str, entry: Mapping[str, str]) -> dict[str, str]:
    """An entry in [databases] with what PgBouncer makes of the keys that are missing."""
    return {"host": "", "dbname": name, **_KEY_DEFAULTS, **entry}


def _changed_keys(entry: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    spelled = {_SPELLINGS.get(key, key): value for key, value in wanted.items()}
    changes = []
    for key, value in entry.items():
        new = spelled.get(key)
        here = key == "host" and value in _SAME_SERVER and (new or "").startswith("/")
        if here or new == value or (new is not None and shown_setting(key, new) == value):
            continue
        changes.append(_change(key, value, new))
    return changes


def _changed_options(
    unmanaged: Unmanaged, wanted: Mapping[str, str], version: tuple[int, int, int]
) -> list[str]:
    given = dict(unmanaged.options)
    if unmanaged.databases or unmanaged.includes:
        given = {**{name: default_of(OPTIONS[name], version) for name in _COUNT_UNSET}, **given}
    lines = []
    # The users of an auth file are named each, and the file stays.
    given.pop("auth_file", None)
    for name, value in sorted(given.items()):
        new = wanted.get(name)
        default = default_of(OPTIONS[name], version) if name in OPTIONS else ""
        effective = default if new is None else shown_setting(name, new)
        packaged = not unmanaged.serves and PACKAGE_OPTIONS.get(name) == value
        if not packaged and canonical_option(name, value) != canonical_option(name, effective):
            lines.append(f"option {_change(name, value, new)}")
    return lines


def _change(name: str, value: str, new: str | None) -> str:
    """A value and what becomes of it."""
    what = name if value == MASK or not value else f"{name} {value}"
    if new is None:
        return what
    return f"{what} (becomes {MASK if value == MASK else new or 'empty'})"
