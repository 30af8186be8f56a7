# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pgbouncer_config on hosts where somebody else has set PgBouncer up, and uses it."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import psycopg
import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host import sockets

from .poolers import PASSWORD, ROLE, SERVICE

SECRET = "hunter2-of-others"
NAMED = (
    "extra.ini, which it includes; ",
    "; database legacydb; database *, which is every database that has no entry of its own; ",
    "; database included; ",
    "; option admin_users dba; ",
    "_hba.conf; option auth_type hba (becomes scram-sha-256); ",
    "; option pool_mode session (becomes transaction); ",
    "; user dba of ",
    "; user legacy of ",
)


@pytest.fixture
def foreign(pooler):
    """A PgBouncer that serves others than the model's roles, with files of its owner's."""
    places = dict(
        line.split(" = ") for line in pooler.ini.read_text().splitlines() if " = " in line
    )
    server = f"host={pooler.cluster.socket_directory} port={pooler.cluster.port}"
    etc = pooler.home / "etc"
    owner = pooler.ini.stat()
    texts = {
        pooler.ini: (
            f"[databases]\nlegacydb = {server} dbname=mydb user=app_user password={PASSWORD}\n"
            f"* = {server}\n%include {etc}/extra.ini\n[pgbouncer]\nauth_type = hba\n"
            f"auth_hba_file = {etc}/old_hba.conf\nadmin_users = dba\n"
            + "".join(f"{name} = {value}\n" for name, value in places.items())
        ),
        etc / "extra.ini": f"included = {server} dbname=mydb\n",
        etc / "old_hba.conf": "host all all 127.0.0.1/32 md5\n",
        pooler.userlist: f'"legacy" "{SECRET}"\n"dba" "{SECRET}"\n',
    }
    for path, text in texts.items():
        path.write_text(text)
        os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o640)
    pooler.ini.chmod(0o600)
    pooler.systemctl(f"restart {SERVICE}")
    assert legacy_login(pooler) == 1
    return pooler


def legacy_login(pooler) -> int:
    """A value that a client of the unmanaged PgBouncer gets."""
    with psycopg.connect(
        host="127.0.0.1", port=pooler.port, user="legacy", password=SECRET, dbname="legacydb"
    ) as connection:
        return connection.execute("SELECT 1").fetchone()[0]


def kept(path: Path) -> Path:
    return path.with_name(f"{path.name}.before-pooled")


def test_a_pooler_in_use_is_refused_by_name_until_told(foreign):
    pooler = foreign
    before = pooler.files()
    was = {path: path.stat() for path in (pooler.ini, pooler.userlist)}
    pid = pooler.pid
    messages = [pooler.configure(check=check)["msg"] for check in (True, False)]
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"takeover: {pooler.ini} is not managed by this collection")
    for text in NAMED:
        assert text in messages[0], text
    assert (pooler.files(), pooler.pid, legacy_login(pooler)) == (before, pid, 1)

    told = {"takeover": True}
    check = pooler.configure(check=True, **told)
    done = pooler.configure(**told)
    assert not done.get("failed"), done["msg"]
    assert check["actions"] == done["actions"]
    assert check["warnings"] == done["warnings"]
    said = " ".join(done["warnings"])
    assert "database legacydb" in said
    for path, stat in was.items():
        assert f"write {kept(path)}" in done["actions"]
        assert str(kept(path)) in said
        assert kept(path).read_bytes() == before[str(path)]
        copy = kept(path).stat()
        assert (copy.st_mode, copy.st_uid, copy.st_gid) == (stat.st_mode, stat.st_uid, stat.st_gid)
    assert SECRET not in str([messages, check, done])
    assert PASSWORD not in str([messages, check, done])
    assert pooler.query("SELECT 1") == 1
    with pytest.raises(psycopg.OperationalError):
        legacy_login(pooler)
    # Told or not, there is nothing left to do.
    for arguments in (told, {}):
        again = pooler.configure(**arguments)
        assert (again["changed"], again["actions"]) == (False, [])
        assert "legacydb" not in str(again.get("warnings"))

    # Somebody puts their file back: that is as it was the first time, and the copy is there.
    for path in was:
        path.write_bytes(before[str(path)])
    assert pooler.configure()["msg"] == messages[0]
    again = pooler.configure(**told)
    assert not [action for action in again["actions"] if "before-pooled" in action]
    pooler.userlist.write_text(f'"later" "{SECRET}"\n')
    pooler.ini.write_bytes(before[str(pooler.ini)])
    again = pooler.configure(**told)
    assert f"write {kept(pooler.userlist)}-2" in again["actions"]
    assert kept(pooler.userlist).read_bytes() == before[str(pooler.userlist)]


def test_what_the_inventory_has_stays_without_being_told(pooler):
    server = f"host={pooler.cluster.socket_directory} port={pooler.cluster.port}"
    text = pooler.ini.read_text().replace("[databases]\n", f"[databases]\nmydb = {server}\n")
    text += "auth_type = scram-sha-256\npool_mode = transaction\nquery_timeout = 9\n"
    pooler.ini.write_text(text)
    pooler.userlist.write_text(f'"app_user" "{PASSWORD}"\n')
    options = {"query_timeout": 9}
    pooler.predicted_and_done(options=options)
    assert kept(pooler.ini).read_text() == text
    assert pooler.query("SELECT 1") == 1
    result = pooler.configure()
    assert not result.get("failed"), result["msg"]


def test_the_packages_own_file_is_nobodys_whatever_it_says(pooler):
    text = pooler.ini.read_text() + "max_client_conn = 300\nadmin_users = postgres\n"
    pooler.ini.write_text(text)
    assert "max_client_conn 300 (becomes 100)" in pooler.configure(check=True)["msg"]
    digest = hashlib.md5(text.encode()).hexdigest()  # noqa: S324 - dpkg's own choice
    query = pooler.home / "bin" / "dpkg-query"
    query.write_text(f"#!/bin/sh\necho ' {pooler.ini} {digest}'\n")
    query.chmod(0o755)
    before = set(pooler.files())
    pooler.predicted_and_done()
    assert not [path for path in set(pooler.files()) - before if "before-pooled" in path]


def test_a_takeover_that_fails_leaves_all_as_it_was(foreign, monkeypatch):
    pooler = foreign
    before = pooler.files()
    # The other program comes after the look for it.
    monkeypatch.setattr(sockets, "why_not_listen", lambda *_: "")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = pooler.configure(options={"listen_port": port}, takeover=True)
    assert "Address already in use" in result["msg"]
    assert pooler.files() == before
    assert legacy_login(pooler) == 1


def test_an_auth_file_and_rules_of_others_are_not_overwritten_silently(pooler):
    pooler.configure()
    other = pooler.home / "etc" / "other.txt"
    other.write_text(f'"legacy" "{SECRET}"\n')
    os.chown(other, pooler.cluster.user.pw_uid if pooler.cluster.user else -1, -1)
    options = {"auth_file": str(other)}
    result = pooler.configure(options=options)
    assert f"would take away: user legacy of {other}. Nothing" in result["msg"]
    assert SECRET not in str(result)
    pooler.predicted_and_done(options=options, takeover=True)
    assert kept(other).read_text() == f'"legacy" "{SECRET}"\n'
    rules = pooler.home / "etc" / "pooled_hba.conf"
    rules.write_text("# somebody's notes\n")
    databases = [{"name": "mydb", "roles": [ROLE]}]
    pooler.predicted_and_done(options=options, databases=databases, client_networks=["127.0.0.0/8"])
    assert kept(rules).read_text() == "# somebody's notes\n"
    assert pooler.query("SELECT 1") == 1


def test_a_file_that_the_pooler_may_not_read_is_not_read_for_it(pooler):
    """Whoever may write its configuration may name any file there."""
    if not pooler.cluster.user:
        pytest.fail("this test needs root, who may read what the pooler may not")
    private = pooler.home / "private.ini"
    private.write_text("[databases]\nprivate_name = host=x\n")
    private.chmod(0o600)
    pooler.ini.write_text(pooler.ini.read_text() + f"%include {private}\n")
    result = pooler.configure(check=True)
    assert f"file {private}, which can't be read; " in result["msg"] + "; "
    assert "private_name" not in str(result)
