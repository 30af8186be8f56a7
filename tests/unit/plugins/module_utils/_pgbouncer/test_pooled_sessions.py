# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What sessions in the pools carry from when they were opened."""

from __future__ import annotations

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import pooled_sessions

from .examples import model

NOTED = ["app_user: jit=off"]
JIT_OFF = {"statement_timeout": None, "lock_timeout": None,
           "idle_in_transaction_session_timeout": None}  # fmt: skip


@pytest.mark.parametrize(
    ("noted", "settings", "expected"),
    [
        ([], None, False),
        ([], JIT_OFF, True),
        (NOTED, JIT_OFF, False),
        (NOTED, {**JIT_OFF, "jit": True}, True),
        # A role that is gone logs in no more, and a new one has no sessions.
        (NOTED, None, False),
        ([*NOTED, "old: jit=off"], JIT_OFF, False),
        (["other: jit=off"], JIT_OFF, False),
    ],
)
def test_carries_old_settings(noted, settings, expected):
    databases = () if settings is None else model(settings=settings)
    assert pooled_sessions.carries_old_settings(noted, databases) == expected


@pytest.mark.parametrize(
    ("noted", "entries", "expected"),
    [
        ({}, {"a": {"timezone": "UTC"}}, False),
        ({"a": {"timezone": "UTC"}}, {"a": {"timezone": "UTC", "pool_size": "3"}}, False),
        ({"a": {"timezone": "UTC"}}, {"a": {}}, True),
        ({"a": {}}, {"a": {"application_name": "x"}}, True),
        ({"a": {"timezone": "UTC"}}, {"b": {}}, False),
    ],
)
def test_carries_old_parameters(noted, entries, expected):
    assert pooled_sessions.carries_old_parameters(noted, entries) == expected


def test_role_settings_lines_have_a_line_for_each_role():
    databases = parse_databases(
        [
            {
                "name": "mydb",
                "roles": [
                    {"name": "b", "kind": "migrator"},
                    {"name": "a", "kind": "user", "settings": dict.fromkeys(
                        ["jit", "statement_timeout", "lock_timeout",
                         "idle_in_transaction_session_timeout"])},
                ],
            }
        ]
    )  # fmt: skip
    assert pooled_sessions.role_settings_lines(databases) == ["a:", "b: jit=off lock_timeout=5s"]
