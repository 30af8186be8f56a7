# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of a PgBouncer, and what they run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.console import ConsoleError
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.group import (
    Member,
    ProcessGroup,
    clients_of,
    read_group,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.processes import Process
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.running import (
    STOPPED,
    Running,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.service import (
    PgBouncerError,
    Service,
)

from .examples import desired


def service(os_user="pgbouncer", active=True, reload_needed=False) -> Service:
    return Service(True, active, 7, reload_needed, 1024, 1024, os_user)


@dataclass(eq=False)
class FakePgBouncer:
    """As much of a PgBouncer as a group asks."""

    name: str
    state: Service = field(default_factory=service)
    runs: Running = STOPPED
    done: list[str] = field(default_factory=list)

    def service(self) -> Service:
        return self.state

    def running(self, _service: Service) -> Running:
        return self.runs

    def systemctl(self, *words: str) -> None:
        self.done.append(" ".join(words))

    def clients(self) -> list[str]:
        if self.name == "pgbouncer@3":
            raise ConsoleError("gone")
        return [self.name]


def group(*pgbouncers, leaving=()) -> ProcessGroup:
    target = replace(desired(), os_user="pgbouncer", certificate="new")
    return ProcessGroup(
        tuple(
            Member(Process(number, one.name, f"/{number}.ini", {}), one, target)
            for number, one in enumerate(pgbouncers, 1)
        ),
        tuple(leaving),
    )


def named(count, **more):
    names = ("pgbouncer", "pgbouncer@2", "pgbouncer@3")[:count]
    return [FakePgBouncer(name, **more) for name in names]


SHOWS = Running(True, {}, certificate="old")


def test_processes_of_other_users_are_stopped_first_and_not_asked():
    first, second, third = named(3, runs=SHOWS)
    second.state = service("postgres")
    gone, down = FakePgBouncer("pgbouncer@4"), FakePgBouncer("pgbouncer@5", service(active=False))
    found = read_group(group(first, second, third, leaving=[gone, down]), service(), SHOWS)
    assert found.stop == ("pgbouncer@4", "pgbouncer@2")
    assert [one.running.active for one in found.processes] == [True, False, True]
    assert [(one.number, one.service) for one in found.processes] == [
        (1, "pgbouncer"),
        (2, "pgbouncer@2"),
        (3, "pgbouncer@3"),
    ]


def test_an_old_certificate_of_one_is_one_of_all():
    first, second = named(2, runs=replace(SHOWS, certificate="new"))
    found = read_group(group(first, second), service(), SHOWS)
    assert [one.running.certificate for one in found.processes] == ["old", "old"]
    found = read_group(group(first, second), service(), replace(SHOWS, certificate="new"))
    assert [one.running.certificate for one in found.processes] == ["new", "new"]


@pytest.mark.parametrize("which", [0, 1])
def test_units_that_systemd_has_not_read(which):
    first, second = named(2)
    assert not read_group(group(first, second), service(), SHOWS).units_unread
    states = [service(), service()]
    states[which] = service(reload_needed=True)
    second.state = states[1]
    assert read_group(group(first, second), states[0], SHOWS).units_unread


def test_the_first_of_several_restarts_alone():
    (only,) = named(1)
    alone = group(only)
    alone.restart(alone.first)
    assert only.done == ["restart pgbouncer"]
    first, second = named(2)
    both = group(first, second)
    for member in both.members:
        both.restart(member)
    assert first.done == ["restart --job-mode=ignore-dependencies pgbouncer"]
    assert second.done == ["restart pgbouncer@2"]


def test_errors_name_the_process_where_there_are_several():
    for one, text in ((group(*named(1)), "bad"), (group(*named(2)), "pgbouncer: bad")):
        with pytest.raises(PgBouncerError) as caught, one.named(one.first):
            raise PgBouncerError("bad")
        assert str(caught.value) == text


def test_clients_of_those_that_answer():
    members = named(3, runs=SHOWS)
    everyone = group(*members)
    state = read_group(everyone, service(), SHOWS)
    assert clients_of(everyone, state) == ["pgbouncer", "pgbouncer@2"]
    mute = read_group(everyone, service(), Running(True))
    assert clients_of(everyone, mute) == ["pgbouncer@2"]
