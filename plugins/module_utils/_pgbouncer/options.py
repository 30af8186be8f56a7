# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of each version of PgBouncer, and their values as the text of its file."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._secrets import shown

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


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NUMBER = re.compile(r"-?[0-9]+\Z")
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?\Z")
_MODE = re.compile(r"0?[0-7]{3}\Z")


def parse_version(text: str) -> tuple[int, int, int]:
    """The version in what C(pgbouncer --version) prints, or in a bare C(1.24.1).

    Raises:
        ValueError: when there is none.
    """
    match = re.search(r"(?:^|PgBouncer )([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", text)
    if not match:
        raise ValueError(f"{text!r} is not a version of PgBouncer; it looks like 1.24.1")
    return int(match.group(1)), int(match.group(2)), int(match.group(3) or 0)


def version_text(version: tuple[int, int, int]) -> str:
    """The version as people write it."""
    return ".".join(str(part) for part in version)


def canonical_option(name: str, value: str) -> str:
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


def exists(option: Option, version: tuple[int, int, int]) -> bool:
    return option.since <= version[:2] and (option.removed is None or version[:2] < option.removed)


def default_of(option: Option, version: tuple[int, int, int]) -> str:
    if option.changed and version[:2] >= option.changed[0]:
        return option.changed[1]
    return option.default or ""


def known(
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


def value_text(where: str, option: Option, value: Any) -> str:
    if isinstance(value, (list, tuple)) and option.kind == "text":
        return ",".join(value_text(where, option, item) for item in value)
    if isinstance(value, bool) and option.kind == "flag":
        return "1" if value else "0"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{where}: {shown(where, value)} is not allowed; give {_allowed(option)}")
    if option.kind == "mode" and isinstance(value, int):
        value = f"{value:04o}"
    text = str(value)
    if _CONTROL.search(text):
        raise ValueError(
            f"{where}: {shown(where, value)} has control characters such as line breaks in it"
        )
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
    raise ValueError(f"{where}: {shown(where, value)} is not allowed; give {_allowed(option)}")


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
