# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that the collection owns for PgBouncer."""

from __future__ import annotations

import os
import pwd

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host.files import Rights
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    files,
    hba,
    processes,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.differences import Desired
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.files import FileKind

from .examples import asked, effective

ME = pwd.getpwuid(os.geteuid()).pw_name
INI = "/etc/pgbouncer/pgbouncer.ini"
OPTIONS = {**effective(), "auth_file": "/etc/pgbouncer/userlist.txt", "unix_socket_dir": "/run/pg"}


def owned(count, found=()):
    members = processes.processes(
        count, OPTIONS, service="pgbouncer", config_file=INI, runtime_directory="/run"
    )
    databases = {"mydb": {"host": "/run/pg", "port": "5432", "dbname": "mydb"}}
    desired = Desired(members[0].options, databases, {}, 2048, os_user=ME)
    return files.wanted_files(
        asked(), members, desired, {"app_user": "x"}, ["note"], found, Rights(ME)
    )


def test_each_file_says_what_it_is_for():
    found = owned(2, found=[2, 3])
    assert [(one.kind, one.path, one.process, one.removed) for one in found] == [
        (FileKind.UNIT, "/etc/systemd/system/pgbouncer.service.d/pooled.conf", 1, False),
        (FileKind.AUTH_FILE, "/etc/pgbouncer/userlist.txt", 0, False),
        (FileKind.CONFIG, INI, 1, False),
        (FileKind.UNIT, "/etc/systemd/system/pgbouncer@.service", 0, False),
        (FileKind.CONFIG, "/etc/pgbouncer/pgbouncer-2.ini", 2, False),
        (FileKind.CONFIG, "/etc/pgbouncer/pgbouncer-3.ini", 3, True),
        (FileKind.ROTATION, "/etc/logrotate.d/pooled-pgbouncer.conf", 0, True),
    ]
    # Whom PgBouncer's files tell apart can't change them, and nobody else reads secrets.
    assert {one.wanted.mode for one in found if one.is_read_by(1)} == {0o640}


def test_a_single_process_has_no_template_unless_there_were_several():
    assert [one.kind for one in owned(1)] == [
        FileKind.UNIT,
        FileKind.AUTH_FILE,
        FileKind.CONFIG,
        FileKind.ROTATION,
    ]
    template = owned(1, found=[2])[3]
    assert (template.kind, template.process, template.removed) == (FileKind.UNIT, 0, True)


@pytest.mark.parametrize(
    ("there", "removed"),
    [(None, [True]), (hba.HEADER, [True]), ("host all all all trust\n", [])],
)
def test_rules_that_nobody_needs_go_when_they_are_ours(tmp_path, there, removed):
    path = tmp_path / "pooled_hba.conf"
    if there is not None:
        path.write_text(there)
    found = files.rules(str(path), hba.Access(OPTIONS), ME, Rights(ME))
    assert [one.removed for one in found] == removed
    named = hba.Access({**OPTIONS, "auth_hba_file": str(path)})
    assert files.rules(str(path), named, ME, Rights(ME)) == []
