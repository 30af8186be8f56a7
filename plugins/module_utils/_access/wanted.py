# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The access that is wanted, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Database
from ansible_collections.pooled.postgres.plugins.module_utils._settings.profiles import STANDARD


@dataclass(frozen=True)
class Wanted:
    """The model, and how far it reaches.

    C(monitor_role) is granted by name what it needs, by another module.
    """

    databases: tuple[Database, ...]
    pooler_role: str = ""
    pooler_password: str | None = field(default=None, repr=False)
    exclusive: bool = True
    revoke_public: bool = False
    hardening: str = STANDARD
    pooler_connection_limit: int = -1
    monitor_role: str = ""
