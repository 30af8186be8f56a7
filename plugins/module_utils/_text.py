# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts for people: what others have named can't do anything to a terminal or a page."""

from __future__ import annotations

from typing import Any, Mapping

_LINES = "\n\t"


def printable(text: str, keep: str = "") -> str:
    """A text with everything that is not a character to look at written as an escape.

    Those are controls, also the eight-bit ones that begin terminal sequences, and what turns the
    direction of writing, takes no room or looks like a space.

    Args:
        text: the text.
        keep: what is left as it is.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else ascii(character)[1:-1]
        for character in text
    )


def printable_lines(value: Any) -> Any:
    """The same for all texts in a value; they keep their lines."""
    if isinstance(value, str):
        return printable(value, _LINES)
    if isinstance(value, Mapping):
        return {key: printable_lines(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable_lines(one) for one in value]
    return value


def printable_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """A module's result with what Ansible or our playbooks show as it is: messages, diffs, lines.

    Everything else is data, and stays exact.
    """
    shown = ("msg", "diff", "lines", "warnings")
    return {key: printable_lines(value) if key in shown else value for key, value in result.items()}
