# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP keepalives of servers, of PgBouncer and of their clients, which are the same on all paths.

Whoever is gone without a word is noticed after two minutes (60 + 6 x 10 s), not after two hours.
"""

from __future__ import annotations

IDLE_S = 60
INTERVAL_S = 10
COUNT = 6
