# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pgbouncer_config: the OS user of a real PgBouncer, and its files.

What takes systemd and another user is in Molecule's scenario C(default).
"""

from __future__ import annotations

import grp
import os
import stat

from .poolers import SERVICE

# What an earlier version of this collection wrote to the drop-in.
OLD_LINES = ("#", "[Service]", "LimitNOFILE=", "Restart")


def drop_in(pooler):
    return pooler.home / "units" / f"{SERVICE}.service.d" / "pooled.conf"


def test_pgbouncer_can_read_its_files_and_change_nothing(pooler):
    pooler.configure()
    group = grp.getgrgid(pooler.cluster.user.pw_gid if pooler.cluster.user else os.getegid())
    for path in (pooler.ini, pooler.userlist):
        found = path.stat()
        assert (found.st_uid, found.st_gid) == (os.geteuid(), group.gr_gid)
        assert stat.S_IMODE(found.st_mode) == 0o640
    unit = drop_in(pooler).read_text().splitlines()
    assert f"User={pooler.cluster.os_user}" in unit
    assert f"Group={group.gr_name}" in unit
    assert "NoNewPrivileges=yes" in unit


def test_a_host_of_an_earlier_version_goes_on_with_its_user_and_its_process(pooler):
    pooler.configure(os_user="auto")
    unit = drop_in(pooler)
    lines = unit.read_text().splitlines(keepends=True)
    unit.write_text("".join(line for line in lines if line.startswith(OLD_LINES)))
    if pooler.cluster.user:
        for path in (pooler.ini, pooler.userlist):
            os.chown(path, pooler.cluster.user.pw_uid, pooler.cluster.user.pw_gid)
    pooler.systemctl("daemon-reload")
    pooler.systemctl(f"restart {SERVICE}")
    before = pooler.pid
    actions = pooler.predicted_and_done(os_user="auto")
    # The unit is in force from the next start on; a reload reads the file, whose owner is another.
    assert [one for one in actions if one != "RELOAD"] == ["systemctl daemon-reload"]
    assert pooler.pid == before
    assert unit.read_text().splitlines(keepends=True) == lines
    assert f"User={pooler.cluster.os_user}\n" in lines
    assert "CapabilityBoundingSet=\n" in lines
    assert pooler.query("SELECT 1") == 1


def test_what_a_host_can_not_do_is_not_asked_of_it_and_nothing_restarts(pooler):
    pooler.configure()
    before = pooler.pid
    assert "ProtectSystem=strict" in drop_in(pooler).read_text()
    assert pooler.predicted_and_done(sandbox="none") == ["systemctl daemon-reload"]
    assert "ProtectSystem" not in drop_in(pooler).read_text()
    assert pooler.pid == before


def test_another_user_takes_a_restart(pooler):
    pooler.configure()
    # Where PgBouncer is to write has to be the user's before.
    run = pooler.home / "run"
    if os.geteuid() == 0:
        refused = pooler.configure(check=True, os_user="daemon")
        assert refused["failed"]
        assert refused["msg"].startswith(f"unix_socket_dir: {run} can't be written by daemon")
    for path in (run, run / "pgbouncer.log"):
        path.chmod(0o777)
    foreseen = pooler.configure(check=True, os_user="daemon")
    assert [one for one in foreseen["actions"] if not one.startswith("write ")] == [
        "systemctl daemon-reload",
        "restart for os_user",
    ]
    assert foreseen["os_user"] == "daemon"
    # One that does not exist is created first.
    foreseen = pooler.configure(check=True, os_user="pooled-nobody-yet")
    assert foreseen["actions"][0] == "create the OS user pooled-nobody-yet"
    assert foreseen["actions"][-1] == "restart for os_user"


def test_another_user_waits_for_a_restart_that_is_forbidden(pooler):
    pooler.configure()
    before = (pooler.files(), pooler.pid)
    for check in (True, False):
        found = pooler.configure(check=check, os_user="daemon", restart="never")
        assert (found["changed"], found["restart_pending"]) == (False, ["os_user"])
        assert found["os_user"] == pooler.cluster.os_user
        assert found["warnings"] == [
            f"These wait for a restart of {SERVICE}, which restart=never forbids: os_user"
        ]
    # The process that goes on must be able to read what it reloads.
    pooler.configure(os_user="daemon", restart="never", options={"query_timeout": 7})
    assert pooler.shows("query_timeout") == "7"
    assert pooler.pid == before[1]


def test_a_user_that_can_not_be_is_refused(pooler):
    pooler.configure()
    before = (pooler.files(), pooler.pid)
    for arguments, message in (
        ({"os_user": "root"}, "os_user: 'root' is not allowed"),
        ({"os_user": "a b"}, "os_user: 'a b' is not a valid name of an OS user"),
        ({"options": {"user": "daemon"}}, "options.user: 'daemon' is not the OS user that"),
    ):
        for check in (True, False):
            result = pooler.configure(check=check, **arguments)
            assert result["failed"]
            assert result["msg"].startswith(message)
            assert (pooler.files(), pooler.pid) == before


def test_a_user_whom_the_server_does_not_let_in_is_refused(pooler):
    pooler.configure()
    for path in (pooler.home / "run", pooler.home / "run" / "pgbouncer.log"):
        path.chmod(0o777)
    before = (pooler.files(), pooler.pid)
    rules = pooler.cluster.data / "pg_hba.conf"
    kept = rules.read_text()
    pooler.cluster.socket_directory.chmod(0o755)
    rules.write_text(f"local all pgbouncer_auth peer\n{kept}")
    pooler.cluster.sql("SELECT pg_reload_conf()")
    try:
        result = pooler.configure(os_user="daemon")
    finally:
        pooler.cluster.socket_directory.chmod(0o700)
        rules.write_text(kept)
        pooler.cluster.sql("SELECT pg_reload_conf()")
    assert result["failed"]
    assert result["msg"].startswith(
        "os_user: Postgres does not let the OS user 'daemon' in as 'pgbouncer_auth', so that"
    )
    assert 'Peer authentication failed for user "pgbouncer_auth"' in result["msg"]
    assert (pooler.files(), pooler.pid) == before
