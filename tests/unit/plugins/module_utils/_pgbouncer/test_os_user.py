# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The OS user that PgBouncer runs as."""

from __future__ import annotations

import os
import pwd
import stat
from types import SimpleNamespace

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    os_user,
)

NEW = {"installed": False, "as_packaged": False, "unit_user": ""}
PACKAGED = {"installed": True, "as_packaged": True, "unit_user": "postgres"}


@pytest.mark.parametrize(
    ("asked", "found", "user"),
    [
        ("auto", NEW, "pgbouncer"),
        ("auto", PACKAGED, "pgbouncer"),
        # One that is set up already keeps its user, whichever that is.
        ("auto", {**PACKAGED, "as_packaged": False}, "postgres"),
        ("auto", {"installed": True, "as_packaged": False, "unit_user": "pgbouncer"}, "pgbouncer"),
        ("auto", {"installed": True, "as_packaged": False, "unit_user": ""}, "postgres"),
        ("postgres", NEW, "postgres"),
        ("pgbouncer", {**PACKAGED, "as_packaged": False}, "pgbouncer"),
        ("bouncer", PACKAGED, "bouncer"),
    ],
)
def test_chosen(asked, found, user):
    assert os_user.chosen(asked, **found) == user


@pytest.mark.parametrize("user", ["auto", "pgbouncer", "postgres", "_pg-1", "a" * 32])
def test_valid_names(user):
    assert os_user.checked(user) == user


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (
            "root",
            "pgbouncer_os_user: 'root' is not allowed, because PgBouncer refuses to run as root",
        ),
        ("", "pgbouncer_os_user: '' is not a valid name of an OS user; give lower-case letters"),
        ("-x", "'-x' is not a valid name"),
        ("a b", "'a b' is not a valid name"),
        ("pg\nUser=root", "is not a valid name"),
        ("pg\n", "is not a valid name"),
        ("Pg", "'Pg' is not a valid name"),
        ("a" * 33, "is not a valid name"),
    ],
)
def test_invalid_names(user, message):
    with pytest.raises(ValueError) as caught:
        os_user.checked(user, "pgbouncer_os_user")
    assert message in str(caught.value)


def test_what_a_unit_says():
    package = "[Service]\nType=notify\nUser=postgres\n#User=root\n"
    assert os_user.unit_user([package]) == "postgres"
    assert os_user.unit_user([package, "[Service]\nUser = bouncer \n"]) == "bouncer"
    assert os_user.unit_user([package, "[Service]\nUser=\n"]) == ""
    assert os_user.unit_user(["[Service]\nGroup=x\n", ""]) == ""


def test_layouts():
    package = os_user.layout("postgres")
    own = os_user.layout("pgbouncer")
    assert package["unix_socket_dir"] == "/var/run/postgresql"
    assert own == {
        "logfile": "/var/log/pgbouncer/pgbouncer.log",
        "pidfile": "/run/pgbouncer/pgbouncer.pid",
        "unix_socket_dir": "/run/pgbouncer",
    }


def test_pgbouncer_is_not_told_to_become_somebody_else():
    os_user.check_options({}, "pgbouncer")
    os_user.check_options({"user": "pgbouncer"}, "pgbouncer")
    with pytest.raises(ValueError, match=r"options\.user: 'postgres' is not the OS user that"):
        os_user.check_options({"user": "postgres"}, "pgbouncer")


def test_places_must_be_writable(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    asked = []

    def refuse(command):
        asked.append(command[-2:])
        return 0 if command[-2] == "-d" else 1, "", ""

    options = {**os_user.layout("nobody"), "logfile": "/etc/pgbouncer.log"}
    with pytest.raises(ValueError, match="logfile: /etc can't be written by nobody, as whom"):
        os_user.check_places(refuse, options, "nobody", "pgbouncer")
    # systemd makes the usual ones.
    assert asked == [["-w", "/etc"], ["-w", "/etc/pgbouncer.log"], ["-d", "/etc"]]
    os_user.check_places(refuse, os_user.layout("nobody"), "nobody", "pgbouncer")


def test_a_user_that_does_not_exist_yet_has_no_rights_of_its_own(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    commands = []

    def run(command):
        commands.append(command)
        return 0, "", ""

    assert os_user.may(run, "no-such-user", "-r", "/a")
    assert os_user.may(run, "nobody", "-r", "/a")
    assert "--clear-groups" in commands[0]
    assert "--reuid=65534" in commands[0]
    assert "--init-groups" in commands[1]


def test_created_without_a_login():
    command = os_user.command_to_create("pgbouncer")
    assert command[0] == "useradd"
    assert {"--system", "--no-create-home", "/usr/sbin/nologin"} <= {*command}
    assert command[-2:] == ["--", "pgbouncer"]
    # A group of that name may be there already.
    assert "--user-group" in os_user.command_to_create("no-such-group")
    group = os_user.command_to_create("daemon")
    assert group[group.index("--gid") + 1] == "daemon"


SOCKET, LINK = stat.S_IFSOCK | 0o777, stat.S_IFLNK | 0o777


@pytest.mark.parametrize(
    ("asked", "entry", "behind", "user"),
    [
        ("auto", ("daemon", SOCKET), None, "daemon"),
        # What root has made for somebody, as systemd may, does not say for whom.
        ("auto", ("root", SOCKET), None, "postgres"),
        ("auto", None, None, "postgres"),
        # Ours, which leads to where PgBouncer makes its socket.
        ("auto", ("root", LINK), "daemon", "daemon"),
        ("auto", ("root", LINK), "root", "postgres"),
        ("auto", ("root", LINK), None, "postgres"),
        # Whoever can make one in that directory must not choose whose identity is used.
        ("auto", ("nobody", LINK), "daemon", "nobody"),
        ("somebody", ("daemon", SOCKET), None, "somebody"),
    ],
)
def test_the_socket_says_whose_it_is(monkeypatch, asked, entry, behind, user):
    def status(found):
        def of(path):
            assert path == "/run/x/.s.PGSQL.6432"
            if found is None:
                raise FileNotFoundError(path)
            return SimpleNamespace(st_uid=pwd.getpwnam(found[0]).pw_uid, st_mode=found[1])

        return of

    with monkeypatch.context() as patched:
        patched.setattr(os_user.os, "lstat", status(entry))
        patched.setattr(os_user.os, "stat", status(behind and (behind, SOCKET)))
        found = os_user.of_socket(asked, "/run/x", 6432)
    assert found == user
