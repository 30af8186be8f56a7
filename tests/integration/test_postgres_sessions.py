# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions of real servers, made for the purpose: the right ones are listed and ended."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import psycopg2
import psycopg2.extras
import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._sessions import (
    read,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sessions.sessions import parse_wanted
from ansible_collections.pooled.postgres.plugins.module_utils._sql import (
    connection as sql_connection,
)

from .clusters import INSTALLED, PATIENCE_S
from .poolers import PASSWORD

ROOT = Path(__file__).resolve().parents[2]
OLD_S = 1.5
MAJORS_AT_THE_ENDS = {min(INSTALLED, default=0), max(INSTALLED, default=0)}
NEWEST = max(INSTALLED, default=0)
ROLES = ("app_user", "app_reader", "other")
BLOCKED = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.fixture
def at_the_ends(major):
    if major not in MAJORS_AT_THE_ENDS:
        pytest.skip("the oldest and the newest are enough")


@pytest.fixture
def newest_only(major):
    if major != NEWEST:
        pytest.skip("one server is enough")


def until(found, wanted):
    """Wait for what another process does."""
    deadline = time.monotonic() + PATIENCE_S
    while not wanted(value := found()):
        assert time.monotonic() < deadline, value
        time.sleep(0.02)
    return value


class Crowd:
    """Named sessions on a server, each of a client that is not ours to end."""

    def __init__(self, cluster, stack):
        self.cluster, self.stack = cluster, stack
        self.pids, self.clients = {}, {}

    def enter(self, name, role="app_user", database="shop", application="api"):
        client = self.cluster.connect(database, role, application_name=application)
        self.stack.callback(client.close)
        self.clients[name], self.pids[name] = client, client.info.backend_pid
        return client

    def idle_in_transaction(self, name, *who, query="SELECT 'x'"):
        client = self.enter(name, *who)
        client.execute("BEGIN")
        client.execute(query)
        return client

    def aborted(self, name, *who):
        client = self.idle_in_transaction(name, *who)
        with pytest.raises(psycopg.errors.DivisionByZero):
            client.execute("SELECT 1 / 0")

    def running(self, name, *who, query="SELECT pg_sleep(600)", before=()):
        client = self.enter(name, *who)
        for statement in before:
            client.execute(statement)
        client.pgconn.send_query(query.encode())
        return client

    def there(self):
        """The sessions that live, and their states, as an independent client sees them."""
        states = dict(self.cluster.sql("SELECT pid, state FROM pg_stat_activity"))
        return {name: states[pid] for name, pid in self.pids.items() if pid in states}

    def age_of_the_old(self):
        """What all are older than but the young one, which begins anew."""
        self.clients["young"].execute("COMMIT")
        self.clients["young"].execute("BEGIN")
        self.clients["young"].execute("SELECT 'young'")
        return f"{time.monotonic() - self.born - 0.05:.3f}s"

    def names(self, rows):
        """Our names of sessions in a result."""
        known = {pid: name for name, pid in self.pids.items()}
        return {known[row["pid"]] for row in rows}


@contextmanager
def new_crowd(cluster):
    with ExitStack() as stack:
        yield Crowd(cluster, stack)


@pytest.fixture
def places(clean_server):
    clean_server.sql("".join(f"CREATE ROLE {role} LOGIN; " for role in ROLES))
    for database in ("shop", "second"):
        clean_server.sql(f"CREATE DATABASE {database}")
    clean_server.sql("CREATE TABLE part (id int PRIMARY KEY)", "shop")
    clean_server.sql("GRANT ALL ON part TO app_user, app_reader", "shop")
    clean_server.sql("INSERT INTO part VALUES (1), (2), (3)", "shop")
    yield clean_server
    clean_server.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND usename IS NOT NULL AND datname IS NOT NULL"
    )


@pytest.fixture
def crowd(places):
    with new_crowd(places) as made:
        yield made


@pytest.fixture
def info(run_module):
    def info(cluster, **options):
        result = run_module("postgres_sessions_info", {**cluster.login, **options})
        assert not result.get("failed"), result["msg"]
        assert result["changed"] is False
        return result

    return info


@pytest.fixture
def end(run_module):
    def end(cluster, check=False, **options):
        arguments = {**cluster.login, "roles": ["app_user"], "older_than": "0s", **options}
        return run_module("postgres_sessions", arguments, check=check)

    return end


def make_everybody(crowd):
    """One session of each sort; the walsender is psycopg2's, which knows replication."""
    cluster = crowd.cluster
    cluster.sql("ALTER ROLE app_user REPLICATION")
    crowd.idle_in_transaction("waits")
    crowd.idle_in_transaction("job", "app_user", "shop", "job")
    crowd.idle_in_transaction("elsewhere", "app_user", "second")
    crowd.idle_in_transaction("reader", "app_reader")
    crowd.idle_in_transaction("other", "other")
    crowd.idle_in_transaction("superuser", "postgres")
    crowd.aborted("aborted")
    crowd.running("active")
    crowd.enter("idle")
    force = "debug_parallel_query" if cluster.major >= 16 else "force_parallel_mode"
    crowd.running("parallel", "app_user", "shop", "parallel", before=[f"SET {force} = on"])
    walsender = psycopg2.connect(
        host=str(cluster.socket_directory), port=cluster.port, user="app_user",
        connection_factory=psycopg2.extras.PhysicalReplicationConnection,
    )  # fmt: skip
    crowd.stack.callback(walsender.close)
    crowd.pids["walsender"] = walsender.info.backend_pid
    worker = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'parallel worker'"
    crowd.pids["worker"] = until(lambda: cluster.sql(worker), bool)[0][0]
    # Its statement is as old as the others', but it has been waiting for its client just now.
    rested = crowd.idle_in_transaction("rested", "app_user", "shop", "rested").pgconn
    rested.send_query(f"SELECT pg_sleep({OLD_S})".encode())
    crowd.born = time.monotonic()
    while rested.get_result():
        pass
    crowd.idle_in_transaction("young")


OF_THE_USER = {"waits", "job", "elsewhere", "aborted"}
OLD = {"older_than": "what the young one is not"}
# (what is asked for, who is ended)
ASKED = [
    (OLD, OF_THE_USER),
    ({}, OF_THE_USER | {"rested", "young"}),
    ({"older_than": "1h"}, set()),
    ({**OLD, "states": ["idle_in_transaction_aborted"]}, {"aborted"}),
    ({**OLD, "states": ["active"]}, {"active", "parallel"}),
    ({**OLD, "states": ["active"], "mode": "cancel"}, {"active", "parallel"}),
    ({**OLD, "states": ["active"], "applications": ["parallel"]}, {"parallel"}),
    ({**OLD, "states": ["idle"]}, {"idle"}),
    ({**OLD, "states": ["idle", "idle_in_transaction", "active"]},
     OF_THE_USER | {"active", "parallel", "idle"}),
    ({**OLD, "roles": ["app_reader"]}, {"reader"}),
    ({**OLD, "roles": ["app_reader", "app_user"], "databases": ["shop"]},
     {"waits", "job", "aborted", "reader"}),
    ({**OLD, "databases": ["second", "shop"], "applications": ["job", "nobody"]}, {"job"}),
    ({**OLD, "applications": ["ap", "API", "%"]}, set()),
]  # fmt: skip


def test_exactly_the_right_ones(major, crowd, end, info):
    make_everybody(crowd)
    cluster = crowd.cluster
    everybody = crowd.there()
    assert set(everybody) == set(crowd.pids)

    age = crowd.age_of_the_old()
    seen = info(cluster, idle_transaction_age=age, query_age=age)
    assert crowd.names(seen["idle_transactions"]) == OF_THE_USER | {"reader", "other", "superuser"}
    assert crowd.names(seen["long_queries"]) == {"active", "parallel"}
    counted = {
        (row["database"], row["role"], row["application"], row["state"]): row["count"]
        for row in seen["sessions"]
    }
    assert counted == {
        ("shop", "app_user", "api", "idle in transaction"): 2,
        ("shop", "app_user", "job", "idle in transaction"): 1,
        ("shop", "app_user", "rested", "idle in transaction"): 1,
        ("second", "app_user", "api", "idle in transaction"): 1,
        ("shop", "app_reader", "api", "idle in transaction"): 1,
        ("shop", "other", "api", "idle in transaction"): 1,
        ("shop", "postgres", "api", "idle in transaction"): 1,
        ("shop", "app_user", "api", "idle in transaction (aborted)"): 1,
        ("shop", "app_user", "api", "active"): 1,
        ("shop", "app_user", "parallel", "active"): 1,
        ("shop", "app_user", "api", "idle"): 1,
    }
    assert seen["connections"] == {"max": 40, "used": 12}
    assert (seen["not_shown"], seen["pools"], seen["blocking"]) == ([], None, [])
    (aborted,) = [row for row in seen["idle_transactions"] if row["state"].endswith("(aborted)")]
    assert aborted["query"] == "SELECT 1 / 0"
    assert aborted["transaction_seconds"] is None  # the server has forgotten when it began
    for row in seen["idle_transactions"]:
        assert 1 <= row["seconds"] <= (row["transaction_seconds"] or row["seconds"]) < 60

    def end_some(check=False, **asked):
        older_than = crowd.age_of_the_old()
        if OLD.items() <= asked.items():
            asked["older_than"] = older_than
        return end(cluster, check=check, **asked)

    for asked, whom in ASKED:
        result = end_some(check=True, **asked)
        assert not result.get("failed"), result["msg"]
        assert (crowd.names(result["ended"]), result["changed"]) == (whom, bool(whom)), asked
    assert crowd.there() == everybody

    result = end_some(states=["active"], mode="cancel", applications=["api"], **OLD)
    assert crowd.names(result["ended"]) == {"active"}
    assert result["ended"][0]["state_after"] == "idle"
    assert crowd.there() == {**everybody, "active": "idle"}
    cancelled = crowd.clients["active"].pgconn.get_result()
    assert b"user request" in cancelled.error_message

    result = end_some(databases=["shop"], **OLD)
    gone = {"waits", "job", "aborted"}
    assert (crowd.names(result["ended"]), result["changed"]) == (gone, True)
    assert (result["spared"], result["not_ended"]) == ([], [])
    assert set(crowd.there()) == set(everybody) - gone
    for name in gone:
        with pytest.raises(psycopg.OperationalError):
            crowd.clients[name].execute("SELECT 1")
    crowd.clients["young"].execute("SELECT 1")

    again = end_some(databases=["shop"], **OLD, states=["idle_in_transaction_aborted"])
    assert (again["ended"], again["changed"]) == ([], False)

    result = end_some(states=["active"], **OLD)
    assert crowd.names(result["ended"]) == {"parallel"}
    left = set(everybody) - gone - {"parallel", "worker"}
    until(crowd.there, lambda there: set(there) == left)


@pytest.mark.usefixtures("at_the_ends")
def test_who_waits_for_whom(major, crowd, info):
    cluster = crowd.cluster
    first = crowd.idle_in_transaction("first", query="UPDATE part SET id = 1 WHERE id = 1")
    second = crowd.idle_in_transaction("second", query="UPDATE part SET id = 2 WHERE id = 2")
    second.pgconn.send_query(b"UPDATE part SET id = 1 WHERE id = 1")
    until(lambda: cluster.sql(BLOCKED), lambda rows: rows == [(1,)])
    crowd.running("third", query="UPDATE part SET id = 2 WHERE id = 2")
    holder = crowd.idle_in_transaction("holder", query="SELECT pg_advisory_xact_lock(7)")
    crowd.running("waiter", "other", query="SELECT pg_advisory_lock(7) /* it waits */")
    until(lambda: cluster.sql(BLOCKED), lambda rows: rows == [(3,)])

    tree = info(cluster)["blocking"]
    names = {pid: name for name, pid in crowd.pids.items()}
    assert [(row["depth"], names[row["pid"]], row["blocks"]) for row in tree] == [
        (0, "first", 2),
        (1, "second", 1),
        (2, "third", 0),
        (0, "holder", 1),
        (1, "waiter", 0),
    ]
    assert [[names[pid] for pid in row["blocked_by"]] for row in tree] == [
        [],
        ["first"],
        ["second"],
        [],
        ["holder"],
    ]
    assert [row["lock"] for row in tree] == [
        "",
        "ShareLock on transactionid",
        "ShareLock on transactionid",
        "",
        "ExclusiveLock on advisory",
    ]
    assert [row["waiting_seconds"] is None for row in tree] == [True, False, False, True, False]
    assert tree[4]["query"] == "SELECT pg_advisory_lock(7) /* it waits */"
    assert (tree[4]["role"], tree[4]["database"]) == ("other", "shop")

    until(lambda: info(cluster)["blocking"][1]["waiting_seconds"], lambda seconds: seconds > 0.3)
    first.execute("COMMIT")
    holder.execute("COMMIT")
    until(lambda: cluster.sql(BLOCKED), lambda rows: rows == [(1,)])
    tree = info(cluster, login_db="shop")["blocking"]
    assert [names[row["pid"]] for row in tree] == ["second", "third"]


@pytest.mark.usefixtures("at_the_ends")
def test_locks_have_the_names_of_their_tables(major, crowd, info):
    cluster = crowd.cluster
    cluster.sql('CREATE SCHEMA "a b"; CREATE TABLE "a b".part (id int)', "second")
    cluster.sql('GRANT ALL ON SCHEMA "a b" TO other; GRANT ALL ON "a b".part TO other', "second")
    crowd.idle_in_transaction("holder", query="UPDATE part SET id = 1 WHERE id = 1")
    for number, name in enumerate(("row", "tuple"), 1):
        crowd.running(name, query="UPDATE part SET id = 1 WHERE id = 1")
        until(lambda: cluster.sql(BLOCKED), lambda rows, number=number: rows == [(number,)])
    crowd.idle_in_transaction("second", "other", "second", query='LOCK "a b".part IN SHARE MODE')
    crowd.running("table", "other", "second", query='LOCK "a b".part', before=["BEGIN"])
    until(lambda: cluster.sql(BLOCKED), lambda rows: rows == [(3,)])

    def locks():
        names = {pid: name for name, pid in crowd.pids.items()}
        return {names[row["pid"]]: row["lock"] for row in info(cluster)["blocking"] if row["lock"]}

    by_row = {"row": "ShareLock on transactionid"}
    named = "ExclusiveLock on tuple of public.part"
    assert locks() == {
        **by_row, "tuple": named, "table": 'AccessExclusiveLock on "a b".part',
    }  # fmt: skip
    cluster.sql("ALTER DATABASE second ALLOW_CONNECTIONS false")
    assert locks() == {**by_row, "tuple": named, "table": "AccessExclusiveLock on relation"}
    # Where a catalog is locked, logging in would take long.
    blocker = crowd.idle_in_transaction("catalog", "postgres", query="LOCK pg_description")
    crowd.running("reads", "postgres", query="SELECT * FROM pg_description")
    until(lambda: cluster.sql(BLOCKED), lambda rows: rows == [(4,)])
    assert locks() == {
        **by_row,
        "tuple": "ExclusiveLock on tuple",
        "table": "AccessExclusiveLock on relation",
        "reads": "AccessShareLock on relation",
    }
    blocker.execute("ROLLBACK")


@pytest.mark.usefixtures("newest_only")
def test_a_worker_waits_in_the_name_of_its_leader(major, crowd, info):
    crowd.idle_in_transaction("holder", "postgres", query="SELECT pg_advisory_xact_lock(8)")
    crowd.cluster.sql(
        "CREATE FUNCTION wait() RETURNS void LANGUAGE sql PARALLEL SAFE"
        " AS 'SELECT pg_advisory_xact_lock(8)'",
        "shop",
    )
    crowd.running("leader", query="SELECT wait()", before=["SET debug_parallel_query = on"])
    until(lambda: crowd.cluster.sql(BLOCKED), lambda rows: rows == [(1,)])
    waiting = crowd.cluster.sql("SELECT pid FROM pg_locks WHERE NOT granted")
    assert waiting != [(crowd.pids["leader"],)]
    tree = info(crowd.cluster)["blocking"]
    assert [row["pid"] for row in tree] == [crowd.pids["holder"], crowd.pids["leader"]]


@pytest.mark.usefixtures("newest_only")
def test_a_prepared_transaction_blocks_too(major, make_cluster, info):
    cluster = make_cluster(major)
    with (cluster.data / "postgresql.conf").open("a") as conf:
        conf.write("max_prepared_transactions = 3\n")
    cluster.restart()
    with new_crowd(cluster) as crowd:
        cluster.sql("BEGIN; SELECT pg_advisory_xact_lock(9); PREPARE TRANSACTION 'left'")
        cluster.sql("BEGIN; CREATE TABLE not_waited_for (); PREPARE TRANSACTION 'other'")
        crowd.running("waiter", "postgres", "postgres", query="SELECT pg_advisory_lock(9)")
        until(lambda: cluster.sql(BLOCKED), lambda rows: rows == [(1,)])
        tree = info(cluster)
    cluster.stop()
    assert [(row["pid"], row["state"]) for row in tree["blocking"]] == [
        (0, "prepared transaction"),
        (crowd.pids["waiter"], "active"),
    ]
    (holder, _waiter) = tree["blocking"]
    assert (holder["query"], holder["role"], holder["database"]) == (
        "PREPARE TRANSACTION 'left'",
        "postgres",
        "postgres",
    )
    (line,) = [line for line in tree["lines"] if line.startswith("  prepared ")]
    assert line.endswith("PREPARE TRANSACTION 'left'")


# (rights of the login, whether it sees states, why it can't end)
LOGINS = [
    ("", False, "'visitor' may not see its state; GRANT it pg_read_all_stats, or the rights of role"
     " 'app_user'"),
    ("pg_signal_backend", False, "'visitor' may not see its state; GRANT it pg_read_all_stats, or"
     " the rights of role 'app_user'"),
    ("pg_monitor", True, "'visitor' has neither the rights of role 'app_user' nor those of"
     " pg_signal_backend; GRANT it one of them"),
    ("pg_read_all_stats, pg_signal_backend", True, ""),
    ("app_user", False, ""),
]  # fmt: skip


@pytest.mark.usefixtures("at_the_ends")
@pytest.mark.usefixtures("at_the_ends")
def test_what_a_login_may(major, crowd, info, end):
    crowd.idle_in_transaction("other", "other")
    for number, (rights, sees, why) in enumerate(LOGINS):
        login = f"visitor{number}"
        crowd.cluster.sql(f"CREATE ROLE {login} LOGIN" + (f" IN ROLE {rights}" if rights else ""))
        crowd.idle_in_transaction("waits", query="SELECT 'seen'")
        check_what_it_sees(crowd, info, login, rights, sees)
        check_what_it_ends(crowd, end, login, why.replace("visitor", login))
        crowd.clients["waits"].close()
        until(crowd.there, lambda there: set(there) == {"other"})


def check_what_it_sees(crowd, info, login, rights, sees):
    seen = info(crowd.cluster, idle_transaction_age="0s", login_user=login)
    if sees:
        assert seen["not_shown"] == []
        assert crowd.names(seen["idle_transactions"]) == {"waits", "other"}
        return
    hidden = 1 if rights == "app_user" else 2
    assert seen["not_shown"] == [
        f"state and query of {hidden} sessions: {login!r} sees those of its own roles only;"
        " GRANT pg_monitor (or pg_read_all_stats) to it"
    ]
    assert sum(row["state"] == "not shown" for row in seen["sessions"]) == hidden


def check_what_it_ends(crowd, end, login, why):
    for check in (True, False):
        result = end(crowd.cluster, check=check, login_user=login)
        if not why:
            assert not result.get("failed"), result["msg"]
            assert crowd.names(result["ended"]) == {"waits"}
            continue
        assert result["failed"]
        assert result["msg"] == (
            f"1 of 1 session {'can' if check else 'could'} not be ended:"
            f" pid {crowd.pids['waits']} of 'app_user': {why}"
        )
        assert (result["ended"], result["changed"]) == ([], False)
        assert [row["reason"] for row in result["not_ended"]] == [why]
    assert set(crowd.there()) == {"waits", "other"} - (set() if why else {"waits"})


@pytest.mark.usefixtures("newest_only")
def test_one_that_does_not_go(major, crowd, end):
    crowd.idle_in_transaction("waits")
    crowd.idle_in_transaction("stuck")
    os.kill(crowd.pids["stuck"], signal.SIGSTOP)
    try:
        result = end(crowd.cluster, timeout="3s")
    finally:
        os.kill(crowd.pids["stuck"], signal.SIGCONT)
    assert result["failed"]
    assert result["changed"] is True
    assert crowd.names(result["ended"]) == {"waits"}
    assert crowd.names(result["not_ended"]) == {"stuck"}
    assert result["msg"] == (
        f"1 of 2 sessions could not be ended: pid {crowd.pids['stuck']} of 'app_user':"
        " it is still there 3s after the request to end"
    )


@pytest.mark.usefixtures("at_the_ends")
def test_it_is_still_the_one_that_was_meant(major, crowd):
    """Between looking and ending, a pid can pass to another session, and a session can go on."""
    client = crowd.idle_in_transaction("waits")
    spec = sql_connection.connection_argument_spec()
    defaults = {name: one.get("default") for name, one in spec.items()}
    connection = sql_connection.connect({**defaults, **crowd.cluster.login})
    wanted = parse_wanted(["app_user"], [], [], ["idle_in_transaction"], "0s", "terminate", "1s")

    def found():
        with read.reading(connection):
            sessions = read.read_sessions(connection)
        (one,) = [one for one in sessions if one.pid == crowd.pids["waits"]]
        return one

    try:
        session = found()
        other = type(session)(**{**vars(session), "started": "2000-01-01 00:00:00+00"})
        assert read.send(connection, other, wanted) is None
        client.execute("COMMIT")
        assert read.send(connection, session, wanted) is None
        client.execute("BEGIN")
        older = parse_wanted(["app_user"], [], [], ["idle_in_transaction"], "1h", "terminate", "1s")
        assert read.send(connection, session, older) is None
        for change in ({"roles": ("other",)}, {"databases": ("second",)}, {"applications": ("x",)}):
            changed = type(wanted)(**{**vars(wanted), **change})
            assert read.send(connection, session, changed) is None
        crowd.cluster.sql("ALTER ROLE app_user SUPERUSER")
        assert read.send(connection, session, wanted) is None
        crowd.cluster.sql("ALTER ROLE app_user NOSUPERUSER")
        client.execute("SELECT 1")
        assert read.send(connection, session, wanted) == ""
        assert read.wait_until_done(connection, [session], wanted) == (set(), {})
        assert crowd.there() == {}
        assert read.send(connection, session, wanted) is None
    finally:
        connection.close()


SECRETS = [
    "ALTER ROLE other PASSWORD 'hunter2'",
    "CREATE USER MAPPING FOR other SERVER s OPTIONS (password 'hunter2')",
    "SELECT 'hunter2' /* the token */",
    "SELECT 'postgres://app:hunter2@db/shop'",
    "SELECT 'md50123456789abcdef0123456789hunter2', 'Secret'",
]


@pytest.mark.usefixtures("newest_only")
def test_queries_keep_secrets_and_are_short(major, crowd, info, end):
    for number, query in enumerate(SECRETS):
        client = crowd.enter(str(number), "postgres")
        client.execute("BEGIN")
        with suppress(psycopg.Error):
            client.execute(query)
    crowd.idle_in_transaction("long", query="SELECT\n  '" + "x" * 500 + "'")
    age = {"idle_transaction_age": "0s"}
    result = info(crowd.cluster, **age)
    assert "hunter2" not in json.dumps(result)
    shown = {row["pid"]: row["query"] for row in result["idle_transactions"]}
    assert shown[crowd.pids["0"]] == "ALTER (not shown: it mentions 'password')"
    assert shown[crowd.pids["long"]] == "SELECT '" + "x" * 191 + "…"
    for result in (
        info(crowd.cluster, show_queries=False, **age)["idle_transactions"],
        end(crowd.cluster, show_queries=False, check=True)["ended"],
    ):
        assert {row["query"] for row in result} == {None}
    (row,) = end(crowd.cluster, query_length=8, check=True)["ended"]
    assert row["query"] == "SELECT …"


@pytest.mark.usefixtures("newest_only")
def test_names_and_encodings_of_others(major, crowd, info, end):
    cluster = crowd.cluster
    name = 'o\'Neil "x" %s'
    quoted = '"' + name.replace('"', '""') + '"'
    with cluster.connect() as connection:
        connection.execute(f"CREATE ROLE {quoted} LOGIN".encode())
        connection.execute(
            f"CREATE DATABASE {quoted} ENCODING LATIN1 TEMPLATE template0 LOCALE 'C'".encode()
        )
    client = crowd.enter("odd", name, name, name)
    client.execute("SET client_encoding = latin1")
    client.execute("BEGIN")
    client.pgconn.exec_(b"SELECT '\xe9\x1b[31m'")
    (row,) = info(cluster, idle_transaction_age="0s")["idle_transactions"]
    assert (row["role"], row["database"], row["application"]) == (name, name, name)
    assert row["query"].startswith("SELECT '")
    assert "\x1b" not in row["query"]
    done = end(cluster, roles=[name], databases=[name], applications=[name])
    assert crowd.names(done["ended"]) == {"odd"}


REFUSED = [
    ({"roles": []}, "roles: the list is empty, and only sessions of listed roles are ended;"),
    ({"roles": ["app_user", "postgres"]},
     "roles: 'postgres' is a superuser, whose sessions are never ended; leave it out"),
    ({"roles": [""]}, "roles[0]: '' is not a valid name for a role: give a non-empty string"),
    ({"older_than": "10 minits"}, "older_than: '10 minits' is not a valid duration; give a number"
     " with one of ms, s, min, h, d, such as 10min"),
    ({"older_than": "10"}, "older_than: '10' is not a valid duration"),
    ({"older_than": "-1s"}, "older_than: '-1s' is not a valid duration"),
    ({"timeout": "soon"}, "timeout: 'soon' is not a valid duration"),
    ({"states": ["idl"]}, "value of states must be one or more of: active, idle, idle_in_trans"),
    ({"states": []}, "states: the list is empty; choose from active, idle, idle_in_transaction,"
     " idle_"),
    ({"mode": "cancel"}, "mode: cancel ends running statements, and idle_in_transaction has none;"
     " take it out of states, or use mode=terminate"),
    ({"query_length": 0}, "query_length: 0 is not a valid length; give at least 1, or"
     " show_queries=false"),
    ({"login_port": 1}, "can't connect to the server: "),
]  # fmt: skip


@pytest.mark.usefixtures("newest_only")
def test_mistakes_are_refused(major, crowd, end):
    crowd.idle_in_transaction("waits")
    for options, message in REFUSED:
        for check in (True, False):
            result = end(crowd.cluster, check=check, **options)
            assert result["failed"], options
            assert result["msg"].startswith(message)
    assert set(crowd.there()) == {"waits"}


@pytest.mark.usefixtures("newest_only")
def test_names_that_are_not_there_are_told(major, crowd, end):
    crowd.idle_in_transaction("waits")
    result = end(crowd.cluster, roles=["app_usr"], databases=["shp"])
    assert result["warnings"] == [
        "roles: there is no role 'app_usr' on the server",
        "databases: there is no database 'shp' on the server",
    ]
    assert (result["ended"], result["changed"]) == ([], False)


INFO_REFUSED = [
    ({"idle_transaction_age": "1 week"}, "idle_transaction_age: '1 week' is not a valid duration;"
     " "),
    ({"query_age": ""}, "query_age: '' is not a valid duration; "),
    ({"query_length": -1}, "query_length: -1 is not a valid length; "),
    ({"server": False}, "pooler_port: with server=false there is nothing but PgBouncer to ask"),
    ({"server": False, "pooler_port": 1}, "not shown: pools of PgBouncer in /var/run/postgresql: "),
]  # fmt: skip


@pytest.mark.usefixtures("newest_only")
def test_mistakes_are_refused_by_info(major, server, run_module):
    for options, message in INFO_REFUSED:
        result = run_module("postgres_sessions_info", {**server.login, **options})
        assert result["failed"], options
        assert result["msg"].startswith(message)


def pooled(pooler, application="api"):
    return psycopg.connect(
        host="127.0.0.1", port=pooler.port, user="app_user", password=PASSWORD, dbname="mydb",
        prepare_threshold=None, application_name=application, autocommit=True,
    )  # fmt: skip


def console_options(pooler):
    return {"pooler_port": pooler.port, "pooler_os_user": pooler.cluster.os_user}


def test_through_the_pool(pooler, info, end):
    assert not pooler.configure(options={"default_pool_size": 2}).get("failed")
    cluster = pooler.cluster
    with pooled(pooler) as waits, pooled(pooler, "job") as idle, pooled(pooler, "late") as late:
        waits.execute("BEGIN")
        waits.execute("SELECT 'held'")
        idle.execute("SELECT 1")
        seen = info(cluster, idle_transaction_age="0s", **console_options(pooler))
        assert seen["not_shown"] == []
        (row,) = seen["idle_transactions"]
        assert (row["application"], row["state"]) == ("api", "idle in transaction")
        # PgBouncer has one for itself, to look up secrets.
        (pool,) = [one for one in seen["pools"] if one["user"] != "pgbouncer_auth"]
        assert (pool["console"], pool["database"], pool["user"], pool["pool_mode"]) == (
            str(pooler.home / "run"), "mydb", "app_user", "transaction",
        )  # fmt: skip
        numbers = ("cl_active", "cl_waiting", "sv_active", "maxwait")
        assert [pool[name] for name in numbers] == [3, 0, 1, 0]

        # Whose connection of the pool is idle does not notice that it is replaced.
        done = end(cluster, states=["idle"])
        assert [one["application"] for one in done["ended"]] == ["job"]
        assert idle.execute("SELECT 2").fetchone() == (2,)

        # Whose transaction is open loses its connection to PgBouncer, and others go on.
        done = end(cluster)
        assert [one["application"] for one in done["ended"]] == ["api"]
        with pytest.raises(psycopg.OperationalError):
            waits.execute("SELECT 3")
        assert waits.closed
        assert late.execute("SELECT 4").fetchone() == (4,)

        # An aborted one as well, and a statement that is cancelled leaves the client connected.
        late.execute("BEGIN")
        with pytest.raises(psycopg.errors.DivisionByZero):
            late.execute("SELECT 1 / 0")
        done = end(cluster, states=["idle_in_transaction_aborted"])
        assert [one["application"] for one in done["ended"]] == ["late"]
        with pytest.raises(psycopg.OperationalError):
            late.execute("SELECT 5")
        idle.pgconn.send_query(b"SELECT pg_sleep(600)")
        until(lambda: info(cluster, query_age="0s")["long_queries"], bool)
        done = end(cluster, states=["active"], mode="cancel")
        assert [one["application"] for one in done["ended"]] == ["job"]
        assert b"user request" in idle.pgconn.get_result().error_message
        assert idle.pgconn.get_result() is None
        assert idle.execute("SELECT 6").fetchone() == (6,)


def test_clients_that_wait_for_the_pool(pooler, info, run_module):
    assert not pooler.configure(options={"default_pool_size": 1}).get("failed")
    with pooled(pooler) as holds, pooled(pooler) as waits:
        holds.execute("BEGIN")
        holds.execute("SELECT 1")
        waits.pgconn.send_query(b"SELECT 1")
        options = {**pooler.cluster.login, **console_options(pooler), "server": False}
        result = until(
            lambda: run_module("postgres_sessions_info", options),
            lambda found: max(one["maxwait"] for one in found["pools"]) % 1 > 0.001,
        )
        waits.close()
    (pool,) = [one for one in result["pools"] if one["user"] == "app_user"]
    assert (pool["cl_waiting"], pool["sv_active"]) == (1, 1)
    assert (result["sessions"], result["blocking"], result["not_shown"]) == (None, None, [])
    assert result["lines"][0] == "2 pools of PgBouncer; clients waiting: 1"


def test_a_console_that_does_not_answer_is_told(pooler, info):
    options = {**console_options(pooler), "pooler_unix_socket": "/nowhere"}
    result = info(pooler.cluster, **options)
    assert result["pools"] is None
    (told,) = result["not_shown"]
    assert told.startswith("pools of PgBouncer in /nowhere: connection to server on socket")
    assert result["lines"][-1] == f"not shown: {told}"


class Playbook:
    """The playbook, on hosts that are reached as this machine."""

    def __init__(self, directory, groups):
        self.inventory, self.directory = directory / "inventory.json", directory
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        self.inventory.write_text(
            json.dumps(
                {
                    group: {"hosts": {name: {**local, **more} for name, more in hosts.items()}}
                    for group, hosts in groups.items()
                }
            )
        )

    def run(self, *options, code=0):
        done = subprocess.run(
            [
                Path(sys.executable).with_name("ansible-playbook"),
                *("-i", self.inventory, "pooled.postgres.sessions", *options),
            ],
            env={
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
                "ANSIBLE_HOME": str(ROOT / ".ansible" / "home"),
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
                "LC_ALL": "C.UTF-8",
                "PATH": "/usr/bin:/bin",
            },
            cwd=self.directory,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout


MODEL = [
    {"name": "shop", "roles": [
        {"name": "app_user", "kind": "user"}, {"name": "app_reader", "kind": "reader"},
        {"name": "other", "kind": "migrator"}, {"name": "gone", "state": "absent"},
    ]},
    {"name": "second"},
]  # fmt: skip
END = ("-e", "sessions_end=idle_in_transaction", "-e", "sessions_older_than=0s")


@pytest.mark.usefixtures("newest_only")
def test_playbook(major, crowd, tmp_path):
    cluster = crowd.cluster
    host = {
        "sessions_login_host": str(cluster.socket_directory),
        "sessions_login_port": cluster.port,
        "pooled_databases": MODEL,
    }
    playbook = Playbook(tmp_path, {"servers": {"db1": host}})
    group = ("-e", "pooled_postgres_group=servers")
    crowd.idle_in_transaction("waits", query="SELECT 'basket'")
    crowd.idle_in_transaction("reader", "app_reader")
    crowd.idle_in_transaction("migrator", "other")
    everybody = set(crowd.there())

    shown = playbook.run(*group, "-e", "sessions_idle_transaction_age=0s")
    assert "idle transactions of 0s and more: 3" in shown
    assert "SELECT 'basket'" in shown
    assert "changed=0" in shown
    refused = playbook.run(*group, *END[:2], code=2)
    assert "sessions_older_than: sessions_end asks to end sessions; give the age" in refused
    foreseen = playbook.run(*group, *END, "--check")
    assert "would end: 2" in foreseen
    assert "changed=1" in foreseen
    assert set(crowd.there()) == everybody

    # What was ended is shown also when something could not be.
    os.kill(crowd.pids["reader"], signal.SIGSTOP)
    try:
        more = ("-e", "sessions_timeout=3s", "-e", "sessions_show_queries=false")
        done = playbook.run(*group, *END, *more, code=2)
    finally:
        os.kill(crowd.pids["reader"], signal.SIGCONT)
    assert re.search(r"\bended: 1\n.*could not be ended: 1\n", done, re.S)
    assert "basket" not in done
    until(crowd.there, lambda there: set(there) == {"migrator"})


def test_playbook_where_only_pgbouncer_is(pooler, tmp_path):
    assert not pooler.configure().get("failed")
    assert pooler.query("SELECT 1") == 1
    playbook = Playbook(tmp_path, {"pgbouncer": {"pool1": {"pgbouncer_listen_port": pooler.port}}})
    shown = playbook.run(*END)
    assert "pools of PgBouncer; clients waiting: none" in shown
    assert "app_user" in shown
    assert "skipped=2" in shown
