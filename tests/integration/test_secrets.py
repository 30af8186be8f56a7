# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords that are hard to hide: they work, and are nowhere but in the inventory.

Real runs of ansible-playbook over a local connection, in whose Python the package systemd is one
of ours that writes down what modules send to the journal.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import asyncpg
import psycopg
import pytest
import yaml

from .hard_passwords import PASSWORDS, needles
from .poolers import SERVICE

ROOT = Path(__file__).resolve().parents[2]
POOLER_PASSWORD = "HushPooler'\"\\ \u00a0"
ALL = needles([*PASSWORDS.values(), POOLER_PASSWORD])
LEAST_SAMPLES = 20

JOURNAL = """\
import os

def _write(*args, **kwargs):
    with open(os.environ["FAKE_JOURNAL"], "a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(repr((args, kwargs)) + "\\n")
        file.write(" ".join(str(value) for value in (*args, *kwargs.values())) + "\\n")

send = sendv = _write
"""

PLAYBOOK = """\
- hosts: db
  gather_facts: false
  module_defaults:
    pooled.postgres.pgbouncer_config: "{{ pooler_places }}"
  tasks:
    - ansible.builtin.include_role:
        name: pooled.postgres.postgres_access
        public: true
    - ansible.builtin.include_role:
        name: pooled.postgres.pgbouncer
        tasks_from: configure.yml
        public: true
    - ansible.builtin.copy:
        content: "{{ [__postgres_access_result, __pgbouncer_configuration] | to_json }}"
        dest: "{{ results }}"
        mode: "0600"
      check_mode: false
      changed_when: false
    - pooled.postgres.postgres_hba:
        databases: "{{ pooled_databases | pooled.postgres.without_passwords }}"
        version: 17
        assume_new: true
      check_mode: true
      changed_when: false
    - pooled.postgres.postgres_audit_info:
        databases: "{{ pooled_databases | pooled.postgres.without_passwords }}"
        passwords: "{{ pooled_databases | pooled.postgres.role_passwords }}"
        login_unix_socket: "{{ postgres_access_login_unix_socket }}"
        login_port: "{{ postgres_access_login_port }}"
        login_os_user: "{{ postgres_access_login_os_user }}"
"""


class Unsafe(str):
    """Text that Ansible must not take for a template."""


class Dumper(yaml.SafeDumper):
    """Writes such texts with their tag."""


Dumper.add_representer(
    Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text), style='"')
)


def databases(passwords: Mapping[str, Any]) -> list[dict[str, Any]]:
    roles = [
        {"name": name, "kind": "user", "password": password} for name, password in passwords.items()
    ]
    # Beside roles that are in two databases.
    return [{"name": "mydb", "roles": roles}, {"name": "second", "roles": roles[:2]}]


class Watch:
    """Looks for passwords in what every process was started with."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.samples = 0

    @contextmanager
    def sampled_processes(self) -> Iterator[None]:
        """Look for passwords in what every process was started with, for as long as this lasts."""
        done = threading.Event()

        def sample() -> None:
            while not done.is_set():
                for path in Path("/proc").glob("[0-9]*"):
                    for part in ("cmdline", "environ"):
                        with suppress(OSError):
                            if has_secret((path / part).read_bytes()):
                                self.seen.add(f"{part} of {(path / 'comm').read_text().strip()}")
                self.samples += 1
                time.sleep(0.02)

        watcher = threading.Thread(target=sample)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


class Runs:
    """An inventory with the passwords, and everything that runs leave behind."""

    def __init__(self, pooler: Any, home: Path) -> None:
        self.pooler = pooler
        self.home = home
        self.left = home / "left"
        self.inventory = home / "inventory"
        self.watch = Watch()
        # Where the servers' OS user can come too.
        self.temporary = pooler.home / "tmp"
        self.temporary.mkdir()
        self.temporary.chmod(0o1777)
        for name in ("left/home", "inventory/group_vars", "python/systemd"):
            (home / name).mkdir(parents=True)
        (home / "python/systemd/__init__.py").touch()
        (home / "python/systemd/daemon.py").write_text("def booted():\n    return 1\n")
        (home / "python/systemd/journal.py").write_text(JOURNAL)
        (home / "site.yml").write_text(PLAYBOOK)

    def write(self, passwords: Mapping[str, Any], **variables: Any) -> None:
        cluster, pooler = self.pooler.cluster, self.pooler
        run = str(pooler.home / "run")
        everything = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ansible_remote_tmp": str(self.left / "remote"),
            "results": str(self.left / "results.json"),
            "pooled_databases": databases(
                {
                    name: Unsafe(value) if value and isinstance(value, str) else value
                    for name, value in passwords.items()
                }
            ),
            "postgres_access_install_driver": False,
            "__postgres_access_driver": {"changed": False},
            "postgres_access_login_unix_socket": str(cluster.socket_directory),
            "postgres_access_login_port": cluster.port,
            "postgres_access_login_os_user": cluster.os_user,
            "postgres_access_pooler_role": "pgbouncer_auth",
            "postgres_access_pooler_password": Unsafe(POOLER_PASSWORD),
            "pgbouncer_auth": "userlist",
            "pgbouncer_backend_host": "",
            "pgbouncer_backend_port": cluster.port,
            "pgbouncer_backend_socket_dir": str(cluster.socket_directory),
            "pooler_places": pooler.places,
            **variables,
        }
        # These win over the role's own.
        internal = {
            "__pgbouncer_service": SERVICE,
            "__pgbouncer_host": {"sandbox": "none"},
            "__pgbouncer_installed": True,
            "pgbouncer_os_user": cluster.os_user,
            "__pgbouncer_version": str(pooler.program),
            "__pgbouncer_options": {
                "listen_addr": "127.0.0.1",
                "listen_port": pooler.port,
                "max_client_conn": 100,
                "auth_file": str(pooler.userlist),
                "unix_socket_dir": run,
                "logfile": f"{run}/pgbouncer.log",
                "pidfile": f"{run}/pgbouncer.pid",
                "verbose": 2,
            },
        }
        (self.home / "internal.json").write_text(json.dumps(internal))
        (self.inventory / "hosts.yml").write_text("all: {hosts: {db: {}}}\n")
        text = yaml.dump(everything, Dumper=Dumper, allow_unicode=True)
        (self.inventory / "group_vars" / "all.yml").write_text(text)

    def play(self, name: str, *arguments: str) -> tuple[int, str]:
        """Run the playbook; returns its exit code and all that it has printed."""
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
            "ANSIBLE_HOME": str(self.left / "home"),
            "ANSIBLE_LOG_PATH": str(self.left / "ansible.log"),
            "ANSIBLE_LOCAL_TEMP": str(self.left / "local"),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": str(self.home / "python"),
            "FAKE_JOURNAL": str(self.left / "journal"),
            "LC_ALL": "C.UTF-8",
        }
        command = ["ansible-playbook", "-vvv", "--diff", "--extra-vars=@internal.json", *arguments]
        with self.watch.sampled_processes():
            ended = subprocess.run(
                [*command, f"--inventory={self.inventory}", str(self.home / "site.yml")],
                env=environment, cwd=self.home, check=False, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        (self.left / f"{name}.out").write_bytes(ended.stdout)
        return ended.returncode, ended.stdout.decode(errors="replace")

    def leaks(self) -> list[str]:
        """Where the passwords are beside the inventory."""
        pooler = self.pooler
        places = [self.left, pooler.home, pooler.cluster.log_path]
        files = [
            path
            for place in places
            for path in (place.rglob("*") if place.is_dir() else [place])
            if path.is_file() and not path.is_symlink()
        ]
        assert {"journal", "server.log", "pgbouncer.log"} <= {path.name for path in files}
        assert self.watch.samples >= LEAST_SAMPLES
        found = [str(path) for path in files if has_secret(path.read_bytes())]
        return sorted(self.watch.seen) + found


def has_secret(content: bytes) -> bool:
    return any(needle in content for needle in ALL)


@pytest.fixture
def runs(pooler: Any, tmp_path: Path) -> Iterator[Runs]:
    pooler.cluster.clean()
    yield Runs(pooler, tmp_path)
    pooler.cluster.clean()


async def through_pool(port: int, user: str, password: str) -> str:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=port, user=user, password=password, database="mydb",
        statement_cache_size=0,
    )  # fmt: skip
    try:
        return str(await connection.fetchval("SELECT current_user"))
    finally:
        await connection.close()


def forms_of(secret: str) -> list[str]:
    return [
        secret, repr(secret), json.dumps(secret), json.dumps([repr({"password": secret})]),
        shlex.quote(secret), quote(secret), quote_plus(secret), secret.replace("'", "''"),
        *(base64.b64encode(f"{before}{secret}{after}".encode()).decode()
          for before in ("", "x", '{"a": "') for after in ("", '"}')),
    ]  # fmt: skip


@pytest.mark.parametrize("name", PASSWORDS)
def test_the_search_finds_passwords_however_they_are_written(name):
    assert not has_secret(b"Hush, what is searched for are words that start so")
    for form in forms_of(PASSWORDS[name]):
        assert has_secret(f"before {form} after".encode()), form


@pytest.mark.parametrize("part", ["cmdline", "environ"])
def test_the_search_finds_passwords_of_processes(part):
    watch = Watch()
    secret = PASSWORDS["both_quotes"]
    argument = secret if part == "cmdline" else ""
    environment = {"PGPASSWORD": secret} if part == "environ" else {}
    with watch.sampled_processes():
        subprocess.run(["/bin/sh", "-c", "sleep 1; :", argument], env=environment, check=True)
    assert f"{part} of sh" in watch.seen


@pytest.mark.pgbouncer(since=(1, 19, 0))
def test_hard_passwords_work_and_are_nowhere_else(runs):
    runs.write(PASSWORDS)
    code, printed = runs.play("check", "--check")
    assert code == 0, printed
    code, printed = runs.play("run")
    assert code == 0, printed
    assert "changed=2" in printed
    code, printed = runs.play("again")
    assert code == 0, printed
    assert "changed=0" in printed

    cluster, port = runs.pooler.cluster, runs.pooler.port
    for name, password in PASSWORDS.items():
        assert cluster.can_log_in(name, password, "mydb"), name
        assert not cluster.can_log_in(name, password + "x", "mydb"), name
        assert asyncio.run(through_pool(port, name, password)) == name
        with psycopg.connect(
            host="127.0.0.1", port=port, user=name, password=password, dbname="mydb"
        ) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (name,)
        with pytest.raises(asyncpg.PostgresError):
            asyncio.run(through_pool(port, name, password.strip().upper()))
    # What SASLprep takes for the same.
    assert cluster.can_log_in("no_break_space", PASSWORDS["no_break_space"].replace("\u00a0", " "))
    assert cluster.can_log_in("not_ascii", PASSWORDS["not_ascii"].replace("\u2168", "IX"))
    assert not cluster.can_log_in("emoji", PASSWORDS["emoji"].replace("\u2168", "IX"))
    assert cluster.can_log_in("pgbouncer_auth", POOLER_PASSWORD)

    changed = {name: password + "!" for name, password in PASSWORDS.items()}
    runs.write(changed)
    code, printed = runs.play("rotation")
    assert code == 0, printed
    assert printed.count("ALTER ROLE") >= len(PASSWORDS)
    assert all(cluster.can_log_in(name, password) for name, password in changed.items())
    assert runs.leaks() == []


# What is wrong, and what is said of it.
MISTAKES = [
    (
        {"postgres_access_databases": "{{ pooled_databases | to_json }}x"},
        "postgres_access_databases",
    ),
    ({"postgres_access_login_unix_socket": "/nonexistent"}, "can't connect"),
    ({"pgbouncer_auth": "often"}, "often"),
    ({"pgbouncer_backend_host": "elsewhere"}, "must be given as the SCRAM verifier"),
]


@pytest.mark.pgbouncer(since=(1, 19, 0))
@pytest.mark.parametrize(("variables", "message"), MISTAKES)
def test_mistakes_show_no_password(runs, variables, message):
    runs.write(PASSWORDS, **variables)
    code, printed = runs.play("mistake")
    assert code != 0
    assert message in printed
    # Some fail before anything reaches the host.
    (runs.left / "journal").touch()
    assert runs.leaks() == []


@pytest.mark.pgbouncer(since=(1, 19, 0))
@pytest.mark.parametrize(
    "wrong",
    [["HushQuoteBoth"], "SCRAM-SHA-256$HushQuoteBoth"],
    ids=["list", "broken verifier"],
)
def test_passwords_that_are_not_any_show_nothing(runs, wrong):
    runs.write({**PASSWORDS, "template": wrong})
    code, printed = runs.play("mistake")
    assert code != 0
    assert "password of role 'template'" in printed
    (runs.left / "journal").touch()
    assert runs.leaks() == []


@pytest.mark.pgbouncer(since=(1, 19, 0))
@pytest.mark.parametrize("nested", [True, False])
def test_a_direct_call_with_nested_passwords_is_not_logged_either(runs, nested):
    cluster = runs.pooler.cluster
    arguments = {"databases": databases(PASSWORDS), **cluster.login}
    if not nested:
        arguments["passwords"] = PASSWORDS
    runs.write({})
    (runs.home / "site.yml").write_text(
        json.dumps(
            [
                {
                    "hosts": "db",
                    "gather_facts": False,
                    "tasks": [{"pooled.postgres.postgres_access": "{{ arguments }}"}],
                }
            ]
        )
    )
    variables = runs.inventory / "group_vars" / "all.yml"
    with variables.open("a") as file:
        text = yaml.dump({"arguments": unsafe(arguments)}, Dumper=Dumper, allow_unicode=True)
        file.write(text)
    code, printed = runs.play("direct", "--check")
    assert code == 0, printed
    assert runs.leaks() == []


def unsafe(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: unsafe(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [unsafe(inner) for inner in value]
    return Unsafe(value) if isinstance(value, str) else value


OTHER_SECRET = "HushOther 'a' \"b\" \\"
LDAP = {
    "method": "ldap",
    "address": "10.0.0.0/8",
    "database": "all",
    "user": "all",
    "options": {"ldapserver": "ldap.example.com", "ldapbindpasswd": OTHER_SECRET},
}
# (module, arguments, a word that its result has)
OTHER_SECRETS = [
    ("postgres_hba", {"databases": [], "version": 17, "rules": [LDAP]}, "ldapbindpasswd="),
    (
        "postgres_settings",
        {
            "version": 17,
            "settings": {
                "ssl_passphrase_command": f"echo {OTHER_SECRET}",
                "restore_command": "PGPASSWORD=HushOther cp %p %f",
                "app.api_token": OTHER_SECRET,
                "work_mem": "8MB",
            },
        },
        "app.api_token",
    ),
    (
        "pgbouncer_config",
        {
            "databases": [{"name": "a", "aliases": [{"name": "b", "password": OTHER_SECRET}]}],
            "assume_version": "1.24.1",
            "binary": "/nonexistent",
        },
        "alias 'b': password",
    ),
    (
        "postgres_audit_info",
        {"databases": [], "connect_params": {"sslpassword": OTHER_SECRET}},
        "connect_params.sslpassword",
    ),
]


@pytest.mark.parametrize(
    ("module", "arguments", "word"), OTHER_SECRETS, ids=[one[0] for one in OTHER_SECRETS]
)
def test_other_secrets_are_not_shown_either(run_module, module, arguments, word):
    result = run_module(module, {**arguments, "assume_new": True}, check=True)
    printed = json.dumps({**result, "invocation": None})
    assert word in printed
    assert "Hush" not in json.dumps(result)
    assert "work_mem" not in arguments.get("settings", {}) or "8MB" in printed


def test_secrets_in_settings_of_roles_are_set_and_not_shown(pooled_server, run_module):
    pooled_server.clean()
    shown = []
    for secret in (OTHER_SECRET, OTHER_SECRET[::-1] + "HushOther"):
        role = {"name": "app_user", "kind": "user", "settings": {"app.api_token": secret}}
        model = {"databases": [{"name": "mydb", "roles": [role]}], **pooled_server.login}
        result = run_module("postgres_access", model)
        assert pooled_server.sql("SHOW app.api_token", "mydb", "app_user") == [(secret,)]
        shown.append(json.dumps(result))
    assert all("app.api_token" in one and "********" in one for one in shown)
    # It logs all statements.
    log = pooled_server.log()
    assert "SET LOCAL log_statement = 'none'" in log
    assert "HushOther" not in log
    for one in shown:
        at = one.find("HushOther")
        assert at < 0, one[max(at - 200, 0) : at + 100]
    assert "********" in result["diff"]["before"]
    assert result["diff"]["before"] != result["diff"]["after"]
    pooled_server.clean()
