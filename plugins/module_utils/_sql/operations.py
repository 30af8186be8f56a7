# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be done to a database, one class for each kind of statement, and its SQL."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import quote_ident


class Operation:
    """One statement as data, so that code asks for its class and never reads its text."""

    @property
    def sql(self) -> str:
        """What the server gets."""
        raise NotImplementedError

    @property
    def shown(self) -> str:
        """What people see of it."""
        return self.sql

    @property
    def secret(self) -> bool:
        """Whether the server must not log it."""
        return False


@dataclass(frozen=True)
class CreateSchema(Operation):
    schema: str

    @property
    def sql(self) -> str:
        return f"CREATE SCHEMA {quote_ident(self.schema)}"


@dataclass(frozen=True)
class DropSchema(Operation):
    schema: str

    @property
    def sql(self) -> str:
        return f"DROP SCHEMA {quote_ident(self.schema)}"


@dataclass(frozen=True)
class CreateExtension(Operation):
    """C(schema) is empty where the extension says it itself, or the server chooses.

    C(shown_schema) is the one that people see, where that is another one.
    """

    extension: str
    schema: str = ""
    shown_schema: str | None = None

    @property
    def sql(self) -> str:
        return self._in(self.schema)

    @property
    def shown(self) -> str:
        return self._in(self.schema if self.shown_schema is None else self.shown_schema)

    def _in(self, schema: str) -> str:
        where = f" SCHEMA {quote_ident(schema)}" if schema else ""
        return f"CREATE EXTENSION {quote_ident(self.extension)}{where}"


@dataclass(frozen=True)
class MoveExtension(Operation):
    extension: str
    schema: str

    @property
    def sql(self) -> str:
        extension, schema = quote_ident(self.extension), quote_ident(self.schema)
        return f"ALTER EXTENSION {extension} SET SCHEMA {schema}"
