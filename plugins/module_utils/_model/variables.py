# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of variables that nothing reads, and that are nearly names of ours."""

from __future__ import annotations

from functools import cache
from typing import Any, Iterable

from ansible_collections.pooled.postgres.plugins.module_utils._model.known_variables import KNOWN

IGNORED = "pooled_ignored_variables"
_KNOWN = KNOWN | {IGNORED}
# First words that are close to ours and are words themselves, with which variables of others begin.
_OTHER_WORDS = frozenset({"audio", "audits", "pooler", "session"})
# What only playbooks read is mostly given on the command line, where words are left out.
_FOR_PLAYBOOKS = ("audit_", "sessions_")
_SHORTEST_ABBREVIATION = 3
# From this length on, a word may have two typing errors.
_LONG = 8
_MOST_EDITS = 2
_ENDING = 2


def misspelt(names: Iterable[str], known: frozenset[str] = _KNOWN) -> dict[str, list[str]]:
    """For each name that nothing reads and that is nearly a known one, the known ones.

    Others may use our prefixes too: a name that is not close to a known one is not reported. Names
    that begin with an underscore are their owners' internal ones.

    Args:
        names: of variables.
        known: those that are read.
    """
    found = {}
    for name in sorted(set(names) - known):
        if not name.startswith("_") and (meant := _meant(name, known)):
            found[name] = meant
    return found


def misspelt_text(found: dict[str, list[str]]) -> str:
    """What to tell the user, a line for each name."""
    lines = [
        f"{name}: nothing reads a variable of this name; did you mean {' or '.join(meant)}?"
        for name, meant in found.items()
    ]
    return "\n".join([*lines, f"If a name is meant for something else, list it in {IGNORED}."])


def without(found: dict[str, list[str]], ignored: Any) -> dict[str, list[str]]:
    """What is left without the names that the user has for something else.

    Raises:
        ValueError: when C(ignored) is not a list of names.
    """
    if not isinstance(ignored, (list, tuple)) or not all(isinstance(one, str) for one in ignored):
        raise ValueError(
            f"{IGNORED}: it must be a list of names of variables, such as [postgres_hosts]"
        )
    return {name: meant for name, meant in found.items() if name not in ignored}


@cache
def _own_parts(known: frozenset[str]) -> dict[str, frozenset[str]]:
    """By prefix, such as C(postgres_), how the names go on."""
    found: dict[str, set[str]] = {}
    for name in known:
        word, _separator, own = name.partition("_")
        found.setdefault(f"{word}_", set()).add(own)
    return {prefix: frozenset(parts) for prefix, parts in found.items()}


@cache
def _endings(known: frozenset[str]) -> frozenset[str]:
    """The last letters of names, without which a name is not looked at closely."""
    return frozenset(name[-_ENDING:] for name in known)


@cache
def _prefixes(known: frozenset[str]) -> dict[str, list[str]]:
    """By how names go on, the prefixes."""
    found: dict[str, list[str]] = {}
    for prefix, parts in _own_parts(known).items():
        for own in parts:
            found.setdefault(own, []).append(prefix)
    return found


def _meant(name: str, known: frozenset[str]) -> list[str]:
    parts = _own_parts(known)
    first, separator, own = name.partition("_")
    prefix = first + separator
    if prefix in parts:
        ranks = {
            f"{prefix}{other}": rank
            for other in parts[prefix]
            if (rank := _rank(own, other, prefix in _FOR_PLAYBOOKS))
        }
        return sorted(one for one, rank in ranks.items() if rank == min(ranks.values()))
    # The error is in the prefix, so the rest is as it should be.
    if first in _OTHER_WORDS or name[-_ENDING:] not in _endings(known):
        return []
    prefixes = _prefixes(known)
    lengths = [len(one) for one in parts]
    found = {
        f"{prefix}{name[cut:]}"
        for cut in range(min(lengths) - 1, max(lengths) + 2)
        for prefix in prefixes.get(name[cut:], ())
        if _one_edit(name[:cut], prefix)
    }
    # Or the underscore was swapped with the letter after it.
    swapped = f"{first[:-1]}_{first[-1:]}{own}"
    return sorted(found | ({swapped} & known))


def _rank(own: str, other: str, for_playbooks: bool) -> int:
    """How far one is from the other, from 1 on; 0 when it is not close."""
    if _one_edit(own, other):
        return 1
    words, others = own.split("_"), other.split("_")
    if sorted(words) == sorted(others):
        return 2
    if len(words) == len(others):
        return 3 if _words_close(words, others) else 0
    if for_playbooks and words[0] == others[0] and _left_out(words, others):
        return 4
    return 0


def _words_close(words: list[str], others: list[str]) -> bool:
    edits = 0
    for word, other in zip(words, others):
        if len(words) > 1 and _abbreviates(word, other):
            continue
        here = _edits(word, other)
        if here > (_MOST_EDITS if len(other) >= _LONG else 1):
            return False
        edits += here
    return edits <= _MOST_EDITS


def _abbreviates(word: str, other: str) -> bool:
    """Whether one of them is how the other begins."""
    shorter = min(len(word), len(other))
    return shorter >= _SHORTEST_ABBREVIATION and word[:shorter] == other[:shorter]


def _left_out(words: list[str], others: list[str]) -> bool:
    """Whether C(words) are some of C(others), in their order."""
    rest = iter(others)
    return all(word in rest for word in words)


def _one_edit(one: str, other: str) -> bool:
    """Whether one letter is put in, left out, changed, or swapped with the next."""
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    shorter = min(len(one), len(other))
    same = next((at for at in range(shorter) if one[at] != other[at]), shorter)
    one, other = one[same:], other[same:]
    if len(one) != len(other):
        return one[1:] == other or one == other[1:]
    return one[1:] == other[1:] or (one[:2] == other[1::-1] and one[2:] == other[2:])


def _edits(one: str, other: str) -> int:
    """How many letters are put in, left out, changed or swapped; 3 stands for more."""
    if abs(len(one) - len(other)) > _MOST_EDITS:
        return _MOST_EDITS + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        earlier, before, row = before, row, [i]
        for j, its in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != its))
            if i > 1 and j > 1 and one[i - 2 : i] == other[j - 1] + other[j - 2]:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
    return min(row[-1], _MOST_EDITS + 1)
