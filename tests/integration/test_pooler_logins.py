# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nobody gets in through PgBouncer but who has the right password.

Every name is tried with every password, in each way that this collection sets PgBouncer up, after
its first start, after the RELOAD that closes the holes of an earlier version, and after a restart.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    processes,
)

from . import raw_login
from .certificates import Authority
from .clusters import INSTALLED
from .poolers import SERVICE
from .raw_login import IN, REFUSED

POOLER, ELSEWHERE = "pgbouncer_auth", "for poolers elsewhere"
MODEL = [
    {
        "name": "mydb",
        "roles": [
            {"name": "app_user", "kind": "user", "password": "of user"},
            {"name": "app_migrator", "kind": "migrator", "password": "of migrator"},
            {"name": "app_reader", "kind": "reader"},
        ],
    }
]
# Roles that are there besides, with the passwords that are right and of no use.
OTHERS = {
    "prometheus": ("LOGIN", ""),
    "boss": ("LOGIN SUPERUSER", "of boss"),
    "expired": ("LOGIN VALID UNTIL '2001-01-01'", "of expired"),
    "group_only": ("NOLOGIN", "of group"),
    "stranger": ("LOGIN", "of stranger"),
}
RIGHT = {"app_user": "of user", "app_migrator": "of migrator"}
OLD_STYLE = "old_style"  # its password is stored as md5
# What earlier versions of this collection made.
OLD_FUNCTION = """
CREATE OR REPLACE FUNCTION pgbouncer.get_auth(p_usename text)
RETURNS TABLE(username text, password text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
  SELECT r.rolname::pg_catalog.text, r.rolpassword
    FROM pg_catalog.pg_authid AS r
   WHERE r.rolname OPERATOR(pg_catalog.=) p_usename AND r.rolcanlogin AND NOT r.rolsuper
     AND (r.rolvaliduntil IS NULL OR r.rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now())
     AND pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT')
$$
"""


@dataclass(frozen=True)
class Way:
    """A way to set PgBouncer up; C(right) are passwords that let in besides those of the model."""

    name: str
    auth: str = "query"
    elsewhere: bool = False
    tls: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    right: dict[str, str] = field(default_factory=dict)
    role: str = POOLER
    since: tuple[int, ...] = (0,)
    before: tuple[int, ...] = (1000,)

    def __str__(self) -> str:
        return self.name


SEVERAL = processes.SINCE
ALIASED = [{**MODEL[0], "aliases": [{"name": "far", "host": "127.0.0.1"}]}]
WAYS = [
    Way("query"),
    Way("query, elsewhere", elsewhere=True, right={POOLER: ELSEWHERE}),
    Way("query, TLS", tls=True),
    Way("query, several", more={"processes": 2}, since=SEVERAL),
    Way("query, elsewhere, several, TLS", elsewhere=True, tls=True, more={"processes": 2},
        right={POOLER: ELSEWHERE}, since=SEVERAL),
    Way("query, md5", options={"auth_type": "md5"}, right={OLD_STYLE: "old"}),
    Way("query, plain", options={"auth_type": "plain"}, right={OLD_STYLE: "old"}),
    Way("query, role pgbouncer", role="pgbouncer", more={"auth_role": "pgbouncer"}),
    Way("query, alias, own login", more={"databases": ALIASED, "auth_password": ELSEWHERE},
        right={POOLER: ELSEWHERE}, before=(1, 19)),
    Way("query, alias", more={"databases": ALIASED}, since=(1, 19)),
    Way("query, console", options={"admin_users": "ops,app_user", "stats_users": "stats"}),
    Way("userlist", "userlist"),
    Way("userlist, elsewhere", "userlist", elsewhere=True),
    Way("userlist, TLS", "userlist", tls=True),
    Way("userlist, several", "userlist", more={"processes": 2}, since=SEVERAL),
    Way("userlist, md5", "userlist", options={"auth_type": "md5"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def pooled_server(make_cluster, run_module):
    made = make_cluster(max(INSTALLED, default=0))
    for name, (attributes, password) in OTHERS.items():
        made.sql(f"CREATE ROLE {name} {attributes}" + f" PASSWORD '{password}'" * bool(password))
    made.sql(f"SET password_encryption = md5; CREATE ROLE {OLD_STYLE} LOGIN PASSWORD 'old'")
    allow(made, run_module)
    made.sql(f"GRANT CONNECT ON DATABASE mydb TO prometheus, expired, {OLD_STYLE}")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = Authority(tmp_path_factory.mktemp("tls") / "ca")
    made.issue("server")
    return made


def allow(cluster, run_module, role=POOLER, password="", databases=None):
    """Make the databases and roles what the model says."""
    args = {"databases": databases or MODEL, "pooler_role": role, "pooler_password": password}
    result = run_module(
        "postgres_access", {**cluster.login, **args, "revoke_public": True}, diff=False
    )
    assert not result.get("failed"), result["msg"]
    return result


def verifiers(cluster):
    return dict(cluster.sql("SELECT rolname, coalesce(rolpassword, '') FROM pg_authid"))


def arguments(way, pooler, authority):
    """What pgbouncer_config is told."""
    options, more = dict(way.options), {"databases": MODEL, "auth": way.auth, **way.more}
    if way.tls:
        certificate, key = authority.hand_over(
            "server", pooler.home / "etc" / "server", pooler.cluster.user
        )
        options.update(
            client_tls_sslmode="require",
            client_tls_cert_file=certificate,
            client_tls_key_file=key,
        )
    if way.elsewhere:
        more["backend_host"] = "127.0.0.1"
        more["auth_password"] = ELSEWHERE
        if way.auth == "userlist":
            stored = verifiers(pooler.cluster)
            roles = [
                {**role, "password": stored[role["name"]]}
                for role in MODEL[0]["roles"]
                if stored[role["name"]]
            ]
            more["databases"] = [{**MODEL[0], "roles": roles}]
    return {"options": options, **more}


class Matrix:
    """Tries every name with every password, and counts."""

    count = 0

    def __init__(self, way, pooler):
        self.way = way
        self.pooler = pooler
        self.address = ("127.0.0.1", pooler.port)
        self.database = "far" if "alias" in way.name else "mydb"
        self.right = {**RIGHT, **way.right}
        self.stored = verifiers(pooler.cluster)

    def names(self):
        whole = bool(os.environ.get("POOLED_EXHAUSTIVE"))
        roles = [one for one in self.stored if whole or not one.startswith("pg_")]
        return sorted({*roles, "pg_monitor", "pgbouncer", POOLER, "ghost", "ops", "public", ""})

    def passwords(self, name):
        known = {**{other: secret for other, (_kind, secret) in OTHERS.items()}, **RIGHT}
        own = [self.right.get(name, ""), known.get(name, ""), self.stored.get(name, "")]
        words = ["", "md5", "SCRAM-SHA-256", "null", name, "wrong", *own]
        return list(dict.fromkeys(words))

    def attempts(self):
        """Name, password, kind of answer, database."""
        for name in self.names():
            for password in self.passwords(name):
                yield name, password, "", self.database
        if "auth_type" in self.way.options:
            return
        for name in ("app_user", "prometheus", "pgbouncer", POOLER, "ghost"):
            for password in self.passwords(name):
                # The name of the mechanism is the beginning of an answer that never comes.
                for unasked in ("clear", "md5") if password != "SCRAM-SHA-256" else ():
                    yield name, password, unasked, self.database

    def outcome(self, attempt):
        name, password, unasked, database = attempt
        return raw_login.login(self.address, name, password, database, self.way.tls, unasked)

    def expected(self, attempt):
        name, password, unasked, _database = attempt
        return IN if self.right.get(name) == password and not unasked else REFUSED

    def wrong(self):
        """What was not as it must be."""
        attempts = list(self.attempts())
        type(self).count += len(attempts)
        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(self.outcome, attempts))
        return [
            (attempt, outcome)
            for attempt, outcome in zip(attempts, outcomes, strict=True)
            if outcome != self.expected(attempt)
        ]

    def holes(self):
        """Who gets in without a password."""
        return {
            (name, password)
            for name in ("pgbouncer", POOLER, "prometheus", "app_reader")
            for password in ("", "md5")
            if self.outcome((name, password, "", self.database)) != REFUSED
        }


class Application(threading.Thread):
    """Works through the pool all the time, over one connection and with new logins."""

    def __init__(self, pooler):
        super().__init__(daemon=True)
        self.where = {"host": "127.0.0.1", "port": pooler.port, "dbname": "mydb",
                      "user": "app_user", "password": RIGHT["app_user"],
                      "prepare_threshold": None}  # fmt: skip
        self.over = threading.Event()
        self.done, self.failures = 0, []
        self.start()

    def run(self):
        with psycopg.connect(**self.where, autocommit=True) as connection:
            while not self.over.wait(0.01):
                try:
                    connection.execute("SELECT 1")
                    psycopg.connect(**self.where).close()
                    self.done += 1
                except psycopg.Error as error:
                    self.failures.append(error)

    def result(self):
        self.over.set()
        self.join()
        return self.done > 0, self.failures


def settle(pooler):
    """A RELOAD over the console is answered before its files have been read."""
    time.sleep(0.2)
    with pooler.console() as console:
        console.execute("SHOW VERSION")


def restart(pooler, way):
    for number in range(1, way.more.get("processes", 1) + 1):
        name = SERVICE if number == 1 else f"{SERVICE}@{number}"
        pooler.systemctl(f"restart --job-mode=ignore-dependencies {name}")


def as_before(pooler, way):
    """The host as an earlier version of this collection left it."""
    pooler.cluster.sql(OLD_FUNCTION, "mydb")
    own = {"pgbouncer", way.role} - set(way.right)
    lines = pooler.userlist.read_text().splitlines()
    kept = [line for line in lines if line.split('"')[1] not in own]
    pooler.userlist.write_text("".join(f"{line}\n" for line in kept))
    restart(pooler, way)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_only_the_right_password_lets_in(pooler, run_module, authority, way):
    if not way.since <= pooler.program.version < way.before:
        pytest.skip(f"{way} is not for PgBouncer {pooler.program}")
    cluster = pooler.cluster
    needs_password = way.elsewhere or POOLER in way.right
    given = {"role": way.role, "password": ELSEWHERE if needs_password else ""}
    allow(cluster, run_module, **given)
    told = arguments(way, pooler, authority)
    result = pooler.configure(**told)
    assert not result.get("failed"), result["msg"]
    assert not any(secret in str(result) for secret in pooler.listed.values())
    matrix = Matrix(way, pooler)
    assert matrix.wrong() == [], "after the first start"
    as_before(pooler, way)
    # With its own file alone, 1.24 was right already.
    asks_scram = "auth_type" not in way.options
    if way.auth == "query" or (pooler.program.version < (1, 23, 0) and asks_scram):
        assert matrix.holes(), "what an earlier version left must be open"
    running, pid = Application(pooler) if not way.tls else None, pooler.pid
    allow(cluster, run_module, **given)
    actions = pooler.predicted_and_done(**told)
    assert {one.partition(" (")[0] for one in actions} == {"RELOAD"}
    settle(pooler)
    assert pooler.pid == pid
    if running:
        assert running.result() == (True, [])
    assert matrix.wrong() == [], "after RELOAD"
    restart(pooler, way)
    assert matrix.wrong() == [], "after a restart"
    # That they are refused is for want of the secret.
    if way.options.get("admin_users") is None:
        secret = pooler.listed[way.role]
        assert matrix.outcome((way.role, secret, "", matrix.database)) != REFUSED
    print(f"{Matrix.count} logins tried")


QUERY, USERLIST = WAYS[0], next(way for way in WAYS if way.auth == "userlist")


def refused(pooler, way=QUERY):
    """Who of the application's role's guesses gets in: nobody."""
    matrix = Matrix(way, pooler)
    tried = [("app_user", word, "", "mydb") for word in matrix.passwords("app_user")]
    return [attempt for attempt in tried if matrix.outcome(attempt) != REFUSED] == []


WITHDRAWN = [
    ("ALTER ROLE app_user PASSWORD NULL", "ALTER ROLE app_user PASSWORD 'of user'"),
    ("ALTER ROLE app_user NOLOGIN", "ALTER ROLE app_user LOGIN"),
    ("ALTER ROLE app_user SUPERUSER", "ALTER ROLE app_user NOSUPERUSER"),
    ("ALTER ROLE app_user VALID UNTIL '2001-01-01'", "ALTER ROLE app_user VALID UNTIL 'infinity'"),
    ("REVOKE CONNECT ON DATABASE mydb FROM app_user", "GRANT CONNECT ON DATABASE mydb TO app_user"),
]


def test_connections_that_are_still_open_let_nobody_in(pooler, run_module):
    """They belong to a role that may not log in any more, and PgBouncer knows it."""
    allow(pooler.cluster, run_module)
    pooler.configure(databases=MODEL)
    where = {"host": "127.0.0.1", "port": pooler.port, "dbname": "mydb", "user": "app_user",
             "password": RIGHT["app_user"], "prepare_threshold": None}  # fmt: skip
    with psycopg.connect(**where, autocommit=True) as warm:
        for withdraw, give_back in WITHDRAWN:
            assert warm.execute("SELECT 1").fetchone() == (1,)
            pooler.cluster.sql(withdraw)
            try:
                assert refused(pooler), withdraw
            finally:
                pooler.cluster.sql(give_back)
            psycopg.connect(**where).close()


def test_who_leaves_a_userlist_stays_out(pooler, run_module):
    allow(pooler.cluster, run_module)
    without = [{**MODEL[0], "roles": MODEL[0]["roles"][1:]}]
    pooler.configure(databases=MODEL, auth="userlist")
    where = {"host": "127.0.0.1", "port": pooler.port, "dbname": "mydb", "user": "app_user",
             "password": RIGHT["app_user"], "prepare_threshold": None}  # fmt: skip
    with psycopg.connect(**where, autocommit=True) as warm:
        assert pooler.predicted_and_done(databases=without, auth="userlist") == ["RELOAD"]
        settle(pooler)
        assert refused(pooler, USERLIST)
        # Under another path, PgBouncer would have forgotten the secret and not the user.
        moved = {"auth_file": str(pooler.userlist.with_name("moved.txt"))}
        told = {"databases": without, "auth": "userlist", "options": moved}
        assert pooler.predicted_and_done(**told) == ["RELOAD"]
        settle(pooler)
        assert refused(pooler, USERLIST)
        # The old file is this collection's, so moving back takes nothing from anybody.
        told["options"] = {}
        assert pooler.predicted_and_done(**told) == ["RELOAD"]
        assert not pooler.userlist.with_name("userlist.txt.before-pooled").exists()
        assert refused(pooler, USERLIST)
        assert warm.execute("SELECT 1").fetchone() == (1,)
    assert pooler.predicted_and_done(databases=MODEL, auth="userlist") == ["RELOAD"]
    settle(pooler)
    psycopg.connect(**where).close()


def test_who_has_to_wait_for_a_restart_waits_outside(pooler, run_module):
    allow(pooler.cluster, run_module)
    pooler.configure(databases=MODEL, auth="userlist")
    pid = pooler.pid
    waiting = pooler.configure(databases=MODEL, restart="never")
    assert waiting["restart_pending"] == ["users of the old auth file"]
    settle(pooler)
    assert refused(pooler)
    again = pooler.configure(databases=MODEL, restart="never")
    assert (again["changed"], again["restart_pending"]) == (False, waiting["restart_pending"])
    assert pooler.pid == pid
    done = ["restart for users of the old auth file"]
    assert pooler.predicted_and_done(databases=MODEL) == done
    assert Matrix(QUERY, pooler).outcome(("app_user", RIGHT["app_user"], "", "mydb")) == IN


@pytest.mark.parametrize("auth", ["query", "userlist"])
def test_secrets_of_others_are_replaced_and_ours_stay(pooler, run_module, auth):
    allow(pooler.cluster, run_module)
    told = {"databases": MODEL, "auth": auth}
    pooler.configure(**told)
    first = pooler.listed
    known = {"pgbouncer": "known", POOLER: "md5"}
    pooler.userlist.write_text(
        "".join(f'"{name}" "{secret}"\n' for name, secret in {**first, **known}.items())
    )
    restart(pooler, QUERY)
    matrix = Matrix(QUERY, pooler)
    assert matrix.outcome(("pgbouncer", "known", "", "mydb")) != REFUSED
    assert pooler.predicted_and_done(**told) == ["RELOAD"]
    settle(pooler)
    second = pooler.listed
    assert {name for name in first if first[name] != second[name]} == {"pgbouncer", POOLER}
    for name, secret in known.items():
        assert matrix.outcome((name, secret, "", "mydb")) == REFUSED
    assert len(set(second.values())) == len(second)
    assert all(len(second[name]) >= 43 for name in known)
    pooler.configure(**told, options={"query_timeout": 7})
    assert pooler.listed == second


def test_who_is_in_already_is_reported(pooler, run_module):
    allow(pooler.cluster, run_module)
    pooler.configure(databases=MODEL)
    pooler.userlist.write_text(f'"{POOLER}" "known"\n')
    restart(pooler, QUERY)
    where = {"host": "127.0.0.1", "port": pooler.port, "dbname": "mydb", "user": POOLER,
             "password": "known", "prepare_threshold": None}  # fmt: skip
    with psycopg.connect(**where, autocommit=True) as intruder:
        (warning,) = pooler.configure(databases=MODEL)["warnings"]
        assert f"'{POOLER}' in 'mydb' from 127.0.0.1; find out who that is" in warning
        assert intruder.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(**where)
    assert not pooler.configure(databases=MODEL, options={"query_timeout": 8}).get("warnings")
