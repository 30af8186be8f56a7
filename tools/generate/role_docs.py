#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the tables of variables in the roles' READMEs from their argument specs.

What is between these two lines of roles/x/README.md is written; the rest is left alone:

    <!-- BEGIN generated: role x -->
    <!-- END generated -->
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
BEGIN = "<!-- BEGIN generated: role {role} -->"
END = "<!-- END generated -->"


def load(role: str, name: str) -> dict[str, Any]:
    """One of a role's YAML files; empty where there is none."""
    path = ROOT / "roles" / role / name
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.exists() else {}


def roles() -> list[str]:
    return sorted(path.parent.parent.name for path in ROOT.glob("roles/*/meta/argument_specs.yml"))


def options(role: str) -> dict[str, dict[str, Any]]:
    """The variables of a role's main entry point, by name."""
    specs = load(role, "meta/argument_specs.yml").get("argument_specs", {})
    found: dict[str, dict[str, Any]] = specs.get("main", {}).get("options", {})
    return found


def plain(description: str | list[str]) -> str:
    """A description as Markdown for a table's cell."""
    text = description if isinstance(description, str) else " ".join(description)
    text = re.sub(r"\b(?:O|RV)\(([\w.]+)#\w+:([^()]*)\)", r"`\2` of `\1`", text)
    text = re.sub(r"\bP\(([^()#]*)#\w+\)", r"`\1`", text)
    text = re.sub(r"\b[OVCEMR](?:V)?\(([^()]*(?:\([^()]*\))?[^()]*)\)", r"`\1`", text)
    text = re.sub(r"\b[BI]\(([^()]*)\)", r"**\1**", text)
    return " ".join(text.split()).replace("|", "\\|")


def kind(option: dict[str, Any]) -> str:
    name = option.get("type", "str")
    if name == "list":
        return f"list of {option.get('elements', 'str')}"
    return str(name)


def default(option: dict[str, Any], fallback: Any) -> str:
    """What holds when nothing is said: the spec's word, else that of defaults/main.yml."""
    if option.get("required"):
        return "*required*"
    value = option.get("default", fallback)
    if value is None:
        return ""
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return f"`{' '.join(text.split())}`".replace("|", "\\|")


def rows(
    found: dict[str, dict[str, Any]], defaults: dict[str, Any], prefix: str = ""
) -> Iterator[str]:
    """The table's lines, a nested option after the one that holds it."""
    for name, option in found.items():
        meaning = plain(option.get("description", ""))
        choices = option.get("choices")
        if choices:
            listed = ", ".join(f"`{choice}`" for choice in choices)
            meaning = f"{meaning} One of {listed}."
        cells = (
            f"`{prefix}{name}`",
            kind(option),
            default(option, defaults.get(name) if not prefix else None),
            meaning,
        )
        yield f"| {' | '.join(cells)} |"
        mark = "[]." if option.get("type") == "list" else "."
        yield from rows(option.get("options", {}), {}, f"{prefix}{name}{mark}")


def table(role: str) -> str:
    head = ["| variable | type | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*head, *rows(options(role), load(role, "defaults/main.yml"))])


def renewed(role: str, text: str) -> str:
    """A README with its generated part written anew.

    Raises:
        ValueError: the two markers are not there.
    """
    begin = BEGIN.format(role=role)
    before, found, rest = text.partition(begin)
    _old, closed, after = rest.partition(END)
    if not (found and closed):
        raise ValueError(f"roles/{role}/README.md has no lines {begin} and {END}")
    return f"{before}{begin}\n{table(role)}\n{END}{after}"


def main() -> int:
    failed = False
    for role in roles():
        path = ROOT / "roles" / role / "README.md"
        try:
            path.write_text(renewed(role, path.read_text(encoding="utf-8")), encoding="utf-8")
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
