#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrate with the env.py that the filter client_settings gives, once for each driver.

usage: migrate.py CLIENT_SETTINGS.json

Each driver makes what engines.py reads; the second takes back what the first made. PGPASSWORD is
app_migrator's. Prints what `alembic current` says for each driver as JSON.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile

INI = """\
[alembic]
script_location = {folder}
"""
REVISION = """
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TYPE mood AS ENUM ('calm', 'hasty')")
    op.execute("CREATE TABLE moods (n int PRIMARY KEY, mood mood)")
    op.execute(
        "INSERT INTO moods SELECT n, (ARRAY['calm', 'hasty'])[n % 2 + 1]::mood"
        " FROM generate_series(0, 39) AS n"
    )


def downgrade() -> None:
    op.execute("DROP TABLE moods")
    op.execute("DROP TYPE mood")
"""


def alembic(folder: str, *command: str) -> str:
    """What the command prints; it must succeed."""
    argv = [sys.executable, "-m", "alembic", "--config", f"{folder}/alembic.ini", *command]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"alembic {' '.join(command)}: {done.stderr}")
    return done.stdout.strip()


def main(settings_file: str) -> int:
    text = pathlib.Path(settings_file).read_text(encoding="utf-8")
    settings = next(entry for entry in json.loads(text) if entry["role"] == "app_migrator")
    current = {}
    for driver, code in settings["code"].items():
        with tempfile.TemporaryDirectory() as folder:
            versions = pathlib.Path(folder, "versions")
            versions.mkdir()
            (versions / "0001.py").write_text(REVISION, encoding="utf-8")
            env = pathlib.Path(folder, "env.py")
            env.write_text(f"target_metadata = None\n{code}", encoding="utf-8")
            pathlib.Path(folder, "alembic.ini").write_text(
                INI.format(folder=folder), encoding="utf-8"
            )
            if current:
                alembic(folder, "downgrade", "base")
            alembic(folder, "upgrade", "head")
            current[driver] = alembic(folder, "current")
    print(json.dumps(current))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
