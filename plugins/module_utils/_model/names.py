# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that more than one concern has to agree on."""

from __future__ import annotations

# The role that PgBouncer itself logs in as to look up its clients' verifiers, and the function in
# each database of the model that it asks.
POOLER_ROLE = "pgbouncer_auth"
POOLER_SCHEMA = "pgbouncer"
POOLER_FUNCTION = "get_auth"
# Where extensions are that the collection itself asks for, and nobody else creates.
EXTENSIONS_SCHEMA = "pooled_extensions"
# PgBouncer's own user, which it knows without configuration: the name behind its console.
POOLER_USER = "pgbouncer"
AUTH_QUERY = "SELECT username, password FROM " + POOLER_SCHEMA + "." + POOLER_FUNCTION + "($1)"  # noqa: S608

# The map in pg_ident.conf from PgBouncer's OS user to POOLER_ROLE.
IDENT_MAP = "pooled"
