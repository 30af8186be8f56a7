# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example of the playbook plan in docs/sizing.md prints what stands there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_documented_example(tmp_path):
    text = (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")
    _before, command, after = text.partition("ansible-playbook pooled.postgres.plan ")
    arguments, _separator, rest = after.partition("\n")
    documented = rest.split("```")[2].strip("\n").split("\n")
    done = subprocess.run(
        [*command.split(), *arguments.split()],
        env={
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
            "ANSIBLE_HOME": str(ROOT / ".ansible" / "home"),
            "LC_ALL": "C.UTF-8",
            "PATH": f"{ROOT / '.venv' / 'bin'}:/usr/bin:/bin",
        },
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown, _end = json.JSONDecoder().raw_decode(done.stdout.partition('"msg": ')[2])
    assert shown == documented, "paste it into docs/sizing.md:\n" + "\n".join(shown)
