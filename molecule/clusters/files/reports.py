# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See that what a playbook shows of each host is about its own cluster.

usage: reports.py PLAYBOOK, with what the callback json printed on standard input
"""

from __future__ import annotations

import json
import sys
from typing import Any

TASKS = {
    "plan": ("Show what would be chosen for the host", "Show how applications would connect"),
    "audit": ("Show what was found",),
    "sessions": ("Show them",),
}
HEADINGS = {
    "orders-db": "cluster orders-db: server orders-db; PgBouncer on orders-db",
    "billing-db": "cluster billing: server billing-db; PgBouncer on billing-pool",
    "billing-pool": "cluster billing: server billing-db; PgBouncer on billing-pool",
    "reports-db": "cluster reports-db: server reports-db",
}
# What a text about one of a cluster's hosts may name, and what the plan has to.
WORDS = {
    "orders-db": {"shop", "web", "orders-db"},
    "billing-db": {"money", "ledger", "invoices", "billing-db", "billing-pool"},
    "billing-pool": {"money", "ledger", "invoices", "billing-db", "billing-pool"},
    "reports-db": {"figures", "board", "reports-db"},
}


def shown(record: dict[str, Any], titles: tuple[str, ...]) -> dict[str, list[str]]:
    """By host the lines of these tasks."""
    lines: dict[str, list[str]] = {}
    for task in (task for play in record["plays"] for task in play["tasks"]):
        if task["task"]["name"] in titles:
            for host, result in task["hosts"].items():
                lines.setdefault(host, []).extend(result.get("msg", []))
    return lines


def problems(playbook: str, lines: dict[str, list[str]]) -> list[str]:
    """What is not as it should be."""
    found = []
    meant = set(HEADINGS) if playbook == "sessions" else set(HEADINGS) - {"billing-pool"}
    if set(lines) != meant:
        found.append(f"{sorted(lines)} and not {sorted(meant)}")
    for host, texts in lines.items():
        text = "\n".join(texts)
        if texts[0] != HEADINGS[host]:
            found.append(f"{host}: begins with {texts[0]!r}")
        others = {word for own in WORDS.values() for word in own} - WORDS[host]
        found += [f"{host}: names {word}" for word in sorted(others) if word in text]
        if playbook == "plan":
            found += [f"{host}: lacks {word}" for word in sorted(WORDS[host]) if word not in text]
    return found


def main() -> int:
    """Compare, and show what was shown."""
    playbook = sys.argv[1]
    output = sys.stdin.read()
    lines = shown(json.loads(output[output.index("{") :]), TASKS[playbook])
    found = problems(playbook, lines)
    print(json.dumps(lines, indent=1))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
