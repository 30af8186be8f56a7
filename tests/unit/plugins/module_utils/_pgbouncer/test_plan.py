# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The least that makes PgBouncer run as desired."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host.files import ManagedFile
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import report
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.differences import (
    differences,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.files import (
    FileKind,
    OwnedFile,
    no_file,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.plan import (
    PgBouncerPlan,
    ProcessPlan,
    ProcessState,
    ReconnectPools,
    RestartProcess,
    StartProcess,
    WriteFile,
    plan_pgbouncer,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.running import (
    STOPPED,
    Running,
    package_state,
)

from .examples import NEW, OLD, desired, running_as

UNIT = "/etc/systemd/system/pgbouncer.service.d/pooled.conf"
INI = "/etc/pgbouncer/pgbouncer.ini"
USERLIST = "/etc/pgbouncer/userlist.txt"
RULES = "/etc/pgbouncer/pooled_hba.conf"


def owned(kind, path, process=0):
    return OwnedFile(kind, ManagedFile(path, "x", "root", "root", 0o640), process)


FILES = {
    UNIT: owned(FileKind.UNIT, UNIT, 1),
    INI: owned(FileKind.CONFIG, INI, 1),
    USERLIST: owned(FileKind.AUTH_FILE, USERLIST),
}


def planned(states, files=(), **more):
    arguments = {
        "units_unread": False,
        "unfinished": False,
        "stale": (),
        "reconnect": False,
        "may_restart": True,
        **more,
    }
    return plan_pgbouncer(states, files, **arguments)


def steps(wanted, running, files=(), **more):
    """What a single process takes."""
    state = ProcessState(1, "pgbouncer", wanted, running)
    return planned([state], [FILES[path] for path in files], **more)


def lines(wanted, running, files=(), **more):
    return report.action_lines(steps(wanted, running, files, **more))


@pytest.mark.parametrize("version", [OLD, NEW])
def test_what_runs_as_wanted_needs_nothing(version):
    wanted = desired(version)
    assert differences(wanted, running_as(wanted, version)) == []
    assert lines(wanted, running_as(wanted, version)) == []


# (what runs, what is wanted, actions)
CHANGES = [
    ({"default_pool_size": 24}, {}, ["RELOAD"]),
    ({"server_lifetime": "3600.0"}, {}, []),
    ({"unix_socket_mode": "0777"}, {}, []),
    ({"unix_socket_mode": "0770"}, {}, ["restart for unix_socket_mode"]),
    ({"listen_port": 6433, "pool_mode": "session"}, {}, ["restart for listen_port"]),
    ({"query_timeout": 5}, {}, ["RELOAD"]),
    # It has no default of its own, which a reload could give it back.
    ({"auth_dbname": "postgres"}, {}, ["restart for auth_dbname"]),
    ({}, {"auth_dbname": "postgres"}, ["RELOAD"]),
    ({}, {"track_extra_parameters": "search_path"}, ["restart for track_extra_parameters"]),
    ({}, {"listen_addr": "10.0.0.1", "listen_port": 1}, ["restart for listen_addr, listen_port"]),
]


@pytest.mark.parametrize(("runs", "given", "actions"), CHANGES)
def test_the_least_that_works(runs, given, actions):
    assert lines(desired(given=given), running_as(desired(given=runs))) == actions


@pytest.mark.parametrize(
    ("rows", "actions"),
    [
        ({"pool_size": 3}, ["RELOAD"]),
        ({"host": "10.0.0.1"}, ["RELOAD"]),
        ({"pool_mode": "session"}, ["RELOAD"]),
        ({"max_connections": 9}, ["RELOAD"]),
        ({"force_user": "postgres"}, ["restart for database mydb user"]),
        ({"paused": 1, "disabled": 0, "current_connections": 4}, []),
    ],
)
def test_databases_that_run_otherwise(rows, actions):
    wanted = desired()
    assert lines(wanted, running_as(wanted, **rows)) == actions


@pytest.mark.parametrize(
    ("shown", "wanted", "actions"),
    [
        ("a", "a", []),
        ("a", "b", ["RELOAD"]),
        ("", "b", []),  # it could not be asked
        ("a", "", []),
    ],
)
def test_a_certificate_that_is_served_otherwise(shown, wanted, actions):
    target = replace(desired(), certificate=wanted)
    assert lines(target, replace(running_as(target), certificate=shown)) == actions


def test_a_lifetime_is_shown_without_its_fraction():
    wanted = desired(given={"server_lifetime": 90.5})
    assert lines(wanted, running_as(wanted, server_lifetime=90)) == []
    assert lines(wanted, running_as(wanted, server_lifetime=91)) == ["RELOAD"]


def test_a_files_change_is_read_again_and_a_units_change_by_systemd():
    wanted = desired()
    running = running_as(wanted)
    assert lines(wanted, running, [USERLIST]) == [f"write {USERLIST}", "RELOAD"]
    assert lines(wanted, running, [UNIT]) == [f"write {UNIT}", "systemctl daemon-reload"]
    assert lines(wanted, running, units_unread=True) == ["systemctl daemon-reload"]


def test_a_limit_takes_a_restart_only_when_it_is_too_low():
    wanted = desired()
    running = running_as(wanted)
    assert lines(wanted, replace(running, descriptors=65536)) == []
    assert lines(wanted, replace(running, descriptors=1024)) == ["restart for LimitNOFILE"]


def test_a_process_that_is_down_is_started():
    wanted = desired()
    down = STOPPED
    assert lines(wanted, down, [INI], reconnect=True) == [f"write {INI}", "start"]


def test_a_process_that_does_not_answer_is_restarted():
    wanted = desired()
    mute = Running(True, descriptors=16384)
    assert lines(wanted, mute) == ["restart for a console that does not answer"]


def test_an_unfinished_run_is_finished():
    wanted = desired()
    running = running_as(wanted)
    assert lines(wanted, running, unfinished=True) == ["RELOAD"]
    assert lines(wanted, running, unfinished=True, stale=["x"]) == ["restart for x"]


def test_reconnecting_alone_and_not_after_a_restart():
    wanted = desired()
    running = running_as(wanted)
    assert lines(wanted, running, reconnect=True) == ["RECONNECT"]
    restarted = lines(wanted, replace(running, descriptors=1), [INI], reconnect=True)
    assert restarted == [f"write {INI}", "restart for LimitNOFILE"]


def test_a_forbidden_restart_is_held_back_and_the_rest_done():
    wanted = desired(given={"listen_port": 7000, "query_timeout": 5})
    found = steps(wanted, running_as(desired()), [INI], may_restart=False)
    assert report.action_lines(found) == [f"write {INI}", "RELOAD"]
    assert found.held_back == ("listen_port",)
    applied = running_as(desired(given={"query_timeout": 5}))
    again = steps(wanted, applied, may_restart=False)
    assert report.action_lines(again) == []
    assert again.held_back == ("listen_port",)


@pytest.mark.parametrize("version", [OLD, NEW])
def test_what_the_package_starts_needs_a_restart(version):
    package = package_state(version, 1024)
    found = steps(desired(version), package, [UNIT, INI])
    assert report.action_lines(found) == [
        f"write {UNIT}",
        f"write {INI}",
        "systemctl daemon-reload",
        "restart for listen_addr, LimitNOFILE",
    ]


def in_one(*processes, **more):
    services = ("pgbouncer", "pgbouncer@2", "pgbouncer@3")[: len(processes)]
    return PgBouncerPlan(services, processes, **more)


def test_actions_name_the_process_and_come_in_their_order():
    found = in_one(
        ProcessPlan(restart=("so_reuseport",), held_back=("a",)),
        ProcessPlan(start=True, held_back=("a", "b")),
        create_user="pgbouncer",
        copies=("/copy",),
        stop=("pgbouncer@3",),
        files=(WriteFile(INI),),
        reload_units=True,
    )
    assert report.action_lines(found) == [
        "create the OS user pgbouncer",
        "write /copy",
        "stop (pgbouncer@3)",
        f"write {INI}",
        "systemctl daemon-reload",
        "restart for so_reuseport",
        "start (pgbouncer@2)",
    ]
    assert found.actions[-2:] == (
        RestartProcess(("so_reuseport",)),
        StartProcess("pgbouncer@2"),
    )
    # What waits is named once.
    assert found.held_back == ("a", "b")
    both = ProcessPlan(reload=True, reconnect=True)
    assert report.action_lines(in_one(both, both)) == [
        "RELOAD",
        "RELOAD (pgbouncer@2)",
        "RECONNECT",
        "RECONNECT (pgbouncer@2)",
    ]
    assert in_one(both, both).actions[-1] == ReconnectPools("pgbouncer@2")
    assert in_one(ProcessPlan(), ProcessPlan()).actions == ()


def test_each_process_reads_what_is_its_own_and_what_is_of_all():
    wanted = desired()
    states = [
        ProcessState(number, name, wanted, running_as(wanted))
        for number, name in ((1, "pgbouncer"), (2, "pgbouncer@2"))
    ]
    second = owned(FileKind.CONFIG, "/etc/pgbouncer/pgbouncer-2.ini", 2)
    cases = [
        (FILES[INI], [True, False]),
        (second, [False, True]),
        (FILES[USERLIST], [True, True]),
        (owned(FileKind.RULES, RULES), [True, True]),
        (OwnedFile(FileKind.RULES, no_file(RULES)), [False, False]),
        (OwnedFile(FileKind.CONFIG, no_file("/etc/pgbouncer/pgbouncer-3.ini"), 3), [False, False]),
        (owned(FileKind.ROTATION, "/etc/logrotate.d/pooled-pgbouncer.conf"), [False, False]),
        (FILES[UNIT], [False, False]),
    ]
    for file, reloads in cases:
        found = planned(states, [file])
        assert [one.reload for one in found.processes] == reloads, file.path
        assert found.reload_units == (file.kind is FileKind.UNIT), file.path
        verb = "remove" if file.removed else "write"
        assert report.action_lines(found)[0] == f"{verb} {file.path}"
        assert found.changes(file.path)
        assert not found.changes("/elsewhere")
