# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-doc renders everything there is, and nothing that is documented is missing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / ".ansible" / "collections"


def stems(pattern: str) -> list[str]:
    return sorted(path.stem for path in ROOT.glob(pattern) if path.stem != "__init__")


THINGS = {
    "module": stems("plugins/modules/*.py"),
    "filter": stems("plugins/filter/*.py"),
    "role": sorted(path.parent.parent.name for path in ROOT.glob("roles/*/meta/*_specs.yml")),
}


def ansible_doc(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ansible-doc", *arguments],
        env={
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
            "ANSIBLE_HOME": str(ROOT / ".ansible" / "home"),
            "LC_ALL": "C.UTF-8",
            "PATH": f"{ROOT / '.venv' / 'bin'}:/usr/bin:/bin",
        },
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("kind", THINGS)
def test_ansible_doc_renders_everything(kind):
    names = [f"pooled.postgres.{stem}" for stem in THINGS[kind]]
    assert names
    shown = ansible_doc("--type", kind, "--json", *names)
    assert (shown.returncode, shown.stderr) == (0, "")
    documented = json.loads(shown.stdout)
    assert sorted(documented) == names
    # The text that people see is made by other code than the JSON.
    text = ansible_doc("--type", kind, *names)
    assert (text.returncode, text.stderr) == (0, "")
    assert all(name in text.stdout for name in names)


def test_action_group_has_every_module():
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    assert sorted(runtime["action_groups"]["all"]) == THINGS["module"]


def test_changelog_fragments_are_lists_by_known_section():
    config = yaml.safe_load((ROOT / "changelogs" / "config.yaml").read_text(encoding="utf-8"))
    known = {name for name, _title in config["sections"]} | {config["prelude_section_name"]}
    for path in (ROOT / "changelogs" / "fragments").glob("*.y*ml"):
        fragment = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert set(fragment) <= known, path.name
