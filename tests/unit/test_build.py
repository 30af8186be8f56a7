# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The artefact that ansible-galaxy builds has what users need, and nothing else."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# All that may be at the top. What is new in the tree and not for users goes to galaxy.yml's
# build_ignore; what is for users comes here.
TOP = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "FILES.json",
    "LICENSE",
    "MANIFEST.json",
    "README.md",
    "changelogs",
    "docs",
    "examples",
    "meta",
    "playbooks",
    "plugins",
    "roles",
}
NEEDED = [
    "LICENSE",
    "README.md",
    "examples/app/requirements.txt",
    "examples/inventory/group_vars/all/main.yml",
    "meta/execution-environment.yml",
    "meta/runtime.yml",
    "playbooks/site.yml",
    *(
        f"roles/{role.name}/{part}"
        for role in ROOT.glob("roles/*")
        for part in ("README.md", "meta/argument_specs.yml", "tasks/main.yml")
    ),
]
SOURCES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "plugins").rglob("*.py"))


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artefact")
    subprocess.run(
        [ROOT / ".venv/bin/ansible-galaxy", "collection", "build", "--output-path", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (artefact,) = folder.glob("pooled-postgres-*.tar.gz")
    with tarfile.open(artefact) as archive:
        members = archive.getmembers()
    return {member.name.removeprefix("./") for member in members if member.isfile()}


def test_only_known_names_at_the_top(names):
    assert {name.split("/")[0] for name in names} <= TOP


@pytest.mark.parametrize("path", NEEDED)
def test_what_users_need_is_there(names, path):
    assert path in names


def test_every_plugin_is_there(names):
    assert set(SOURCES) <= names


def test_nothing_that_tools_leave_behind(names):
    left = [
        name
        for name in names
        if name.endswith((".pyc", ".pyo", ".swp", "~", ".tar.gz", ".log"))
        or {"__pycache__", ".venv", ".demo", ".git", ".mypy_cache"} & set(name.split("/"))
    ]
    assert left == []


def test_nothing_that_git_ignores(names):
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert names - set(tracked) == {"FILES.json", "MANIFEST.json"}
