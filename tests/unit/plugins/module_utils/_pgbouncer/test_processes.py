# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several PgBouncer processes on one host: their options, files and units, and what is done."""

from __future__ import annotations

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    ini,
    os_user,
    processes as room_of_processes,
)

WHO = {
    "user": "postgres",
    "group": "postgres",
    "sandbox": "full",
    "hosts": ["/var/run/postgresql"],
}
OPTIONS = {
    "listen_addr": "*",
    "listen_port": "6432",
    "logfile": "/var/log/postgresql/pgbouncer.log",
    "pidfile": "/var/run/postgresql/pgbouncer.pid",
    "unix_socket_dir": "/var/run/postgresql",
}
INI = "/etc/pgbouncer/pgbouncer.ini"


def processes(count, **options):
    return room_of_processes.processes(
        count,
        {**OPTIONS, **options},
        service="pgbouncer",
        config_file=INI,
        runtime_directory="/run",
    )


@pytest.mark.parametrize(
    ("wanted", "version", "given", "listen_addr", "message"),
    [
        (0, (1, 24, 1), {}, "*",
         "pgbouncer_processes: 0 is not allowed; give a whole number from 1 to 64"),
        (65, (1, 24, 1), {}, "*",
         "pgbouncer_processes: 65 is not allowed; give a whole number from 1 to 64"),
        (2, (1, 18, 0), {}, "*",
         "pgbouncer_processes: 2 processes need PgBouncer 1.21 or newer, because before it requests"
         " to cancel a query get lost between them, and this host has 1.18.0; leave it at 1 and use"
         " more PgBouncer hosts, or a newer release of the distribution"),
        (2, (1, 24, 1), {"peer_id": 7}, "*",
         "pgbouncer_settings.peer_id: pgbouncer_processes sets it for each process; leave it out,"
         " or leave pgbouncer_processes at 1"),
        (2, (1, 24, 1), {"so_reuseport": False}, "*",
         "pgbouncer_settings.so_reuseport: pgbouncer_processes sets it for each process; leave it"
         " out, or leave pgbouncer_processes at 1"),
        (2, (1, 24, 1), {}, "",
         "pgbouncer_processes: 2 processes share a TCP port, and listen_addr is empty; give it an"
         " address, or leave pgbouncer_processes at 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(wanted, version, given, listen_addr, message):
    with pytest.raises(ValueError) as caught:
        room_of_processes.checked_count(
            wanted, version, given, listen_addr, "pgbouncer_processes", "pgbouncer_settings"
        )
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("wanted", "version", "given"),
    [
        (1, (1, 18, 0), {}),
        (1, (1, 18, 0), {"so_reuseport": 1}),
        (1, (1, 24, 1), {"peer_id": 7}),
        (2, (1, 21, 0), {"peer_id": None}),
        (64, (1, 26, 1), {}),
    ],
)
def test_what_can_be(wanted, version, given):
    assert room_of_processes.checked_count(wanted, version, given, "*") == wanted


def test_a_single_process_has_what_it_always_had():
    (only,) = processes(1)
    assert only == room_of_processes.Process(1, "pgbouncer", INI, OPTIONS)
    assert room_of_processes.peers((only,)) == {}
    text = room_of_processes.drop_in(2048, (only,), **WHO)
    assert text.startswith(
        "# Managed by Ansible, collection pooled.postgres: changes made here by hand are"
        " replaced.\n[Service]\nUser=postgres\nGroup=postgres\nNoNewPrivileges=yes\n"
    )
    assert text.endswith("\nLimitNOFILE=2048\nRestart=on-failure\nRestartSec=1\n")
    # The package's directories are there already, and everybody looks into them.
    assert "Directory=" not in text
    assert "ExecStartPost" not in text
    assert [line for line in text.splitlines() if line.startswith("ReadWritePaths=")] == [
        "ReadWritePaths=-/var/log/postgresql",
        "ReadWritePaths=-/var/run/postgresql",
    ]
    assert room_of_processes.rotation(OPTIONS, "pgbouncer", "postgres", "postgres") is None
    assert "[peers]" not in ini.render_ini(OPTIONS, {}, {}, [], [], {})


def test_each_process_has_a_place_of_its_own_and_knows_all():
    first, second, third = processes(3)
    shared = {**OPTIONS, "so_reuseport": "1"}
    assert first.options == {**shared, "peer_id": "1"}
    assert second.options == {
        **shared,
        "peer_id": "2",
        "logfile": "/var/log/postgresql/pgbouncer-2.log",
        "pidfile": "/run/pgbouncer-2/pgbouncer.pid",
        "unix_socket_dir": "/run/pgbouncer-2",
    }
    assert (third.service, third.config_file) == ("pgbouncer@3", "/etc/pgbouncer/pgbouncer-3.ini")
    peers = room_of_processes.peers((first, second, third))
    text = ini.render_ini(second.options, {}, {}, [], [], peers)
    assert (
        "[peers]\n"
        "1 = host=/var/run/postgresql port=6432\n"
        "2 = host=/run/pgbouncer-2 port=6432\n"
        "3 = host=/run/pgbouncer-3 port=6432\n"
        "\n[pgbouncer]\n"
    ) in text
    assert ini.is_managed(text)
    assert not ini.is_managed("[pgbouncer]\n")


def test_a_log_or_pid_file_that_nobody_wants_stays_away():
    _first, second = processes(2, logfile="", pidfile="")
    assert (second.options["logfile"], second.options["pidfile"]) == ("", "")


def test_units():
    members = processes(3)
    text = room_of_processes.drop_in(4096, members, **WHO)
    assert "[Unit]\nWants=pgbouncer@2.service pgbouncer@3.service\n" in text
    # Or a crash of the first would restart the others.
    assert "Restart=on-failure\nRestartMode=direct\n" in text
    template = room_of_processes.template(4096, members, binary="/usr/sbin/pgbouncer", **WHO)
    for line in (
        "PartOf=pgbouncer.service",
        "ReloadPropagatedFrom=pgbouncer.service",
        "User=postgres",
        "Group=postgres",
        "ReadWritePaths=-/var/log/postgresql",
        "ExecStart=/usr/sbin/pgbouncer /etc/pgbouncer/pgbouncer-%i.ini",
        "RuntimeDirectory=pgbouncer-%i",
        "LimitNOFILE=4096",
    ):
        assert f"\n{line}\n" in template
    assert template.startswith(room_of_processes.HEADER)
    assert "ReadWritePaths=-/run" not in template


def test_units_of_a_user_of_its_own():
    who = {**WHO, "user": "pgbouncer", "group": "bouncers"}
    members = processes(2, **os_user.layout("pgbouncer"))
    text = room_of_processes.drop_in(2048, members, **who)
    for line in (
        "User=pgbouncer",
        "Group=bouncers",
        "LogsDirectory=pgbouncer",
        "RuntimeDirectory=pgbouncer",
        # With -T, nothing that is there already is followed; with -, its lack is no failure.
        "ExecStartPost=-+/usr/bin/ln -sfT /run/pgbouncer/.s.PGSQL.6432"
        " /var/run/postgresql/.s.PGSQL.6432",
    ):
        assert f"\n{line}\n" in text
    template = room_of_processes.template(2048, members, binary="/usr/sbin/pgbouncer", **who)
    directories = [line for line in template.splitlines() if "Directory=" in line]
    assert directories == ["LogsDirectory=pgbouncer", "RuntimeDirectory=pgbouncer-%i"]
    for unit in (text, template):
        # It writes nowhere but there.
        assert "ProtectSystem=strict" in unit
        assert "ReadWritePaths" not in unit
    assert "ExecStartPost" not in template
    rotation = room_of_processes.rotation(members[0].options, "pgbouncer", "pgbouncer", "bouncers")
    assert "\n/var/log/pgbouncer/*.log {\n" in rotation
    # Root must not follow what the user puts into its directory.
    assert "\n    su pgbouncer bouncers\n" in rotation


def test_a_place_of_the_users_own_can_be_written_to():
    places = {"unix_socket_dir": "/tmp", "logfile": "/srv/my logs/100%/p.log", "pidfile": ""}
    (only,) = processes(1, **places)
    text = room_of_processes.drop_in(2048, (only,), **{**WHO, "user": "pgbouncer"})
    assert '\nReadWritePaths="-/srv/my logs/100%%"\nReadWritePaths=-/tmp\n' in text
    # Clients would not find a socket in a /tmp of its own.
    assert "PrivateTmp" not in text
    assert "Directory=" not in text
    elsewhere = room_of_processes.drop_in(2048, processes(1), **{**WHO, "hosts": ["a, /tmp/pg"]})
    assert "PrivateTmp" not in elsewhere
    usual = room_of_processes.drop_in(2048, processes(1), **WHO)
    assert "\nPrivateTmp=yes\n" in usual


@pytest.mark.parametrize(("listen", "waits"), [("*", False), ("127.0.0.1,10.0.0.5", True)])
def test_processes_start_when_the_host_has_their_addresses(listen, waits):
    only, several = processes(1, listen_addr=listen), processes(2, listen_addr=listen)
    for text in (
        room_of_processes.drop_in(2048, only, **WHO),
        room_of_processes.drop_in(2048, several, **WHO),
        room_of_processes.template(2048, several, binary="/usr/sbin/pgbouncer", **WHO),
    ):
        about = text.partition("[Unit]\n")[2].partition("[Service]\n")[0].splitlines()
        for line in (
            "Wants=network-online.target",
            "After=network-online.target",
            # One that is still late must not find that systemd has given up.
            "StartLimitIntervalSec=0",
        ):
            assert (line in about) is waits, text
        assert text.count("[Unit]") <= 1


def test_files_of_processes_are_found_and_no_others():
    names = [
        "pgbouncer.ini", "pgbouncer-2.ini", "pgbouncer-10.ini", ".pgbouncer-3.ini.last-good",
        ".pgbouncer-4.ini.new", "pgbouncer-1.ini", "pgbouncer-x.ini", "pgbouncer-02.ini",
        "pgbouncer-2.ini.bak", ".pgbouncer.ini.last-good", "userlist.txt", "pgbouncer-100.ini",
    ]  # fmt: skip
    assert sorted(room_of_processes.files_of_processes(names, INI)) == [
        (2, "pgbouncer-2.ini"),
        (3, ".pgbouncer-3.ini.last-good"),
        (4, ".pgbouncer-4.ini.new"),
        (10, "pgbouncer-10.ini"),
    ]


@pytest.mark.parametrize(
    ("wanted", "found", "active", "may_restart", "count"),
    [
        (3, [], True, True, 3),
        (1, [2, 3], True, True, 1),
        # One that has its port for itself must restart to share it, unless it is down.
        (3, [], True, False, 1),
        (3, [], False, False, 3),
        # Others join those that share it.
        (4, [2], True, False, 4),
        # Who goes drops its clients.
        (2, [2, 3], True, False, 3),
        (1, [2, 3], False, False, 3),
        (3, [2, 3], True, False, 3),
        (1, [], True, False, 1),
    ],
)
def test_no_process_comes_or_goes_against_the_policy(wanted, found, active, may_restart, count):
    assert room_of_processes.count_for_now(wanted, found, active, may_restart) == count
