# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the files for logins must be, of a server whose catalogs are a table."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host import files
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._server import login_plan
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_file import FILE_HEADER
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import (
    CheckedRules,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.login_server import (
    DATABASES,
    INCLUDED,
    LOGIN_ROLES,
    LoginServer,
)

MODEL = parse_databases([{"name": "mydb", "roles": [{"name": "app_user", "kind": "user"}]}])
CHECKED = CheckedRules((), (), (), ())
PARAMS = {
    "exclusive": "auto",
    "login_user": "postgres",
    "login_os_user": "postgres",
    "pooler_role": "",
    "pooler_os_user": "",
    "require_tls": False,
    "require_tls_on_loopback": False,
}
INCLUDE = "include other.conf\n"


class Server(LoginServer):
    """One with databases C(mydb) and C(legacy), and files in a directory of this process's own."""

    def __init__(self, directory: Path, exclusive: str, included: Any = (), loaded: float = 0):
        self.params = {**PARAMS, "exclusive": exclusive}
        self.connection: Any = object()
        self.directory = str(directory)
        self.os_user = directory.owner()
        self.exists = True
        self.major = 17
        self.hba_file = str(directory / "pg_hba.conf")
        self.ident_file = str(directory / "pg_ident.conf")
        self.loaded = loaded
        self.answers = {
            DATABASES: [SimpleNamespace(name=name) for name in ("mydb", "legacy")],
            LOGIN_ROLES: [SimpleNamespace(name=name) for name in ("app_user", "batch")],
            INCLUDED: list(included),
        }

    def rows(self, query: str, *_values: str) -> list[Any]:
        return self.answers[query]

    def loaded_at(self) -> float:
        return self.loaded


@pytest.fixture(autouse=True)
def not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's files are those of a user and a group that this host need not have."""
    monkeypatch.setattr(files, "owner_of", lambda _user: files.Owner("postgres", "postgres"))


def included(database: str, user: str) -> SimpleNamespace:
    return SimpleNamespace(
        file_name="/other.conf",
        line_number=3,
        type="host",
        databases=[database],
        users=[user],
        method="md5",
        error="",
    )


def planned(directory: Path, text: str, *server: Any) -> login_plan.LoginPlan:
    for name, content in (("pg_hba.conf", text), ("pg_ident.conf", "")):
        (directory / name).write_text(content)
        (directory / name).chmod(0o640)
    found = Server(directory, *server)
    return login_plan.plan(found, MODEL, found.params, CHECKED)


OF_MODEL, OF_OTHERS = included("mydb", "batch"), included("legacy", "batch")
WHOLE = f"{FILE_HEADER}\n"


@pytest.mark.parametrize(
    ("text", "exclusive", "rules", "whole"),
    [
        # Of a file that is not ours alone, our rules come first, and win.
        (INCLUDE, "auto", [OF_MODEL], False),
        (INCLUDE, "no", [OF_MODEL], False),
        (WHOLE, "auto", [], True),
        # Left over from a line that is gone; the server still has what it brought.
        (WHOLE, "auto", [OF_MODEL], True),
        (WHOLE + INCLUDE, "auto", [OF_OTHERS], True),
        (WHOLE + INCLUDE, "yes", [OF_MODEL], True),
    ],
)
def test_rules_of_other_files_that_stand_in_nobodys_way(
    tmp_path: Path, text: str, exclusive: str, rules: list[Any], whole: bool
) -> None:
    plan = planned(tmp_path, text, exclusive, rules)
    assert plan.whole is whole
    stays = exclusive != "yes" and text.endswith(INCLUDE)
    assert (INCLUDE in (plan.pg_hba.wanted.content or "")) is stays


@pytest.mark.parametrize("exclusive", ["auto", "yes"])
def test_only_what_decides_for_the_model_is_refused_and_only_where_it_would_stay(
    tmp_path: Path, exclusive: str
) -> None:
    text = WHOLE + INCLUDE
    path = tmp_path / "pg_hba.conf"
    if exclusive == "yes":
        assert planned(tmp_path, text, exclusive, [OF_MODEL]).warnings == (
            f"{path}: 'include other.conf' is removed, because exclusive is 'yes', and with it all"
            " rules of other files",
        )
        return
    message = (
        f"{path} is managed, and 'include other.conf' in it would bring rules for what the model"
        " decides: /other.conf line 3: host mydb batch ... md5; name only databases and roles"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        planned(tmp_path, text, exclusive, [OF_OTHERS, OF_MODEL])


# Owner, group and mode of a file, and those that it is to have; the server runs as postgres.
OWNERS = [
    ("postgres", "postgres", 0o640, ("postgres", "postgres", 0o640)),
    ("postgres", "adm", 0o600, ("postgres", "adm", 0o600)),
    ("postgres", "adm", 0o644, ("postgres", "adm", 0o640)),
    ("root", "postgres", 0o640, ("root", "postgres", 0o640)),
    ("admin", "postgres", 0o664, ("admin", "postgres", 0o640)),
    # The server can't read these.
    ("root", "root", 0o640, ("postgres", "postgres", 0o640)),
    ("root", "postgres", 0o600, ("postgres", "postgres", 0o640)),
    # The rights of its own group do not help the owner.
    ("postgres", "postgres", 0o240, ("postgres", "postgres", 0o640)),
]


@pytest.mark.parametrize(("owner", "group", "mode", "expected"), OWNERS)
@pytest.mark.usefixtures("postgres")
def test_a_file_that_the_server_can_read_stays_whose_it_is(
    tmp_path: Path, owner: str, group: str, mode: int, expected: tuple[str, str, int]
) -> None:
    server = Server(tmp_path, "auto")
    actual = files.ManagedFile(server.hba_file, "old\n", owner, group, mode)
    wanted = login_plan._wanted_file(server, actual, "new\n")
    assert (wanted.owner, wanted.group, wanted.mode) == expected
    assert wanted.content == "new\n"


@pytest.mark.usefixtures("postgres")
def test_a_file_that_is_not_there_becomes_the_servers(tmp_path: Path) -> None:
    server = Server(tmp_path, "auto")
    actual = files.read_file(server.hba_file, server.rights(server.hba_file))
    assert login_plan._wanted_file(server, actual, "new\n") == files.ManagedFile(
        server.hba_file, "new\n", "postgres", "postgres", 0o640
    )


def test_the_server_loads_what_it_has_not_loaded(tmp_path: Path) -> None:
    first = planned(tmp_path, "", "yes")
    assert (first.pg_hba.differs, first.pg_ident.differs, first.reload) == (True, False, True)
    text = first.pg_hba.wanted.content or ""
    for loaded, reload in ((0.0, True), (2.0**33, False)):
        again = planned(tmp_path, text, "yes", (), loaded)
        assert [change.differs for change in again.changes] == [False, False]
        assert again.reload is reload
    # What a run that was killed has kept, it may have replaced while the server did not look.
    (tmp_path / ".pg_hba.conf.last-good").write_text("")
    assert planned(tmp_path, text, "yes", (), 2.0**33).reload
