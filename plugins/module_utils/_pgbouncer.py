# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer: the options of each version, what we ask of it, and the least that gets it there."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model import (
    Database,
    ignorable_startup_parameters,
    model_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._names import AUTH_QUERY

# Server connections of PgBouncer's own, for each database on each of its hosts, with which it
# looks up clients' verifiers.
AUTH_QUERY_SESSIONS = 2

# What the collection asks of PgBouncer where the inventory says nothing: each is the default of
# the variable pgbouncer_<option>.
DEFAULTS: dict[str, str | int] = {
    "listen_addr": "0.0.0.0",  # noqa: S104 - a pooler is there for other hosts
    "listen_port": 6432,
    "auth_type": "scram-sha-256",
    "auth_file": "/etc/pgbouncer/userlist.txt",
    "pool_mode": "transaction",
    "max_client_conn": 10000,
    "default_pool_size": 25,
    "reserve_pool_size": 5,
    "reserve_pool_timeout": 3,
    "server_lifetime": 3600,
    "server_idle_timeout": 600,
    "query_wait_timeout": 30,
}

# Where Debian's package keeps the rest.
LAYOUT: dict[str, str] = {
    "logfile": "/var/log/postgresql/pgbouncer.log",
    "pidfile": "/var/run/postgresql/pgbouncer.pid",
    "unix_socket_dir": "/var/run/postgresql",
}

# What Debian's package starts with at its installation.
_PACKAGE_OPTIONS: dict[str, str] = {
    **LAYOUT,
    "listen_addr": "localhost",
    "listen_port": "6432",
    "auth_type": "md5",
    "auth_file": "/etc/pgbouncer/userlist.txt",
}

AUTH_MODES = ("query", "userlist")
RESTART_POLICIES = ("never", "fresh", "always")

# The newest version that the tables below know. On a newer one, an option they don't know is
# left to PgBouncer's own judgement.
NEWEST = (1, 26)


@dataclass(frozen=True)
class Option:
    """An option of PgBouncer.

    C(default) is PgBouncer's own. None means there is none, and then a reload does not take a
    value back that an earlier file has set: only a restart does.
    """

    kind: str = "text"  # text, int, time (seconds, fractions allowed), flag, mode, choice
    default: str | None = None
    reloads: bool = True
    since: tuple[int, int] = (1, 18)
    removed: tuple[int, int] | None = None
    changed: tuple[tuple[int, int], str] | None = None  # a default that a version has changed
    least: int = 0
    most: int = 2**31 - 1
    choices: tuple[str, ...] = ()


_POOL_MODES = ("session", "transaction", "statement")
_TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# Those with which clients need no password are refused: see checked_options().
_OPEN_AUTH_TYPES = ("any", "trust")
_AUTH_TYPES = ("plain", "md5", "cert", "hba", "ldap", "pam", "scram-sha-256")
_EXPIRING_QUERY = (
    "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END"
    " FROM pg_authid WHERE rolname=$1 AND rolcanlogin"
)


def _text(default: str | None = "", **more: Any) -> Option:
    return Option("text", default, **more)


def _int(default: str | None = "0", **more: Any) -> Option:
    return Option("int", default, **more)


def _time(default: str = "0", **more: Any) -> Option:
    return Option("time", default, **more)


def _flag(default: str = "0", **more: Any) -> Option:
    return Option("flag", default, most=1, **more)


def _choice(default: str, choices: tuple[str, ...], **more: Any) -> Option:
    return Option("choice", default, choices=choices, **more)


OPTIONS: dict[str, Option] = {
    "admin_users": _text(),
    "application_name_add_host": _flag(),
    "auth_dbname": _text(None, since=(1, 19)),
    "auth_file": _text(None),
    "auth_hba_file": _text(),
    "auth_ident_file": _text(None, since=(1, 23)),
    "auth_ldap_options": _text(None, since=(1, 25)),
    "auth_query": _text(_EXPIRING_QUERY),
    "auth_type": _choice("md5", _AUTH_TYPES),
    "auth_user": _text(None),
    "autodb_idle_timeout": _time("3600"),
    "cancel_wait_timeout": _time("10", since=(1, 19)),
    "client_idle_timeout": _time(),
    "client_login_timeout": _time("60"),
    "client_tls13_ciphers": _text(None, since=(1, 25)),
    "client_tls_ca_file": _text(),
    "client_tls_cert_file": _text(),
    "client_tls_ciphers": _text("fast", changed=((1, 21), "default")),
    "client_tls_dheparams": _text("auto"),
    "client_tls_ecdhcurve": _text("auto"),
    "client_tls_key_file": _text(),
    "client_tls_protocols": _text("secure"),
    "client_tls_sslmode": _choice("disable", _TLS_MODES),
    "default_pool_size": _int("20"),
    "disable_pqexec": _flag(reloads=False),
    "dns_max_ttl": _time("15"),
    "dns_nxdomain_ttl": _time("15"),
    "dns_zone_check_period": _time(),
    "idle_transaction_timeout": _time(),
    "ignore_startup_parameters": _text(),
    "job_name": _text("pgbouncer", reloads=False),
    "listen_addr": _text(reloads=False),
    "listen_backlog": _int("128", reloads=False),
    "listen_port": _int("6432", reloads=False, least=1, most=65535),
    "log_connections": _flag("1"),
    "log_disconnections": _flag("1"),
    "log_pooler_errors": _flag("1"),
    "log_stats": _flag("1"),
    "logfile": _text(),
    "login_notify_message": _text(since=(1, 26)),
    "max_client_conn": _int("100", least=1),
    "max_db_client_connections": _int(since=(1, 24)),
    "max_db_connections": _int(),
    "max_packet_size": _int("2147483647", least=1, most=2**32 - 1),
    "max_prepared_statements": _int("0", since=(1, 21), changed=((1, 24), "200")),
    "max_user_client_connections": _int(since=(1, 24)),
    "max_user_connections": _int(),
    "min_pool_size": _int(),
    "peer_id": _int(since=(1, 19), most=65535),
    "pidfile": _text(reloads=False),
    "pkt_buf": _int("4096", reloads=False, least=256),
    "pool_idle_timeout": _time(since=(1, 26)),
    "pool_mode": _choice("session", _POOL_MODES),
    "query_timeout": _time(),
    "query_wait_notify": _int("5", since=(1, 25)),
    "query_wait_timeout": _time("120"),
    "reserve_pool_size": _int(),
    "reserve_pool_timeout": _time("5"),
    "resolv_conf": _text(reloads=False),
    "sbuf_loopcnt": _int("5"),
    "scram_iterations": _int("4096", since=(1, 25), least=1),
    "server_check_delay": _time("30"),
    "server_check_query": _text("select 1", changed=((1, 25), "<empty>")),
    "server_connect_timeout": _time("15"),
    "server_fast_close": _flag(),
    "server_idle_timeout": _time("600"),
    "server_lifetime": _time("3600"),
    "server_login_retry": _time("15"),
    "server_reset_query": _text("DISCARD ALL"),
    "server_reset_query_always": _flag(),
    "server_round_robin": _flag(),
    "server_tls13_ciphers": _text(None, since=(1, 25)),
    "server_tls_ca_file": _text(),
    "server_tls_cert_file": _text(),
    "server_tls_ciphers": _text("fast", changed=((1, 21), "default")),
    "server_tls_key_file": _text(),
    "server_tls_protocols": _text("secure"),
    "server_tls_sslmode": _choice("disable", _TLS_MODES, changed=((1, 20), "prefer")),
    "so_reuseport": _flag(reloads=False),
    "stats_period": _int("60", least=1),
    "stats_users": _text(),
    "suspend_timeout": _time("10", removed=(1, 26)),
    "syslog": _flag(),
    "syslog_facility": _text("daemon"),
    "syslog_ident": _text("pgbouncer"),
    "tcp_defer_accept": _int("1"),
    "tcp_keepalive": _flag("1"),
    "tcp_keepcnt": _int(),
    "tcp_keepidle": _int(),
    "tcp_keepintvl": _int(),
    "tcp_socket_buffer": _int(),
    "tcp_user_timeout": _int(),
    "track_extra_parameters": _text("IntervalStyle", since=(1, 20), reloads=False),
    "transaction_timeout": _time(since=(1, 25)),
    "unix_socket_dir": _text("/tmp", reloads=False),  # noqa: S108 - PgBouncer's own default
    "unix_socket_group": _text(reloads=False),
    "unix_socket_mode": Option("mode", "0777", reloads=False),
    "user": _text(None, reloads=False),
    "verbose": _int(None),
}

# Keys of an entry in [databases].
DATABASE_OPTIONS: dict[str, Option] = {
    "application_name": Option(),
    "auth_dbname": Option(since=(1, 19)),
    "auth_query": Option(since=(1, 22)),
    "auth_user": Option(),
    "client_encoding": Option(),
    "connect_query": Option(),
    "datestyle": Option(),
    "dbname": Option(),
    "host": Option(),
    "load_balance_hosts": Option("choice", choices=("disable", "round-robin"), since=(1, 24)),
    "max_db_client_connections": Option("int", since=(1, 24)),
    "max_db_connections": Option("int"),
    "min_pool_size": Option("int"),
    "pool_mode": Option("choice", choices=_POOL_MODES),
    "pool_size": Option("int"),
    "port": Option("int", least=1, most=65535),
    "query_wait_timeout": Option("int", since=(1, 26)),
    "reserve_pool_size": Option("int"),
    "server_lifetime": Option("int", since=(1, 23)),
    "timezone": Option(),
}

# Keys of an entry in [users].
USER_OPTIONS: dict[str, Option] = {
    "client_idle_timeout": Option("int", since=(1, 24)),
    "idle_transaction_timeout": Option("int", since=(1, 24)),
    "max_user_client_connections": Option("int", since=(1, 24)),
    "max_user_connections": Option("int"),
    "pool_mode": Option("choice", choices=_POOL_MODES),
    "pool_size": Option("int", since=(1, 23)),
    "query_timeout": Option("int", since=(1, 24)),
    "query_wait_timeout": Option("int", since=(1, 26)),
    "reserve_pool_size": Option("int", since=(1, 24)),
    "transaction_timeout": Option("int", since=(1, 25)),
}

# Options that the file must have, because this collection reaches PgBouncer through them.
_REQUIRED = ("auth_file", "listen_port", "unix_socket_dir")

# Keys that PgBouncer knows and that we don't write, with the reason.
_REFUSED_OPTIONS = {
    "conffile": "PgBouncer sets it itself",
    "service_name": "it is another name for job_name; use that",
}
_FORCED_USER = (
    "a forced user takes away each role's own rights and settings, and needs a password in plain"
    " text on the host; let clients log in as their own roles"
)
_REFUSED_DATABASE_OPTIONS = {
    "user": _FORCED_USER,
    "password": _FORCED_USER,
    "reserve_pool": "use reserve_pool_size, which is written as the installed version spells it",
}

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NUMBER = re.compile(r"-?[0-9]+\Z")
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?\Z")
_MODE = re.compile(r"0?[0-7]{3}\Z")
_DATABASE_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")

# Descriptors beyond clients and servers: sockets it listens on, its log, name resolution, the
# console, and clients that are being refused.
_SPARE_DESCRIPTORS = 64
_LEAST_DESCRIPTORS = 1024  # what a service gets from systemd without being asked


def parse_version(text: str) -> tuple[int, int, int]:
    """The version in what C(pgbouncer --version) prints, or in a bare C(1.24.1).

    Raises:
        ValueError: when there is none.
    """
    match = re.search(r"(?:^|PgBouncer )([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", text)
    if not match:
        raise ValueError(f"{text!r} is no version of PgBouncer; it looks like 1.24.1")
    return int(match.group(1)), int(match.group(2)), int(match.group(3) or 0)


def version_text(version: tuple[int, int, int]) -> str:
    """The version as people write it."""
    return ".".join(str(part) for part in version)


def checked_options(
    given: Mapping[str, Any], version: tuple[int, int, int], where: str = "options"
) -> dict[str, str]:
    """Options for [pgbouncer] as the text that goes into the file; those set to null are left out.

    Args:
        given: values by option name.
        version: the PgBouncer that will read them.
        where: the variable that holds them, for error messages.

    Raises:
        ValueError: naming the variable, its value, and what is allowed.
    """
    checked: dict[str, str] = {}
    for name, value in given.items():
        here = f"{where}.{name}"
        if where == "pgbouncer_settings" and name in DEFAULTS:
            here = f"pgbouncer_{name}"
        option = _known(here, str(name), OPTIONS, _REFUSED_OPTIONS, version)
        if value is None:
            if name in _REQUIRED:
                raise ValueError(f"{here}: null is not allowed; PgBouncer can't be run without it")
            continue
        if name == "auth_type" and value in _OPEN_AUTH_TYPES:
            raise ValueError(
                f"{where}.auth_type: {value!r} is not allowed, because it lets everybody who"
                " reaches PgBouncer in without a password; remove it, and set pgbouncer_auth_type"
                " if 'scram-sha-256' does not do (md5, cert, hba, pam)"
            )
        checked[name] = _value_text(here, option, value)
    for name in _REQUIRED:
        if checked.get(name) == "":
            raise ValueError(
                f"{where}.{name}: empty is not allowed; PgBouncer can't be run without it"
            )
    return checked


def effective_options(
    given: Mapping[str, Any],
    version: tuple[int, int, int],
    databases: Sequence[Database],
    *,
    auth: str,
    auth_role: str,
    where: str = "options",
) -> dict[str, str]:
    """Every option that the file will hold: what is given, over what this collection asks for.

    Raises:
        ValueError: as checked_options() does.
    """
    asked: dict[str, Any] = {
        **LAYOUT,
        **DEFAULTS,
        "ignore_startup_parameters": ",".join(_ignored_startup_parameters(version, databases)),
        "server_login_retry": 5,
        "tcp_keepalive": 1,
        "tcp_keepidle": 60,
        "tcp_keepintvl": 10,
        "tcp_keepcnt": 6,
    }
    if version >= (1, 21, 0):
        asked["max_prepared_statements"] = 200
    if auth == "query":
        asked["auth_user"] = auth_role
        asked["auth_query"] = AUTH_QUERY
    return checked_options({**asked, **given}, version, where)


def risks(options: Mapping[str, str], version: tuple[int, int, int]) -> list[str]:
    """Warnings about options that weaken the login, or open a known hole in this version."""
    found = []
    if options.get("auth_type") == "plain":
        found.append(
            "auth_type 'plain' makes clients send their passwords readable to everybody on the way,"
            " unless TLS hides them; use 'scram-sha-256'"
        )
    ignored = [name.strip() for name in options.get("ignore_startup_parameters", "").split(",")]
    if (1, 20, 0) <= version <= (1, 26, 0) and any(ignored) and "options" not in ignored:
        found.append(
            "ignore_startup_parameters without 'options' lets anybody who reaches PgBouncer"
            f" {version_text(version)} make it spin (CVE-2026-107349); add options to the list"
        )
    return found


def database_entries(
    databases: Sequence[Database],
    version: tuple[int, int, int],
    *,
    host: str,
    port: int,
    overrides: Mapping[str, Mapping[str, Any]],
    where: str = "database_options",
) -> dict[str, dict[str, str]]:
    """The keys of each entry in [databases], by name.

    Args:
        databases: the model.
        version: the PgBouncer that will read them.
        host: where Postgres is: a name, an address or a socket's directory.
        port: Postgres's port.
        overrides: options of single databases, by name.
        where: the variable that holds the overrides, for error messages.

    Raises:
        ValueError: naming the variable, its value, and what is allowed.
    """
    names = [database.name for database in databases]
    for name in names:
        if not _DATABASE_NAME.match(name):
            raise ValueError(
                f"database {name!r}: PgBouncer's configuration can't carry this name; it takes"
                " letters (A-Z, a-z), digits, '_', '-' and '.'. Rename the database, or leave it"
                " out of pgbouncer_databases and let its clients connect directly"
            )
    _no_strangers(where, overrides, names, "database of pgbouncer_databases")
    entries: dict[str, dict[str, str]] = {}
    for name in names:
        entry = {"host": host, "port": str(port), "dbname": name}
        for key, value in (overrides.get(name) or {}).items():
            here = f"{where}.{name}.{key}"
            option = _known(here, str(key), DATABASE_OPTIONS, _REFUSED_DATABASE_OPTIONS, version)
            if value is None:
                continue
            text = _value_text(here, option, value)
            if not text:
                raise ValueError(f"{here}: PgBouncer takes no empty value here; leave the key out")
            spelling = (
                "reserve_pool" if version < (1, 24, 0) and key == "reserve_pool_size" else key
            )
            entry[spelling] = text
        entries[name] = entry
    return entries


def user_entries(
    databases: Sequence[Database],
    overrides: Mapping[str, Mapping[str, Any]],
    version: tuple[int, int, int],
    where: str = "user_options",
    auth_role: str = "",
) -> dict[str, dict[str, str]]:
    """The keys of each entry in [users], by name.

    Args:
        databases: the model.
        overrides: the user's word, by role.
        version: PgBouncer's.
        where: the variable of the overrides, for error messages.
        auth_role: PgBouncer's own role under auth_query. When many clients log in at once it would
            open connections up to the pool's size, which the connection budget does not count.

    Raises:
        ValueError: naming the variable, its value, and what is allowed.
    """
    _no_strangers(
        where,
        overrides,
        [role.name for role in model_roles(databases)],
        "role of pgbouncer_databases",
    )
    entries: dict[str, dict[str, str]] = {}
    if auth_role and databases:
        most = AUTH_QUERY_SESSIONS * len(databases)
        entries[auth_role] = {"max_user_connections": str(most)}
    for name in sorted(overrides):
        if not _DATABASE_NAME.match(name):
            raise ValueError(
                f"{where}: PgBouncer's configuration can't carry the name {name!r}; it takes"
                " letters (A-Z, a-z), digits, '_', '-' and '.'"
            )
        entry: dict[str, str] = {}
        for key, value in (overrides[name] or {}).items():
            here = f"{where}.{name}.{key}"
            option = _known(here, str(key), USER_OPTIONS, {}, version)
            if value is not None:
                entry[key] = _value_text(here, option, value)
        if entry:
            entries[name] = entry
    return entries


def descriptors_needed(
    options: Mapping[str, str],
    databases: Sequence[Database],
    entries: Mapping[str, Mapping[str, str]],
) -> int:
    """How many file descriptors a PgBouncer with every pool and every client slot full has open."""
    clients = int(options.get("max_client_conn", OPTIONS["max_client_conn"].default or 0))
    default = int(options.get("default_pool_size", OPTIONS["default_pool_size"].default or 0))
    reserve = int(options.get("reserve_pool_size", OPTIONS["reserve_pool_size"].default or 0))
    servers = 0
    for database in databases:
        entry = entries[database.name]
        # 0 is no limit, and then there are at most as many servers as clients.
        pool = int(entry.get("pool_size", default)) or clients
        extra = int(entry.get("reserve_pool_size", entry.get("reserve_pool", reserve)))
        servers += (len(database.roles) + 1) * (pool + extra)
    return clients + servers + _SPARE_DESCRIPTORS


def descriptor_limit(needed: int, wanted: str, most: int) -> int:
    """The LimitNOFILE to give the service.

    Args:
        needed: what descriptors_needed() says.
        wanted: C(auto) or a number.
        most: what this host allows a service.

    Raises:
        ValueError: when what is needed or wanted can't be had.
    """
    if wanted != "auto":
        if not _NUMBER.match(wanted):
            raise ValueError(f"limit_nofile: {wanted!r} is neither 'auto' nor a whole number")
        if int(wanted) < needed:
            raise ValueError(
                f"limit_nofile: {wanted} is less than the {needed} file descriptors that"
                " max_client_conn and the pools need; give more, or 'auto'"
            )
        if int(wanted) > most:
            raise ValueError(
                f"limit_nofile: {wanted} is more than the {most} that this host allows"
            )
        return int(wanted)
    if needed > most:
        raise ValueError(
            f"max_client_conn and the pools need {needed} file descriptors, but this host allows a"
            f" service {most}: lower max_client_conn by {needed - most}, or raise the host's limit"
            f" (of a container: --ulimit nofile={needed}:{needed} or more)"
        )
    # A power of two, so that a new role or a larger pool seldom needs a restart.
    limit = _LEAST_DESCRIPTORS
    while limit < needed:
        limit *= 2
    return min(limit, most)


@dataclass(frozen=True)
class Setting:
    """A row of SHOW CONFIG."""

    value: str
    default: str
    reloads: bool


@dataclass(frozen=True)
class Running:
    """The pooler as it runs. C(config) is None when its console does not answer."""

    active: bool
    config: Mapping[str, Setting] | None
    databases: Mapping[str, Mapping[str, Any]]
    descriptors: int | None


@dataclass(frozen=True)
class Desired:
    """What shall run."""

    options: Mapping[str, str]
    databases: Mapping[str, Mapping[str, str]]
    descriptors: int


@dataclass(frozen=True)
class Difference:
    """Something that does not run as it shall, and whether a reload can change it."""

    name: str
    running: str
    wanted: str
    reloads: bool


@dataclass(frozen=True)
class Plan:
    """What to do, in this order; C(held_back) needs a restart that the policy forbids."""

    write: tuple[str, ...]
    daemon_reload: bool
    start: bool
    restart: tuple[str, ...]
    reload: bool
    reconnect: bool
    held_back: tuple[str, ...]

    @property
    def actions(self) -> list[str]:
        """Each step as a line of text."""
        steps = [f"write {path}" for path in self.write]
        if self.daemon_reload:
            steps.append("systemctl daemon-reload")
        if self.start:
            steps.append("start")
        if self.restart:
            steps.append("restart for {}".format(", ".join(self.restart)))
        if self.reload:
            steps.append("RELOAD")
        if self.reconnect:
            steps.append("RECONNECT")
        return steps


def package_state(version: tuple[int, int, int], descriptors: int) -> Running:
    """The pooler as Debian's package starts it, for predictions before it is installed."""
    config = {
        name: Setting(
            _PACKAGE_OPTIONS.get(name, _default(option, version)),
            _default(option, version),
            option.reloads,
        )
        for name, option in OPTIONS.items()
        if _exists(option, version)
    }
    return Running(True, config, {}, descriptors)


def differences(desired: Desired, running: Running) -> list[Difference]:
    """Where the running pooler is not the desired one, in a stable order."""
    if running.config is None:
        return []
    found: list[Difference] = []
    for name, setting in sorted(running.config.items()):
        if name not in OPTIONS and name not in desired.options:
            continue
        wanted = desired.options.get(name, setting.default)
        if canonical(name, wanted) == canonical(name, setting.value):
            continue
        taken_back = (
            name not in desired.options and name in OPTIONS and OPTIONS[name].default is None
        )
        if taken_back and name == "verbose":
            continue  # how it was started, not what the file says
        found.append(Difference(name, setting.value, wanted, setting.reloads and not taken_back))
    found.extend(_database_differences(desired, running))
    if running.descriptors is not None and running.descriptors < desired.descriptors:
        found.append(
            Difference("LimitNOFILE", str(running.descriptors), str(desired.descriptors), False)
        )
    return found


def plan(
    desired: Desired,
    running: Running,
    *,
    files: Iterable[str],
    unit: str,
    daemon_reload: bool,
    unfinished: bool,
    stale: Iterable[str],
    reconnect: bool,
    may_restart: bool,
) -> Plan:
    """The least that makes the desired pooler run.

    Args:
        desired: what shall run.
        running: what runs.
        files: paths whose content, owner or mode is not the desired one.
        unit: path of the service's drop-in, which may be among the files.
        daemon_reload: whether systemd says that it has not read its files.
        unfinished: whether an earlier run was interrupted, so that nobody knows what was read.
        stale: what else a running pooler only forgets when it restarts.
        reconnect: whether server connections shall be opened anew.
        may_restart: whether a running pooler may be restarted.
    """
    write = tuple(files)
    reads = tuple(path for path in write if path != unit)
    must_reload = daemon_reload or unit in write
    found = differences(desired, running)
    restart = (*(one.name for one in found if not one.reloads), *stale)
    if running.active and running.config is None:
        restart = ("a console that does not answer",)
    if not running.active:
        return Plan(write, must_reload, True, (), False, False, ())
    if restart and may_restart:
        return Plan(write, must_reload, False, restart, False, False, ())
    reload = bool(reads) or unfinished or any(one.reloads for one in found)
    return Plan(write, must_reload, False, (), reload, reconnect or unfinished, restart)


def canonical(name: str, value: str) -> str:
    """A value the way SHOW CONFIG shows it, so that equal values are equal text."""
    option = OPTIONS.get(name, Option())
    try:
        if option.kind in ("int", "flag"):
            return str(int(value))
        if option.kind == "time":
            return f"{float(value):g}"
        if option.kind == "mode":
            return str(int(value, 8 if value.startswith("0") else 10))
    except ValueError:
        return value
    return value.lower() if option.kind == "choice" else value


def role_settings_lines(databases: Iterable[Database]) -> list[str]:
    """What pooled sessions carry from their roles, a line for each role.

    Written into the file as a comment: a session keeps the settings it logged in with, so a
    change of these lines means that the pools have to log in again.
    """
    return [
        " ".join([f"{role.name}:", *(f"{name}={value}" for name, value in role.settings)])
        for role in sorted(model_roles(databases), key=lambda role: role.name)
    ]


def carries_old_settings(noted: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether sessions may be in the pools that carry other settings than their roles have now.

    Args:
        noted: role_settings_lines() when the pools last logged in; empty when nobody noted it.
        wanted: role_settings_lines() now. A role that is only in here is new, and has no sessions.
    """
    return bool(set(noted) - set(wanted)) or (not noted and bool(wanted))


def _ignored_startup_parameters(
    version: tuple[int, int, int], databases: Sequence[Database]
) -> list[str]:
    # extra_float_digits is sent by drivers that want all digits, which every server since 12 gives.
    names = ["extra_float_digits", *ignorable_startup_parameters(databases)]
    if (1, 20, 0) <= version <= (1, 26, 0):
        names.append("options")  # CVE-2026-107349
    return names


def _database_differences(desired: Desired, running: Running) -> Iterable[Difference]:
    for name in sorted(set(running.databases) - set(desired.databases) - {"pgbouncer"}):
        yield Difference(f"database {name}", "present", "absent", True)
    for name, entry in desired.databases.items():
        row = running.databases.get(name)
        if row is None:
            yield Difference(f"database {name}", "absent", "present", True)
            continue
        if row.get("force_user"):
            # PgBouncer does not let go of a forced user on RELOAD.
            yield Difference(f"database {name} user", str(row["force_user"]), "", False)
        for column, wanted in _database_row(entry, desired.options, row).items():
            shown = "" if row[column] is None else str(row[column])
            if shown != wanted:
                yield Difference(f"database {name} {column}", shown, wanted, True)


def _database_row(
    entry: Mapping[str, str], options: Mapping[str, str], row: Mapping[str, Any]
) -> dict[str, str]:
    """What SHOW DATABASES shows for an entry, in those columns that this version has."""

    def inherited(key: str, option: str) -> str:
        return entry.get(key, options.get(option, OPTIONS[option].default or ""))

    wanted = {
        "host": entry["host"],
        "port": entry["port"],
        "database": entry["dbname"],
        "pool_size": inherited("pool_size", "default_pool_size"),
        "min_pool_size": inherited("min_pool_size", "min_pool_size"),
        "reserve_pool": inherited("reserve_pool", "reserve_pool_size"),
        "reserve_pool_size": inherited("reserve_pool_size", "reserve_pool_size"),
        "pool_mode": entry.get("pool_mode", ""),
        "max_connections": inherited("max_db_connections", "max_db_connections"),
    }
    return {column: value for column, value in wanted.items() if column in row}


def _exists(option: Option, version: tuple[int, int, int]) -> bool:
    return option.since <= version[:2] and (option.removed is None or version[:2] < option.removed)


def _default(option: Option, version: tuple[int, int, int]) -> str:
    if option.changed and version[:2] >= option.changed[0]:
        return option.changed[1]
    return option.default or ""


def _known(
    where: str,
    name: str,
    table: Mapping[str, Option],
    refused: Mapping[str, str],
    version: tuple[int, int, int],
) -> Option:
    if name in refused:
        raise ValueError(f"{where}: this option can't be set here: {refused[name]}")
    option = table.get(name)
    if option is None:
        if version[:2] > NEWEST and re.match(r"[a-z0-9_]+\Z", name):
            return Option()
        near = difflib.get_close_matches(name, table, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{where}: PgBouncer {version_text(version)} has no option {name!r}{hint}")
    if option.since > version[:2]:
        raise ValueError(
            f"{where}: option {name} exists since PgBouncer {option.since[0]}.{option.since[1]},"
            f" and this host has {version_text(version)}; remove it, or install a newer PgBouncer"
        )
    if option.removed is not None and version[:2] >= option.removed:
        raise ValueError(
            f"{where}: PgBouncer {option.removed[0]}.{option.removed[1]} has removed option {name},"
            f" and this host has {version_text(version)}; remove it"
        )
    return option


def _value_text(where: str, option: Option, value: Any) -> str:
    if isinstance(value, (list, tuple)) and option.kind == "text":
        return ",".join(_value_text(where, option, item) for item in value)
    if isinstance(value, bool) and option.kind == "flag":
        return "1" if value else "0"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{where}: {value!r} is not allowed; give {_allowed(option)}")
    if option.kind == "mode" and isinstance(value, int):
        value = f"{value:04o}"
    text = str(value)
    if _CONTROL.search(text):
        raise ValueError(f"{where}: {value!r} has control characters such as line breaks in it")
    if option.kind == "text" and text == text.strip():
        return text
    if option.kind == "choice" and text in option.choices:
        return text
    if option.kind == "mode" and _MODE.match(text):
        return text.rjust(4, "0")
    if option.kind == "time" and _SECONDS.match(text):
        return text
    if (
        option.kind in ("int", "flag")
        and _NUMBER.match(text)
        and option.least <= int(text) <= option.most
    ):
        return str(int(text))
    raise ValueError(f"{where}: {value!r} is not allowed; give {_allowed(option)}")


def _allowed(option: Option) -> str:
    if option.kind == "choice":
        return "one of {}".format(", ".join(option.choices))
    if option.kind == "flag":
        return "true or false"
    if option.kind == "mode":
        return "an octal file mode such as '0770'"
    if option.kind == "time":
        return "seconds, as a number without a unit"
    if option.kind == "int":
        return f"a whole number from {option.least} to {option.most}"
    return "text without spaces around it"


def _no_strangers(where: str, given: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    for name, options in given.items():
        if name not in known:
            raise ValueError(
                "{}: {!r} is no {}; those are {}".format(
                    where, name, what, ", ".join(known) or "none"
                )
            )
        if options is not None and not isinstance(options, Mapping):
            raise ValueError(f"{where}.{name}: give a dictionary of options")
