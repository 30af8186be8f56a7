# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that is wrong, rather than the first of it."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Mapping, TypeVar

T = TypeVar("T")


class Problems(list[str]):
    """What is wrong, in words, each once."""

    def add(self, *problems: str) -> None:
        """Add those that are not there yet."""
        self += [problem for problem in dict.fromkeys(problems) if problem not in self]

    def unless(self, right: bool, problem: str) -> None:
        """Add a problem, unless something is right."""
        if not right:
            self.add(problem)

    def without(self, decide: Callable[[], T]) -> T | None:
        """What a function decides; None, and one problem more, when it can't."""
        try:
            return decide()
        except ValueError as error:
            self.add(str(error))
            return None

    def of_each(
        self, given: Any, decide: Callable[[Any], T], alone: Callable[[Any], Any] | None = None
    ) -> T | None:
        """The same for a mapping; when it is wrong, each entry that is wrong by itself is named.

        Args:
            given: the mapping.
            decide: what takes it.
            alone: what takes an entry by itself, where that is something else.
        """
        try:
            return decide(given)
        except ValueError as error:
            before = len(self)
            check = alone or decide
            for name, value in given.items() if isinstance(given, Mapping) else ():
                self.without(partial(check, {name: value}))
            if len(self) == before:
                self.add(str(error))
            return None
