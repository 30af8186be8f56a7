# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Examples of postgres_settings in whatever people read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Iterator

import yaml

from ansible_collections.pooled.postgres.plugins.modules import postgres_settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/*.md", "roles/*/README.md", "examples/**/*.md", "benchmarks/*.md")
INVENTORIES = ("examples/**/*.yml", "molecule/*/group_vars/**/*.yml")
_BLOCK = re.compile(r"^ *```ya?ml\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"postgres_settings: (\{[^{}`]*\})")


class _Loader(yaml.SafeLoader):
    """A loader that takes Ansible's tags for text."""


_Loader.add_multi_constructor("!", lambda _loader, _tag, node: str(node.value))


def _read(text: str) -> Any:
    return list(yaml.load_all(text, _Loader))


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Every postgres_settings in nested data."""
    if isinstance(value, dict):
        found = value.get("postgres_settings")
        if isinstance(found, dict) and found:
            yield found
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _mappings(inner)


def _of_page(text: str) -> Iterator[dict[str, Any]]:
    for block in _BLOCK.findall(text):
        indent = len(block) - len(block.lstrip(" "))
        lines = [line[indent:] for line in block.splitlines()]
        yield from _mappings(_read("\n".join(lines)))
    for found in _INLINE.findall(_BLOCK.sub("", text)):
        yield from _read(found)


def documented_settings() -> dict[str, dict[str, Any]]:
    """Each example, by the file it is in and its number there; not those with templates."""
    found: dict[str, list[dict[str, Any]]] = {}
    for pattern in (*PAGES, *INVENTORIES):
        for path in sorted(ROOT.glob(pattern)):
            text = path.read_text()
            examples = _of_page(text) if path.suffix == ".md" else _mappings(_read(text))
            found[str(path.relative_to(ROOT))] = list(examples)
    tasks = yaml.safe_load(postgres_settings.EXAMPLES)
    found["EXAMPLES"] = [task["pooled.postgres.postgres_settings"]["settings"] for task in tasks]
    return {
        f"{path}-{number}": example
        for path, examples in found.items()
        for number, example in enumerate(examples)
        if example and "{{" not in str(example)
    }
