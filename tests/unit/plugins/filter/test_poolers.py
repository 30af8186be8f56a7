# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pools of PgBouncer hosts, picked out of hostvars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.filter.poolers import poolers

HOSTVARS = {
    "bare": {"pgbouncer_limit_nofile": "auto"},
    "sized": {
        "pgbouncer_default_pool_size": 10,
        "pgbouncer_reserve_pool_size": 0,
        "pgbouncer_max_client_conn": 500,
        "pgbouncer_processes": "2",
        "pgbouncer_limit_nofile": "4096",
        "pgbouncer_listen_port": 6432,
    },
    "settings": {
        "pgbouncer_default_pool_size": 10,
        "pgbouncer_max_client_conn": 500,
        "pgbouncer_settings": {"default_pool_size": 40, "server_idle_timeout": 60},
    },
    "reset": {
        "pgbouncer_default_pool_size": 10,
        "pgbouncer_settings": {
            "default_pool_size": None,
            "reserve_pool_size": None,
            "max_client_conn": None,
            "max_db_connections": None,
        },
    },
    "capped": {"pgbouncer_settings": {"max_db_connections": 50, "max_user_connections": "30"}},
    "options": {
        "pgbouncer_settings": {"max_db_connections": 50},
        "pgbouncer_database_options": {
            "*": {"pool_size": 99},
            "mydb": {"pool_size": 7, "reserve_pool_size": 1, "pool_mode": "session"},
            "more": {"max_db_connections": 20, "pool_size": None},
            "odd": None,
        },
        "pgbouncer_user_options": {
            "app": {"pool_size": 3, "reserve_pool_size": 0, "max_user_connections": 9},
            "quiet": {"query_timeout": 5},
        },
    },
    "emptied": {"pgbouncer_settings": None, "pgbouncer_user_options": {}},
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
                    "processes": 2,
                    "limit_nofile": 4096,
                },
                {"name": "bare"},
            ],
        ),
        (["settings"], [{"name": "settings", "default_pool_size": 40, "max_client_conn": 500}]),
        # What is null is PgBouncer's own default, not the collection's.
        (
            ["reset"],
            [
                {
                    "name": "reset",
                    "default_pool_size": 20,
                    "reserve_pool_size": 0,
                    "max_client_conn": 100,
                }
            ],
        ),
        (
            ["capped"],
            [
                {
                    "name": "capped",
                    "databases": {"*": {"max_db_connections": 50}},
                    "users": {"*": {"max_user_connections": "30"}},
                }
            ],
        ),
        (
            ["options"],
            [
                {
                    "name": "options",
                    "databases": {
                        "*": {"max_db_connections": 50},
                        "mydb": {"pool_size": 7, "reserve_pool_size": 1},
                        "more": {"max_db_connections": 20},
                    },
                    "users": {
                        "app": {"pool_size": 3, "reserve_pool_size": 0, "max_user_connections": 9}
                    },
                }
            ],
        ),
        (["emptied"], [{"name": "emptied"}]),
    ],
)
def test_poolers(hosts: list[str], expected: list[dict[str, object]]) -> None:
    assert poolers(hosts, HOSTVARS) == expected


BAD = [
    ({"pgbouncer_settings": []}, "x: pgbouncer_settings: give a dictionary, not list"),
    (
        {"pgbouncer_user_options": {"app": 5}},
        "x: pgbouncer_user_options.app: give a dictionary, not int",
    ),
]


@pytest.mark.parametrize(("variables", "message"), BAD)
def test_what_is_no_dictionary_is_named(variables: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        poolers(["x"], {"x": variables})
    assert str(error.value) == message


def test_the_role_takes_what_the_filter_gives() -> None:
    specs = Path(__file__).parents[4] / "roles/postgres/meta/argument_specs.yml"
    options = yaml.safe_load(specs.read_text())["argument_specs"]["main"]["options"]
    taken = set(options["postgres_poolers"]["options"])
    assert set().union(*poolers(HOSTVARS, HOSTVARS)) == taken


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"pgbouncer_default_pool_size": "lots"},
         "pool1: pgbouncer_default_pool_size: 'lots' is not a whole number of at least 0"),
        ({"pgbouncer_settings": {"max_client_conn": 0}},
         "pool1: pgbouncer_max_client_conn: 0 is not a whole number of at least 1"),
        ({"pgbouncer_limit_nofile": "many"},
         "pool1: pgbouncer_limit_nofile: 'many' is not a whole number of at least 1"),
        ({"pgbouncer_processes": True},
         "pool1: pgbouncer_processes: True is not a whole number of at least 1"),
    ],
)  # fmt: skip
def test_sizes_that_are_none_are_refused_by_the_variables_name(
    variables: dict[str, Any], message: str
) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        poolers(["pool1"], {"pool1": variables})
    assert str(error.value) == message
