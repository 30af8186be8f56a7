# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The note about an interrupted run."""

from __future__ import annotations

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import report
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.interruption import (
    Interruption,
    note,
    note_path,
    parsed,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.plan import (
    ReconnectPools,
    ReloadProcess,
    RestartProcess,
    WriteFile,
)

# Paths and reasons may be spelled like anything.
MISLEADING = WriteFile("/etc/RECONNECT/restart for")


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([], Interruption(True)),
        ([MISLEADING, ReloadProcess()], Interruption(True)),
        ([MISLEADING, RestartProcess(("pkt_buf",))], Interruption(True, restarts=True)),
        ([RestartProcess(("pkt_buf",), "pgbouncer@2")], Interruption(True, restarts=True)),
        ([ReloadProcess(), ReconnectPools("pgbouncer@2")], Interruption(True, reconnects=True)),
    ],
)
def test_a_note_says_what_was_begun(actions, expected):
    text = note(actions, [report.action_text(action) for action in actions])
    assert parsed(text) == expected
    title, *lines = text.splitlines()
    assert title.startswith("A run of pooled.postgres was interrupted here;")
    assert lines[:-1] == [report.action_text(action) for action in actions]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Interruption(True)),
        ("interrupted\nwrite /x\nRELOAD\n", Interruption(True)),
        ("interrupted\nRELOAD\nRECONNECT\n", Interruption(True, reconnects=True)),
        ("interrupted\nRECONNECT (pgbouncer@2)\n", Interruption(True, reconnects=True)),
        ("interrupted\nrestart for pkt_buf\n", Interruption(True, restarts=True)),
        ("interrupted\nwrite /RECONNECT/restart for\n", Interruption(True)),
        # Half of a last line, or another one, says no more.
        ('interrupted\nRECONNECT\n{"restarts": true, "rec', Interruption(True, reconnects=True)),
        ("interrupted\nrestart for pkt_buf\n{}\n", Interruption(True, restarts=True)),
        ('interrupted\n{"restarts": true}\n', Interruption(True)),
        ("interrupted\n[]\n", Interruption(True)),
    ],
)
def test_the_note_of_an_earlier_version_is_understood(text, expected):
    assert parsed(text) == expected


def test_the_note_is_beside_the_configuration():
    assert note_path("/etc/pgbouncer/pgbouncer.ini") == "/etc/pgbouncer/.pooled-unfinished"
