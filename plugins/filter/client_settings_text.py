# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: how applications connect, for people to read."""

from __future__ import annotations

import json
from typing import Any, Mapping, Sequence

import yaml

from ansible_collections.pooled.postgres.plugins.module_utils import _client_settings

DOCUMENTATION = r"""
name: client_settings_text
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: How applications connect, for people to read
description:
  - Writes what P(pooled.postgres.client_settings#filter) returns as YAML, with code as it is pasted.
    It is the same text as long as nothing differs.
positional: short
options:
  _input:
    description: What P(pooled.postgres.client_settings#filter) returns.
    type: list
    elements: dict
    required: true
  short:
    description: Just a line for each client, and its warnings.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Keep how applications connect in a file
  ansible.builtin.copy:
    content: "{{ settings | pooled.postgres.client_settings_text }}"
    dest: clients.yml
    mode: "0644"
  vars:
    settings: "{{ pooled_databases | pooled.postgres.client_settings({'host': 'db1'}, [{'host': 'pool1'}]) }}"
"""

RETURN = r"""
_value:
  description: The text; the lines of it with O(short).
  type: raw
"""

_HEADER = """\
# How applications connect. Written by Ansible, collection pooled.postgres.
# No passwords are in here: drivers take them from PGPASSWORD or a password file.
"""


class _Dumper(yaml.SafeDumper):
    pass


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def client_settings_text(
    entries: Sequence[Mapping[str, Any]], short: bool = False
) -> str | list[str]:
    """The text, or its lines."""
    # Ansible's own kinds of text and lists become plain ones.
    plain = json.loads(json.dumps(entries))
    if short:
        return _client_settings.short_lines(plain)
    text: str = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return _HEADER + text


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"client_settings_text": client_settings_text}
