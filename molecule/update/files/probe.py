#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try to log in through poolers with passwords that nobody has.

usage: probe.py HOST:PORT...

Prints, as JSON, how many logins were tried and which of them PgBouncer took.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "tests" / "integration"))

from raw_login import IN, TAKEN, login  # found by the line above

NAMES = (
    *("pgbouncer_auth", "pgbouncer", "prometheus", "postgres"),
    *("app_user", "app_migrator", "app_admin", "nobody", ""),
)
PASSWORDS = ("", "md5", "SCRAM-SHA-256", "null", "wrong", None)
DATABASES = ("mydb", "pgbouncer")


def main(*addresses: str) -> int:
    tries = list(itertools.product(addresses, NAMES, PASSWORDS, DATABASES))

    def attempt(one: tuple[str, str, str | None, str]) -> str:
        address, name, password, database = one
        host, port = address.rsplit(":", 1)
        return login((host, int(port)), name, name if password is None else password, database)

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, tries))
    entered = [
        f"{address} {name!r} with {'its name' if password is None else repr(password)}"
        f" in {database}"
        for (address, name, password, database), outcome in zip(tries, outcomes)
        if outcome in (IN, TAKEN)
    ]
    print(json.dumps({"tried": len(tries), "entered": entered}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
