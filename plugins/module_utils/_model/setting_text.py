# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of settings as people write them in YAML, for the server and for roles."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.pooled.postgres.plugins.module_utils._secrets import shown

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def setting_text(where: str, value: Any) -> str:
    """A setting's value as text, the way Postgres writes it.

    Raises:
        ValueError: for anything but text, a number or a boolean.
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        if _CONTROL.search(value):
            raise ValueError(f"{where}: {shown(where, value)} contains control characters")
        return str(value)
    raise ValueError(
        f"{where}: {shown(where, value)} is not a valid value for a setting: give text, a number or"
        " a boolean"
    )
