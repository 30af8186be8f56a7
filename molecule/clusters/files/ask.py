# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a server, or the one behind a PgBouncer, when it was started; on hosts without psql.

usage: ask.py CONNECTION, with the password in PGPASSWORD
"""

from __future__ import annotations

import sys

import psycopg2

try:
    session = psycopg2.connect(sys.argv[1], connect_timeout=10)
    session.autocommit = True
    cursor = session.cursor()
    cursor.execute("SELECT pg_postmaster_start_time()::text")
    print(cursor.fetchone()[0])
except psycopg2.OperationalError as error:
    sys.exit(str(error))
