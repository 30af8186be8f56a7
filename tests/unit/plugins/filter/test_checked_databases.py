# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.filter.checked_databases import (
    FilterModule,
    checked_databases,
)

MODEL = [
    {
        "name": "mydb",
        "roles": [
            {
                "name": "app_migrator",
                "kind": "migrator",
                "password": "secret",
                "settings": {"jit": None},
            }
        ],
    }
]


def test_model_comes_back_with_defaults_and_without_passwords():
    assert checked_databases(MODEL) == [
        {
            "name": "mydb",
            "schemas": ["public"],
            "extensions": [],
            "roles": [
                {
                    "name": "app_migrator",
                    "kind": "migrator",
                    "connection_limit": -1,
                    "settings": {"lock_timeout": "5s"},
                    "member_of": [],
                }
            ],
        }
    ]


@pytest.mark.parametrize(
    ("model", "pooler", "message"),
    [
        ({}, {}, "pooled_databases: give a list, not dict"),
        (
            MODEL,
            {"pooler_role": "app_migrator"},
            "pooled_databases: role 'app_migrator' is PgBouncer's own; choose another name for the"
            " model's role, or for pooler_role",
        ),
        (
            MODEL,
            {"pooler_role": "p", "pooler_password": "SCRAM-SHA-256$x"},
            "pooler_password: starts like a SCRAM-SHA-256 verifier but is not a valid one; its"
            " form is"
            " SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>",
        ),
    ],
)
def test_mistakes_are_the_filter_s_error(model, pooler, message):
    with pytest.raises(AnsibleFilterError) as caught:
        checked_databases(model, **pooler)
    assert str(caught.value) == message


def test_filter_has_its_file_s_name():
    assert FilterModule().filters() == {"checked_databases": checked_databases}
