# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection budget as plain data."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.filter.connection_budget import (
    FilterModule,
    connection_budget,
)

MODEL = [{"name": "mydb", "roles": [{"name": "app_user", "kind": "user", "password": "hidden"}]}]


def test_result_is_plain_data() -> None:
    budget = connection_budget(MODEL, [{"name": "pool1"}])
    assert json.loads(json.dumps(budget)) == budget
    assert sorted(budget) == [
        "client_connections",
        "client_rows",
        "descriptors",
        "max_client_connections",
        "max_connections",
        "needed",
        "role_connections",
        "rows",
        "table",
        "warnings",
    ]
    assert budget["max_connections"] == 40
    assert budget["rows"][0] == {
        "kind": "pool",
        "database": "mydb",
        "role": "app_user",
        "what": "mydb: app_user from pool1",
        "formula": "1 x (pool 25 + reserve 5)",
        "connections": 30,
    }
    assert budget["role_connections"] == {"app_user": 30}
    assert budget["descriptors"] == [
        {"hosts": "pool1", "needed": 10124, "limit": 16384, "clients": 10000}
    ]
    assert "hidden" not in json.dumps(budget)


def test_error_carries_the_table() -> None:
    with pytest.raises(AnsibleFilterError) as error:
        connection_budget(MODEL, [{"name": "pool1"}], 20)
    assert "  needed                           38" in str(error.value)
    assert "Remedies:" in str(error.value)


def test_name() -> None:
    assert FilterModule().filters() == {"connection_budget": connection_budget}
