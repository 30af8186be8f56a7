# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which databases of a PgBouncer wait while a server restarts, and what is said about it."""

from __future__ import annotations

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import pause

SERVER = pause.Server(frozenset({"/run/postgresql"}), 5432, {"10.0.0.5", "::1"}.__contains__)
HOSTS = {"db": ["10.0.0.5"], "other": ["10.0.0.6"], "both": ["10.0.0.6", "::1"]}
NAMES = pause.Names(
    lambda path: path.replace("/var/run", "/run").rstrip("/"),
    lambda host: HOSTS.get(host, [host]),
)


def row(name: str, host: str | None, port: int = 5432, paused: int = 0, connections: int = 0):
    return {
        "name": name, "host": host, "port": port, "paused": paused,
        "current_connections": connections,
    }  # fmt: skip


LEADS_THERE = [
    ("/var/run/postgresql", 5432, True),
    ("/run/postgresql/", 5432, True),
    ("/run/postgresql", 5433, False),
    ("/tmp", 5432, False),
    ("db", 5432, True),
    ("db", 6543, False),
    ("other", 5432, False),
    ("both", 5432, True),
    ("10.0.0.5", 5432, True),
    ("10.0.0.6, 10.0.0.5", 5432, True),
    ("10.0.0.6,/var/run/postgresql", 5432, True),
    ("10.0.0.6,other", 5432, False),
    (None, 5432, False),
]


@pytest.mark.parametrize(("host", "port", "leads"), LEADS_THERE)
def test_a_database_waits_when_it_leads_to_the_server(host, port, leads):
    found = pause.databases_of([row("mydb", host, port)], SERVER, NAMES, "/run/pgbouncer")
    assert found == (["mydb"] if leads else [])


def test_without_a_host_it_is_where_pgbouncers_own_sockets_are():
    rows = [row("mydb", None), row("pgbouncer", None)]
    assert pause.databases_of(rows, SERVER, NAMES, "/var/run/postgresql") == ["mydb"]


def test_what_is_paused_already_is_left_alone():
    rows = [row("theirs", "db", paused=1), row("b", "db"), row("a", "db")]
    assert pause.databases_of(rows, SERVER, NAMES, "") == ["a", "b"]


def test_what_is_paused_and_what_is_drained():
    rows = [row("a", "db", paused=1, connections=2), row("b", "db"), row("c", "db", connections=1)]
    assert pause.paused(rows, ["a", "b"]) == ["a"]
    assert not pause.drained(rows, ["a", "b"])
    assert pause.drained(rows, ["b"])
    assert pause.drained(rows, [])


def test_who_holds_a_connection_is_counted():
    clients = [
        {"database": "b", "user": "reader", "link": "0x1"},
        {"database": "a", "user": "writer", "link": "0x2"},
        {"database": "a", "user": "writer", "link": "0x3"},
        {"database": "a", "user": "waits", "link": ""},
        {"database": "theirs", "user": "writer", "link": "0x4"},
    ]
    assert pause.holders(clients, ["a", "b"]) == ["2 of writer in a", "1 of reader in b"]


def test_words():
    assert pause.action("pause", "pgbouncer@2", ["a", "b"]) == "pause a, b of pgbouncer@2"
    assert pause.held_up("pgbouncer", ["2 of writer in a"], 10) == (
        "pgbouncer: after 10 s (pause_timeout) transactions were still open, 2 of writer in a; the"
        " restart cuts these, and all other clients wait"
    )
    assert pause.not_paused("pgbouncer", "no\n answer") == (
        "pgbouncer: its clients do not wait while the server restarts: no answer"
    )
    assert pause.not_resumed("pgbouncer", ["a", 'b"c']) == (
        "pgbouncer: its console has not taken it yet that clients go on; this is tried again for"
        ' some minutes. To do it by hand: RESUME "a"; RESUME "b""c";'
    )


@pytest.mark.parametrize("seconds", [0, 1, 600])
def test_a_time_to_wait(seconds):
    assert pause.check_timeout(seconds) == seconds


def test_a_negative_time_to_wait():
    with pytest.raises(ValueError) as refused:
        pause.check_timeout(-1, "timeout")
    assert str(refused.value) == (
        "timeout: -1 is not a valid number of seconds; give 0 to leave the pools alone, or how long"
        " to wait for open transactions"
    )


FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.0.0.0/24 2 0 2
        |-- 10.0.0.0
           /24 link UNICAST
        |-- 10.0.0.5
           /32 host LOCAL
        |-- 10.0.0.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
Local:
        |-- 10.0.0.5
           /32 host LOCAL
"""
IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000005 02 40 00 80     eth0
"""


def test_addresses_of_a_host():
    assert pause.own_addresses(FIB_TRIE, IF_INET6) == ["10.0.0.5", "fd00::5"]
    assert pause.own_addresses("", "") == []
