# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is connected to PgBouncer."""

from __future__ import annotations

from dataclasses import dataclass

# The name of the console: as a database and as the user that PgBouncer's OS user is let in as.
CONSOLE = "pgbouncer"


@dataclass(frozen=True)
class Client:
    """A client that is connected. C(address) is empty over the unix socket."""

    database: str
    user: str
    address: str
    tls: bool
