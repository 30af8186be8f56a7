# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on the host, in files of this process's own user."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host import files
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    ini,
    processes,
    read,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.files import (
    FileKind,
    OwnedFile,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.request import Request

from .examples import asked

OWN = files.Rights("nobody")
OURS = ini.render_ini({"listen_port": "6432"}, {}, {}, [])


def request_in(directory: Path, **more: Any) -> Request:
    config_file = str(directory / "pgbouncer.ini")
    return asked(config_file=config_file, unit_directory=str(directory), **more)


def put(directory: Path, **texts: str) -> None:
    for name, text in texts.items():
        (directory / name.replace("_", "-")).with_suffix(".ini").write_text(text)


TEMPLATE = "pgbouncer@.service"


@pytest.mark.parametrize(
    ("texts", "template", "found"),
    [
        ({}, None, []),
        ({"pgbouncer": OURS}, None, []),
        ({"pgbouncer_2": OURS, "pgbouncer_3": OURS}, None, [2, 3]),
        ({"pgbouncer_2": OURS, "pgbouncer_3": "[pgbouncer]\n"}, None, [2]),
        # What has no header is ours when the template is, as a run that was killed leaves it.
        ({"pgbouncer_2": ""}, processes.HEADER + "[Unit]\n", [2]),
        ({"pgbouncer_2": OURS}, "[Unit]\n", [2]),
    ],
)
def test_processes_beside_the_first(
    tmp_path: Path, texts: dict[str, str], template: str | None, found: list[int]
) -> None:
    put(tmp_path, **texts)
    if template is not None:
        (tmp_path / TEMPLATE).write_text(template)
    assert read.other_processes(request_in(tmp_path), OWN) == found


@pytest.mark.parametrize("name", [TEMPLATE, "pgbouncer-2.ini"])
def test_further_processes_take_nobodys_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[somebody's]\n")
    message = f"processes: {tmp_path / name} is not this collection's; remove what it belongs to,"
    with pytest.raises(ValueError, match=re.escape(message)):
        read.other_processes(request_in(tmp_path, processes=2), OWN)
    assert read.other_processes(request_in(tmp_path), OWN) == []


def owned(path: Path, content: str | None) -> OwnedFile:
    user, group = files.user_name(os.geteuid()), files.group_name(os.getegid())
    return OwnedFile(FileKind.RULES, files.ManagedFile(str(path), content, user, group, 0o640))


def test_a_file_that_must_change_and_cannot_is_refused_before_any_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only such a file: one that is right already may be anybody's."""

    def locked(path: str, _rights: files.Rights) -> None:
        raise PermissionError(path)

    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for path in (right, wrong):
        path.write_text("as it should be\n")
        path.chmod(0o640)
    as_it_is = [owned(right, "as it should be\n"), owned(tmp_path / "none", None)]
    otherwise = owned(wrong, "otherwise\n")
    monkeypatch.setattr(files, "check_changeable", locked)
    assert not any(one.changes for one in read.file_states(as_it_is, OWN, True))
    with pytest.raises(PermissionError, match="wrong"):
        read.file_states([*as_it_is, otherwise], OWN, True)
    monkeypatch.undo()
    states = read.file_states([*as_it_is, otherwise], OWN, True)
    assert [one.changes for one in states] == [False, False, True]
