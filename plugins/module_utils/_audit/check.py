# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit: runs every rule over a snapshot, and sorts what they saw.

A rule is data and one pure function over the snapshot. What it needs and can't see raises
NotReadable, and the rule counts as not checked; a rule never passes because it saw nothing.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._audit.snapshot import (
    NotReadable,
    Snapshot,
)

SEVERITIES = ("critical", "warning", "info")
_ACCEPTED_KEYS = ("id", "reason", "object")


@dataclass(frozen=True)
class Observation:
    """What a rule saw.

    C(object) is whose mistake it is, so that one of several can be accepted; C(fix) is the SQL or
    the line of a file that fixes it; C(severity) is empty for the rule's own.
    """

    object: str
    evidence: str
    fix: str
    severity: str = ""


@dataclass(frozen=True)
class Rule:
    """A mistake: how bad it is, why it matters, which variable fixes it, how it is seen.

    C(inside) is whether it looks into databases, some of which may not let it in.
    """

    id: str
    severity: str
    title: str
    why: str
    variable: str
    check: Callable[[Snapshot], Iterable[Observation]]
    inside: bool = False


@dataclass(frozen=True)
class Finding:
    """A mistake on this server. C(accepted) is the reason to live with it, or empty."""

    id: str
    severity: str
    title: str
    object: str
    evidence: str
    why: str
    variable: str
    fix: str
    accepted: str = ""


@dataclass(frozen=True)
class NotChecked:
    """A rule that could not be checked, or not everywhere."""

    id: str
    reason: str


@dataclass(frozen=True)
class Acceptance:
    """A finding that somebody knows of. An empty C(object) means all of the rule."""

    id: str
    reason: str
    object: str = ""


@dataclass(frozen=True)
class Audit:
    """The findings, worst first; C(accepted) are those that do not count."""

    findings: tuple[Finding, ...]
    accepted: tuple[Finding, ...]
    checked: tuple[str, ...]
    not_checked: tuple[NotChecked, ...]
    unused: tuple[Acceptance, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each severity, and what else there is to count."""
        counted = {
            severity: sum(one.severity == severity for one in self.findings)
            for severity in SEVERITIES
        }
        return {
            **counted,
            "accepted": len(self.accepted),
            "checked": len(self.checked),
            "not_checked": len({one.id for one in self.not_checked}),
        }


def audit(rules: Sequence[Rule], snapshot: Snapshot, accepted: Sequence[Acceptance]) -> Audit:
    """Check every rule."""
    findings: list[Finding] = []
    known: list[Finding] = []
    not_checked: list[NotChecked] = []
    used: set[Acceptance] = set()
    for rule in rules:
        seen, missed = _checked(rule, snapshot)
        not_checked.extend(NotChecked(rule.id, reason) for reason in missed)
        for one in seen:
            acceptance = next((entry for entry in accepted if _is_accepted(entry, rule, one)), None)
            if acceptance:
                used.add(acceptance)
            (known if acceptance else findings).append(
                Finding(
                    rule.id,
                    one.severity or rule.severity,
                    rule.title,
                    one.object,
                    one.evidence,
                    rule.why,
                    rule.variable,
                    one.fix,
                    acceptance.reason if acceptance else "",
                )
            )
    blind = {one.id for one in not_checked}
    return Audit(
        findings=tuple(sorted(findings, key=_rank)),
        accepted=tuple(sorted(known, key=_rank)),
        checked=tuple(rule.id for rule in rules if rule.id not in blind),
        not_checked=tuple(not_checked),
        unused=tuple(one for one in accepted if one not in used),
    )


def _checked(rule: Rule, snapshot: Snapshot) -> tuple[list[Observation], list[str]]:
    """What a rule saw, and why it could not see more."""
    seen: list[Observation] = []
    missed: list[str] = []
    try:
        # One at a time, so that what was seen before something unreadable stays.
        for one in rule.check(snapshot):
            seen.append(one)
    except NotReadable as reason:
        missed.append(str(reason))
    if rule.inside and not missed:
        missed.extend(snapshot.blind_spots())
    return seen, missed


def _is_accepted(entry: Acceptance, rule: Rule, seen: Observation) -> bool:
    return entry.id == rule.id and entry.object in ("", seen.object)


def _rank(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity)


def parse_accepted(
    raw: Any, rules: Sequence[Rule], variable: str = "accepted"
) -> tuple[Acceptance, ...]:
    """The findings that somebody accepts.

    Raises:
        ValueError: for an entry without a reason, or with an id that no rule has.
    """
    if not isinstance(raw, (list, tuple)):
        raise ValueError(f"{variable}: give a list, not {type(raw).__name__}")
    ids = [rule.id for rule in rules]
    entries = []
    for index, entry in enumerate(raw):
        where = f"{variable}[{index}]"
        if not isinstance(entry, Mapping):
            raise ValueError(f"{where}: give a dictionary, not {type(entry).__name__}")
        unknown = sorted(str(key) for key in entry if key not in _ACCEPTED_KEYS)
        if unknown:
            raise ValueError(
                f"{where}: unknown key {', '.join(unknown)};"
                f" allowed are {', '.join(_ACCEPTED_KEYS)}"
            )
        name = str(entry.get("id") or "")
        if name not in ids:
            near = difflib.get_close_matches(name, ids, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; rules are {', '.join(ids)}"
            raise ValueError(f"{where}.id: there is no rule {name!r}{hint}")
        reason = str(entry.get("reason") or "").strip()
        if not reason:
            raise ValueError(f"{where}.reason: give the reason why {name!r} is accepted")
        entries.append(Acceptance(name, reason, str(entry.get("object") or "")))
    return tuple(entries)
