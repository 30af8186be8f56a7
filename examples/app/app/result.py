# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command found out, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Result:
    """C(rows) all have the same keys, which head the columns of the table."""

    ok: bool
    database: str
    summary: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    def as_text(self) -> str:
        lines = [self.database, ""]
        if self.rows:
            table = [list(self.rows[0]), *([str(cell) for cell in r.values()] for r in self.rows)]
            widths = [max(len(cell) for cell in cells) for cells in zip(*table)]
            lines += [
                "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
                for row in table
            ]
            lines.append("")
        lines.append(self.summary)
        return "\n".join(lines)


def driver_error(error: BaseException) -> BaseException:
    """The driver's own error, unwrapped where SQLAlchemy wrapped it."""
    wrapped = getattr(error, "orig", None)
    return error if wrapped is None else wrapped.__cause__ or wrapped


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE of a driver's error; empty when it did not come from a server."""
    return getattr(driver_error(error), "sqlstate", None) or ""


def error_name(error: BaseException) -> str:
    return f"{type(driver_error(error)).__name__} {sqlstate(error)}".rstrip()


def error_text(error: BaseException) -> str:
    """Name and first line: never the statement and its parameters, which SQLAlchemy would add."""
    lines = str(driver_error(error)).splitlines() or [""]
    return f"{error_name(error)}: {lines[0]}"
