# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pools of PgBouncer hosts, picked out of hostvars."""

from __future__ import annotations

import pytest

from ansible_collections.pooled.postgres.plugins.filter.poolers import poolers

HOSTVARS = {
    "bare": {},
    "sized": {
        "pgbouncer_default_pool_size": 10,
        "pgbouncer_reserve_pool_size": 0,
        "pgbouncer_max_client_conn": 500,
        "pgbouncer_listen_port": 6432,
    },
}


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ([], []),
        (["bare"], [{"name": "bare"}]),
        (
            ["sized", "bare"],
            [
                {
                    "name": "sized",
                    "default_pool_size": 10,
                    "reserve_pool_size": 0,
                    "max_client_conn": 500,
                },
                {"name": "bare"},
            ],
        ),
    ],
)
def test_poolers(hosts: list[str], expected: list[dict[str, object]]) -> None:
    assert poolers(hosts, HOSTVARS) == expected
