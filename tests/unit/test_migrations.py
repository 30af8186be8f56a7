# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows migrations: its decisions, how it logs in, and its unit."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host import units

ROLE = Path(__file__).resolve().parents[2] / "roles" / "pgbouncer"


@pytest.fixture(scope="module")
def follower() -> ModuleType:
    path = ROLE / "files" / "pgbouncer_migrations.py"
    spec = importlib.util.spec_from_file_location("pgbouncer_migrations", path)
    assert spec
    assert spec.loader
    module = sys.modules["pgbouncer_migrations"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def database(name: str, host: str | None = "/run", **more: Any) -> dict[str, Any]:
    return {"name": name, "host": host, "port": 5432, "database": "mydb", **more}


def test_each_database_is_looked_at_once(follower: ModuleType) -> None:
    rows = [
        database("mydb"),
        database("alias"),
        database("mydb"),  # of another process
        database("replica", "db2"),
        database("pgbouncer", None),
        database("nowhere", None),
    ]
    found = follower.targets(rows)
    assert {str(target): names for target, names in found.items()} == {
        "mydb on /run:5432": ["mydb", "alias"],
        "mydb on db2:5432": ["replica"],
    }


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"a": "1"}, []),
        ({"a": "1"}, {}, []),
        ({"a": "1", "b": "1"}, {"a": "2", "b": "1", "c": "1"}, ["a"]),
    ],
)
def test_only_other_shapes_count(
    follower: ModuleType, before: Any, after: Any, expected: Any
) -> None:
    assert follower.changed(before, after) == expected


def test_what_is_gone_is_remembered_up_to_a_limit(follower: ModuleType) -> None:
    assert follower.remembered({"a": "1", "b": "1"}, {"b": "2"}) == {"a": "1", "b": "2"}
    many = {str(number): "1" for number in range(follower.MOST_GONE)}
    assert len(follower.remembered(many, {"x": "1"})) == follower.MOST_GONE + 1
    assert follower.remembered({**many, "one more": "1"}, {"x": "1"}) == {"x": "1"}


def test_clients_with_statements_are_told_from_others(follower: ModuleType) -> None:
    rows = [
        {"id": 1, "database": "mydb", "prepared_statements": 2, "link": ""},
        {"id": 2, "database": "mydb", "prepared_statements": 0, "link": ""},
        {"id": 3, "database": "other", "prepared_statements": 2, "link": ""},
        {"id": 4, "database": "alias", "prepared_statements": 1, "link": "0x1"},
    ]
    assert follower.with_statements(rows, ["mydb", "alias"]) == {1, 4}
    assert follower.busy(rows, {1, 4}) == {4}


AUTH_FILE = '; comment\n"a" "x"\n"pgbouncer_auth" "s""e\\c"\n"pgbouncer_auth2" "no"\n'


@pytest.mark.parametrize(
    ("user", "secret"), [("pgbouncer_auth", 's"e\\c'), ("a", "x"), ("b", None), ("", None)]
)
def test_secrets_of_the_auth_file(follower: ModuleType, user: str, secret: str | None) -> None:
    assert follower.secret_of(user, AUTH_FILE) == secret


def test_it_logs_in_with_what_pgbouncer_has(follower: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "users").write_text(AUTH_FILE)
    config = {
        "auth_user": "pgbouncer_auth",
        "auth_file": str(tmp_path / "users"),
        "server_tls_sslmode": "verify-full",
        "server_tls_ca_file": "/etc/ca.crt",
        "server_tls_key_file": "",
    }
    login = follower.login_of(config)
    assert login["user"] == "pgbouncer_auth"
    assert login["password"] == 's"e\\c'
    assert (login["sslmode"], login["sslrootcert"]) == ("verify-full", "/etc/ca.crt")
    assert "sslkey" not in login
    assert "-c search_path=pg_catalog" in login["options"]
    assert "password" not in follower.login_of({"auth_user": "x", "auth_file": "/nonexistent"})


@pytest.mark.parametrize(
    ("costs", "expected"), [([], 0.1), ([0.001] * 5, 0.1), ([0.02, 0.03], 1.0), ([9.0], 5.0)]
)
def test_it_takes_little_of_the_time(
    follower: ModuleType, costs: list[float], expected: float
) -> None:
    assert follower.pause(costs) == pytest.approx(expected)


def test_names_are_quoted_for_console_and_log(
    follower: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert follower.quoted('a"b') == '"a""b"'
    follower.log("x\n<3>forged \x1b[2J é")
    assert capsys.readouterr().out == "x\\n<3>forged \\x1b[2J \\xe9\n"


def test_a_full_disk_does_not_end_it(
    follower: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = follower.Service(str(tmp_path / "gone"), 6432, [])
    target = follower.Target("/run", 5432, "mydb")
    service.watches[target] = follower.Watch(target, {"relation public.t": "1"})
    service._keep()
    assert "can't be kept: [Errno 2]" in capsys.readouterr().out
    (tmp_path / "gone").mkdir()
    service._keep()
    again = follower.Service(str(tmp_path / "gone"), 6432, [])
    assert again.kept == {"mydb on /run:5432": {"relation public.t": "1"}}


PLAY = """\
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.include_vars: {file: "{{ role }}/{{ item }}"}
      loop: [defaults/main.yml, vars/main.yml]
    - ansible.builtin.template:
        src: "{{ role }}/templates/migrations.service.j2"
        dest: "{{ unit }}"
        mode: "0600"
"""


def test_its_unit(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    given = {
        "role": str(ROLE),
        "unit": str(tmp_path / "unit"),
        "__pgbouncer_host": {"sandbox": "full"},
        "__pgbouncer_configuration": {
            "os_user": "bouncer",
            "options": {"listen_port": "6433", "auth_file": "/etc/pgbouncer/userlist.txt"},
            "processes": [
                {"service": "pgbouncer", "unix_socket_dir": '/run/a "100%" $place'},
                {"service": "pgbouncer@2", "unix_socket_dir": "/run/pgbouncer-2"},
            ],
        },
        "ansible_python_interpreter": sys.executable,
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", "-e",
         json.dumps(given), tmp_path / "play.yml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    lines = (tmp_path / "unit").read_text().splitlines()
    assert not [line for line in lines if line and not re.match(r"(#|\[\w+\]$|[A-Za-z]+=)", line)]
    assert {*units.hardening("full", home="yes"), "PrivateTmp=yes", "User=bouncer"} <= {*lines}
    assert [line.partition("=")[2] for line in lines if line.startswith("ExecStart=")] == [
        "/usr/bin/python3 -I /usr/local/lib/pooled_pgbouncer_migrations.py"
        ' /run/pgbouncer-migrations 6433 "/run/a \\"100%%\\" $$place" "/run/pgbouncer-2"'
    ]


class Page:
    """A console that answers from a page, and notes what it was told."""

    def __init__(self, **answers: list[dict[str, Any]]) -> None:
        self.answers = answers
        self.told: list[str] = []

    def rows(self, command: str) -> list[dict[str, Any]]:
        """What a command answers."""
        if command.startswith("SHOW "):
            return self.answers[command.partition(" ")[2].lower()]
        self.told.append(command)
        return []


POOLS = [{"database": "mydb", "sv_login": 0}, {"database": "other", "sv_login": 1}]
OF_124 = [
    {"id": 1, "database": "mydb", "prepared_statements": 2, "link": ""},
    {"id": 2, "database": "mydb", "prepared_statements": 2, "link": "0x1"},
    {"id": 3, "database": "mydb", "prepared_statements": 0, "link": ""},
]
WITHOUT_NUMBERS = [{"database": "mydb", "link": ""}]
# Clients, max_prepared_statements, and what is told.
VERSIONS = [
    (OF_124, "200", ["KILL_CLIENT 1", 'RECONNECT "mydb"']),
    (WITHOUT_NUMBERS, "200", ['KILL "mydb"', 'RESUME "mydb"', 'RECONNECT "mydb"']),
    (WITHOUT_NUMBERS, "0", ['RECONNECT "mydb"']),
    (WITHOUT_NUMBERS, None, ['RECONNECT "mydb"']),
]


@pytest.mark.parametrize(("clients", "tracked", "told"), VERSIONS)
def test_each_version_forgets_in_its_way(
    follower: ModuleType, clients: list[Any], tracked: str | None, told: list[str]
) -> None:
    config = [{"key": "max_prepared_statements", "value": tracked}] if tracked else []
    page = Page(clients=clients, config=config, pools=POOLS)
    refresh = follower.Refresh(page, ["mydb"])
    refresh.begin()
    assert refresh.step() == (clients is OF_124)
    refresh.reconnect()
    assert page.told == told


def test_sessions_that_log_in_are_let_in_first(
    follower: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else PgBouncer takes them for failed logins, and lets nobody in for a while."""
    logging_in = {"database": "mydb", "sv_login": 2}
    page = Page(pools=[logging_in])

    def sleep(_seconds: float) -> None:
        assert page.told == []
        logging_in["sv_login"] -= 1

    monkeypatch.setattr(follower.time, "sleep", sleep)
    follower.Refresh(page, ["mydb"]).reconnect()
    assert (page.told, logging_in["sv_login"]) == (['RECONNECT "mydb"'], 0)
