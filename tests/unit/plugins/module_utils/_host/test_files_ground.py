# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where root works on files itself, and that nothing touches files past that decision."""

from __future__ import annotations

import ast
import os
import stat
import struct
import tempfile
from pathlib import Path

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host import (
    files,
    identity,
)
from ansible_collections.pooled.postgres.plugins.module_utils._host.files import Ground

PLUGINS = Path(__file__).resolve().parents[5] / "plugins"
POSTGRES = 101
DIRECTORY, FILE, LINK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK

# The directory's ground, owner, group and mode of what is in it, and its own ground.
ENTRIES = [
    (Ground.OURS, 0, 0, DIRECTORY | 0o755, Ground.OURS),
    (Ground.OURS, 0, 0, DIRECTORY | 0o775, Ground.OURS),
    (Ground.OURS, 0, POSTGRES, DIRECTORY | 0o750, Ground.OURS),
    (Ground.OURS, 0, POSTGRES, DIRECTORY | 0o770, Ground.THEIRS),
    (Ground.OURS, 0, 0, DIRECTORY | 0o777, Ground.THEIRS),
    (Ground.OURS, 0, 0, DIRECTORY | 0o1777, Ground.SHARED),
    (Ground.OURS, 0, POSTGRES, DIRECTORY | 0o1775, Ground.SHARED),
    (Ground.OURS, POSTGRES, POSTGRES, DIRECTORY | 0o700, Ground.THEIRS),
    (Ground.OURS, POSTGRES, POSTGRES, DIRECTORY | 0o1777, Ground.THEIRS),
    # Nobody but root can have put it there.
    (Ground.OURS, POSTGRES, POSTGRES, FILE | 0o640, Ground.OURS),
    (Ground.OURS, 0, 0, LINK | 0o777, Ground.OURS),
    (Ground.OURS, POSTGRES, POSTGRES, LINK | 0o777, Ground.THEIRS),
    # Nobody but root can have made a directory of root's; a file of root's may have been linked.
    (Ground.SHARED, 0, 0, DIRECTORY | 0o755, Ground.OURS),
    (Ground.SHARED, 0, 0, DIRECTORY | 0o1777, Ground.SHARED),
    (Ground.SHARED, POSTGRES, POSTGRES, DIRECTORY | 0o700, Ground.THEIRS),
    (Ground.SHARED, 0, 0, FILE | 0o600, Ground.THEIRS),
    (Ground.SHARED, POSTGRES, POSTGRES, FILE | 0o600, Ground.THEIRS),
    (Ground.SHARED, 0, 0, LINK | 0o777, Ground.THEIRS),
    # Whatever it says of itself.
    (Ground.THEIRS, 0, 0, DIRECTORY | 0o700, Ground.THEIRS),
    (Ground.THEIRS, 0, 0, FILE | 0o600, Ground.THEIRS),
    (Ground.THEIRS, 0, 0, LINK | 0o777, Ground.THEIRS),
]


@pytest.mark.parametrize(("parent", "uid", "gid", "mode", "expected"), ENTRIES)
def test_who_can_change_an_entry(parent, uid, gid, mode, expected):
    assert files.ground_of(parent, uid, gid, mode) is expected


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory of root's to somebody else")
def test_an_access_list_may_let_others_write(tmp_path):
    """Its mask is in the place of the group's rights, and the group is root's."""
    tmp_path.chmod(0o755)
    assert files._owner_and_mode(str(tmp_path)) == ROOTS
    nobody = 0xFFFFFFFF
    entries = [(1, 7, nobody), (2, 7, POSTGRES), (4, 5, nobody), (16, 7, nobody), (32, 5, nobody)]
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries)
    try:
        os.setxattr(tmp_path, "system.posix_acl_access", packed)
    except OSError:
        pytest.skip("the filesystem has no access lists")
    found = files._owner_and_mode(str(tmp_path))
    assert files.ground_of(Ground.OURS, *found) is Ground.THEIRS


ROOTS = (0, 0, DIRECTORY | 0o755)
THEIRS = (POSTGRES, POSTGRES, DIRECTORY | 0o755)
TREE = {
    **dict.fromkeys(("/", "/etc", "/etc/pgbouncer", "/srv", "/srv/pg", "/var", "/var/log"), ROOTS),
    "/etc/pgbouncer/pgbouncer.ini": (POSTGRES, POSTGRES, FILE | 0o640),
    "/etc/postgresql": THEIRS,
    "/etc/postgresql/17": (0, 0, LINK | 0o777),
    "/var/log/postgresql": (0, POSTGRES, DIRECTORY | 0o1775),
    "/var/log/postgresql/a.log": (POSTGRES, POSTGRES, FILE | 0o640),
    "/var/log/postgresql/sub": ROOTS,
    "/var/lib": (0, 0, LINK | 0o777),
    "/srv/lib": ROOTS,
    "/srv/lib/pg": THEIRS,
    "/etc/up": (0, 0, LINK | 0o777),
    "/etc/round": (0, 0, LINK | 0o777),
    "/etc/theirs": (POSTGRES, POSTGRES, LINK | 0o777),
}
LINKS = {
    "/var/lib": "/srv/lib",
    "/etc/up": "../srv/./pg",
    "/etc/round": "round",
    "/etc/theirs": "/srv/pg",
    "/etc/postgresql/17": "/etc",
}
# A path, what it is as far as root alone decides that, and who decides from there on.
WAYS = [
    ("/etc/pgbouncer/pgbouncer.ini", "/etc/pgbouncer/pgbouncer.ini", ""),
    ("/etc/pgbouncer", "/etc/pgbouncer", ""),
    ("/etc/pgbouncer/missing/x", "/etc/pgbouncer/missing/x", ""),
    ("/etc/pgbouncer/pgbouncer.ini/x", "/etc/pgbouncer/pgbouncer.ini/x", ""),
    ("/", "/", ""),
    ("/etc/postgresql/17/main/x.conf", "/etc/postgresql/17/main/x.conf", "/etc/postgresql"),
    ("/etc/postgresql", "/etc/postgresql", "/etc/postgresql"),
    ("/var/log/postgresql/a.log", "/var/log/postgresql/a.log", "/var/log/postgresql/a.log"),
    ("/var/log/postgresql/new.log", "/var/log/postgresql/new.log", "/var/log/postgresql"),
    ("/var/log/postgresql", "/var/log/postgresql", "/var/log/postgresql"),
    ("/var/log/postgresql/sub/x", "/var/log/postgresql/sub/x", ""),
    ("/var/lib/pg/data", "/srv/lib/pg/data", "/srv/lib/pg"),
    ("/var/lib/x", "/srv/lib/x", ""),
    ("/etc/up/x", "/srv/pg/x", ""),
    ("/etc/up/../lib/x", "/srv/lib/x", ""),
    ("/../etc//pgbouncer/./x", "/etc/pgbouncer/x", ""),
    ("/etc/theirs/x", "/etc/theirs/x", "/etc/theirs"),
]


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(path: str) -> tuple[int, int, int]:
        if path not in TREE:
            raise FileNotFoundError(path)
        return TREE[path]

    monkeypatch.setattr(files, "_owner_and_mode", found)
    monkeypatch.setattr(os, "readlink", LINKS.__getitem__)


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(("path", "leads_to", "unsafe"), WAYS)
def test_how_far_root_decides(path, leads_to, unsafe):
    assert files.walk(path) == files.Walk(leads_to, unsafe)


@pytest.mark.usefixtures("tree")
def test_links_without_end_are_refused():
    with pytest.raises(OSError, match="/etc/round/x has too many symbolic links in it"):
        files.walk("/etc/round/x")


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("path", "rights", "expected"),
    [
        ("/etc/pgbouncer/x", files.Rights("nobody"), ""),
        ("/etc/pgbouncer/x", files.Rights("nobody", everywhere=True), "nobody"),
        ("/etc/postgresql/x", files.Rights("nobody"), "nobody"),
    ],
)
def test_who_works_on_a_path(path, rights, expected, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert files.worker_of(path, rights) == expected


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("user", ["root", "", "n0body-there"])
def test_root_is_nobodys_stand_in(user, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(PermissionError, match=rf"OS user '{user}', who would do it instead, "):
        files.worker_of("/etc/postgresql/x", files.Rights(user))


# A directory of a configuration, its owner, whom the operator logs in as, and whose files it has.
SERVICES = [
    ("/etc/postgresql/15", POSTGRES, "postgres", "user101"),
    ("/etc/postgresql/15", POSTGRES, "root", "user101"),
    ("/etc/postgresql/15", POSTGRES, "admin", "user101"),
    # Made with pg_createcluster -u: both say so.
    ("/etc/postgresql/15", 102, "user102", "user102"),
    # Only a user who could have made it up says so.
    ("/etc/postgresql/15", 102, "postgres", "postgres"),
    ("/etc/postgresql/15", 0, "postgres", "postgres"),
    ("/etc/pgbouncer", 0, "postgres", "postgres"),
    ("/etc/pgbouncer", 0, "", "postgres"),
    ("/etc/pgbouncer", 0, "root", "postgres"),
    ("/etc/missing", None, "admin", "admin"),
]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(("directory", "uid", "login", "expected"), SERVICES)
def test_whose_files_a_server_has(directory, uid, login, expected, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(files, "user_name", lambda number: f"user{number}" if number else "root")
    if uid is not None:
        monkeypatch.setitem(TREE, directory, (uid, uid, DIRECTORY | 0o755))
    assert files.service_user(directory, login) == expected


@pytest.mark.usefixtures("tree")
def test_what_runs_as_root_is_only_roots(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    files.check_only_ours("unit_directory", "/etc/pgbouncer/x.service")
    with pytest.raises(
        ValueError, match=r"^unit_directory: users other than root can change /srv/lib/pg,"
    ):
        files.check_only_ours("unit_directory", "/var/lib/pg/x.service")


def test_a_process_that_is_not_root_stays_who_it_is(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)

    def never(*_arguments: object) -> None:
        raise AssertionError

    for name in ("setgroups", "setegid", "seteuid"):
        monkeypatch.setattr(os, name, never)
    with identity.acting_as(identity.entry_of("nobody")):
        pass
    assert files.worker_of("/etc/postgresql/x", files.Rights("nobody")) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")
def test_acting_as_a_user_has_nothing_of_roots():
    groups = os.getgroups()
    os.setgroups([0])  # as in a login of root's
    try:
        _has_nothing_of_roots()
    finally:
        os.setgroups(groups)


def _has_nothing_of_roots() -> None:
    before = os.geteuid(), os.getegid(), os.getgroups()
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        secret = Path(name) / "secret"
        secret.write_text("secret")
        secret.chmod(0o640)  # of a group that root is in
        with pytest.raises(PermissionError), identity.acting_as(identity.entry_of("nobody")):
            secret.read_text()
        assert (os.geteuid(), os.getegid(), os.getgroups()) == before
        assert secret.read_text() == "secret"


# Calls that touch files by a path, and where they may be: the paths there are the kernel's, the
# packages' or systemd's, which only root may change, or the rights are a service's already.
TOUCHING = {
    *("open", "os.open", "os.stat", "os.lstat", "os.listdir", "os.scandir", "os.readlink"),
    *("os.chown", "os.lchown", "os.chmod", "os.rename", "os.replace", "os.unlink", "os.remove"),
    *("os.link", "os.symlink", "os.mkdir", "os.makedirs", "os.rmdir", "os.access", "os.walk"),
    *("os.path.exists", "os.path.isfile", "os.path.isdir", "os.path.islink", "os.path.lexists"),
    *("os.path.getsize", "os.path.getmtime", "os.path.realpath", "os.path.samefile"),
    *("glob.glob", "glob.iglob", "os.utime", "os.truncate", "os.chdir", "os.mkfifo"),
    *("Path", "pathlib.Path", "shutil.rmtree", "shutil.copy", "shutil.copyfile", "shutil.move"),
    *("tempfile.mkdtemp", "tempfile.mkstemp", "tempfile.NamedTemporaryFile"),
    *("tempfile.TemporaryDirectory", "tempfile.TemporaryFile"),
    *("module.atomic_move", "module.backup_local", "module.set_fs_attributes_if_different"),
}
# By their paths in their kind of plugin.
KNOWN = {
    "postgres_plan.py": {""},  # the collection's own, on the controller
    "_certificates/files.py": {
        *("look", "look_all", "request", "place", "_place_pair", "_prepared"),  # root's, by walk()
    },
    "_server/cluster.py": {
        "Cluster.installed",  # /usr/lib/postgresql
        "Cluster._is_server",  # /proc
        "ServerBinary.effective_value",  # memory
    },
    "_server/tls_files.py": {"_check_readable"},  # with reached()
    "_pgbouncer/os_user.py": {"of_socket"},  # who made the socket
    "_sql/login_guard.py": {"Relay.__init__", "Relay.close"},  # a new directory of its own
    "_pgbouncer/service.py": {"installed_version"},  # /usr/sbin
    "_pgbouncer/trial.py": {"try_out"},  # as the service's user
    "_host/process.py": {"open_files_limits", "most_descriptors", "owner"},  # /proc
    "_host/sockets.py": {"_sockets", "_proc_net", "_is_of"},  # /proc, and whose a socket is
    "_pgbouncer/hold.py": {
        *("_resumed", "_started", "own_addresses"),  # /proc
        "_hold",  # /dev/null
    },
    "_pgbouncer/tls_files.py": {"_is_missing", "wanted_certificate", "read_files"},  # as it
    "_sessions/read.py": {"owner_of"},  # of a socket
    "_host/tls.py": {"_pair_problem"},  # as the service's user
    "tls_certificate.py": {
        *(
            "ActionModule.text_of",
            "_Keeper.read",
            "_Keeper._read",
            "_Keeper._lacks_certificate",
            "_Keeper.with_key",
            "_Keeper.make",
        ),
        *("_Keeper._warn_of_readers", "_locked", "_write_new"),  # on the controller
    },
    "host_resources_info.py": {
        *("text_of", "unit_texts", "majors_with", "shown_units", "pgbouncer", "main"),
        "sandbox",  # /run/systemd
        "createcluster",  # /etc/postgresql-common
        "network_drop_ins",  # /etc/systemd/system
        "kept_services",  # /run/systemd
        "placed_files",  # in /etc and /usr/local/lib, which are root's
        *("clusters_configured", "wal_filesystem"),  # with reached(), or as the clusters' owner
    },
}


def touching(source: str) -> set[str]:
    """Names of the functions in which a call touches files by a path."""
    found = set()

    def look(node: ast.AST, name: str) -> None:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            name = f"{name}.{node.name}" if name else node.name
        if isinstance(node, ast.Call) and ast.unparse(node.func) in TOUCHING:
            found.add(name)
        for child in ast.iter_child_nodes(node):
            look(child, name)

    look(ast.parse(source), "")
    return found


def test_files_are_touched_in_one_place():
    found = {
        "/".join(path.relative_to(PLUGINS).parts[1:]): functions
        for path in PLUGINS.rglob("*.py")
        if path != PLUGINS / "module_utils/_host/files.py"
        and (functions := touching(path.read_text()))
    }
    new = {name: functions - KNOWN.get(name, set()) for name, functions in found.items()}
    assert {name: functions for name, functions in new.items() if functions} == {}, (
        "work on files with _files, or say in KNOWN why nobody but root can change what is there"
    )
    gone = {name: functions - found.get(name, set()) for name, functions in KNOWN.items()}
    assert {name: functions for name, functions in gone.items() if functions} == {}


@pytest.mark.parametrize("call", ["open(p)", "os.chown(p, 1, 1)", "tempfile.mkdtemp()"])
def test_a_touch_is_found(call):
    assert touching(f"class A:\n    def b(self):\n        return [{call}]") == {"A.b"}
