# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd keeps from our services, and for what they wait."""

from __future__ import annotations

import pytest

from ansible_collections.pooled.postgres.plugins.filter.network_drop_in import FilterModule
from ansible_collections.pooled.postgres.plugins.filter.unit_hardening import unit_hardening
from ansible_collections.pooled.postgres.plugins.module_utils._host import units


@pytest.mark.parametrize("sandbox", units.SANDBOXES)
def test_the_server_beside_it_keeps_its_memory(sandbox):
    # RemoveIPC of a unit of the user postgres removes the server's shared memory when it stops.
    assert not any(line.startswith("RemoveIPC") for line in units.hardening(sandbox))


def test_what_a_host_can_not_do_is_left_out():
    full, mounts, none = (set(units.hardening(sandbox)) for sandbox in units.SANDBOXES)
    assert none < mounts < full
    assert {"NoNewPrivileges=yes", "CapabilityBoundingSet=", "UMask=0027"} <= none
    assert "ProtectSystem=strict" in mounts - none
    assert {"SystemCallFilter=@system-service", "PrivateDevices=yes"} <= full - mounts


def test_an_unknown_sandbox_is_refused():
    with pytest.raises(ValueError, match="sandbox: 'all' is not allowed; choose one of full, "):
        units.hardening("all")


def test_services_do_not_see_homes_unless_told():
    assert "ProtectHome=read-only" in units.hardening("full")
    assert "ProtectHome=yes" in unit_hardening("full")


@pytest.mark.parametrize(
    ("path", "private"),
    [
        ("/var/run/postgresql", True),
        ("/tmpfs/a", True),
        ("/tmp", False),
        ("/tmp/a/b", False),
        ("/var/tmp/a", False),
    ],
)
def test_what_is_in_tmp_stays_in_sight(path, private):
    for lines in (
        units.hardening("full", paths=[path]),
        units.hardening("full", writable=[path]),
        unit_hardening("full", [path]),
    ):
        assert ("PrivateTmp=yes" in lines) is private


def test_a_probe_asks_for_all_of_it_as_somebody_else_than_root():
    probe = units.probe("full")
    assert probe[::2] == ["--property"] * len(probe[1::2])
    assert {"User=daemon", "PrivateTmp=yes", *units.hardening("full")} == {*probe[1::2]}


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("-/var/run/postgresql", "-/var/run/postgresql"),
        ("-/a b", '"-/a b"'),
        ("/50%", "/50%%"),
        ('/a"b\\c', '"/a\\"b\\\\c"'),
        ("/a$b", '"/a$b"'),
    ],
)
def test_quoted(word, quoted):
    assert units.quoted(word) == quoted


# Addresses to listen on, and whether a host that boots may lack one of them.
ADDRESSES = [
    ("", False),
    ("*", False),
    ("0.0.0.0", False),  # noqa: S104 - nothing listens there
    ("::", False),
    ("localhost", False),
    ('127.0.0.1, ::1,"LOCALHOST"', False),
    ("127.8.9.10", False),
    ("10.0.0.5", True),
    ("localhost,10.0.0.5", True),
    ("::1, 2001:db8::5", True),
    ("fe80::1%eth0", True),
    ("db.internal", True),
]


@pytest.mark.parametrize(("listen", "waits"), ADDRESSES)
def test_who_listens_on_an_address_of_the_network_waits_for_it(listen, waits):
    lines = ["Wants=network-online.target", "After=network-online.target"]
    assert units.network_lines(listen) == (lines if waits else [])
    text = FilterModule().filters()["network_drop_in"](listen)
    assert text.splitlines()[1:] == (["[Unit]", *lines] if waits else [])
