# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each module can be loaded where psycopg2 is not installed: so it can say that, or go without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MODULES = Path(__file__).resolve().parents[2] / "plugins" / "modules"
NAMES = sorted(path.stem for path in MODULES.glob("*.py"))
# Before anything has imported it.
LOAD = """
import importlib, sys
sys.modules["psycopg2"] = None
sys.path[:0] = {path!r}
for name in {names!r}:
    importlib.import_module("ansible_collections.pooled.postgres.plugins.modules." + name)
connection = sys.modules["ansible_collections.pooled.postgres.plugins.module_utils._sql.connection"]
assert connection.PSYCOPG2_IMPORT_ERROR
"""


def test_each_module_loads_without_psycopg2() -> None:
    assert len(NAMES) > 10
    code = LOAD.format(path=[path for path in sys.path if path], names=NAMES)
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    if loaded.returncode:
        pytest.fail(loaded.stderr)
