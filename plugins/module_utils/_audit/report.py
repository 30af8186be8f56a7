# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit as lines for a terminal."""

from __future__ import annotations

from typing import Any, Mapping, Sequence


def summary_line(name: str, result: Mapping[str, Any]) -> str:
    """One line: what there is of each severity."""
    counts = result["summary"]
    found = [
        f"{counts[severity]} {severity}"
        for severity in ("critical", "warning", "info")
        if counts[severity]
    ]
    words = [", ".join(found) if found else "no findings", f"{counts['checked']} rules checked"]
    if counts["accepted"]:
        words.append(f"{counts['accepted']} accepted")
    if counts["not_checked"]:
        words.append(f"{counts['not_checked']} not or not wholly checked")
    return f"{name}: {'; '.join(words)}"


def by_rule(findings: Sequence[Mapping[str, str]]) -> list[list[Mapping[str, str]]]:
    """Findings of one rule and severity together, in the order in which they come."""
    groups: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for one in findings:
        groups.setdefault((one["severity"], one["id"]), []).append(one)
    return list(groups.values())


def summary_lines(name: str, result: Mapping[str, Any], brief: bool = False) -> list[str]:
    """All that was found, worst first, in columns.

    Args:
        name: the host.
        result: what postgres_audit_info returns.
        brief: without what was not checked.
    """
    lines = [summary_line(name, result)]
    findings: Sequence[Mapping[str, Any]] = result["findings"]
    severities = max((len(one["severity"]) for one in findings), default=0)
    ids = max((len(one["id"]) for one in findings), default=0)
    indent = " " * (severities + ids + 6)
    for group in by_rule(findings):
        for one in group:
            head = f"  {one['severity']:<{severities}}  {one['id']:<{ids}}"
            lines.append(f"{head}  {one['evidence']}")
            lines.append(f"{indent}by hand: {one['fix']}")
        lines.append(f"{indent}variable: {group[0]['variable']}")
        lines.append(f"{indent}why: {group[0]['why']}")
    for one in result["accepted"]:
        lines.append(f"  accepted: {one['id']}: {one['evidence']} ({one['accepted']})")
    for one in result["unused"]:
        lines.append(
            f"  accepted, but not found: {one['id']}{' ' if one['object'] else ''}{one['object']}"
        )
    if not brief:
        reasons: dict[str, list[str]] = {}
        for one in result["not_checked"]:
            reasons.setdefault(one["reason"], []).append(one["id"])
        lines.extend(
            f"  not checked: {', '.join(names)}: {reason}" for reason, names in reasons.items()
        )
    return lines
