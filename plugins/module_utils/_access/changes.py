# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The changes between the access that a server gives and the one that is wanted, as data."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.pooled.postgres.plugins.module_utils._sql.operations import Operation
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import quote_ident


@dataclass(frozen=True)
class Difference:
    """One line of the diff: where, and what stands there before and after."""

    where: tuple[str, ...]
    before: str
    after: str


@dataclass(frozen=True)
class Change:
    """One statement.

    C(database) is where it runs, None for the whole cluster; C(subject) is what it is about, for an
    error. C(as_role) is who must run it. C(outdates) is the role whose open sessions go on without
    the change. C(acts_for) are the roles that the login must administer, or inside a database have
    the rights of, to execute it. C(objects) says how many objects it is about, where it is about
    objects. C(takes_from) are roles that lose something by it.
    """

    database: str | None
    operation: Operation
    subject: str
    differences: tuple[Difference, ...]
    as_role: str = ""
    outdates: str = ""
    objects: int = 0
    takes_from: frozenset[str] = frozenset()
    acts_for: frozenset[str] = frozenset()

    @property
    def sql(self) -> str:
        """What the server gets."""
        return self.operation.sql

    @property
    def text(self) -> str:
        """What people see of it."""
        as_role = f" -- as {quote_ident(self.as_role)}" if self.as_role else ""
        return f"{self.operation.shown}{as_role}"


@dataclass(frozen=True)
class Plan:
    """Changes in the order in which they are to be made, and what the reader should know."""

    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
