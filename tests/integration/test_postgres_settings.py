# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of real servers: applied, refused, drifted, restarted, rolled back."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Iterator

import psycopg
import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host import conf_file
from ansible_collections.pooled.postgres.plugins.module_utils._server import running, settings_plan
from ansible_collections.pooled.postgres.plugins.module_utils._settings import definitions
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    catalog_of,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.values import (
    canonical_setting,
)
from ansible_collections.pooled.postgres.plugins.modules import postgres_settings
from tests.integration import faults
from tests.integration.certificates import Authority
from tests.integration.clusters import PATIENCE_S
from tests.integration.conftest import INSTALLED
from tests.integration.documented import documented_settings

# What the module runs instead of systemd: it restarts the test's own server, and can be told to
# kill the module before or after the server has stopped, not to wait for the new one, to start it
# late, or not to know the service. STUB_DOWN is for how many seconds the server is away.
SYSTEMCTL = r"""#!/bin/sh
server() {
    pid=$(head -n 1 "$STUB_DATA/postmaster.pid" 2> /dev/null)
    [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = postgres ]
}
if [ "$1" = is-active ]; then
    server && echo active || cat "$STUB_CALLS.state" 2> /dev/null || echo failed
    exit
fi
# There is no PgBouncer here.
[ "$1" = show ] && exit
echo "$@" >> "$STUB_CALLS"
[ "$1" = daemon-reload ] && exit
touch "$STUB_CALLS.busy"
trap 'rm -f "$STUB_CALLS.busy"' EXIT
[ "$STUB_KILL" = before ] && kill -9 $PPID && exit 1
[ "$STUB_KILL" = unknown ] && echo "Unit $2 not found." >&2 && exit 5
if server; then
    kill -INT "$pid"
    while [ -e "$STUB_DATA/postmaster.pid" ]; do sleep 0.05; done
fi
sleep "${STUB_DOWN:-0}"
[ "$STUB_KILL" = stopped ] && kill -9 $PPID && exit 1
start() {
    exec setsid $STUB_DEMOTE "$STUB_POSTGRES" -D "$STUB_DATA" < /dev/null >> "$STUB_LOG" 2>&1
}
if [ "$STUB_KILL" = late ]; then
    echo activating > "$STUB_CALLS.state"
    (
        sleep 1
        start &
        while kill -0 $! 2> /dev/null && ! server; do sleep 0.05; done
        rm "$STUB_CALLS.state"
    ) > /dev/null 2>&1 &
    exit 0
fi
start &
while kill -0 $! 2> /dev/null; do
    [ "$STUB_KILL" = none ] && server && exit 0
    said=$(sed -n 8p "$STUB_DATA/postmaster.pid" 2> /dev/null | tr -d ' ')
    server && [ "$said" = ready ] && exit 0
    sleep 0.05
done
exit 0
"""


class Managed:
    """A server whose settings the module manages, and an independent view of it."""

    def __init__(self, cluster: Any, run_module: Callable[..., dict[str, Any]], folder: Path):
        self.cluster = cluster
        self.calls = folder / "calls"
        self._run_module = run_module
        self.conf_d = cluster.data / "conf.d"
        self.drop_in = self.conf_d / "zz-pooled.conf"
        self.last_good = self.conf_d / ".zz-pooled.conf.last-good"

    def own(self, path: Path) -> Path:
        """Give a path to the server's OS user."""
        if self.cluster.user:
            os.chown(path, self.cluster.user.pw_uid, self.cluster.user.pw_gid)
        return path

    def write(self, name: str, text: str) -> Path:
        """A file beside the managed one, or that one edited by hand."""
        path = self.conf_d / name
        path.write_text(text)
        return self.own(path)

    def run(self, settings: dict[str, Any], **more: Any) -> dict[str, Any]:
        run_arguments = {key: more.pop(key) for key in ("check", "diff") if key in more}
        arguments = {
            "settings": settings,
            "version": self.cluster.major,
            "config_directory": str(self.cluster.data),
            "binary_directory": str(self.cluster.bindir),
            "log_file": str(self.cluster.log_path),
            "service": "the-service",
            "restart_timeout": 20,
            "login_os_user": self.cluster.os_user,
            **more,
        }
        return self._run_module("postgres_settings", arguments, **run_arguments)

    def predicted_run(self, settings: dict[str, Any], **more: Any) -> dict[str, Any]:
        """A run, after seeing that check mode changes nothing and says what the run then does."""
        before = self.state()
        predicted = self.run(settings, check=True, **more)
        assert self.state() == before
        done = self.run(settings, **more)
        assert not done.get("failed"), done["msg"]
        for key in ("changed", "actions", "settings", "diff", "pending_restart"):
            assert predicted[key] == done[key], key
        return done

    def show(self, name: str) -> str:
        return str(self.cluster.sql(f"SHOW {name}")[0][0])

    def started_with(self, *options: str) -> None:
        """Start the stopped server with more on its command line."""
        command = ["env", *os.environ["STUB_DEMOTE"].split(), self.cluster.bindir / "postgres"]
        with self.cluster.log_path.open("ab") as log:
            self.cluster.process = subprocess.Popen(
                [*command, "-D", self.cluster.data, *options], stdout=log, stderr=log, cwd="/"
            )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.cluster.connect().close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def killed(self, patch: pytest.MonkeyPatch, step: int, wanted: Any, **more: Any) -> Any:
        """A run that is killed at a step: None; or its result when it has ended before."""
        with patch.context() as context:
            main = faults.killed_at(step, postgres_settings.main)
            context.setattr(postgres_settings, "main", main)
            try:
                return self.run(wanted, **more)
            except pytest.fail.Exception:
                return None
            finally:
                # systemd goes on without the module that asked it.
                while self.calls.with_name("calls.busy").exists():
                    time.sleep(0.02)

    def left_over(self) -> list[str]:
        """Files that only a run that is on its way may have."""
        paths = [*self.conf_d.iterdir(), *self.cluster.data.glob(".*")]
        return [path.name for path in paths if path.name.startswith(".")]

    def pid(self) -> int:
        return int((self.cluster.data / "postmaster.pid").read_text().splitlines()[0])

    def state(self) -> Any:
        """All that a refused or predicted run must leave as it is."""
        names = sorted(path.name for path in self.conf_d.iterdir())
        files = [self.conf_d / name for name in names]
        files.append(self.cluster.data / "postgresql.auto.conf")
        return (
            [
                (path.name, path.read_bytes(), path.stat()[:6], path.stat().st_mtime_ns)
                for path in files
            ],
            self.cluster.sql("SELECT name, setting, pending_restart FROM pg_settings"),
            self.pid(),
        )

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop whatever server runs."""
        with suppress(FileNotFoundError):
            os.kill(self.pid(), how)
        while (self.cluster.data / "postmaster.pid").exists():
            time.sleep(0.05)
        if self.cluster.process:
            self.cluster.process.wait()
            self.cluster.process = None

    def renew(self) -> None:
        """Back to a server as created, with nothing of an earlier test."""
        self.stop()
        for path in self.conf_d.iterdir():
            path.unlink()
        for name in self.left_over():
            (self.cluster.data / name).unlink()
        for name in ("recovery.signal", "start.conf"):
            (self.cluster.data / name).unlink(missing_ok=True)
        (self.cluster.data / "postgresql.auto.conf").write_text("")
        self.calls.write_text("")
        self.cluster.start()
        self.cluster.clean()
        self.cluster.sql("ALTER ROLE postgres RESET ALL")


@pytest.fixture(scope="module")
def _managed(
    major: int, make_cluster: Any, run_module: Any, tmp_path_factory: Any
) -> Iterator[Managed]:
    folder = tmp_path_factory.mktemp("systemctl")
    cluster = make_cluster(major)
    managed = Managed(cluster, run_module, folder)
    managed.conf_d.mkdir(mode=0o700)
    managed.own(managed.conf_d)
    with (cluster.data / "postgresql.conf").open("a") as conf:
        conf.write("include_dir = 'conf.d'\n")
    stub = folder / "systemctl"
    stub.write_text(SYSTEMCTL)
    stub.chmod(0o755)
    yield managed
    managed.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("tls") / "ca")
    made.issue("server")
    return made


@pytest.fixture
def managed(_managed: Managed, monkeypatch: pytest.MonkeyPatch) -> Managed:
    cluster = _managed.cluster
    demote = f"runuser -u {cluster.os_user} --" if cluster.user else ""
    for name, value in {
        "PATH": f"{_managed.calls.parent}:{os.environ['PATH']}",
        "STUB_CALLS": _managed.calls,
        "STUB_DATA": cluster.data,
        "STUB_DEMOTE": demote,
        "STUB_KILL": "",
        "STUB_LOG": cluster.log_path,
        "STUB_POSTGRES": cluster.bindir / "postgres",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(running, "SETTLE_S", 0.1)
    _managed.renew()
    return _managed


def test_applies_what_a_reload_can(managed):
    result = managed.predicted_run({"work_mem": "16MB", "log_min_duration_statement": "1s"})
    assert result["actions"] == [f"write {managed.drop_in}", "reload"]
    assert result["settings"] == [
        {"name": "log_min_duration_statement", "before": "0", "after": "1s", "restart": False},
        {"name": "work_mem", "before": "4MB", "after": "16MB", "restart": False},
    ]
    assert result["pending_restart"] == []
    assert managed.show("work_mem") == "16MB"
    assert stat.S_IMODE(managed.drop_in.stat().st_mode) == 0o640
    assert managed.drop_in.stat().st_uid == (managed.cluster.data / "PG_VERSION").stat().st_uid
    assert managed.predicted_run({"work_mem": "16MB", "log_min_duration_statement": "1s"})[
        "actions"
    ] == []  # fmt: skip


def test_restarts_a_server_that_nobody_uses(managed):
    pid = managed.pid()
    result = managed.predicted_run({"shared_buffers": "24MB", "work_mem": "5MB"})
    assert result["actions"] == [
        f"write {managed.drop_in}",
        "reload",
        "restart the-service",
    ]
    assert (managed.show("shared_buffers"), managed.show("work_mem")) == ("24MB", "5MB")
    assert managed.pid() != pid
    assert result["port"] == managed.cluster.port
    assert not managed.last_good.exists()
    assert not managed.run({"shared_buffers": "24MB", "work_mem": "5MB"})["changed"]


USED = [
    ("CREATE DATABASE somebodys", None),
    ("CREATE ROLE somebody LOGIN", None),
    ("CREATE TABLE somebodys (id int)", "DROP TABLE somebodys"),
]


@pytest.mark.parametrize(("use", "undo"), USED, ids=["database", "role", "table"])
def test_leaves_a_server_in_use_running_and_names_what_waits(managed, use, undo):
    managed.cluster.sql(use)
    pid = managed.pid()
    result = managed.predicted_run({"shared_buffers": "24MB", "work_mem": "5MB"})
    assert result["actions"] == [f"write {managed.drop_in}", "reload"]
    assert result["pending_restart"] == ["shared_buffers"]
    assert any("shared_buffers" in warning for warning in result["warnings"])
    assert (managed.show("shared_buffers"), managed.show("work_mem")) == ("16MB", "5MB")
    again = managed.predicted_run({"shared_buffers": "24MB", "work_mem": "5MB"})
    assert (again["changed"], again["pending_restart"]) == (False, ["shared_buffers"])
    assert managed.pid() == pid
    allowed = managed.predicted_run({"shared_buffers": "24MB", "work_mem": "5MB"}, restart="always")
    assert allowed["actions"] == ["restart the-service"]
    assert (managed.show("shared_buffers"), allowed["pending_restart"]) == ("24MB", [])
    if undo:
        managed.cluster.sql(undo)


def test_leaves_a_server_alone_while_somebody_is_connected(managed):
    with managed.cluster.connect():
        result = managed.predicted_run({"shared_buffers": "24MB"})
    assert result["pending_restart"] == ["shared_buffers"]


def test_never_restarts_when_told_so(managed):
    result = managed.predicted_run({"shared_buffers": "24MB"}, restart="never")
    assert result["pending_restart"] == ["shared_buffers"]
    assert managed.calls.read_text() == ""


def test_going_back_takes_a_pending_restart_back(managed):
    managed.run({"shared_buffers": "24MB"}, restart="never")
    result = managed.predicted_run({"shared_buffers": "16MB"}, restart="always")
    assert (result["pending_restart"], managed.calls.read_text()) == ([], "")


EQUAL = [
    ({"maintenance_work_mem": "1GB"}, {"maintenance_work_mem": "1024MB"}),
    ({"maintenance_work_mem": "1GB"}, {"maintenance_work_mem": "1048576kB"}),
    ({"effective_cache_size": "0.1GB"}, {"effective_cache_size": 13056}),
    ({"deadlock_timeout": "30s"}, {"deadlock_timeout": 30000}),
    ({"random_page_cost": 1.1}, {"random_page_cost": "1.10"}),
    ({"log_lock_waits": True}, {"log_lock_waits": "yes"}),
    ({"datestyle": "iso, dmy"}, {"DateStyle": "ISO, DMY"}),
    ({"unix_socket_permissions": "0770"}, {"unix_socket_permissions": 504}),
    ({"search_path": ["a", "B c"]}, {"search_path": 'a, "B c"'}),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_values_are_no_change(managed, one, other):
    managed.run(one)
    before = managed.state()
    result = managed.predicted_run(other)
    assert (result["changed"], result["settings"]) == (False, [])
    assert managed.state() == before


# Values of libraries that the server has not loaded, with what it makes of them, and other
# spellings of the same.
OF_LIBRARIES = {
    "auto_explain.log_min_duration": ("5s", "5000", 5000),
    "auto_explain.log_format": ("JSON", "json", "json"),
    "auto_explain.sample_rate": (".50", "0.5", 0.5),
    "auto_explain.log_analyze": ("1", "on", True),
    "auto_explain.log_level": ("DEBUG", "debug2", "debug2"),
    "auto_explain.log_timing": ("n", "off", "NO"),
}
OF_STATEMENTS = {
    "pg_stat_statements.max": ("1e4", "10000", 10000),
    "pg_stat_statements.track": ("All", "all", "all"),
}
LISTS = {
    "plpgsql.extra_warnings": (
        ["too_many_rows", "shadowed_variables"],
        "too_many_rows, shadowed_variables",
        "too_many_rows, shadowed_variables",
    )
}


# (libraries are preloaded by, their settings are known before that, the server is used)
WAYS_TO_LOAD = [
    ("shared_preload_libraries", True, True),
    ("shared_preload_libraries", False, False),
    ("session_preload_libraries", True, False),
    ("session_preload_libraries", False, True),
]


@pytest.mark.parametrize(("place", "known", "used"), WAYS_TO_LOAD)
def test_values_of_a_library_are_those_of_the_library(managed, monkeypatch, place, known, used):
    if not known:
        monkeypatch.setattr(definitions, "_LIBRARIES", {})
    shared = place.startswith("shared")
    values = {**OF_LIBRARIES, **LISTS, **(OF_STATEMENTS if shared else {})}
    libraries = [*(["pg_stat_statements"] if shared else []), "auto_explain"]
    if used:
        managed.cluster.sql("CREATE DATABASE somebodys")
    restart = "always" if used else "fresh"
    wanted = {place: libraries, **{name: value[0] for name, value in values.items()}}
    result = managed.run(wanted, restart=restart)
    assert not result.get("failed"), result["msg"]
    assert len(managed.calls.read_text().splitlines()) == (1 if shared else 0)
    with managed.cluster.connect() as connection:
        connection.execute("DO 'BEGIN END'")
        found = dict(connection.execute("SELECT name, reset_val FROM pg_settings").fetchall())
    assert {name: found[name] for name in values} == {n: value[1] for n, value in values.items()}
    again = managed.predicted_run(wanted, restart=restart)
    assert (again["changed"], again["pending_restart"]) == (False, [])
    other = {place: libraries, **{name: value[2] for name, value in values.items()}}
    same = managed.predicted_run(other, restart=restart)
    assert same["settings"] == []
    assert not managed.predicted_run(other, restart=restart)["changed"]
    managed.stop()
    started = managed.run(wanted, restart=restart)
    assert (started["settings"], started["started"]) == ([], True)


def test_a_value_that_only_its_library_refuses_is_taken_back(managed, monkeypatch):
    monkeypatch.setattr(definitions, "_LIBRARIES", {})
    before = managed.cluster.sql("SELECT name, setting FROM pg_settings")
    wanted = {"shared_preload_libraries": "auto_explain", "auto_explain.log_min_duration": "5x"}
    result = managed.run(wanted, restart="always")
    assert result["failed"]
    assert "auto_explain.log_min_duration is -1, not 5x" in result["msg"]
    assert "runs with them" in result["msg"]
    assert not managed.drop_in.exists()
    assert managed.cluster.sql("SELECT name, setting FROM pg_settings") == before


def test_every_example_of_the_docs_works(managed, authority):
    names = ("ssl_cert_file", "ssl_key_file")
    own = managed.cluster.data / "server"
    files = dict(zip(names, authority.hand_over("server", own, managed.cluster.user)))
    sockets = str(managed.cluster.socket_directory)
    examples = documented_settings()
    assert any("auto_explain.log_min_duration" in example for example in examples.values())
    query = (
        "SELECT name, applied, error FROM pg_file_settings WHERE sourcefile LIKE '%zz-pooled.conf'"
    )
    for place, example in examples.items():
        wanted = {name: files.get(name, value) for name, value in example.items()}
        if "unix_socket_directories" in wanted:
            told = wanted["unix_socket_directories"]
            wanted["unix_socket_directories"] = told.replace("/var/run/postgresql", sockets)
        result = managed.predicted_run(wanted, restart="always")
        assert result["pending_restart"] == [], place
        given = {name.lower() for name, value in wanted.items() if value is not None}
        assert set(managed.cluster.sql(query)) == {(name, True, None) for name in given}, place
        assert not managed.run(wanted, restart="always")["changed"], place


# (settings, what the message says)
REFUSED = [
    (
        {"wrok_mem": "4MB"},
        "settings.wrok_mem: Postgres {major} has no such setting; did you mean work_mem?",
    ),
    (
        {"temp_buffers": "4gb"},
        "settings.temp_buffers: '4gb' has no valid unit; valid are B, kB, MB, GB, TB",
    ),
    (
        {"temp_buffers": "1kB"},
        "settings.temp_buffers: '1kB' is outside the range 100 (800kB) .. 1073741823",
    ),
    ({"jit": "maybe"}, "settings.jit: 'maybe' is not a valid boolean; use on or off"),
    # Of libraries that are not loaded.
    (
        {"auto_explain.log_min_duration": "5x"},
        "settings.auto_explain.log_min_duration: '5x' has no valid unit; valid are us, ms, s",
    ),
    (
        {"auto_explain.log_format": "html"},
        "settings.auto_explain.log_format: 'html' is not allowed; choose one of text, xml, json",
    ),
    (
        {"auto_explain.log_min_duratoin": "5s"},
        "auto_explain of Postgres {major} has no such setting; did you mean"
        " auto_explain.log_min_duration?",
    ),
    ({"temp_buffers": {"a": 1}}, "is not a valid value for a setting"),
    ({"data_directory": "/tmp"}, "belongs to the cluster itself"),
    # What only the server can know.
    (
        {"shared_preload_libraries": "pg_stat_statemens"},
        "library 'pg_stat_statemens' is not installed",
    ),
    ({"timezone": "Mars/Phobos"}, 'invalid value for parameter "TimeZone": "Mars/Phobos"'),
    ({"log_destination": "nowhere"}, 'invalid value for parameter "log_destination"'),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=[str(row[0]) for row in REFUSED])
def test_refused_values_change_nothing(managed, major, settings, message):
    managed.run({"work_mem": "6MB"})
    before = managed.state()
    for check in (True, False):
        result = managed.run({"work_mem": "7MB", **settings}, check=check, restart="always")
        assert result["failed"]
        assert message.format(major=major) in result["msg"]
        assert managed.state() == before


def test_a_setting_of_another_major_is_refused(managed, major):
    name, value = ("stats_temp_directory", "/tmp") if major >= 15 else ("transaction_timeout", 1)
    result = managed.run({name: value})
    assert f"settings.{name}: " in result["msg"]
    assert f"and this server is Postgres {major}; leave it out" in result["msg"]


# Settings of each type and unit that a session may set, so that the server can be asked quickly.
ORACLE_SETTINGS = (
    *("work_mem", "effective_cache_size", "lock_timeout", "log_min_duration_statement", "jit"),
    *("random_page_cost", "vacuum_cost_delay", "extra_float_digits", "synchronous_commit"),
    "bytea_output",
)
ORACLE_NUMBERS = (
    *("0", "1", "-1", "+7", "010", "0x10", "09", "1.5", ".5", "2.", "1e3", "0.1", "30.1", "1.10"),
    *("-0", "99999999999", "2147483647", "2147483648", "1e400", "nan", ""),
)
ORACLE_UNITS = (
    *("", "B", "kB", " MB", "GB ", "TB", "us", "ms", "s", "min", "h", "d", "gb", "S", "x", "k B"),
)
ORACLE_WORDS = (
    *("on", "off", "of", "o", "tr", "TRUE", "y", "No", "local", "remote_apply", "hex", "ESCAPE"),
    *("esc", "maybe", "", " on "),
)


def test_values_mean_what_they_mean_to_the_server(server):
    definitions = catalog_of(server.major)
    values = [number + unit for number in ORACLE_NUMBERS for unit in ORACLE_UNITS]
    values += ORACLE_WORDS
    different = []
    with server.connect() as connection:
        for name in ORACLE_SETTINGS:
            for value in values:
                try:
                    connection.execute("SELECT set_config(%s, %s, false)", (name, value))
                    query = "SELECT setting FROM pg_settings WHERE name = %s"
                    said = connection.execute(query, (name,)).fetchone()[0]
                except psycopg.Error:
                    said = None
                try:
                    ours = canonical_setting(definitions[name], value)
                except ValueError:
                    ours = None
                if said != ours:
                    different.append((name, value, said, ours))
    assert different == []


def test_alter_system_is_named_and_reset_for_managed_settings_only(managed):
    managed.run({"work_mem": "6MB"})
    for statement in ("work_mem = '3MB'", "temp_buffers = '9MB'"):
        managed.cluster.sql(f"ALTER SYSTEM SET {statement}")
    managed.cluster.sql("SELECT pg_reload_conf()")
    result = managed.predicted_run({"work_mem": "6MB"})
    assert result["actions"] == ["reset work_mem in postgresql.auto.conf", "reload"]
    assert result["diff"] == {"before": "work_mem = 3MB\n", "after": "work_mem = 6MB\n"}
    assert (managed.show("work_mem"), managed.show("temp_buffers")) == ("6MB", "9MB")


@pytest.mark.parametrize("loaded", [True, False])
def test_edits_by_hand_are_mended(managed, loaded):
    managed.run({"work_mem": "6MB"})
    text = managed.drop_in.read_text()
    managed.drop_in.write_text(f"{text}work_mem = 9MB\nlog_lock_waits = on\n")
    if loaded:
        managed.cluster.sql("SELECT pg_reload_conf()")
    result = managed.predicted_run({"work_mem": "6MB"})
    assert result["actions"] == [f"write {managed.drop_in}", "reload"]
    assert "work_mem = 9MB" in result["diff"]["before"]
    assert managed.drop_in.read_text() == text
    assert (managed.show("work_mem"), managed.show("log_lock_waits")) == ("6MB", "off")


def test_an_edit_by_hand_that_no_server_takes_is_mended(managed):
    managed.run({"work_mem": "6MB"})
    text = managed.drop_in.read_text()
    managed.drop_in.write_text("what is this?\n")
    managed.predicted_run({"work_mem": "6MB"})
    assert managed.drop_in.read_text() == text


def test_an_edit_by_hand_that_no_server_takes_is_nothing_to_go_back_to(managed):
    managed.run({"work_mem": "6MB", "max_connections": 30})
    managed.drop_in.write_text("what is this?\n")
    wanted = {"work_mem": "7MB", "max_connections": 30, **TOO_MUCH}
    result = managed.run(wanted, restart="always")
    assert result["msg"].endswith("the last good files are back, and the server runs with them")
    assert (managed.show("work_mem"), managed.show("max_connections")) == ("6MB", "30")
    assert managed.left_over() == []


def test_a_file_of_another_mode_is_mended_without_a_reload(managed):
    managed.run({"work_mem": "6MB"})
    managed.drop_in.chmod(0o600)
    result = managed.predicted_run({"work_mem": "6MB"})
    assert result["actions"] == [f"write {managed.drop_in}"]
    assert stat.S_IMODE(managed.drop_in.stat().st_mode) == 0o640


def test_settings_that_are_no_longer_given_go_back(managed):
    managed.write("aa.conf", "temp_buffers = 10MB\n")
    managed.run({"work_mem": "6MB", "temp_buffers": "12MB", "shared_buffers": "24MB"})
    result = managed.predicted_run({"temp_buffers": None})
    assert [(row["name"], row["after"]) for row in result["settings"]] == [
        ("shared_buffers", "16MB"),
        ("temp_buffers", "10MB"),
        ("work_mem", "4MB"),
    ]
    assert [managed.show(name) for name in ("work_mem", "temp_buffers", "shared_buffers")] == [
        "4MB",
        "10MB",
        "16MB",
    ]


PENDING = "SELECT name FROM pg_settings WHERE pending_restart"


def test_a_removed_setting_that_was_the_default_waits_for_no_restart(managed):
    managed.run({"max_wal_senders": 10})
    managed.stop()
    managed.cluster.start()
    for restart in ("never", "always"):
        result = managed.predicted_run({}, restart=restart)
        assert (result["settings"], result["pending_restart"]) == ([], [])
        assert managed.cluster.sql(PENDING) == []
    assert not result["changed"]
    # As earlier versions of the collection left it.
    managed.write("zz-pooled.conf", conf_file.render({}))
    managed.cluster.sql("SELECT pg_reload_conf()")
    while not managed.cluster.sql(PENDING):
        time.sleep(0.05)
    assert managed.predicted_run({}, restart="always")["actions"][-1] == "reload"
    assert managed.cluster.sql(PENDING) == []
    # What is kept for that does not stand in the way of others.
    managed.write("aa.conf", "max_wal_senders = 11\n")
    result = managed.predicted_run({}, restart="never")
    assert result["pending_restart"] == ["max_wal_senders"]
    assert "max_wal_senders" not in managed.drop_in.read_text()
    assert managed.calls.read_text() == ""


def test_a_value_that_the_server_works_out_waits_for_no_restart(managed, major):
    automatic = {"wal_buffers": -1}
    automatic |= {"transaction_buffers": "0"} if major >= 17 else {}
    automatic |= {"io_max_concurrency": -1} if major >= 18 else {}
    result = managed.predicted_run(automatic, restart="always")
    assert (result["settings"], result["pending_restart"]) == ([], [])
    assert (managed.cluster.sql(PENDING), managed.calls.read_text()) == ([], "")
    first = managed.show("wal_buffers")
    chosen = {**automatic, "wal_buffers": "4MB"}
    for _run in range(2):
        waits = managed.predicted_run(chosen, restart="never")
        assert waits["pending_restart"] == ["wal_buffers"]
    assert managed.predicted_run(chosen, restart="always")["pending_restart"] == []
    assert managed.show("wal_buffers") == "4MB"
    # With 16 MB of shared_buffers it works out half of one.
    for gone in ({**automatic, "shared_buffers": "16MB"}, {}):
        managed.predicted_run({**gone, "wal_buffers": "4MB"}, restart="always")
        managed.predicted_run(gone, restart="always")
        assert managed.cluster.sql(PENDING) == []
        assert managed.show("wal_buffers") == ("512kB" if gone else first)


def test_a_file_that_is_read_later_is_named(managed):
    managed.write("zzz.conf", "# mine\nwork_mem = 3MB\n")
    managed.cluster.sql("SELECT pg_reload_conf()")
    foreseen = managed.run({"work_mem": "6MB", "temp_buffers": "9MB"}, check=True)
    result = managed.predicted_run({"work_mem": "6MB", "temp_buffers": "9MB"})
    assert result["warnings"] == [f"work_mem is overridden by {managed.conf_d}/zzz.conf:2"]
    assert foreseen["warnings"] == result["warnings"]
    assert (managed.show("work_mem"), managed.show("temp_buffers")) == ("3MB", "9MB")
    assert not managed.run({"work_mem": "6MB", "temp_buffers": "9MB"})["changed"]


def test_an_option_of_the_command_line_is_named(managed):
    managed.run({"work_mem": "6MB"})
    managed.stop()
    managed.started_with("-c", "work_mem=3MB")
    for check in (True, False):
        result = managed.run({"work_mem": "6MB", "temp_buffers": "9MB"}, check=check)
        assert result["warnings"] == ["work_mem is overridden by the server's command line"]
    assert (managed.show("work_mem"), managed.show("temp_buffers")) == ("3MB", "9MB")
    again = managed.run({"work_mem": "6MB", "temp_buffers": "9MB"})
    assert (again["changed"], len(again["warnings"])) == (False, 1)


def test_values_of_a_role_do_not_confuse(managed):
    managed.cluster.sql("ALTER ROLE postgres SET work_mem = '3MB'")
    managed.predicted_run({"work_mem": "6MB"})
    assert not managed.run({"work_mem": "6MB"})["changed"]
    managed.cluster.sql("ALTER ROLE postgres RESET work_mem")
    assert managed.show("work_mem") == "6MB"


def test_somebodys_broken_file_is_named_and_nothing_changes(managed):
    managed.write("aa.conf", "work_mem = 4MB\nthis is no setting\n")
    before = managed.state()
    result = managed.run({"work_mem": "6MB"})
    assert f'syntax error in file "{managed.conf_d}/aa.conf" line 2' in result["msg"]
    assert managed.state() == before


def unreadable(managed: Managed, path: Path) -> None:
    """What a slip by hand makes of a file's owner and mode."""
    path.chmod(0)
    if managed.cluster.user:
        os.chown(path, 0, 0)


def test_somebodys_unreadable_file_is_named_also_when_nothing_changes(managed):
    managed.run({"work_mem": "6MB"})
    unreadable(managed, managed.write("aa.conf", "temp_buffers = 9MB\n"))
    before = managed.state()
    for wanted, check in (("7MB", True), ("7MB", False), ("6MB", True), ("6MB", False)):
        result = managed.run({"work_mem": wanted}, check=check, restart="always")
        assert f'could not open configuration file "{managed.conf_d}/aa.conf"' in result["msg"]
        assert "Permission denied" in result["msg"]
        assert managed.state() == before


def test_a_managed_file_that_the_server_can_not_read_is_mended(managed):
    managed.run({"work_mem": "6MB"})
    owner = managed.drop_in.stat()[:6]
    if not managed.cluster.user:
        pytest.skip("only root can still read such a file itself")
    unreadable(managed, managed.drop_in)
    result = managed.predicted_run({"work_mem": "6MB"})
    # What nobody but root can read is not read, so that the server is asked to take the new one.
    assert result["actions"] == [f"write {managed.drop_in}", "reload"]
    assert managed.run({"work_mem": "6MB"})["changed"] is False
    status = managed.drop_in.stat()
    assert (status.st_mode, status.st_uid, status.st_gid) == (owner[0], owner[4], owner[5])


def test_a_directory_that_the_server_can_not_enter_is_refused(managed):
    if not managed.cluster.user:
        pytest.skip("only root can still read such a directory itself")
    managed.run({"work_mem": "6MB"})
    before = managed.state()
    mode = managed.conf_d.stat()
    os.chown(managed.conf_d, 0, 0)
    try:
        result = managed.run({"work_mem": "7MB"})
        assert (
            f"{managed.conf_d} can't be read or changed as {managed.cluster.user.pw_name}: "
            in result["msg"]
        )
        assert managed.state() == before
    finally:
        os.chown(managed.conf_d, mode.st_uid, mode.st_gid)


def test_a_configuration_without_the_directory_is_refused(managed):
    conf = managed.cluster.data / "postgresql.conf"
    text = conf.read_text()
    conf.write_text(text.replace("include_dir = 'conf.d'", ""))
    try:
        result = managed.run({"work_mem": "6MB"})
    finally:
        conf.write_text(text)
    assert "does not include" in result["msg"]
    assert "include_dir = 'conf.d'" in result["msg"]
    assert not managed.drop_in.exists()


def test_a_configuration_that_the_server_can_not_read_is_refused(managed):
    conf = managed.cluster.data / "postgresql.conf"
    if os.geteuid() != 0:
        pytest.skip("only root can still read such a file itself")
    owner = conf.stat()
    os.chown(conf, 0, 0)
    try:
        result = managed.run({"work_mem": "6MB"})
    finally:
        os.chown(conf, owner.st_uid, owner.st_gid)
    assert f"{conf} can't be read or changed as {managed.cluster.user.pw_name}: " in result["msg"]
    assert not managed.drop_in.exists()


# Each is accepted by the binary when it is asked, and refused when it starts.
TOO_MUCH = {"shared_buffers": "4096GB"}


def test_a_server_that_does_not_come_back_gets_its_last_good_files_back(managed):
    managed.run({"work_mem": "6MB"})
    managed.cluster.sql("ALTER SYSTEM SET shared_buffers = '17MB'")
    text, auto = managed.drop_in.read_text(), managed.cluster.data / "postgresql.auto.conf"
    auto_text = auto.read_text()
    result = managed.run({"work_mem": "7MB", **TOO_MUCH}, restart="always")
    assert result["failed"]
    assert "FATAL:" in result["msg"]
    assert "shared memory" in result["msg"]
    assert "the last good files are back, and the server runs with them" in result["msg"]
    assert (managed.drop_in.read_text(), auto.read_text()) == (text, auto_text)
    assert (managed.show("work_mem"), managed.show("shared_buffers")) == ("6MB", "17MB")
    assert not managed.last_good.exists()


@pytest.mark.parametrize("moment", ["before", "stopped"])
def test_a_killed_run_is_finished_by_the_next(managed, monkeypatch, moment):
    managed.run({"work_mem": "6MB"})
    monkeypatch.setenv("STUB_KILL", moment)
    with pytest.raises(pytest.fail.Exception):
        managed.run({"work_mem": "7MB", "shared_buffers": "24MB"})
    monkeypatch.setenv("STUB_KILL", "")
    result = managed.run({"work_mem": "7MB", "shared_buffers": "24MB"})
    verb = {"before": "restart", "stopped": "start"}[moment]
    assert result["actions"] == [f"{verb} the-service"]
    assert (managed.show("work_mem"), managed.show("shared_buffers")) == ("7MB", "24MB")
    assert [path.name for path in managed.conf_d.iterdir()] == ["zz-pooled.conf"]
    assert not managed.run({"work_mem": "7MB", "shared_buffers": "24MB"})["changed"]


def test_a_killed_run_with_bad_settings_is_taken_back_by_the_next(managed, monkeypatch):
    managed.run({"work_mem": "6MB"})
    monkeypatch.setenv("STUB_KILL", "stopped")
    with pytest.raises(pytest.fail.Exception):
        managed.run({"work_mem": "7MB", **TOO_MUCH})
    monkeypatch.setenv("STUB_KILL", "")
    result = managed.run({"work_mem": "7MB", **TOO_MUCH})
    assert "the last good files are back, and the server runs with them" in result["msg"]
    assert managed.show("work_mem") == "6MB"


def test_a_file_that_did_not_change_stays_when_a_stopped_server_does_not_start(managed):
    managed.run({"work_mem": "6MB"})
    text = managed.drop_in.read_text()
    managed.stop()
    broken = managed.write("aa.conf", "shared_buffers = 4096GB\n")
    calls = managed.calls.read_text()
    result = managed.run({"work_mem": "6MB"})
    assert "shared memory" in result["msg"]
    assert result["msg"].endswith("; no file was changed, and the server does not run")
    assert managed.drop_in.read_text() == text
    assert managed.calls.read_text() == f"{calls}restart the-service\n"
    broken.unlink()
    managed.run({"work_mem": "6MB"})
    assert managed.show("work_mem") == "6MB"


def test_a_file_that_did_not_change_stays_when_a_pending_restart_fails(managed):
    managed.run({"work_mem": "6MB"})
    text = managed.drop_in.read_text()
    managed.write("aa.conf", "shared_buffers = 4096GB\n")
    managed.cluster.sql("SELECT pg_reload_conf()")
    result = managed.run({"work_mem": "6MB"}, restart="always")
    assert result["msg"].endswith("; no file was changed, and the server does not run")
    assert managed.drop_in.read_text() == text


def test_a_file_that_did_not_change_stays_when_a_reset_is_refused(managed):
    managed.run({"work_mem": "6MB"})
    managed.cluster.sql("ALTER SYSTEM SET work_mem = '3MB'")
    managed.cluster.sql("SELECT pg_reload_conf()")
    managed.cluster.sql("CREATE ROLE weak LOGIN; GRANT pg_read_all_settings TO weak;"
                        "GRANT EXECUTE ON FUNCTION pg_show_all_file_settings() TO weak;"
                        "GRANT SELECT ON pg_file_settings TO weak")  # fmt: skip
    before = managed.state()
    result = managed.run({"work_mem": "6MB"}, login_user="weak", restart="always")
    words = "permission denied" if managed.cluster.major >= 15 else "must be superuser"
    assert words in result["msg"]
    assert result["msg"].endswith("; no file was changed, and the server runs")
    assert managed.state() == before
    managed.cluster.sql("REVOKE ALL ON FUNCTION pg_show_all_file_settings() FROM weak")


def test_a_server_that_starts_slowly_is_not_restarted_again(managed, monkeypatch):
    managed.run({"work_mem": "6MB"})
    # Recovery asks for each file of the archive, and so takes its time.
    managed.write("aa.conf", "restore_command = 'sleep 2; false'\n")
    managed.write("../recovery.signal", "")
    calls = managed.calls.read_text()
    monkeypatch.setenv("STUB_KILL", "none")
    wanted = {"work_mem": "7MB", "shared_buffers": "24MB"}
    result = managed.run(wanted, restart="always", restart_timeout=1)
    assert "it still starts after 1 s: " in result["msg"]
    assert result["msg"].endswith("; the files stay as they are now; run again when it answers")
    assert managed.calls.read_text() == f"{calls}restart the-service\n"
    assert "7MB" in managed.drop_in.read_text()
    assert "6MB" in managed.last_good.read_text()
    pid_file = managed.cluster.data / "postmaster.pid"
    deadline = time.monotonic() + PATIENCE_S
    while pid_file.read_text().splitlines()[-1].strip() != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not managed.run(wanted, restart="always")["changed"]
    assert not managed.last_good.exists()


@pytest.mark.parametrize("name", ["sleep", "postgres"])
def test_a_pid_that_another_process_has_is_no_server(managed, tmp_path, name):
    if os.geteuid() != 0:
        pytest.skip("a server starts over its pid only when that is another user's process")
    managed.run({"work_mem": "6MB"})
    pid_file = managed.cluster.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines(keepends=True)
    managed.stop()
    program = shutil.copy("/bin/sleep", tmp_path / name)
    other = subprocess.Popen([program, "600"], cwd=tmp_path)
    try:
        pid_file.write_text("".join([f"{other.pid}\n", *lines[1:]]))
        managed.own(pid_file)
        result = managed.run({"work_mem": "6MB"}, check=True)
        assert result.get("actions") == ["start the-service"], result
        if name == "sleep":
            managed.run({"work_mem": "6MB"})
            assert managed.show("work_mem") == "6MB"
        assert other.poll() is None
    finally:
        if managed.pid() == other.pid:
            pid_file.unlink()
        other.kill()
        other.wait()


def test_a_stopped_server_is_started_with_the_wanted_settings(managed):
    managed.run({"work_mem": "6MB"})
    managed.cluster.sql("ALTER SYSTEM SET work_mem = '3MB'")
    managed.stop()
    predicted = managed.run({"work_mem": "6MB", "shared_buffers": "24MB"}, check=True)
    result = managed.run({"work_mem": "6MB", "shared_buffers": "24MB"}, restart="never")
    assert result["actions"] == predicted["actions"] == [
        f"write {managed.drop_in}",
        "reset work_mem in postgresql.auto.conf",
        "start the-service",
    ]  # fmt: skip
    assert result["diff"] == predicted["diff"]
    assert (managed.show("work_mem"), managed.show("shared_buffers")) == ("6MB", "24MB")
    assert not managed.run({"work_mem": "6MB", "shared_buffers": "24MB"})["changed"]


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_server_that_nothing_starts_at_boot_is_started_then_too(managed, stopped):
    start = managed.cluster.data / "start.conf"
    start.write_text("# Somebody's words\nmanual # by hand\n")
    managed.own(start)
    if stopped:
        managed.stop()
        predicted = managed.run({"work_mem": "6MB"}, check=True)
        assert (start.read_text(), managed.calls.read_text()) == (
            "# Somebody's words\nmanual # by hand\n",
            "",
        )
        result = managed.run({"work_mem": "6MB"})
        assert predicted["actions"] == result["actions"]
    else:
        managed.run({"work_mem": "6MB"})
        start.write_text("# Somebody's words\nmanual # by hand\n")
        result = managed.predicted_run({"work_mem": "6MB"})
    assert result["actions"][0] == f"write auto into {start}"
    assert result["diff"]["after"].endswith(f"{start}: auto\n")
    assert start.read_text() == "# Somebody's words\nauto\n"
    assert "daemon-reload" in managed.calls.read_text()
    assert managed.show("work_mem") == "6MB"
    assert not managed.predicted_run({"work_mem": "6MB"})["changed"]


def test_a_server_that_is_disabled_is_refused(managed):
    start = managed.cluster.data / "start.conf"
    start.write_text("disabled\n")
    managed.own(start)
    before = managed.state()
    for check in (True, False):
        result = managed.run({"work_mem": "6MB"}, check=check)
        assert result["failed"]
        assert f"{start} says disabled" in result["msg"]
    assert (managed.state(), start.read_text()) == (before, "disabled\n")


def test_a_new_cluster_that_is_not_as_asked_is_refused(managed, major):
    asked = {"data_checksums": True, "locale": "C"}
    has = managed.show("data_checksums") == "on"
    before = managed.state()
    result = managed.run({"work_mem": "6MB"}, new_cluster=asked)
    assert bool(result.get("failed")) is not has
    if not has:
        assert "its data pages have no checksums" in result["msg"]
        assert managed.state() == before
    result = managed.run({"work_mem": "6MB"}, new_cluster={"locale": "de_DE.UTF-8"})
    assert "its locale is C, not de_DE.UTF-8" in result["msg"]
    assert not managed.run({"work_mem": "6MB"}, new_cluster={"locale": "C"}).get("failed")


def test_a_cluster_that_does_not_exist_is_foreseen_only_in_check_mode(managed, tmp_path):
    missing = {"config_directory": str(tmp_path / "none"), "assume_new": True}
    predicted = managed.run({"work_mem": "6MB", "shared_buffers": "1GB"}, check=True, **missing)
    assert predicted["actions"] == [
        f"write {tmp_path}/none/conf.d/zz-pooled.conf",
        "reload",
        "restart the-service",
    ]
    assert "there is no cluster" in managed.run({}, **missing)["msg"]
    missing["assume_new"] = False
    assert "there is no cluster" in managed.run({}, check=True, **missing)["msg"]


def test_a_server_that_ends_soon_after_its_start_is_no_server(managed, monkeypatch):
    managed.run({"work_mem": "6MB"})
    text = managed.drop_in.read_text()
    stays = running.RunningServer._stays

    def ends(server: Any, pid: int) -> bool:
        if "24MB" in managed.drop_in.read_text():
            os.kill(pid, signal.SIGQUIT)
        return stays(server, pid)

    monkeypatch.setattr(running.RunningServer, "_stays", ends)
    result = managed.run({"work_mem": "7MB", "shared_buffers": "24MB"}, restart="always")
    assert "it answered, and ended at once" in result["msg"]
    assert result["msg"].endswith("the last good files are back, and the server runs with them")
    assert managed.drop_in.read_text() == text
    assert (managed.show("work_mem"), managed.show("shared_buffers")) == ("6MB", "16MB")
    assert managed.left_over() == []


def test_a_service_that_comes_up_late_is_waited_for(managed, monkeypatch):
    monkeypatch.setenv("STUB_KILL", "late")
    result = managed.run({"shared_buffers": "24MB"}, restart="always")
    assert not result.get("failed"), result
    assert managed.show("shared_buffers") == "24MB"
    assert managed.calls.read_text() == "restart the-service\n"


def test_a_service_that_is_not_this_servers_changes_nothing(managed, monkeypatch):
    managed.run({"work_mem": "6MB"})
    text, pid = managed.drop_in.read_text(), managed.pid()
    monkeypatch.setenv("STUB_KILL", "unknown")
    result = managed.run({"work_mem": "7MB", "shared_buffers": "24MB"}, restart="always")
    assert (
        f"does not restart it, process {pid} goes on: Unit the-service not found."
        in (result["msg"])
    )
    assert (managed.drop_in.read_text(), managed.pid()) == (text, pid)
    assert (managed.show("work_mem"), managed.left_over()) == ("6MB", [])


def test_what_waits_is_said_in_a_sentence_that_helps(managed):
    managed.run({"max_connections": 30})
    managed.cluster.sql("CREATE ROLE somebody LOGIN")
    managed.write("aa.conf", "max_locks_per_transaction = 70\n")
    managed.cluster.sql("SELECT pg_reload_conf()")
    wanted = {"max_connections": 25, "shared_buffers": "24MB"}
    foreseen = managed.run(wanted, check=True)
    for result in (foreseen, managed.run(wanted), managed.run(wanted)):
        assert result["warnings"] == [
            "the-service runs on with older values until it is restarted:"
            " max_connections is 30, wanted is 25;"
            f" max_locks_per_transaction is 64, but {managed.conf_d}/aa.conf:1 says 70;"
            " shared_buffers is 16MB, wanted is 24MB."
            " It was not restarted, because restart=fresh restarts only a server that nobody uses"
            " yet. To apply them when its connections may be cut: run again with restart=always"
            " (postgres_restart=always for the role), or systemctl restart the-service"
        ]


def test_a_restart_that_fails_long_after_the_change_is_taken_back(managed):
    managed.run({"work_mem": "6MB", "max_connections": 30})
    managed.run({"work_mem": "6MB", "max_connections": 30, **TOO_MUCH}, restart="never")
    later = {"work_mem": "7MB", "max_connections": 35, **TOO_MUCH}
    managed.run(later, restart="never")
    assert managed.run(later, restart="never")["changed"] is False
    result = managed.run(later, restart="always")
    assert result["msg"].endswith("the last good files are back, and the server runs with them")
    values = [managed.show(name) for name in ("work_mem", "max_connections", "shared_buffers")]
    assert values == ["7MB", "30", "16MB"]
    assert managed.left_over() == []
    managed.run({"work_mem": "6MB", "max_connections": 30})
    assert [path.name for path in managed.conf_d.iterdir()] == ["zz-pooled.conf"]


def test_a_reload_that_the_server_does_not_take_is_taken_back(managed, monkeypatch):
    managed.run({"work_mem": "6MB"})
    text = managed.drop_in.read_text()
    run = running.RunningServer.run

    def spoilt(server: Any, statements: Any) -> None:
        if statements == ["SELECT pg_reload_conf()"] and "7MB" in managed.drop_in.read_text():
            unreadable(managed, managed.drop_in)
        run(server, statements)

    monkeypatch.setattr(running.RunningServer, "run", spoilt)
    monkeypatch.setattr(running, "RELOAD_TIMEOUT_S", 1)
    result = managed.run({"work_mem": "7MB"})
    assert "did not take the files: " in result["msg"]
    assert "Permission denied" in result["msg"]
    assert result["msg"].endswith("; the files are as they were")
    assert (managed.drop_in.read_text(), managed.show("work_mem")) == (text, "6MB")
    assert managed.left_over() == []


def test_a_file_for_tls_that_the_server_does_not_take_is_taken_back(managed, authority):
    certificate, key = authority.hand_over(
        "server", managed.cluster.data / "server", managed.cluster.user
    )
    garbage = managed.cluster.data / "ca.crt"
    garbage.write_text("no certificate")
    garbage.chmod(0o644)
    text = managed.run({"work_mem": "6MB"}) and managed.drop_in.read_text()
    files = {"ssl_cert_file": certificate, "ssl_key_file": key, "ssl_ca_file": str(garbage)}
    result = managed.run({"ssl": True, **files})
    assert "could not load root certificate file" in result["msg"]
    assert result["msg"].endswith("; the files are as they were")
    assert (managed.drop_in.read_text(), managed.show("ssl")) == (text, "off")


# (what is done to the certificate's files, what the module says)
BROKEN_TLS = [
    (lambda key, *_: key.unlink(),
     "settings.ssl_key_file: KEY does not exist for USER, as whom the server runs; put it there"
     " first, with the right to read it and to enter its directory"),
    (lambda key, *_: key.chmod(0o644),
     "settings.ssl_key_file: the server refuses KEY of USER with mode 0644; the key must belong to"
     " USER with mode 0600, or to root with mode 0640 and a group of USER"),
    (lambda _key, crt, other: crt.write_text(other.read_text()),
     "settings.ssl_cert_file: CRT does not belong to the key KEY"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), BROKEN_TLS)
def test_files_for_tls_are_checked_before_anything_changes(managed, authority, spoil, message):
    user = managed.cluster.user
    certificate, key = authority.hand_over("server", managed.cluster.data / "server", user)
    authority.issue("other")
    spoil(Path(key), Path(certificate), authority.directory / "other.crt")
    managed.run({"work_mem": "6MB"})
    before = managed.state()
    wanted = {"ssl": "yes", "ssl_cert_file": certificate, "ssl_key_file": "server.key"}
    for check in (True, False):
        result = managed.run(wanted, check=check)
        for word, text in (("KEY", key), ("CRT", certificate), ("USER", managed.cluster.os_user)):
            message = message.replace(word, text)
        assert result["msg"] == message
        assert managed.state() == before
    # What nobody uses is not looked at.
    assert not managed.run({**wanted, "ssl": False}, check=True).get("failed")


# (settings, what the message says)
REFUSED_BY_OPENSSL = [
    ({"ssl_ciphers": "NOSUCH"}, "settings.ssl_ciphers: OpenSSL does not accept 'NOSUCH': "),
    ({"ssl_ecdh_curve": "nosuch"}, "settings.ssl_ecdh_curve: OpenSSL does not accept 'nosuch': "),
    (
        {"ssl_min_protocol_version": "TLSv1.3", "ssl_max_protocol_version": "TLSv1.2"},
        "settings.ssl_min_protocol_version: TLSv1.3 is newer than ssl_max_protocol_version",
    ),
]


@pytest.fixture
def german(managed, monkeypatch):
    """A server that speaks German, where it has the words."""
    folder = managed.cluster.directory / "locales"
    folder.mkdir(exist_ok=True)
    command = ["localedef", "-i", "de_DE", "-f", "UTF-8", str(folder / "de_DE.UTF-8")]
    subprocess.run(command, check=True)
    monkeypatch.setenv("LOCPATH", str(folder))
    managed.stop()
    managed.write("aa.conf", "lc_messages = 'de_DE.UTF-8'\n")
    managed.cluster.start()
    assert managed.show("lc_messages") == "de_DE.UTF-8"
    return managed


def test_options_for_tls_are_refused_whatever_the_servers_language(
    german, authority, major, monkeypatch
):
    managed = german
    user = managed.cluster.user
    certificate, key = authority.hand_over("server", managed.cluster.data / "server", user)
    tls = {"ssl": True, "ssl_cert_file": certificate, "ssl_key_file": key}
    assert not managed.run(tls).get("failed")
    before = managed.state()
    for settings, message in REFUSED_BY_OPENSSL[: 1 if major >= 18 else None]:
        for check in (True, False):
            result = managed.run({**tls, **settings}, check=check)
            assert result["failed"]
            assert message in result["msg"]
    assert managed.state() == before
    # What only the server knows it says in its log. Debian's has the words, and its OpenSSL.
    if str(managed.cluster.bindir).startswith("/usr/lib"):
        monkeypatch.setattr(settings_plan, "check_tls_files", lambda *_: [])
        result = managed.run({**tls, "ssl_ciphers": "NOSUCH"})
        assert result["failed"]
        assert "konnte Cipher-Liste nicht setzen" in result["msg"]
        assert "SSL-Konfiguration wurde nicht neu geladen" in result["msg"]
        assert "the files are as they were" in result["msg"]
        assert managed.show("ssl_ciphers") != "NOSUCH"
        managed.cluster.restart()
    # Of a file that no server takes, the words are always English.
    managed.write("bb.conf", "work_mem = 5apples\n")
    assert 'invalid value for parameter "work_mem"' in managed.run({"work_mem": "6MB"})["msg"]
    managed.write("bb.conf", "")


def test_a_certificate_that_expires_soon_is_warned_of(managed, authority):
    authority.issue("brief", days=5)
    certificate, key = authority.hand_over(
        "brief", managed.cluster.data / "server", managed.cluster.user
    )
    result = managed.run({"ssl": True, "ssl_cert_file": certificate, "ssl_key_file": key})
    assert result["warnings"] == [
        f"settings.ssl_cert_file: {certificate} expires in 5 days; renew it"
    ]
    assert managed.show("ssl") == "on"


def test_a_broken_pg_hba_is_found_before_a_restart(managed):
    hba = managed.cluster.data / "pg_hba.conf"
    text = hba.read_text()
    hba.write_text(f"{text}host all all nonsense\n")
    before = managed.state()
    try:
        for check in (True, False):
            result = managed.run({"shared_buffers": "24MB"}, check=check, restart="always")
            line = len(text.splitlines()) + 1
            assert f"it would not start any more: pg_hba.conf line {line}: " in result["msg"]
            assert managed.state() == before
    finally:
        hba.write_text(text)


@pytest.mark.parametrize("stopped", [False, True])
def test_rules_of_a_killed_run_do_not_keep_the_server_down(managed, stopped):
    hba = managed.cluster.data / "pg_hba.conf"
    text = hba.read_text()
    managed.own(Path(shutil.copy2(hba, hba.with_name(".pg_hba.conf.last-good"))))
    hba.write_text("host all all nonsense\n")
    if stopped:
        managed.stop()
    try:
        foreseen = managed.run({"shared_buffers": "24MB"}, check=True)
        result = managed.run({"shared_buffers": "24MB"})
        put_back = f"put back {hba}, which a run that was killed replaced"
        assert foreseen["actions"] == result["actions"]
        assert result["actions"][0] == put_back
        assert (hba.read_text(), managed.show("shared_buffers")) == (text, "24MB")
        assert managed.left_over() == []
    finally:
        hba.write_text(text)


# A kill at every step is tried once each way: what the steps are does not depend on the major.
NEWEST, OLDEST = max(INSTALLED, default=0), min(INSTALLED, default=0)


def only_on(shown: int, major: int) -> None:
    if major != shown:
        pytest.skip(f"shown on {shown}")


def good(number: int) -> dict[str, Any]:
    """Settings of which each takes another way: reload, restart, and a reset of ALTER SYSTEM."""
    odd = number % 2
    return {"work_mem": f"{6 + odd}MB", "shared_buffers": f"{16 + 8 * odd}MB"}


def check_converged(managed: Managed, wanted: dict[str, Any]) -> None:
    assert {name: managed.show(name) for name in wanted} == wanted
    assert managed.left_over() == []
    again = managed.run(wanted, restart="always")
    assert (again.get("changed"), again.get("actions")) == (False, []), again
    assert managed.left_over() == []


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_run_that_is_killed_at_any_step_is_finished_by_the_next(
    managed, major, monkeypatch, stopped
):
    only_on(OLDEST if stopped else NEWEST, major)
    managed.run(good(0), restart="always")
    step = 1 - faults.STRIDE
    while True:
        step += faults.STRIDE
        wanted = good(step)
        managed.cluster.sql("ALTER SYSTEM SET work_mem = '3MB'")
        if stopped:
            managed.stop()
        ended = managed.killed(monkeypatch, step, wanted, restart="always")
        if not ended:
            result = managed.run(wanted, restart="always")
            assert not result.get("failed"), (step, result["msg"])
        check_converged(managed, wanted)
        if ended:
            break
    print(f"{step // faults.STRIDE} kill points, and after each the next run converged")
    assert step > 20


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_bad_settings_killed_at_any_step_are_taken_back_by_the_next(
    managed, major, monkeypatch, stopped
):
    only_on(NEWEST if stopped else OLDEST, major)
    held = {"shared_buffers": "16MB", "temp_buffers": "9MB"}
    managed.run(held, restart="always")
    managed.cluster.sql("ALTER SYSTEM SET work_mem = '3MB'")
    text = managed.drop_in.read_text()
    auto_conf = managed.cluster.data / "postgresql.auto.conf"
    auto = auto_conf.read_text()
    step, ended = 1 - faults.STRIDE, None
    while not ended:
        step += faults.STRIDE
        if stopped:
            managed.stop()
        bad = {"work_mem": "7MB", **TOO_MUCH}
        ended = managed.killed(monkeypatch, step, bad, restart="always")
        # The next run is told the same, or something better, or has nothing to do.
        following = (bad, {**held, "shared_buffers": "17MB"}, held)[step % 3]
        result = managed.run(following, restart="always")
        for _attempt in range(600):
            # The killed run may just have started it; nothing is changed meanwhile.
            if "the database system is starting up" not in result.get("msg", ""):
                break
            time.sleep(0.2)
            result = managed.run(following, restart="always")
        if following is bad:
            assert result["msg"].endswith(
                "the last good files are back, and the server runs with them"
            ), (step, result)
            assert managed.left_over() == []
            assert (managed.drop_in.read_text(), auto_conf.read_text()) == (text, auto), step
            assert managed.show("work_mem") == "3MB"
        else:
            assert not result.get("failed"), (step, result["msg"])
            check_converged(managed, following)
            managed.run(held, restart="always")
            auto_conf.write_text(auto)
            managed.cluster.sql("SELECT pg_reload_conf()")
        check_converged(managed, held)
    print(f"{step // faults.STRIDE} kill points, and after each the next run converged")
    assert step > 20


def seen(managed: Managed) -> Any:
    """The state, but for what writing a file's old content again changes."""
    files, settings, pid = managed.state()
    owners = [(name, text, (status[0], *status[3:])) for name, text, status, _mtime in files]
    return owners, settings, pid


@pytest.mark.parametrize("first", [True, False], ids=["no file yet", "a file"])
def test_a_disk_that_is_full_from_any_step_on_changes_nothing(managed, major, monkeypatch, first):
    only_on(OLDEST if first else NEWEST, major)
    if not first:
        managed.run({"work_mem": "5MB"})
    managed.cluster.sql("ALTER SYSTEM SET work_mem = '3MB'")
    managed.cluster.sql("SELECT pg_reload_conf()")
    before = seen(managed)
    step = 0
    while True:
        step += 1
        with monkeypatch.context() as patch:
            main = faults.full_from(step, postgres_settings.main)
            patch.setattr(postgres_settings, "main", main)
            result = managed.run({"work_mem": "7MB", "shared_buffers": "24MB"}, restart="never")
        if not result.get("failed"):
            break
        assert "No space left on device" in result["msg"], step
        assert seen(managed) == before, step
        assert managed.left_over() == [], step
    assert managed.show("work_mem") == "7MB"
    assert step > 8
