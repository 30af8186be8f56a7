# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: check settings of a server before anything changes."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.module_utils._settings.check import (
    check_settings,
    check_settings_and_nulls,
)

DOCUMENTATION = r"""
name: checked_settings
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: Check settings of a server before anything changes
description:
  - Checks names, values, units and ranges of settings against what a major version of Postgres has.
  - Fails naming the setting, the value and what is allowed; for an unknown name, the nearest known one.
  - Settings of extensions, such as C(auto_explain.log_min_duration), are taken as they are. The server judges them.
positional: major, variable
options:
  _input:
    description: Settings and their values; null leaves a setting out.
    type: dict
    required: true
  major:
    description: Major version of the server, 13 to 18.
    type: int
    required: true
  variable:
    description: The variable that the settings come from, for error messages.
    type: str
    default: postgres_settings
  keep_null:
    description: Whether null values stay, for layers of settings that are merged later.
    type: bool
    default: false
seealso:
  - plugin: pooled.postgres.postgres_settings
    plugin_type: module
"""

EXAMPLES = r"""
- name: Refuse settings that Postgres 17 does not have
  ansible.builtin.assert:
    that: postgres_settings | pooled.postgres.checked_settings(17) is mapping
"""

RETURN = r"""
_value:
  description: The settings as the server names them, with values as text.
  type: dict
"""


def checked_settings(
    settings: Any,
    major: int | str,
    variable: str = "postgres_settings",
    keep_null: bool = False,
) -> dict[str, Any]:
    """The settings, checked."""
    check = check_settings_and_nulls if keep_null else check_settings
    try:
        return dict(check(settings, int(major), variable))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"checked_settings": checked_settings}
