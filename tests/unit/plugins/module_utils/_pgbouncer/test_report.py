# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pgbouncer_config says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host.files import ManagedFile
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    report,
    takeover,
    wanted,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.clients import Client
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.files import (
    FileKind,
    OwnedFile,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.group import (
    GroupState,
    ProcessGroup,
    group_of,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.plan import (
    PgBouncerPlan,
    ProcessPlan,
    ProcessState,
    WriteFile,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.processes import Process
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.read import FileState

from .examples import asked, desired, installed, running_as

INI = "/etc/pgbouncer/pgbouncer.ini"


def group(count=1) -> ProcessGroup:
    options = {**desired().options, "unix_socket_dir": "/run/pgbouncer"}
    members = [
        Process(number, name, path, {**options, "peer_id": str(number)})
        for number, name, path in (
            (1, "pgbouncer", INI),
            (2, "pgbouncer@2", "/etc/pgbouncer/pgbouncer-2.ini"),
        )[:count]
    ]
    return group_of(lambda _command: (0, "", ""), desired(), members, [], "pgbouncer")


def state(before, after, kind, path="/etc/x.ini"):
    old, new = (ManagedFile(path, text, "root", "postgres", 0o640) for text in (before, after))
    return FileState(OwnedFile(kind, new), old, None)


def nothing(count=1, **more):
    return PgBouncerPlan(("pgbouncer", "pgbouncer@2")[:count], (ProcessPlan(),) * count, **more)


@pytest.mark.parametrize("path", ["/etc/users", "/etc/users.ini"])
def test_secrets_are_in_no_diff_whatever_the_file_is_called(path):
    changed = state('"a" "old-secret"\n', '"a" "new-secret"\n', FileKind.AUTH_FILE, path)
    (shown,) = report.diffs([changed], nothing(), group(), GroupState((), (), False))
    assert "secret" not in str(shown).replace("; new secret", "")
    assert shown["after_header"] == path
    assert shown["after"].startswith("# root:postgres 0640\n")


def test_what_runs_otherwise_is_shown_where_the_file_does_not_say_it():
    both = group(2)
    target = replace(both.first.desired, peers={})
    running = replace(running_as(target), databases={**running_as(target).databases, "old": {}})
    states = GroupState(
        tuple(ProcessState(one.process.number, one.name, target, running) for one in both.members),
        (),
        False,
    )
    shown = report.diffs([], nothing(2), both, states)
    assert [one["before_header"] for one in shown] == [
        "running PgBouncer",
        "running PgBouncer pgbouncer@2",
    ]
    assert shown[0]["before"] == "database old = present\n"
    assert shown[0]["after"] == "database old = absent\n"
    written = nothing(2, files=(WriteFile(INI),))
    (only,) = report.diffs([], written, both, states)
    assert only["before_header"] == "running PgBouncer pgbouncer@2"


def test_what_waits_for_a_restart():
    request = asked(os_user="pgbouncer", restart="never")
    target = wanted.decide(request, installed(os_user="postgres"), 1048576)
    waiting = report.held_back(replace(target, processes=2), group(), nothing())
    assert waiting == ["processes", "os_user"]
    assert report.held_back_warning(request, waiting) == [
        "These wait for a restart of pgbouncer, which restart=never forbids: processes, os_user"
    ]
    assert report.held_back_warning(request, []) == []


@pytest.mark.parametrize(
    ("more", "user", "warns"),
    [
        ({}, "postgres", True),
        ({}, "pgbouncer", False),
        ({"os_user": "postgres"}, "postgres", False),
        ({"backend_host": "db"}, "postgres", False),
    ],
)
def test_a_superusers_os_user_is_warned_of_when_nobody_asked_for_it(more, user, warns):
    assert bool(report.superuser_warning(asked(**more), user)) is warns


def test_what_an_unmanaged_pgbouncer_loses_is_warned_of():
    found = takeover.Unmanaged(INI, databases={"old": {"host": "x"}})
    losses = ["database old", "option query_timeout 9"]
    assert report.takeover_warning(None, [], nothing()) == []
    assert report.takeover_warning(found, [], nothing()) == []
    assert report.takeover_warning(found, losses, nothing(copies=(f"{INI}.before-pooled",))) == [
        f"{INI} was not managed by this collection. It loses: database old; option query_timeout"
        f" 9. Copies: {INI}.before-pooled"
    ]
    (warning,) = report.takeover_warning(found, losses, nothing())
    assert "Copies" not in warning


def test_clients_that_could_not_log_in_again():
    access = wanted.decide(asked(client_networks=["10.0.0.0/8"]), installed(), 1048576).access
    inside = Client("mydb", "app_user", "10.0.0.1", False)
    outside = Client("mydb", "app_user", "192.0.2.1", False)
    assert report.shut_out_warning(access, [inside]) == []
    (warning,) = report.shut_out_warning(access, [inside, outside])
    assert "'app_user' in 'mydb' from 192.0.2.1 without TLS." in warning


def test_the_result():
    target = wanted.decide(asked(), installed(), 1048576)
    found = report.result(target, group(2), nothing(2, reload_units=True), [])
    assert found["changed"] is True
    assert found["actions"] == ["systemctl daemon-reload"]
    assert found["version"] == "1.24.1"
    assert [one["service"] for one in found["processes"]] == ["pgbouncer", "pgbouncer@2"]
    assert report.result(target, group(), nothing(), ["os_user"])["restart_pending"] == ["os_user"]
    assert report.result(target, group(), nothing(), [])["changed"] is False
