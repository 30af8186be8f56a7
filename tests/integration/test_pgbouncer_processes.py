# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pgbouncer_config with several processes: they come, change, fail and go as one pooler."""

from __future__ import annotations

import os
import signal
import time

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    processes,
)
from ansible_collections.pooled.postgres.plugins.modules import pgbouncer_config

from . import faults
from .certificates import Authority
from .clusters import PATIENCE_S
from .poolers import ROLE, SERVICE

several = pytest.mark.pgbouncer(since=processes.SINCE)

FIRST, SECOND, THIRD = SERVICE, f"{SERVICE}@2", f"{SERVICE}@3"
SECONDS = f"run/{SERVICE}-2"
LATER = {"databases": [{"name": "mydb", "roles": [{**ROLE, "settings": {"lock_timeout": "1s"}}]}]}


def pids(pooler):
    return [pooler.pid_of(service) for service in (FIRST, SECOND, THIRD)]


@pytest.mark.pgbouncer(before=processes.SINCE)
def test_an_older_pgbouncer_is_left_alone(pooler):
    pooler.configure()
    before = (pooler.files(), pooler.pid)
    result = pooler.configure(processes=2)
    assert result["msg"].startswith("processes: 2 processes need PgBouncer 1.21 or newer")
    assert (pooler.files(), pooler.pid) == before


@several
def test_processes_come_change_and_go(pooler):
    pooler.configure()
    one = pooler.files()
    assert pooler.predicted_and_done(processes=2) == [
        "systemctl daemon-reload",
        "restart for so_reuseport",
        f"start ({SECOND})",
    ]
    assert pooler.query("SELECT 1") == 1
    first, second, _third = pids(pooler)
    assert pooler.predicted_and_done(processes=2, options={"query_timeout": 9}) == [
        "RELOAD",
        f"RELOAD ({SECOND})",
    ]
    assert pooler.shows("query_timeout", SECONDS) == "9"
    assert pooler.predicted_and_done(processes=2, **LATER) == [
        "RELOAD",
        f"RELOAD ({SECOND})",
        "RECONNECT",
        f"RECONNECT ({SECOND})",
    ]
    # Another one is no reason for the others to restart.
    assert pooler.predicted_and_done(processes=3, restart="never", **LATER) == [
        "systemctl daemon-reload",
        "RELOAD",
        f"RELOAD ({SECOND})",
        f"start ({THIRD})",
    ]
    assert pids(pooler)[:2] == [first, second]
    waiting = pooler.configure(processes=1, restart="never", **LATER)
    assert (waiting["changed"], waiting["restart_pending"]) == (False, ["processes"])
    assert pooler.predicted_and_done() == [
        f"stop ({SECOND})",
        f"stop ({THIRD})",
        "systemctl daemon-reload",
        "restart for so_reuseport",
    ]
    assert pids(pooler)[1:] == [0, 0]
    assert pooler.files() == one
    waiting = pooler.configure(processes=2, restart="never")
    assert (waiting["changed"], waiting["restart_pending"]) == (False, ["processes"])


@several
def test_all_show_a_renewed_certificate(pooler, tmp_path):
    authority = Authority(tmp_path / "ca")
    place = pooler.home / "etc" / "server"

    def renewed():
        authority.issue("server")
        certificate, key = authority.hand_over("server", place, pooler.cluster.user)
        return {
            "client_tls_sslmode": "allow",
            "client_tls_cert_file": certificate,
            "client_tls_key_file": key,
        }

    pooler.configure(processes=2, options=renewed())
    before = pids(pooler)
    both = ["RELOAD", f"RELOAD ({SECOND})"]
    assert pooler.predicted_and_done(processes=2, options=renewed()) == both
    assert pids(pooler) == before
    for directory in ("run", SECONDS):
        assert pooler.shows("client_tls_sslmode", directory) == "allow"


@several
def test_drift_of_one_process_is_mended_there(pooler):
    pooler.configure(processes=2)
    first = pooler.pid
    ini = pooler.ini.with_name("pgbouncer-2.ini")
    good = ini.read_text()
    ini.write_text(good + "nonsense")
    assert pooler.predicted_and_done(processes=2) == [f"RELOAD ({SECOND})"]
    with pooler.console(SECONDS) as cursor:
        ini.write_text(good.replace("default_pool_size = 25", "default_pool_size = 4"))
        cursor.execute("RELOAD")
        ini.write_text(good)
    assert pooler.predicted_and_done(processes=2) == [f"RELOAD ({SECOND})"]
    second = pooler.pid_of(SECOND)
    os.kill(second, signal.SIGKILL)
    # As systemd does; until it is gone, PgBouncer takes its pid file for that of another one.
    deadline = time.monotonic() + PATIENCE_S
    while os.path.exists(f"/proc/{second}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pooler.predicted_and_done(processes=2) == [f"start ({SECOND})"]
    assert pooler.pid == first
    pooler.systemctl(f"stop --job-mode=ignore-dependencies {FIRST}")
    second = pooler.pid_of(SECOND)
    assert pooler.predicted_and_done(processes=2) == ["start"]
    assert pooler.pid_of(SECOND) == second


@several
def test_a_process_that_does_not_come_up_takes_all_back(pooler):
    pooler.configure()
    before = pooler.files()
    in_the_way = pooler.home / "run" / f"{SERVICE}-2" / f".s.PGSQL.{pooler.port}.lock"
    blocked = pooler.home / "run" / "pgbouncer-2.log"
    blocked.mkdir()
    result = pooler.configure(processes=2)
    assert result["failed"], in_the_way
    assert result["msg"].startswith(f"PgBouncer did not take the new configuration: {SECOND}:")
    assert result["msg"].endswith("The previous files are back, and PgBouncer runs with them.")
    assert (pooler.files(), pids(pooler)[1:]) == (before, [0, 0])
    assert pooler.query("SELECT 1") == 1
    assert pooler.configure()["changed"] is False
    blocked.rmdir()
    assert pooler.configure(processes=2)["changed"]


@several
def test_files_and_units_of_others_are_not_taken(pooler):
    pooler.configure()
    theirs = pooler.ini.with_name("pgbouncer-2.ini")
    theirs.write_text("[pgbouncer]\n")
    assert pooler.configure()["changed"] is False
    result = pooler.configure(processes=2)
    assert result["msg"].startswith(f"processes: {theirs} is not this collection's;")
    theirs.unlink()
    unit = pooler.home / "units" / f"{SERVICE}@.service"
    unit.write_text("[Service]\n")
    result = pooler.configure(processes=2)
    assert result["msg"].startswith(f"processes: {unit} is not this collection's;")
    assert pooler.configure()["changed"] is False
    unit.unlink()


@several
def test_a_run_that_is_killed_at_some_steps_is_finished_by_the_next(pooler, monkeypatch):
    pooler.configure()
    step, ended = 0, None
    while not ended:
        step += 7
        wanted = {"processes": 1 + step % 2}
        with monkeypatch.context() as patch:
            patch.setattr(pgbouncer_config, "main", faults.killed_at(step, pgbouncer_config.main))
            try:
                ended = pooler.configure(**wanted)
            except pytest.fail.Exception:
                ended = None
        if not ended:
            result = pooler.configure(**wanted)
            assert not result.get("failed"), (step, result["msg"])
        again = pooler.configure(**wanted)
        left = [path.name for path in pooler.ini.parent.glob(".*")]
        left += [path.name for path in (pooler.home / "units").glob(".*")]
        assert (again["changed"], left) == (False, []), (step, again["actions"])
        assert bool(pooler.pid_of(SECOND)) == (wanted["processes"] == 2), step
        assert pooler.query("SELECT 1") == 1, step
    assert step > 40
