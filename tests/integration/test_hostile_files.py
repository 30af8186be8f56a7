# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The OS user of a service lays links of all kinds, and races with us; root's files stay root's.

Each path that modules read or write below a directory of that user is replaced by a symbolic link
to a file of root's, by another name of that file, and each directory by a link to one of root's.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host import files
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import service, trial
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.differences import Desired
from ansible_collections.pooled.postgres.plugins.module_utils._server.cluster import Cluster
from ansible_collections.pooled.postgres.plugins.modules import host_resources_info
from tests.integration.clusters import INSTALLED, server_user

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="a module that isn't root has no rights to lend"
)

MARK = "s3ntinel7f3a"
# Something that each of our parsers would take in and show.
SECRET = (
    f"work_mem = '{MARK}'\ndata_directory = '/{MARK}'\nport = 7531\n"
    f"host {MARK} {MARK} 10.0.0.0/8 trust\n"
    f'"{MARK}" "{MARK}"\n'
    f"2026-01-01 00:00:00 UTC [1] FATAL {MARK}\nFATAL:  {MARK}\n"
)
RACE_S = 3
KINDS = ("symbolic link", "hard link")


class Vault:
    """A directory of root's that all may look into, with a file that only root may read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o755)
        self.secret = path / "secret"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)
        # The directories that a link to this one stands for have such files.
        for name in ("zz-pooled.conf", "pg_hba.conf", "postmaster.pid", "userlist.txt"):
            (path / name).write_text(SECRET)
            (path / name).chmod(0o600)

    def state(self) -> Any:
        return [
            (str(path), path.lstat()[:3], path.lstat()[4:6], path.is_file() and path.read_bytes())
            for path in (self.path, *sorted(self.path.iterdir()))
        ]


def own(path: Path) -> Path:
    user = server_user()
    assert user
    os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    return path


@contextmanager
def replaced(path: Path, by: Path, kind: str) -> Iterator[None]:
    """A path that leads to something else for a while, as the service's user can make it."""
    aside = path.with_name(f"{path.name}.aside")
    if path.exists():
        path.rename(aside)
    if kind == "hard link":
        path.hardlink_to(by)
    else:
        path.symlink_to(by)
        own(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        if aside.exists():
            aside.rename(path)


@pytest.fixture(scope="module")
def cluster(make_cluster: Callable[[int], Any]) -> Iterator[Any]:
    made = make_cluster(max(INSTALLED, default=0))
    own(made.data / "postgresql.conf")
    conf_d = made.data / "conf.d"
    conf_d.mkdir(mode=0o755)
    own(conf_d)
    with (made.data / "postgresql.conf").open("a") as conf:
        conf.write("include_dir = 'conf.d'\n")
    yield made
    made.stop()


@pytest.fixture
def vault(cluster: Any, tmp_path: Path) -> Vault:
    return Vault(cluster.directory / f"vault-{tmp_path.name}")


def settings(
    cluster: Any, run_module: Any, work_mem: str, check: bool = False, **more: Any
) -> dict[str, Any]:
    arguments = {
        "settings": {"work_mem": work_mem},
        "version": cluster.major,
        "config_directory": str(cluster.data),
        "binary_directory": str(cluster.bindir),
        "log_file": str(cluster.log_path),
        "login_os_user": cluster.os_user,
        **more,
    }
    result: dict[str, Any] = run_module("postgres_settings", arguments, check=check)
    return result


def hba(cluster: Any, run_module: Any, network: str, **more: Any) -> dict[str, Any]:
    arguments = {
        **cluster.login,
        "databases": [{"name": "mydb", "roles": [{"name": "app_user", "kind": "user"}]}],
        "client_networks": [network],
        "exclusive": more.pop("exclusive", "no"),
        "config_directory": str(cluster.data),
    }
    result: dict[str, Any] = run_module("postgres_hba", arguments, **more)
    return result


def shown(result: dict[str, Any]) -> str:
    assert "exception" not in result
    return json.dumps({key: value for key, value in result.items() if key != "invocation"})


DROP_IN = "conf.d/zz-pooled.conf"
LAST_GOOD = "conf.d/.zz-pooled.conf.last-good"
# The path, and whether a symbolic link, and another name of root's file, are refused. Else they are
# removed, or replaced by our file.
SETTINGS_FILES = [
    (DROP_IN, True, False),
    (LAST_GOOD, True, True),
    ("conf.d/.zz-pooled.conf.new", False, False),
    ("postgresql.conf", True, True),
    ("postgresql.auto.conf", True, True),
    (".postgresql.auto.conf.last-good", True, True),
    ("postmaster.pid", True, True),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "link", "other_name"), SETTINGS_FILES)
def test_settings_follow_no_link(cluster, vault, run_module, name, link, other_name, kind):
    settings(cluster, run_module, "5MB")
    path = cluster.data / name
    is_refused = link if kind == "symbolic link" else other_name
    with replaced(path, vault.secret, kind):
        before = vault.state()
        for check in (True, False):
            result = settings(cluster, run_module, "6MB", check=check)
            assert MARK not in shown(result)
            assert vault.state() == before
            assert result.get("failed", False) is is_refused, shown(result)
            if is_refused:
                assert f"{path} can't be read or changed as {cluster.os_user}: " in result["msg"]
                assert kind in result["msg"]
    expected = "5MB" if is_refused else "6MB"
    assert cluster.sql("SHOW work_mem") == [(expected,)]
    assert not settings(cluster, run_module, "7MB").get("failed")
    assert settings(cluster, run_module, "7MB")["changed"] is False


@pytest.mark.parametrize("has_one", [False, True])
def test_settings_write_into_no_directory_of_roots(cluster, vault, run_module, has_one):
    settings(cluster, run_module, "5MB")
    conf_d = cluster.data / "conf.d"
    for path in vault.path.iterdir():
        path.unlink()
    if has_one:
        (vault.path / "zz-pooled.conf").write_text("work_mem = 5MB\n")
    before = vault.state()
    with replaced(conf_d, vault.path, "symbolic link"):
        for check in (True, False):
            result = settings(cluster, run_module, "6MB", check=check)
            assert vault.state() == before
            assert result["failed"]
            link = f"{conf_d} is a symbolic link of {cluster.os_user} to {vault.path}. "
            assert link in result["msg"]
    assert cluster.sql("SHOW work_mem") == [("5MB",)]


def test_a_link_to_the_directory_of_the_configuration_is_followed(cluster, run_module):
    """Root's link, in a directory of root's."""
    link = Path(cluster.directory) / "link-to-data"
    link.symlink_to(cluster.data)
    moved = {"config_directory": str(link)}
    assert settings(cluster, run_module, "9MB", **moved)["changed"]
    assert settings(cluster, run_module, "9MB", **moved)["changed"] is False
    assert cluster.sql("SHOW work_mem") == [("9MB",)]


HBA_FILES = [
    ("pg_hba.conf", True),
    ("pg_ident.conf", True),
    (".pg_hba.conf.last-good", True),
    (".pg_ident.conf.last-good", True),
    (".pg_hba.conf.new", False),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "is_refused"), HBA_FILES)
def test_rules_for_logins_follow_no_link(cluster, vault, run_module, name, is_refused, kind):
    hba(cluster, run_module, "10.1.0.0/16")
    path = cluster.data / name
    rules = (cluster.data / "pg_hba.conf").read_text()
    with replaced(path, vault.secret, kind):
        before = vault.state()
        for check, exclusive in ((True, "no"), (False, "auto"), (True, "yes"), (False, "no")):
            arguments = {"check": check, "exclusive": exclusive}
            result = hba(cluster, run_module, "10.2.0.0/16", **arguments)
            assert MARK not in shown(result)
            assert vault.state() == before
            assert result.get("failed", False) is is_refused, shown(result)
            if is_refused:
                assert f"{path} can't be read or changed as {cluster.os_user}: " in result["msg"]
                assert kind in result["msg"]
    if is_refused:
        assert (cluster.data / "pg_hba.conf").read_text() == rules
    assert not hba(cluster, run_module, "10.1.0.0/16").get("failed")
    assert hba(cluster, run_module, "10.1.0.0/16")["changed"] is False


def test_a_server_that_names_a_file_of_roots_has_it_neither_read_nor_written(
    make_cluster, run_module
):
    """The setting hba_file is the server's own word, and so its user's."""
    made = make_cluster(max(INSTALLED, default=0))
    vault = Vault(made.directory / "vault")
    file = vault.path / "rules"
    file.write_text("local all all trust\n")
    try:
        made.sql(f"ALTER SYSTEM SET hba_file = '{file}'")
        made.restart()
        file.chmod(0o600)
        before = vault.state()
        for mode in (0o600, 0o644):
            file.chmod(mode)
            before = vault.state()
            for check in (True, False):
                result = hba(made, run_module, "10.2.0.0/16", check=check)
                assert result["failed"]
                assert f"{file} can't be read or changed as {made.os_user}: " in result["msg"]
                assert vault.state() == before
    finally:
        made.stop()


def test_logs_are_read_as_their_owner(cluster, vault, run_module):
    """What a server has logged is part of messages."""
    log = cluster.data / "a.log"
    module = _Module()
    there = Cluster(module, cluster.major, str(cluster.data), "", cluster.os_user, "", str(log))
    for kind in KINDS:
        with replaced(log, vault.secret, kind):
            assert there.log_size() in (0, len(SECRET))
            assert MARK not in there.log_since(0)
            assert "(no log: " in there.log_since(0)
            pooler = service.PgBouncer(lambda _command: (0, "", ""), "", cluster.os_user)
            assert MARK not in pooler.complaints(str(log), 0)
    log.write_text("FATAL:  this one\n2026-01-01 00:00:00 UTC [1] FATAL that one\n")
    log.chmod(0o600)
    own(log)
    assert "this one" in there.log_since(0)
    assert pooler.complaints(str(log), 0) == "FATAL that one"


class _Module:
    """As much of AnsibleModule as reading a log takes."""

    def run_command(self, *_arguments: Any, **_more: Any) -> tuple[int, str, str]:
        raise AssertionError


def test_a_look_at_the_host_shows_nothing_of_roots(cluster, vault, run_module, monkeypatch):
    etc = Path(cluster.directory) / "etc-postgresql"
    main = etc / "17" / "main"
    (main / "conf.d").mkdir(parents=True)
    for path in (etc, main.parent, main, main / "conf.d"):
        own(path)
    for path in (main / "postgresql.conf", main / "conf.d" / "zz-pooled.conf"):
        path.write_text("port = 5433\n")
        own(path)
    monkeypatch.setattr(host_resources_info, "CLUSTERS", str(etc))

    def clusters() -> Any:
        result = run_module("host_resources_info", {})
        assert MARK not in shown(result)
        return result["postgres"]["clusters"]

    (found,) = clusters()
    assert (found["port"], found["managed_settings"]) == (5433, {"port": "5433"})
    for kind in KINDS:
        with replaced(main / "conf.d" / "zz-pooled.conf", vault.secret, kind):
            assert clusters()[0]["managed_settings"] == {}
        with replaced(main / "postgresql.conf", vault.secret, kind):
            assert clusters()[0]["port"] == 5433
    with replaced(main / "conf.d", vault.path, "symbolic link"):
        assert clusters()[0]["managed_settings"] == {}


POOLER_FILES = [
    *("pgbouncer.ini", ".pgbouncer.ini.last-good", ".pooled-unfinished"),
    *("sub/userlist.txt", "sub/.userlist.txt.last-good"),
]


@pytest.fixture
def owned(pooler: Any) -> Any:
    """A pooler whose directory is its own user's."""
    etc = pooler.home / "etc"
    (etc / "sub").mkdir()
    for path in (etc, etc / "sub"):
        own(path)
    return pooler


@pytest.mark.pgbouncer(since=(1, 24, 0))
def test_the_pooler_follows_no_link(owned, vault):
    etc = owned.home / "etc"
    options = {"auth_file": str(etc / "sub" / "userlist.txt")}
    assert not owned.configure(options=options).get("failed")
    assert owned.configure(options=options)["changed"] is False
    pid = owned.pid
    places = [(name, kind, vault.secret) for name in POOLER_FILES for kind in KINDS]
    for name, kind, target in [*places, ("sub", "symbolic link", vault.path)]:
        with replaced(etc / name, target, kind):
            before = vault.state()
            for check in (True, False):
                result = owned.configure(check=check, options={**options, "default_pool_size": 7})
                assert MARK not in shown(result)
                assert vault.state() == before
                assert result.get("failed"), (name, kind)
                assert f"{kind}" in result["msg"], result["msg"]
                assert str(etc / name) in result["msg"]
    assert owned.pid == pid
    assert owned.configure(options=options)["changed"] is False


@pytest.mark.pgbouncer(since=(1, 24, 0))
def test_certificates_are_read_as_the_poolers_user(owned, vault):
    etc = owned.home / "etc"
    options = {
        "client_tls_sslmode": "allow",
        "client_tls_cert_file": str(etc / "server.crt"),
        "client_tls_key_file": str(etc / "server.key"),
    }
    for kind in KINDS:
        crt, key = (replaced(etc / f"server.{end}", vault.secret, kind) for end in ("crt", "key"))
        with crt, key:
            for check in (True, False):
                result = owned.configure(check=check, options=options)
                assert "can't be read by" in result["msg"]
                assert MARK not in shown(result)


@pytest.mark.pgbouncer(since=(1, 24, 0))
def test_units_are_written_where_only_root_may(owned):
    own(owned.home / "units")
    result = owned.configure()
    assert result["failed"]
    assert (
        f"unit_directory: users other than root can change {owned.home}/units, and" in result["msg"]
    )


@pytest.mark.pgbouncer(since=(1, 24, 0))
def test_an_administrators_links_are_followed(pooler):
    """Root's links, in a directory of root's, to a place that is the pooler's own."""
    real = pooler.home / "elsewhere"
    real.mkdir()
    own(real)
    pooler.ini.rename(real / "real.ini")
    pooler.ini.symlink_to(real / "real.ini")
    assert not pooler.configure().get("failed")
    assert pooler.configure()["changed"] is False
    assert pooler.ini.is_symlink()
    assert "listen_port" in (real / "real.ini").read_text()
    assert pooler.shows("listen_port") == str(pooler.port)
    user = server_user()
    assert user
    assert (real / "real.ini").stat().st_uid == user.pw_uid
    assert sorted(path.name for path in real.iterdir()) == ["real.ini"]


def test_links_to_the_services_own_files_are_followed(cluster, run_module):
    """They reach nothing that the service's user could not reach itself."""
    elsewhere = Path(cluster.directory) / "elsewhere"
    elsewhere.mkdir()
    own(elsewhere)
    real = elsewhere / "rules"
    path = cluster.data / "pg_hba.conf"
    hba(cluster, run_module, "10.1.0.0/16")
    real.write_text(path.read_text())
    own(real)
    with replaced(path, real, "symbolic link"):
        assert not hba(cluster, run_module, "10.3.0.0/16").get("failed")
        assert hba(cluster, run_module, "10.3.0.0/16")["changed"] is False
        assert path.is_symlink()
        assert "10.3.0.0/16" in real.read_text()


def forked(work: Callable[[], None]) -> int:
    """A child of this process that does some work, and no test after it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


@contextmanager
def attacker(act: Callable[[], None]) -> Iterator[None]:
    """The service's user at work, as often as it can."""

    def work() -> None:
        user = server_user()
        assert user
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
        while True:
            with suppress(OSError):
                act()

    child = forked(work)
    try:
        yield
    finally:
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the attacker has given up"
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def slowly(act: Callable[[], None]) -> int:
    """Do something for a while, with a pause before each step that touches a file.

    The pauses make every gap between two steps wide enough for whoever waits for it. Returns how
    often it was done.
    """
    reading, writing = os.pipe()

    def pause(event: str, _arguments: Any) -> None:
        if event.startswith(("os.", "open", "shutil.")):
            time.sleep(0.0005)

    def work() -> None:
        sys.addaudithook(pause)
        deadline = time.monotonic() + RACE_S
        rounds = 0
        while time.monotonic() < deadline:
            act()
            rounds += 1
        os.write(writing, str(rounds).encode())

    _pid, status = os.waitpid(forked(work), 0)
    os.close(writing)
    with open(reading) as result:
        text = result.read()
    assert status == 0
    return int(text)


def test_a_race_for_a_file_is_lost(cluster, vault):
    """The directory turns into a link to root's and back, all the time."""
    user = server_user()
    assert user
    home = Path(cluster.directory) / "race"
    home.mkdir()
    own(home)
    for name in ("conf", "aside"):
        (home / name).mkdir()
        own(home / name)
    (home / "link").symlink_to(vault.path)
    own(home / "link")
    conf = str(home / "conf")
    wanted = files.ManagedFile(f"{conf}/zz-pooled.conf", "ours\n", user.pw_name, "root", 0o640)

    def swap() -> None:
        os.rename(conf, f"{home}/real")
        os.rename(f"{home}/link", conf)
        os.rename(conf, f"{home}/link")
        os.rename(f"{home}/real", conf)

    def write() -> None:
        rights = files.Rights(user.pw_name)
        try:
            found = files.read_file(wanted.path, rights).content
            assert found in (None, "ours\n"), found
            files.write_file(wanted, rights)
        except OSError:
            pass

    before = vault.state()
    with attacker(swap):
        assert slowly(write) > 20
    assert vault.state() == before


def test_a_race_for_the_trial_start_is_lost(cluster, vault, monkeypatch):
    """Whatever the directory of a trial start has in it becomes a link to a file of root's."""
    user = server_user()
    assert user
    # Trial starts of other tests, which may run beside this one, are not attacked.
    shared = cluster.directory / "trials"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setattr(trial, "_TRIAL_PLACE", str(shared))
    desired = Desired({"listen_port": "7"}, {}, {}, 0)
    names = ("pgbouncer.ini", "userlist.txt", "logfile", "pidfile")

    def lay() -> None:
        for directory in os.listdir(shared):
            for name in names:
                path = shared / directory / name
                with suppress(OSError):
                    os.unlink(path)
                with suppress(OSError):
                    os.symlink(vault.secret, path)

    def start() -> None:
        try:
            trial.try_out("/bin/false", desired, user.pw_name)
        except (service.PgBouncerError, OSError) as error:
            assert MARK not in str(error)

    before = vault.state()
    with attacker(lay):
        assert slowly(start) > 5
    assert vault.state() == before
