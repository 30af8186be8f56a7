# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions: which are meant, who waits for whom, what of them is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._host import (
    sockets as unix_sockets,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sessions import (
    read,
    report,
    sessions as sessions_module,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sessions.sessions import (
    Session,
    Wait,
)
from ansible_collections.pooled.postgres.plugins.modules import postgres_sessions

SESSION = Session(
    pid=7,
    started="2026-11-01 10:00:00+00",
    database="shop",
    role="app_user",
    application="api",
    address="",
    state="idle in transaction",
    kind="client backend",
    leader=None,
    wait="Client ClientRead",
    seconds=60.0,
    statement="2026-11-01 10:00:00+00",
    transaction_s=90.0,
    query="SELECT 1",
)
ASKED = {
    "roles": ["app_user"],
    "databases": [],
    "applications": [],
    "states": ["idle_in_transaction"],
    "older_than": "1min",
    "mode": "terminate",
    "timeout": "5s",
}

DURATIONS = [
    ("10min", 600),
    ("1.5h", 5400),
    ("250ms", 0.25),
    (" 2 d ", 172800),
    ("0s", 0),
    ("90s", 90),
]


@pytest.mark.parametrize(("text", "seconds"), DURATIONS)
def test_lengths_of_time(text, seconds):
    assert sessions_module.duration_s("older_than", text) == seconds


@pytest.mark.parametrize(
    "text", ["10 minits", "10", "", "-5s", "5 S", "1h30min", "s", "1e3s", "10min\n5", "٣s5"]
)
def test_what_is_no_length_of_time(text):
    with pytest.raises(ValueError) as error:
        sessions_module.duration_s("older_than", text)
    assert str(error.value) == (
        f"older_than: {text!r} is not a valid duration; give a number with one of ms, s, min, h, d,"
        " such as 10min"
    )


REFUSED = [
    ({"roles": []}, "roles: the list is empty, and only sessions of listed roles are ended; list"
     " the roles of the application"),
    ({"states": []}, "states: the list is empty; choose from active, idle, idle_in_transaction,"
     " idle_in_transaction_aborted"),
    ({"states": ["idle", "busy"]}, "states: 'busy' is not a valid state of a session; choose from"
     " active, idle, idle_in_transaction, idle_in_transaction_aborted"),
    ({"mode": "cancel"}, "mode: cancel ends running statements, and idle_in_transaction has none;"
     " take it out of states, or use mode=terminate"),
    ({"mode": "cancel", "states": ["active", "idle"]}, "mode: cancel ends running statements, and"
     " idle has none; take it out of states, or use mode=terminate"),
    ({"databases": ["a\nb"]}, "databases[0]: 'a\\nb' is not a valid name for a database: control"
     " characters such as line breaks are not allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "message"), REFUSED)
def test_what_is_asked_must_make_sense(asked, message):
    with pytest.raises(ValueError) as error:
        sessions_module.parse_wanted(**{**ASKED, **asked})
    assert str(error.value) == message


# (what the session is, what is asked for, whether it is meant)
MATCHES = [
    ({}, {}, True),
    ({"seconds": 59.9}, {}, False),
    ({"role": "app_admin"}, {}, False),
    ({"role": "APP_USER"}, {}, False),
    ({"kind": "walsender"}, {}, False),
    ({"kind": "parallel worker"}, {}, False),
    ({"kind": "", "seen": False, "state": ""}, {}, False),
    ({"state": "idle"}, {}, False),
    ({"state": "idle in transaction (aborted)"}, {}, True),
    ({}, {"states": ["idle_in_transaction_aborted"]}, False),
    ({"state": "active"}, {"states": ["active"]}, True),
    ({"state": "fastpath function call"}, {"states": ["active"]}, True),
    ({"state": "disabled"}, {"states": list(sessions_module.STATES)}, False),
    ({}, {"databases": ["shop"]}, True),
    ({}, {"databases": ["other"]}, False),
    ({}, {"applications": ["api", "job"]}, True),
    ({"application": ""}, {"applications": ["api"]}, False),
]


@pytest.mark.parametrize(("session", "asked", "meant"), MATCHES)
def test_which_sessions_are_meant(session, asked, meant):
    wanted = sessions_module.parse_wanted(**{**ASKED, **asked})
    assert sessions_module.matches(replace(SESSION, **session), wanted) is meant


HIDDEN = [
    ({}, False),
    ({"seen": False, "kind": "", "state": ""}, True),
    ({"seen": False, "kind": "", "state": "", "role": "other"}, False),
    ({"seen": False, "kind": "", "state": "", "database": ""}, False),  # no client has none
]


@pytest.mark.parametrize(("session", "hidden"), HIDDEN)
def test_whose_state_is_hidden(session, hidden):
    wanted = sessions_module.parse_wanted(**ASKED)
    assert sessions_module.hidden_from(replace(SESSION, **session), wanted) is hidden


QUERIES = [
    ("SELECT\n  1\t-- x", "SELECT 1 -- x"),
    ("x" * 21, "x" * 19 + "…"),
    ("x" * 20, "x" * 20),
    ("", ""),
    ("SELECT '\x1b[31m\u202e'", "SELECT '\\x1b[31m\\u2…"),
    ("alter role a password 'x'", "ALTER (not shown: it mentions 'password')"),
    ("ALTER ROLE a\nPASSWORD 'x'", "ALTER (not shown: it mentions 'password')"),
    ("/* x */ ALTER ROLE a PASSWORD 'x'", "(not shown: it mentions 'password')"),
    ("SELECT 1; SET app.Secret = 'x'", "SELECT (not shown: it mentions 'secret')"),
    ("SELECT dblink('passwd=x')", "SELECT (not shown: it mentions 'passwd')"),
    ("SELECT 'postgres://u:x@h/d'", "SELECT (not shown: it holds a password)"),
    ("SELECT 'https://h:5/d'", "SELECT 'https://h:5…"),
    ("SELECT 'SCRAM-SHA-256$4096:x'", "SELECT (not shown: it holds a password)"),
    ("SELECT 'md5" + "0" * 32 + "'", "SELECT (not shown: it holds a password)"),
]


@pytest.mark.parametrize(("query", "shown"), QUERIES)
def test_what_of_a_query_is_shown(query, shown):
    assert sessions_module.shown_query(query, 20) == shown


@given(st.text(), st.text(), st.sampled_from(["PASSWORD", "password", "PassPhrase", "credentialS"]))
def test_no_statement_with_a_password_is_shown(before, after, word):
    shown = sessions_module.shown_query(f"{before} {word} 'hunter2' {after}", 500)
    assert "hunter2" not in shown
    assert len(shown) < 500 + len(before)


@given(st.text(), st.integers(1, 50))
def test_queries_are_one_bounded_line_that_does_nothing(query, length):
    shown = sessions_module.shown_query(query, length)
    assert shown.isprintable()
    assert len(shown) <= length or "(not shown: " in shown


def test_rows_have_no_query_when_it_is_left_out():
    assert sessions_module.session_row(SESSION, 0)["query"] is None
    assert sessions_module.session_row(SESSION, 8)["query"] == "SELECT 1"
    assert sessions_module.check_query_length(False, 10) == 0
    assert sessions_module.check_query_length(True, 10) == 10
    with pytest.raises(
        ValueError,
        match=r"query_length: 0 is not a valid length; give at least 1,"
        r" or",
    ):
        sessions_module.check_query_length(True, 0)


def test_counts_are_of_clients_and_by_number():
    sessions = [
        SESSION,
        replace(SESSION, seconds=3.0, application="job"),
        replace(SESSION, seconds=2.0, application="job"),
        replace(SESSION, kind="walsender"),
        replace(SESSION, seen=False, state="", kind=""),
    ]
    assert [
        (row["application"], row["state"], row["count"], row["longest_seconds"])
        for row in sessions_module.counts(sessions)
    ] == [
        ("job", "idle in transaction", 2, 3.0),
        ("api", "idle in transaction", 1, 60.0),
        ("api", "not shown", 1, 60.0),
    ]


def tree(edges, leaders=()):
    """Pids of a tree, two spaces for each step, from who waits for whom."""
    waits = [Wait(pid, tuple(blockers), "L", float(age)) for pid, blockers, age in edges]
    nodes = sessions_module.blocking_tree(waits, dict(leaders))
    return ["  " * node.depth + str(node.pid) for node in nodes], nodes


# (who waits for whom and how long, the tree)
TREES = [
    ([], []),
    ([(2, [1], 9)], ["1", "  2"]),
    ([(3, [2], 1), (2, [1], 9)], ["1", "  2", "    3"]),
    ([(2, [1], 9), (5, [4], 1), (6, [4], 2)], ["4", "  6", "  5", "1", "  2"]),
    # A queue for a row: all wait for its first, who waits for the holder of the row.
    ([(2, [1], 9), (3, [2], 8), (4, [2, 3], 7)], ["1", "  2", "    3", "    4"]),
    # The last waits for one that is two steps from the root, and for one that is a step from it.
    (
        [(2, [1], 9), (3, [1], 8), (4, [3], 7), (5, [2, 4], 6)],
        ["1", "  2", "    5", "  3", "    4"],
    ),
    # It waits for two that wait for nobody.
    ([(3, [1, 2], 9)], ["1", "  3", "2"]),
    # A lock of a prepared transaction.
    ([(2, [0], 9), (3, [0, 2], 1)], ["0", "  2", "  3"]),
    # A deadlock that has not been resolved yet, and somebody who waits for it.
    ([(1, [2], 9), (2, [1], 8), (3, [2], 1)], ["1", "  2", "    3"]),
    # Nobody is before it any more.
    ([(2, [], 9)], []),
]


@pytest.mark.parametrize(("edges", "shown"), TREES)
def test_the_tree_of_those_that_wait(edges, shown):
    assert tree(edges)[0] == shown


def test_nodes_know_their_lock_and_all_they_wait_for():
    nodes = tree([(2, [1], 9), (3, [2, 1], 8)])[1]
    assert [(node.blocked_by, node.blocks, node.lock, node.waiting_s) for node in nodes] == [
        ((), 2, "", None),
        ((1,), 0, "L", 9.0),
        ((1, 2), 0, "L", 8.0),
    ]


def test_workers_wait_in_the_name_of_their_leaders():
    edges = [(11, [1], 5), (12, [1], 7), (10, [9], 6), (3, [12], 1)]
    shown, nodes = tree(edges, {11: 10, 12: 10})
    assert shown == ["1", "  10", "    3", "9"]
    assert (nodes[1].blocked_by, nodes[1].waiting_s) == ((1, 9), 7.0)
    assert tree([(11, [10], 5)], {11: 10})[0] == []


@given(
    st.dictionaries(
        st.integers(1, 30), st.lists(st.integers(0, 30), min_size=1, max_size=4), max_size=30
    )
)
def test_a_tree_has_everybody_once_and_below_one_it_waits_for(graph):
    waits = [Wait(pid, tuple(blockers), "L", None) for pid, blockers in graph.items()]
    nodes = sessions_module.blocking_tree(waits, {})
    waiting = {pid: set(blockers) - {pid} for pid, blockers in graph.items()}
    waiting = {pid: blockers for pid, blockers in waiting.items() if blockers}
    everybody = set(waiting).union(*waiting.values())
    assert sorted(node.pid for node in nodes) == sorted(everybody)
    path = []
    for node in nodes:
        del path[node.depth :]
        assert node.depth == len(path)
        assert not path or path[-1] in waiting[node.pid]
        assert set(node.blocked_by) == waiting.get(node.pid, set())
        path.append(node.pid)
    for place, node in enumerate(nodes):
        below = 0
        for other in nodes[place + 1 :]:
            if other.depth <= node.depth:
                break
            below += 1
        assert node.blocks == below


def test_a_long_chain_is_no_trouble():
    shown, _nodes = tree([(pid, [pid - 1], 1) for pid in range(2, 5000)])
    assert len(shown) == 4999


TIMES = [
    (None, ""),
    (0.9, "0 s"),
    (59.9, "59 s"),
    (60, "1 min"),
    (754, "12 min 34 s"),
    (3599, "59 min 59 s"),
    (3600, "1 h"),
    (7560, "2 h 6 min"),
    (90000, "1 d 1 h"),
    (-1, "0 s"),
]


@pytest.mark.parametrize(("seconds", "text"), TIMES)
def test_times_for_people(seconds, text):
    assert report.duration_text(seconds) == text


ROW = sessions_module.session_row(SESSION, 100)
INFO = {
    "sessions": [
        {"database": "shop", "role": "app_user", "application": "api", "state": "active",
         "count": 12, "longest_seconds": 3.0},
        {"database": "shop", "role": "app_user", "application": "a" * 31, "state": "idle",
         "count": 1, "longest_seconds": 7560.0},
    ],
    "connections": {"max": 100, "used": 13},
    "idle_transactions": [ROW],
    "long_queries": [],
    "blocking": [
        {**ROW, "depth": 0, "blocked_by": [], "blocks": 1, "lock": "", "waiting_seconds": None},
        {**ROW, "pid": 8, "state": "active", "depth": 1, "blocked_by": [7], "blocks": 0,
         "lock": "ShareLock on transactionid", "waiting_seconds": 9.0, "query": "q" * 90},
    ],
    "pools": [
        {"console": "/run/a", "database": "shop", "user": "app_user", "pool_mode": "transaction",
         "cl_active": 3, "cl_waiting": 1, "sv_active": 2, "sv_idle": 0, "sv_used": 0,
         "sv_tested": 0, "sv_login": 0, "maxwait": 0.25},
    ],
    "not_shown": ["something: because"],
}  # fmt: skip
INFO_LINES = f"""\
13 sessions; max_connections is 100
  database  role      application                     state   count  longest
  shop      app_user  api                             active     12  3 s
  shop      app_user  {"a" * 29}…  idle        1  2 h 6 min
idle transactions of 1min and more: 1
  pid  database  role      application  state                for    query
    7  shop      app_user  api          idle in transaction  1 min  SELECT 1
queries of 1h and more: none
blocked: 1
  pid  database  role      application  how                                       query
  7    shop      app_user  api          idle in transaction for 1 min             SELECT 1
    8  shop      app_user  api          waits 9 s for ShareLock on transactionid  {"q" * 79}…
1 pool of PgBouncer; clients waiting: 1
  database  user      mode         cl_active  cl_waiting  sv_active  sv_idle  sv_used  maxwait
  shop      app_user  transaction          3           1          2        0        0  0.2 s
not shown: something: because
"""


def test_what_was_found_as_tables():
    lines = report.info_lines(INFO, "1min", "1h")
    assert "\n".join(lines) + "\n" == INFO_LINES


def test_pools_of_several_processes_say_whose_they_are():
    two = [*INFO["pools"], {**INFO["pools"][0], "console": "/run/b"}]
    found = {**INFO, "pools": two, "sessions": None, "not_shown": []}
    lines = report.info_lines(found, "1min", "1min")
    assert [line.split()[0] for line in lines] == ["2", "console", "/run/a", "/run/b"]


def test_tables_are_short():
    lines = report.table(["n"], [[number] for number in range(25)])
    assert len(lines) == 22
    assert lines[-1] == "  and 5 more"


def test_what_was_ended_as_tables():
    result = {
        "ended": [ROW],
        "spared": [{**ROW, "pid": 8}],
        "not_ended": [{**ROW, "pid": 9, "reason": "so"}, {**ROW, "pid": 10, "reason": "so"}],
    }
    lines = report.ended_lines(result, "terminate", False)
    assert [line.split("  ")[0] or line.split()[0] for line in lines] == [
        *("ended: 1", "pid", "7"),
        *("no longer to be ended: 1", "pid", "8"),
        *("could not be ended: 2", "pid", "9", "10", "pid"),
    ]
    assert lines[-1] == "  pid 9, 10: so"
    nothing = {"ended": [], "spared": [], "not_ended": []}
    assert report.ended_lines(nothing, "cancel", True) == ["would cancel: none"]
    assert report.failure_text(result, False) == (
        "2 of 3 sessions could not be ended: pid 9 of 'app_user': so (and others)"
    )
    assert report.failure_text(result, True).startswith("2 of 3 sessions can not be ended")


def test_those_that_have_gone_on_are_spared(monkeypatch):
    ended, went_on, refused, stuck = (replace(SESSION, pid=pid) for pid in (1, 2, 3, 4))
    answers = {1: "", 2: None, 3: "no right", 4: ""}
    monkeypatch.setattr(read, "send", lambda _c, one, _w: answers[one.pid])
    monkeypatch.setattr(
        read,
        "wait_until_done",
        lambda _c, asked, _w: ({4}, {one.pid: "idle" for one in asked}),
    )
    done = postgres_sessions._end(None, [ended, went_on, refused, stuck], None)
    assert done == (
        [ended],
        [went_on],
        [(refused, "no right"), (stuck, "")],
        {1: "idle", 4: "idle"},
    )


PROC_NET_UNIX = """\
Num       RefCount Protocol Flags    Type St Inode Path
0: 00000002 00000000 00010000 0001 01 1 {run}/a/.s.PGSQL.6432
0: 00000002 00000000 00010000 0001 01 2 {run}/b c/.s.PGSQL.6432
0: 00000003 00000000 00000000 0001 03 3 {run}/d/.s.PGSQL.6432
0: 00000002 00000000 00010000 0001 01 4 {run}/e/.s.PGSQL.5432
0: 00000002 00000000 00010000 0001 01 5 {run}/gone/.s.PGSQL.6432
0: 00000002 00000000 00010000 0001 01 6 {run}/thief/.s.PGSQL.6432
0: 00000002 00000000 00000000 0002 01 7
"""


def test_all_processes_of_a_port_are_found_but_not_a_strangers(monkeypatch, tmp_path):
    for name in ("a", "b c", "d", "e"):
        (tmp_path / name).mkdir()
        for port in (5432, 6432):
            (tmp_path / name / f".s.PGSQL.{port}").touch()
    sockets = PROC_NET_UNIX.format(run=tmp_path).splitlines()[1:]
    monkeypatch.setattr(unix_sockets, "_proc_net", {"unix": sockets}.__getitem__)
    known = read.owner_of
    monkeypatch.setattr(read, "owner_of", lambda path: 4711 if "thief" in path else known(path))
    asked = {"pooler_host": "", "pooler_unix_socket": "", "pooler_os_user": "no-such-user"}
    find = read.console_directories
    assert find({**asked, "pooler_port": 6432}) == [f"{tmp_path}/a", f"{tmp_path}/b c"]
    assert find({**asked, "pooler_port": 1}) == ["/var/run/postgresql"]
    assert find({**asked, "pooler_port": 6432, "pooler_unix_socket": "/x"}) == ["/x"]
    assert find({**asked, "pooler_port": 6432, "pooler_host": "h"}) == [""]
