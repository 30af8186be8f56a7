# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must happen on a cluster, whose files are real and whose server is a table."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._server import settings_plan
from ansible_collections.pooled.postgres.plugins.module_utils._server.cluster import Cluster
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    Definition,
    catalog_of,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.plan import LiveSetting
from ansible_collections.pooled.postgres.plugins.module_utils._settings.values import (
    canonical_setting,
)

MAJOR = 17
PARAMS = {
    "new_cluster": {},
    "preload_libraries": [],
    "unwanted_libraries": [],
    "settings": {},
    "assume_libraries": [],
    "assume_files": [],
    "restart": "never",
}


@dataclass
class Module:
    """Runs C(postgres -C name), which says what it makes of values that it is given."""

    directory: Path

    def run_command(self, command: list[str], **_more: Any) -> tuple[int, str, str]:
        if "-C" not in command:
            return 0, "", ""
        name = command[command.index("-C") + 1]
        given = dict(one.split("=", 1) for one in command if "=" in one)
        own = {
            "hba_file": f"{self.directory}/pg_hba.conf",
            "ident_file": f"{self.directory}/pg_ident.conf",
        }
        definition = catalog_of(MAJOR).get(name)
        if definition is None or name in own:
            return 0, own.get(name, "") + "\n", ""
        return 0, canonical_setting(definition, given.get(name, definition.default)) + "\n", ""


@dataclass
class Server:
    """A server that answers out of tables, and remembers what it was asked to check."""

    cluster: Any
    params: dict[str, Any]
    settings: dict[str, LiveSetting]
    running: bool = True
    fresh: bool = False
    checked: list[str] = field(default_factory=list)

    def runs(self) -> bool:
        return self.running

    def live(self) -> dict[str, LiveSetting]:
        return self.settings

    def files(self) -> list[Any]:
        return []

    def is_fresh(self) -> bool:
        return self.fresh

    def check_logins(self) -> None:
        self.checked.append("logins")


@pytest.fixture(autouse=True)
def not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A cluster's configuration as Debian's package creates it."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "postgresql.conf").write_text("include_dir = 'conf.d'\n")
    (tmp_path / "start.conf").write_text("auto\n")
    for name in ("pg_hba.conf", "pg_ident.conf"):
        (tmp_path / name).write_text("# none\n")
    return tmp_path


def server(directory: Path, restart: str = "never", **more: Any) -> Server:
    cluster = Cluster(
        Module(directory),
        MAJOR,
        str(directory),
        "/usr/lib/postgresql/17/bin",
        "postgres",
        "postgresql@17-main",
        str(directory / "log"),
        str(directory / "data"),
    )
    live = {
        name: LiveSetting(definition, definition.default)
        for name, definition in catalog_of(MAJOR).items()
    }
    for name in ("hba_file", "ident_file"):
        path = str(directory / f"pg_{name.partition('_')[0]}.conf")
        definition = Definition(name, "postmaster", "string", "", "", "", (), "")
        live[name] = LiveSetting(definition, path, "override")
    return Server(cluster, {**PARAMS, "restart": restart}, live, **more)


def planned(found: Any, **wanted: str) -> settings_plan.SettingsPlan:
    def no_warning(text: str) -> None:
        raise AssertionError(text)

    return settings_plan.plan(found, wanted, False, no_warning)


def test_a_running_server_is_compared_by_what_it_says(directory: Path) -> None:
    found = server(directory)
    plan = planned(found, work_mem="8MB", max_connections="200", jit="on")
    assert plan.runs
    assert plan.live is found.settings
    assert [(change.name, change.before, change.after) for change in plan.steps.changes] == [
        ("max_connections", "100", "200"),
        ("work_mem", "4MB", "8MB"),
    ]
    assert plan.waiting == {"max_connections"}
    assert (plan.writes, plan.restart, plan.renewed) == (True, False, "")


def test_a_stopped_server_waits_for_nothing(directory: Path) -> None:
    found = server(directory, "always", running=False)
    plan = planned(found, max_connections="200")
    assert (plan.runs, plan.writes, plan.restart) == (False, True, False)
    assert plan.waiting == frozenset()
    assert found.checked == []


# The policy, whether nobody uses the server, what is wanted, whether it is restarted.
@pytest.mark.parametrize(
    ("policy", "fresh", "wanted", "restarts"),
    [
        ("never", True, {"max_connections": "200"}, False),
        ("fresh", False, {"max_connections": "200"}, False),
        ("fresh", True, {"max_connections": "200"}, True),
        ("always", False, {"max_connections": "200"}, True),
        ("always", True, {"work_mem": "8MB"}, False),
        ("always", True, {}, False),
    ],
)
def test_logins_are_checked_before_a_restart_and_only_then(
    directory: Path, policy: str, fresh: bool, wanted: dict[str, str], restarts: bool
) -> None:
    """A server that runs does not mind errors in pg_hba.conf; one that starts does."""
    found = server(directory, policy, fresh=fresh)
    assert planned(found, **wanted).restart is restarts
    assert found.checked == (["logins"] if restarts else [])


@pytest.mark.parametrize(("policy", "put_back"), [("always", ["pg_hba.conf"]), ("never", [])])
def test_what_a_killed_run_left_of_logins_is_put_back_before_a_restart(
    directory: Path, policy: str, put_back: list[str]
) -> None:
    """So that what is on disk now is not what the server will start with."""
    (directory / ".pg_hba.conf.last-good").write_text("local all all peer\n")
    found = server(directory, policy)
    plan = planned(found, max_connections="200")
    assert [os.path.basename(login.path) for login in plan.logins] == put_back
    assert found.checked == []


def test_what_waits_for_a_restart_since_before_counts_too(directory: Path) -> None:
    found = server(directory, "always")
    found.settings["wal_level"] = replace(found.settings["wal_level"], pending_restart=True)
    plan = planned(found)
    assert (plan.waiting, plan.restart) == ({"wal_level"}, True)


def test_a_server_that_nothing_starts_is_refused(directory: Path) -> None:
    (directory / "start.conf").write_text("# by hand\ndisabled\n")
    with pytest.raises(ValueError, match=r"start\.conf says disabled, so that nothing starts"):
        planned(server(directory))
    (directory / "start.conf").write_text("manual\n")
    assert planned(server(directory)).starts is False


def test_a_setting_that_the_installed_server_lacks_is_refused(directory: Path) -> None:
    found = server(directory)
    del found.settings["jit"]
    with pytest.raises(ValueError, match=r"^settings\.jit: the installed server has no such"):
        planned(found, jit="on")
