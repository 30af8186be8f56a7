# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host.files import Rights
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    prepare,
    wanted,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.group import (
    GroupState,
    ProcessGroup,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.plan import (
    PgBouncerPlan,
    ProcessPlan,
    ProcessState,
    WriteFile,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.running import (
    STOPPED,
    Running,
    ShownOption,
)

from .examples import NEW, asked, desired, installed

MOST = 1048576
NETWORKS = ["10.0.0.0/8"]


def running(auth_type: str) -> Running:
    return Running(True, {"auth_type": ShownOption(auth_type, "md5", True)})


def prepared(request_: Any, states: list[Running], *written: str) -> prepare.Prepared:
    target = wanted.decide(request_, installed(), MOST)
    plan = PgBouncerPlan(
        tuple(f"pgbouncer@{number}" for number, _one in enumerate(states, 1)),
        (ProcessPlan(),) * len(states),
        files=tuple(WriteFile(path) for path in written),
    )
    found = tuple(
        ProcessState(number, f"pgbouncer@{number}", desired(), one)
        for number, one in enumerate(states, 1)
    )
    return prepare.Prepared(
        wanted=target,
        user_exists=True,
        rights=Rights("pgbouncer"),
        unmanaged=None,
        losses=[],
        copies=(),
        group=ProcessGroup(()),
        state=GroupState(found, (), False),
        files=(),
        plan=plan,
        warnings=(),
    )


HBA, SCRAM = running("hba"), running("scram-sha-256")
RULES = "/etc/pgbouncer/pooled_hba.conf"


@pytest.mark.parametrize(
    ("networks", "states", "written", "changes"),
    [
        ([], [SCRAM], [], False),
        ([], [HBA], [RULES], False),  # it goes
        (NETWORKS, [HBA], [], False),
        (NETWORKS, [HBA], [RULES], True),
        (NETWORKS, [HBA], ["/etc/pgbouncer/pgbouncer.ini"], False),
        # The file is as it should be, but not every process reads it.
        (NETWORKS, [SCRAM], [], True),
        (NETWORKS, [HBA, SCRAM], [], True),
        (NETWORKS, [HBA, STOPPED], [], True),
        (NETWORKS, [HBA, HBA], [], False),
    ],
)
def test_whether_other_rules_let_clients_in(
    networks: list[str], states: list[Running], written: list[str], changes: bool
) -> None:
    found = prepared(asked(client_networks=networks), states, *written)
    assert found.rules_change is changes


def test_rules_that_somebody_else_writes() -> None:
    theirs = asked(options={"auth_type": "hba", "auth_hba_file": "/etc/pgbouncer/hba.conf"})
    assert prepared(theirs, [HBA]).own_rules == ("/etc/pgbouncer/hba.conf",)
    assert prepared(asked(client_networks=NETWORKS), [HBA]).own_rules == ()


@dataclass
class Process:
    """A process that answers with what it runs, as often as it is asked."""

    answer: Running
    asked: list[Any] = field(default_factory=list)

    @property
    def first(self) -> Any:
        return self

    @property
    def pgbouncer(self) -> Any:
        return self

    def running(self, service: Any) -> Running:
        self.asked.append(service)
        return self.answer


def first_running(process: Process, found: Any, **more: Any) -> Running:
    request = asked(**more)
    target = wanted.decide(request, found, MOST)
    group: Any = process
    return prepare._first_running(request, target, found, group)


def test_before_its_package_is_there_what_the_package_starts_is_foreseen() -> None:
    found = installed(version=None, drop_in=None)
    found = replace(found, service=replace(found.service, exists=False, active=False))
    process = Process(STOPPED)
    foreseen = first_running(process, found, assume_version="1.24.1")
    assert (foreseen.active, foreseen.os_user, foreseen.descriptors) == (True, "postgres", 1024)
    assert foreseen.config is not None
    assert foreseen.config["listen_addr"].value == "localhost"
    assert foreseen.config["max_prepared_statements"].value == "200"
    assert process.asked == []


def test_what_is_installed_is_asked() -> None:
    found = installed()
    process = Process(HBA)
    assert first_running(process, found) is HBA
    assert process.asked == [found.service]


@pytest.mark.parametrize(
    ("exists", "answer", "restart", "message"),
    [
        (False, STOPPED, "always", r"^systemd has no service 'pgbouncer'$"),
        (
            True,
            Running(True),
            "never",
            r"^The console of pgbouncer does not answer, and restart=never forbids to restart it$",
        ),
    ],
)
def test_what_nobody_can_say_is_refused(
    exists: bool, answer: Running, restart: str, message: str
) -> None:
    found = installed(version=NEW)
    found = replace(found, service=replace(found.service, exists=exists))
    with pytest.raises(ValueError, match=message):
        first_running(Process(answer), found, restart=restart)


@pytest.mark.parametrize(
    ("answer", "restart"), [(Running(True), "always"), (STOPPED, "never"), (HBA, "never")]
)
def test_what_does_not_answer_may_be_restarted(answer: Running, restart: str) -> None:
    assert first_running(Process(answer), installed(), restart=restart) is answer
