# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All rules of the audit, in the order in which they are documented."""

from __future__ import annotations

from ansible_collections.pooled.postgres.plugins.module_utils._audit.rules import (
    access,
    pooler,
    server,
)

RULES = (*access.RULES, *server.RULES, *pooler.RULES)
