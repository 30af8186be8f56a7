# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that answers and lets nobody in is not said to be away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from .clusters import PATIENCE_S

Run = Callable[..., dict[str, Any]]
# What there is instead of a line that lets the superuser in.
LINES = {
    "no line": "host all all 127.0.0.1/32 scram-sha-256\n",
    "another's line": "local all somebody peer\n",
    "a password": "local all all scram-sha-256\n",
    "rejected": "local all all reject\n",
    "somebody else's name": "local all all peer map=nobody\n",
}


@pytest.fixture(scope="module")
def refusing(major: int, make_cluster: Callable[[int], Any]) -> Any:
    return make_cluster(major)


def wait_until_loaded(cluster: Any, lets_in: bool) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (cluster.refusal("SELECT 1") == "") != lets_in:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("line", list(LINES))
def test_a_missing_line_for_the_superuser_is_named(
    refusing: Any, run_module: Run, line: str
) -> None:
    path = refusing.data / "pg_hba.conf"
    before = path.read_text()
    with refusing.connect() as admin:
        path.write_text(LINES[line])
        admin.execute("SELECT pg_reload_conf()")
        wait_until_loaded(refusing, lets_in=False)
        try:
            args = {**refusing.login, "databases": [{"name": "mydb"}]}
            result = run_module("postgres_access", args)
        finally:
            path.write_text(before)
            admin.execute("SELECT pg_reload_conf()")
            wait_until_loaded(refusing, lets_in=True)
    who = refusing.os_user
    assert result["msg"].startswith("can't connect to the server: ")
    assert (
        f"; the server answers, but its pg_hba.conf does not let OS user {who!r} log in as"
        " 'postgres' over the unix socket: put the line 'local all postgres peer' above all others"
        " there"
    ) in result["msg"]


def test_a_server_that_is_away_is_not_said_to_refuse(run_module: Run) -> None:
    args = {"login_unix_socket": "/nowhere", "databases": [{"name": "mydb"}]}
    assert "pg_hba.conf" not in run_module("postgres_access", args)["msg"]
