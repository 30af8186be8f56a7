# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._access.monitor_role import (
    POWERS,
    SETTINGS,
    MonitorRole,
    MonitorState,
    monitor_changes,
    nothing_yet,
    shown,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.extensions import (
    Extension,
    Surroundings,
)

OWN = {("", name): value for name, value in SETTINGS.items()}
RIGHT = MonitorRole(True, True, (), ("pg_monitor",), OWN)
SET = [
    "ALTER ROLE prometheus SET search_path = 'pg_catalog'",
    "ALTER ROLE prometheus SET default_transaction_read_only = 'on'",
    "ALTER ROLE prometheus SET statement_timeout = '30s'",
]
CONNECTS = {"postgres": True, "my db": True}
EXTENSIONS = {"pg_stat_statements": True}


def statements(
    role: MonitorRole | None,
    connects: dict[str, bool] | None = None,
    extensions: dict[str, bool] | None = None,
) -> list[str]:
    state = MonitorState(role, connects or CONNECTS, extensions or EXTENSIONS)
    wanted = ("postgres", "my db"), ("pg_stat_statements",)
    return [change.statement for change in monitor_changes("prometheus", *wanted, state)]


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (RIGHT, []),
        (None, ["CREATE ROLE prometheus LOGIN", "GRANT pg_monitor TO prometheus", *SET]),
        (MonitorRole(False, True, (), ("pg_monitor",), OWN), ["ALTER ROLE prometheus LOGIN"]),
        (MonitorRole(True, False, (), ("pg_monitor",), OWN), ["ALTER ROLE prometheus INHERIT"]),
        (
            MonitorRole(True, True, tuple(POWERS), ("pg_monitor",), OWN),
            ["ALTER ROLE prometheus NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS"],
        ),
        (
            MonitorRole(True, True, (), ("pg_write_all_data", "a b"), OWN),
            [
                'REVOKE "a b", pg_write_all_data FROM prometheus',
                "GRANT pg_monitor TO prometheus",
            ],
        ),
        (replace(RIGHT, settings={**OWN, ("", "search_path"): "public"}), SET[:1]),
        (
            replace(RIGHT, settings={**OWN, ("", "work_mem"): "1GB"}),
            ["ALTER ROLE prometheus RESET ALL", *SET],
        ),
        (
            replace(RIGHT, settings={**OWN, ("a b", "search_path"): "public"}),
            ['ALTER ROLE prometheus IN DATABASE "a b" RESET ALL'],
        ),
    ],
)
def test_the_role_has_pg_monitor_and_no_more(role: MonitorRole | None, expected: list[str]) -> None:
    assert statements(role) == expected


def test_the_role_has_the_limit_that_is_asked_for() -> None:
    limited = replace(RIGHT, connection_limit=10)
    state = MonitorState(limited, CONNECTS, EXTENSIONS)
    found = [
        [change.statement for change in monitor_changes("m", (), (), state, limit)]
        for limit in (10, 12, -1)
    ]
    assert found == [
        [],
        ["ALTER ROLE m CONNECTION LIMIT 12"],
        ["ALTER ROLE m CONNECTION LIMIT -1"],
    ]
    created = monitor_changes("m", (), (), nothing_yet(), 10)[0]
    assert created.statement == "CREATE ROLE m LOGIN CONNECTION LIMIT 10"


def test_usage_of_the_extensions_schemas_is_granted_by_name() -> None:
    schemas = {"public": False, "ext": True}
    state = MonitorState(RIGHT, CONNECTS, EXTENSIONS, schemas=schemas)
    changes = monitor_changes("m", (), ("pg_stat_statements",), state)
    assert [change.statement for change in changes] == ["GRANT USAGE ON SCHEMA public TO m"]


def test_databases_and_extensions_that_are_missing() -> None:
    assert statements(RIGHT, {"postgres": True, "my db": False}, {"pg_stat_statements": False}) == [
        'GRANT CONNECT ON DATABASE "my db" TO prometheus',
        "CREATE SCHEMA pooled_extensions",
        "CREATE EXTENSION pg_stat_statements SCHEMA pooled_extensions",
        "GRANT USAGE ON SCHEMA pooled_extensions TO prometheus",
    ]


def test_an_extension_that_is_made_alone_shows_each_statement() -> None:
    available = {"pg_stat_statements": Extension(relocatable=True)}
    around = Surroundings({}, holding=frozenset({"pooled_extensions"}))
    state = MonitorState(RIGHT, {}, {}, available=available, around=around)
    changes = monitor_changes("m", (), ("pg_stat_statements",), state)
    texts = [change.statement for change in changes if change.what.startswith("extension")]
    assert texts == [
        "CREATE SCHEMA pooled_extension",
        "CREATE EXTENSION pg_stat_statements SCHEMA pooled_extension",
        "ALTER EXTENSION pg_stat_statements SET SCHEMA pooled_extensions",
        "DROP SCHEMA pooled_extension",
    ]


def test_names_are_never_sql() -> None:
    changes = monitor_changes('x"; DROP', ('d"b',), ("plpgsql",), nothing_yet())
    assert [change.statement for change in changes] == [
        'CREATE ROLE "x""; DROP" LOGIN',
        'GRANT pg_monitor TO "x""; DROP"',
        *(f"""ALTER ROLE "x""; DROP" SET {name} = '{value}'""" for name, value in SETTINGS.items()),
        'GRANT CONNECT ON DATABASE "d""b" TO "x""; DROP"',
        "CREATE SCHEMA pooled_extensions",
        "CREATE EXTENSION plpgsql SCHEMA pooled_extensions",
        'GRANT USAGE ON SCHEMA pooled_extensions TO "x""; DROP"',
    ]


def test_a_diff_shows_both_sides() -> None:
    role = MonitorRole(True, True, ("rolsuper",), ("app_admin", "pg_monitor"), OWN)
    changes = monitor_changes("prometheus", (), (), MonitorState(role, {}, {}))
    assert shown(changes, after=False) == "role: super\nmember of: app_admin\n"
    assert shown(changes, after=True) == "role: NOSUPERUSER\n"
