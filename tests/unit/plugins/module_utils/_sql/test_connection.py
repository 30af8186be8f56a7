# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""psycopg2 is found where the distribution has it, whatever Python runs the module."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._sql import connection


class Ended(Exception):
    """How the module ended."""


class Module:
    """As much of an AnsibleModule as fails."""

    def fail_json(self, **result: Any) -> NoReturn:
        raise Ended(result["msg"])


# (why psycopg2 was not imported, run again already, Python that has it, how the module ends)
CASES = [
    (None, False, "/usr/bin/python3", None),
    ("traceback", False, "/usr/bin/python3", "again in /usr/bin/python3"),
    ("traceback", False, None, r"required Python library \(psycopg2\)"),
    ("traceback", True, "/usr/bin/python3", r"required Python library \(psycopg2\)"),
]


@pytest.mark.parametrize(("error", "respawned", "found", "end"), CASES)
def test_psycopg2_is_looked_for_once(monkeypatch, error, respawned, found, end):
    def respawn(interpreter: str) -> NoReturn:
        raise Ended(f"again in {interpreter}")

    def probe(interpreters: list[str], name: str) -> str | None:
        assert (interpreters, name) == (["/usr/bin/python3"], "psycopg2")
        return found

    monkeypatch.setattr(connection, "PSYCOPG2_IMPORT_ERROR", error)
    monkeypatch.setattr(connection, "has_respawned", lambda: respawned)
    monkeypatch.setattr(connection, "probe_interpreters_for_module", probe)
    monkeypatch.setattr(connection, "respawn_module", respawn)
    if end is None:
        connection.require_psycopg2(Module())
        return
    with pytest.raises(Ended, match=end):
        connection.require_psycopg2(Module())
