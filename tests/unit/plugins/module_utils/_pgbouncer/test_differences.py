# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where what runs is not what is desired."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.differences import (
    Desired,
    described,
    differences,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.running import Running

from .examples import desired, running_as


@pytest.mark.parametrize(
    ("given", "row", "found"),
    [
        ({}, {}, []),
        ({"pool_size": 3}, {"pool_size": 3}, []),
        ({"pool_size": 3}, {}, [("user app_user pool_size", "", "3")]),
        ({"pool_size": 16}, {"pool_size": "       16"}, []),
        ({}, {"pool_size": "       16"}, [("user app_user pool_size", "16", "")]),
        ({}, {"pool_mode": "session"}, [("user app_user pool_mode", "session", "")]),
        ({}, {"max_user_connections": 7}, [("user app_user max_user_connections", "7", "0")]),
        ({"max_user_connections": 7}, {"max_user_connections": 7}, []),
    ],
)
def test_users_that_run_otherwise(given, row, found):
    wanted = desired(user_overrides={"app_user": given})
    running = running_as(wanted)
    running = replace(running, users={"app_user": {**running.users["app_user"], **row}})
    different = differences(wanted, running)
    assert [(one.name, one.running, one.wanted) for one in different] == found
    assert all(one.reloads for one in different)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, []),  # it may be the number of the row before
        ({"pool_size": 16}, []),
        ({"pool_size": 7}, [("user app_user pool_size", "16", "7")]),
        ({"reserve_pool_size": 2}, [("user app_user reserve_pool_size", "", "2")]),
    ],
)
def test_a_number_that_show_users_carries_over_from_the_row_before(given, found):
    wanted = desired(user_overrides={"app_user": given})
    running = running_as(wanted)
    row = {**running.users["app_user"], "pool_size": "       16"}
    running = replace(running, users={"aaa": row, "app_user": row})
    different = differences(wanted, running)
    assert [(one.name, one.running, one.wanted) for one in different] == found


def test_databases_that_come_and_go():
    wanted = desired()
    running = running_as(wanted)
    other = replace(running, databases={"old": {}, "pgbouncer": {}})
    found = [(one.name, one.wanted) for one in differences(wanted, other)]
    assert found == [("database old", "absent"), ("database mydb", "present")]


@pytest.mark.parametrize(
    ("shown", "wanted", "found"),
    [
        ({}, {}, []),
        ({"2": ("/run/pgbouncer-2", 6432)}, {"2": ("/run/pgbouncer-2", "6432")}, []),
        ({}, {"2": ("/b", "6432")}, [("peer 2", "absent", "/b:6432")]),
        ({"10": ("/b", 6432), "9": ("/c", 1)}, {},
         [("peer 9", "/c:1", "absent"), ("peer 10", "/b:6432", "absent")]),
        ({"2": ("/b", 6432)}, {"2": ("/b", "6433")}, [("peer 2", "/b:6432", "/b:6433")]),
    ],
)  # fmt: skip
def test_peers_that_run_otherwise(shown, wanted, found):
    running = Running(
        True, {}, {}, {}, None,
        peers={name: {"host": host, "port": port} for name, (host, port) in shown.items()},
    )  # fmt: skip
    wanted_now = Desired(
        {"listen_port": "6432"}, {}, {}, 1024,
        peers={name: {"host": host, "port": port} for name, (host, port) in wanted.items()},
    )  # fmt: skip
    different = differences(wanted_now, running)
    assert [(one.name, one.running, one.wanted) for one in different] == found
    assert all(one.reloads for one in different)


def test_differences_in_a_sentence():
    wanted = desired(given={"query_timeout": 5})
    found = differences(wanted, running_as(desired()))
    assert described(found) == "query_timeout is '0' instead of '5'"
    assert described([*found, *found]).count(", query_timeout is '0'") == 1
