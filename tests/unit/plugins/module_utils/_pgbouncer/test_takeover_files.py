# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of files that a run replaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host.files import Rights
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import takeover_files

OWN = Rights("nobody")


def test_every_replaced_file_is_copied_once_until_there_are_too_many(tmp_path: Path) -> None:
    path = tmp_path / "pgbouncer.ini"
    path.write_text("theirs")
    (copy,) = takeover_files.missing_copies([str(path)], OWN)
    assert (copy.path, copy.content) == (f"{path}.before-pooled", "theirs")
    for number in range(1, 100):
        name = f"{path}.before-pooled" + (f"-{number}" if number > 1 else "")
        Path(name).write_text(f"older {number}")
    with pytest.raises(ValueError, match=r"pgbouncer\.ini: there are too many copies of it; "):
        takeover_files.missing_copies([str(path)], OWN)
    Path(f"{path}.before-pooled-99").write_text("theirs")
    assert takeover_files.missing_copies([str(path)], OWN) == []
