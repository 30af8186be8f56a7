# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this collection asks of PgBouncer: its options, checked and with our defaults."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model import keepalives
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Database,
    ignorable_startup_parameters,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import AUTH_QUERY
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import (
    OPTIONS,
    known,
    value_text,
    version_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.os_user import LAYOUT

# Server connections of PgBouncer's own, for each database on each of its hosts, with which it
# looks up clients' verifiers.
AUTH_QUERY_SESSIONS = 2

# What the collection asks of PgBouncer where the inventory says nothing: each is the default of
# the variable pgbouncer_<option>.
DEFAULTS: dict[str, str | int] = {
    "listen_addr": "0.0.0.0",  # noqa: S104 - PgBouncer is there for other hosts
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

AUTH_MODES = ("query", "userlist")
RESTART_POLICIES = ("never", "fresh", "always")

# Those with which clients need no password are refused: see checked_options().
_OPEN_AUTH_TYPES = ("any", "trust")

TLS_FILES = ("ca_file", "cert_file", "key_file")
# Those that are variables pgbouncer_<option> without a default.
TLS_OPTIONS = tuple(
    f"{side}_tls_{name}" for side in ("client", "server") for name in ("sslmode", *TLS_FILES)
)
# Options that name files which PgBouncer reads again when it reloads. A change of a key comes with
# one of its certificate.
READ_FILES = (
    "auth_hba_file",
    "auth_ident_file",
    "client_tls_ca_file",
    "client_tls_cert_file",
    "server_tls_ca_file",
    "server_tls_cert_file",
)

# Options that the file must have, because this collection reaches PgBouncer through them.
_REQUIRED = ("auth_file", "listen_port", "unix_socket_dir")

# Keys that PgBouncer knows and that we don't write, with the reason.
_REFUSED_OPTIONS = {
    "conffile": "PgBouncer sets it itself",
    "disable_pqexec": "it also closes PgBouncer's console, which shows and changes what runs",
    "service_name": "it is another name for job_name; use that",
}


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
        if where == "pgbouncer_settings" and (name in DEFAULTS or name in TLS_OPTIONS):
            here = f"pgbouncer_{name}"
        option = known(here, str(name), OPTIONS, _REFUSED_OPTIONS, version)
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
        checked[name] = value_text(here, option, value)
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
    places: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Every option that the file will hold: what is given, over what this collection asks for.

    C(places) is the layout().

    Raises:
        ValueError: as checked_options() does.
    """
    asked: dict[str, Any] = {
        **(LAYOUT if places is None else places),
        **DEFAULTS,
        "ignore_startup_parameters": ",".join(_ignored_startup_parameters(version, databases)),
        # After a login that failed, as while Postgres restarts, it refuses everybody for so long.
        "server_login_retry": 1,
        "tcp_keepalive": 1,
        "tcp_keepidle": keepalives.IDLE_S,
        "tcp_keepintvl": keepalives.INTERVAL_S,
        "tcp_keepcnt": keepalives.COUNT,
    }
    if version >= (1, 21, 0):
        asked["max_prepared_statements"] = 200
    if auth == "query":
        asked["auth_user"] = auth_role
        asked["auth_query"] = AUTH_QUERY
    options = checked_options({**asked, **given}, version, where)
    _check_tls(options, where)
    return options


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


def _ignored_startup_parameters(
    version: tuple[int, int, int], databases: Sequence[Database]
) -> list[str]:
    # extra_float_digits is sent by drivers that want all digits, which every server since 12 gives.
    names = ["extra_float_digits", *ignorable_startup_parameters(databases)]
    if (1, 20, 0) <= version <= (1, 26, 0):
        names.append("options")  # CVE-2026-107349
    return names


def _check_tls(options: Mapping[str, str], where: str) -> None:
    """Check that what TLS needs is given, and only as absolute paths."""
    prefix = "pgbouncer_" if where == "pgbouncer_settings" else f"{where}."
    for side in ("client", "server"):
        for name in TLS_FILES:
            path = options.get(f"{side}_tls_{name}", "")
            if path and not path.startswith("/"):
                raise ValueError(
                    f"{prefix}{side}_tls_{name}: {path!r} is not an absolute path, such as"
                    f" /etc/pgbouncer/{side}.crt"
                )
        mode = options.get(f"{side}_tls_sslmode", "")
        certificate = options.get(f"{side}_tls_cert_file", "")
        key = options.get(f"{side}_tls_key_file", "")
        if bool(certificate) != bool(key):
            missing = "key_file" if certificate else "cert_file"
            raise ValueError(
                f"{prefix}{side}_tls_{missing}: it is missing; a certificate and its key come"
                " together"
            )
        if side == "client" and mode not in ("", "disable") and not certificate:
            raise ValueError(
                f"{prefix}client_tls_sslmode: {mode!r} needs pgbouncer_client_tls_key_file and"
                " pgbouncer_client_tls_cert_file, which PgBouncer shows its clients"
            )
        if mode.startswith("verify") and not options.get(f"{side}_tls_ca_file"):
            raise ValueError(
                f"{prefix}{side}_tls_sslmode: {mode!r} needs pgbouncer_{side}_tls_ca_file, with"
                " the authorities to trust"
            )
