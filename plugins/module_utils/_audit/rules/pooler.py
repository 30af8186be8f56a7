# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about PgBouncer, as its console and a session through it show it."""

from __future__ import annotations

from typing import Iterator, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._audit.check import Observation, Rule
from ansible_collections.pooled.postgres.plugins.module_utils._audit.rules.server import (
    MOST_KEEPALIVE_S,
    listed,
)
from ansible_collections.pooled.postgres.plugins.module_utils._audit.snapshot import (
    HbaRule,
    NotReadable,
    PoolerState,
    Snapshot,
    canonical,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model import keepalives
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import POOLER_USER
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.hba import (
    listens_to_others,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import (
    version_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import (
    LOOPBACK,
    LoginRule,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    known_definition,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.scram import UNMATCHABLE

POOLER = "PgBouncer"
TIMEOUTS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
_CONSOLE = "pgbouncer"
_FIXED = (1, 26, 1)
_WAITING_S = 1.0
# Clients may send these, and nothing is lost when they are ignored.
_HARMLESS = ("extra_float_digits", "options")
_EVERYWHERE = ("all", "0.0.0.0/0", "::/0")
_PLAIN_MODES = ("disable", "allow", "prefer")
_OPEN_TYPES = {
    "trust": ("lets everybody in without a password", "critical"),
    "any": ("lets everybody in as one user", "critical"),
    "plain": ("makes clients send readable passwords", "warning"),
}
_OPEN_METHODS = {"trust": _OPEN_TYPES["trust"], "password": _OPEN_TYPES["plain"]}


def _pooler(snapshot: Snapshot) -> PoolerState:
    found: PoolerState = snapshot.known("pooler")
    return found


def _timeouts(snapshot: Snapshot) -> Iterator[Observation]:
    pooler = _pooler(snapshot)
    roles = snapshot.application_roles()
    forced = {
        one.name: one.force_user
        for one in pooler.databases
        if one.force_user and one.name != _CONSOLE
    }
    for name, user in sorted(forced.items()):
        for role in roles:
            own = {**role.settings.get("", {}), **role.settings.get(name, {})}
            lost = [one for one in TIMEOUTS if one in own]
            if lost and role.name != user:
                yield Observation(
                    f"{name}: {role.name}",
                    f"{listed(lost)} of {role.name!r} have no effect: PgBouncer's database"
                    f" {name!r} logs everybody in as {user!r}",
                    f"in pgbouncer.ini, [databases]: {name} without user={user}; RELOAD",
                )
    by_name = {role.name: role for role in roles}
    failures = []
    for login in snapshot.known("pooled_logins"):
        if login.failure:
            failures.append(f"{login.role!r} could not log in through the pool: {login.failure}")
        elif login.role in by_name:
            yield from _differences(snapshot, login.database, login.role, login.settings)
    if failures:
        raise NotReadable("; ".join(failures))


def _differences(
    snapshot: Snapshot, database: str, name: str, got: Mapping[str, str]
) -> Iterator[Observation]:
    role = snapshot.known("roles")[name]
    shown = []
    for timeout in TIMEOUTS:
        wanted = snapshot.effective(role, database, timeout)
        found = canonical(snapshot.major, timeout, got[timeout])
        if wanted != found:
            shown.append(f"{timeout} is {found} ms instead of {wanted} ms")
    if shown:
        yield Observation(
            f"{database}: {name}",
            f"through the pool, for {name!r} in {database!r}, {', '.join(shown)}",
            "RECONNECT on PgBouncer's console: its connections are older than the settings",
        )


def _holes(snapshot: Snapshot) -> Iterator[Observation]:
    pooler = _pooler(snapshot)
    version, config = pooler.version, pooler.config
    text = version_text(version)
    ignored = _words(config.get("ignore_startup_parameters", ""))
    if (1, 20, 0) <= version < _FIXED and ignored and "options" not in ignored:
        yield Observation(
            "CVE-2026-107349",
            f"PgBouncer {text} with ignore_startup_parameters = {', '.join(ignored)}: anyone who"
            " can connect can make it spin (CVE-2026-107349)",
            f"in pgbouncer.ini: ignore_startup_parameters = {','.join([*ignored, 'options'])};"
            " RELOAD",
        )
    query = config.get("auth_query", "")
    if config.get("auth_user") and _reads_passwords(query) and "valid" not in query.lower():
        yield Observation(
            "CVE-2025-2291",
            f"auth_query accepts expired passwords too (CVE-2025-2291): {query}",
            "in pgbouncer.ini: an auth_query that returns this for the password when"
            f" rolvaliduntil < now(), and never NULL or no row: '{UNMATCHABLE}'; RELOAD",
        )
    if (1, 17, 0) <= version < _FIXED and config.get("auth_file"):
        if pooler.listed_users is None:
            raise NotReadable(f"who is listed in {config['auth_file']} can't be read")
        own = (snapshot.pooler_role, POOLER_USER)
        others = [name for name in pooler.listed_users if name not in own]
        if others:
            yield Observation(
                "CVE-2026-107350",
                f"PgBouncer {text} with {listed(others)} in its auth_file: anyone who knows one of"
                " their passwords can log in as any user (CVE-2026-107350)",
                "in pgbouncer.ini: auth_query and auth_user, and only that user in the auth_file;"
                " or PgBouncer 1.26.1",
            )


def _reads_passwords(query: str) -> bool:
    return any(name in query.lower() for name in ("pg_shadow", "pg_authid"))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _keepalives(snapshot: Snapshot) -> Iterator[Observation]:
    config = _pooler(snapshot).config
    if not config.get("listen_addr"):
        return
    idle = int(config.get("tcp_keepidle") or 0)
    if config.get("tcp_keepalive") == "0" or idle == 0 or idle > MOST_KEEPALIVE_S:
        yield Observation(
            POOLER,
            f"tcp_keepalive is {config.get('tcp_keepalive')} and tcp_keepidle {idle}",
            f"in pgbouncer.ini: tcp_keepalive = 1, tcp_keepidle = {keepalives.IDLE_S},"
            f" tcp_keepintvl = {keepalives.INTERVAL_S}, tcp_keepcnt = {keepalives.COUNT}; RELOAD",
        )


def _auth(snapshot: Snapshot) -> Iterator[Observation]:
    kind = _pooler(snapshot).config.get("auth_type", "")
    if kind in _OPEN_TYPES:
        what, severity = _OPEN_TYPES[kind]
        yield Observation(
            POOLER,
            f"auth_type is {kind}, which {what}",
            "in pgbouncer.ini: auth_type = scram-sha-256; RELOAD",
            severity,
        )
    for rule in _rules(snapshot):
        if rule.method in _OPEN_METHODS:
            what, severity = _OPEN_METHODS[rule.method]
            yield Observation(
                rule.line(),
                f"a rule in auth_hba_file has method {rule.method}, which {what}: {rule.line()}",
                "in the auth_hba_file: scram-sha-256 as the method; RELOAD",
                severity,
            )


def _without_tls(snapshot: Snapshot) -> Iterator[Observation]:
    config = _pooler(snapshot).config
    mode = config.get("client_tls_sslmode") or "disable"
    if not listens_to_others(config.get("listen_addr", "")) or mode not in _PLAIN_MODES:
        return
    rules = _rules_for_others(snapshot)
    if rules is not None and all(kind == "hostssl" for kind, _address in rules):
        return
    demanded = _server_demands_tls(snapshot)
    yield Observation(
        POOLER,
        f"client_tls_sslmode is {mode}, and PgBouncer listens on {config['listen_addr']}"
        + (", while pg_hba.conf requires TLS from other hosts" if demanded else ""),
        "in pgbouncer.ini: client_tls_sslmode = require, client_tls_cert_file, client_tls_key_file;"
        " RELOAD",
        "warning" if demanded else "",
    )


def _open_networks(snapshot: Snapshot) -> Iterator[Observation]:
    listen = _pooler(snapshot).config.get("listen_addr", "")
    if not listens_to_others(listen):
        return
    rules = _rules_for_others(snapshot)
    if rules is not None and not any(address in _EVERYWHERE for _kind, address in rules):
        return
    networks = _server_networks(snapshot)
    if any(address in _EVERYWHERE for address in networks):
        return
    yield Observation(
        POOLER,
        f"PgBouncer on {listen} accepts logins from every address"
        + (f", and pg_hba.conf from {listed(networks)} only" if networks else ""),
        "in pgbouncer.ini: auth_type = hba, and auth_hba_file with a file that names the networks;"
        " RELOAD",
        "warning" if networks else "",
    )


def _rules(snapshot: Snapshot) -> tuple[LoginRule, ...]:
    """PgBouncer's rules for logins; none when it has no use for them."""
    pooler = _pooler(snapshot)
    if pooler.config.get("auth_type") != "hba":
        return ()
    if pooler.login_rules is None:
        raise NotReadable(f"the rules in {pooler.config.get('auth_hba_file')} can't be read")
    return pooler.login_rules


def _rules_for_others(snapshot: Snapshot) -> list[tuple[str, str]] | None:
    """Type and address of PgBouncer's rules that let in from other hosts; None without rules."""
    if _pooler(snapshot).config.get("auth_type") != "hba":
        return None
    return [
        (rule.type, rule.address)
        for rule in _rules(snapshot)
        if rule.type != "local" and rule.method != "reject" and rule.address not in LOOPBACK
    ]


def _rules_of_server(snapshot: Snapshot) -> list[HbaRule]:
    """The lines of pg_hba.conf that let others than PgBouncer's own role in from other hosts."""
    return [
        rule
        for rule in snapshot.known("hba")
        if rule.remote
        and rule.method not in ("", "reject")
        and rule.users != (snapshot.pooler_role,)
        and rule.databases != ("replication",)
    ]


def _server_networks(snapshot: Snapshot) -> list[str]:
    return list(dict.fromkeys(rule.address for rule in _rules_of_server(snapshot)))


def _server_demands_tls(snapshot: Snapshot) -> bool:
    rules = _rules_of_server(snapshot)
    rejects = any(
        rule.kind == "hostnossl" and rule.method == "reject" for rule in snapshot.known("hba")
    )
    return rejects or (bool(rules) and all(rule.kind == "hostssl" for rule in rules))


def _superuser(snapshot: Snapshot) -> Iterator[Observation]:
    user = _pooler(snapshot).os_user
    role = snapshot.known("roles").get(user)
    if role is None or not role.superuser or not role.login:
        return
    for rule in snapshot.known("hba"):
        if rule.kind == "local" and rule.method == "peer" and {"all", user} & {*rule.users}:
            yield Observation(
                POOLER,
                f"PgBouncer runs as the OS user {user}, whom line {rule.line} of pg_hba.conf"
                f" ({rule.text}) lets in as the superuser {user}",
                "User= of another OS user in a drop-in of pgbouncer.service, which can read"
                " PgBouncer's files; restart",
            )
            return


def _guesses(snapshot: Snapshot) -> Iterator[Observation]:
    pooler = _pooler(snapshot)
    own = {pooler.config.get("auth_user"), snapshot.pooler_role, POOLER_USER}
    found: dict[str, list[str]] = {}
    for one in snapshot.known("taken_guesses"):
        word = f"the password {one.password!r}" if one.password else "an empty password"
        found.setdefault(one.user, []).append(f"{word} in {one.database!r}")
    for user, ways in sorted(found.items()):
        yield Observation(
            user,
            f"PgBouncer accepts {user!r} with {listed(ways)}",
            f"a line in the auth_file: {_double_quoted(user)} and a long random secret, also in"
            " double quotes; RELOAD"
            if user in own
            else "in pgbouncer.ini: an auth_query that returns"
            f" coalesce(rolpassword, '{UNMATCHABLE}') for the password; RELOAD",
        )


def _double_quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def _lost_parameters(snapshot: Snapshot) -> Iterator[Observation]:
    ignored = _words(_pooler(snapshot).config.get("ignore_startup_parameters", ""))
    for name in ignored:
        if name in _HARMLESS or known_definition(name, snapshot.major) is None:
            continue
        without = [
            role.name
            for role in snapshot.application_roles()
            if not any(name in own for own in role.settings.values())
        ]
        if without:
            yield Observation(
                name,
                f"PgBouncer ignores {name} when clients send it, and {listed(without)} do not set"
                " it themselves",
                f"ALTER ROLE ... SET {name} = ...; for each of them, then RECONNECT",
            )


def _waiting(snapshot: Snapshot) -> Iterator[Observation]:
    for pool in _pooler(snapshot).pools:
        if pool.waiting and pool.longest_wait_s >= _WAITING_S:
            yield Observation(
                f"{pool.database}: {pool.user}",
                f"{pool.waiting} clients of {pool.user!r} wait for {pool.database!r}, the first"
                f" for {pool.longest_wait_s:.0f} s; {pool.servers} server connections are open",
                "find what holds the connections (long transactions), or raise pool_size",
            )


RULES = (
    Rule(
        "timeouts-not-pooled",
        "warning",
        "Timeouts do not reach sessions through the pool",
        "A timeout that is set and has no effect is worse than none: everybody relies on it.",
        "pgbouncer_reconnect: true, once; a run of site does it by itself",
        _timeouts,
    ),
    Rule(
        "pooler-known-holes",
        "critical",
        "PgBouncer has known security holes",
        "How to exploit them is public.",
        "pgbouncer_auth: query; pgbouncer_settings without ignore_startup_parameters, auth_query",
        _holes,
    ),
    Rule(
        "pooler-no-keepalives",
        "warning",
        "PgBouncer's TCP keepalives are not set",
        "Clients and servers that vanished keep their connections for two hours.",
        "nothing: the role pgbouncer sets 60/10/6; pgbouncer_settings without tcp_keep*",
        _keepalives,
    ),
    Rule(
        "pooler-open",
        "critical",
        "PgBouncer does not authenticate its clients properly",
        "Anyone who can connect to PgBouncer can get at the data.",
        "pgbouncer_auth_type: scram-sha-256",
        _auth,
    ),
    Rule(
        "pooler-listens-without-tls",
        "info",
        "PgBouncer listens on the network without TLS",
        "The data can be read on the network, even where the server itself requires TLS.",
        "pgbouncer_client_tls_sslmode: require, with a certificate; pgbouncer_require_tls",
        _without_tls,
    ),
    Rule(
        "pooler-open-networks",
        "info",
        "PgBouncer accepts logins from everywhere",
        "Networks that pg_hba.conf leaves out get in through the pool.",
        "pgbouncer_client_networks, by default postgres_client_networks",
        _open_networks,
    ),
    Rule(
        "pooler-runs-as-superuser",
        "warning",
        "PgBouncer runs as the OS user of the superuser",
        "A security hole in PgBouncer then gives access to the whole server.",
        "pgbouncer_os_user: pgbouncer, which takes one restart of PgBouncer",
        _superuser,
    ),
    Rule(
        "pooler-login-without-password",
        "critical",
        "PgBouncer lets clients in without a password",
        "Anyone who can connect can log in as this user, and as PgBouncer's own user read all"
        " verifiers.",
        "nothing: run pooled.postgres.site, whose auth file and function have no such user",
        _guesses,
    ),
    Rule(
        "pooler-lost-parameters",
        "warning",
        "Settings that clients send are lost in the pool",
        "The client believes that it has set them.",
        "settings of the roles; pgbouncer_settings without ignore_startup_parameters",
        _lost_parameters,
    ),
    Rule(
        "pooler-clients-waiting",
        "warning",
        "Clients wait for a connection of their pool",
        "Response times grow by the wait, and after query_wait_timeout clients are disconnected.",
        "pools of the database or role: {pool_size: ...}, pgbouncer_default_pool_size",
        _waiting,
    ),
)
