# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model for what must not know its secrets."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pooled.postgres.plugins.filter.without_passwords import without_passwords

MODEL = [
    {
        "name": "mydb",
        "schemas": ["app"],
        "roles": [
            {"name": "app_user", "kind": "user", "password": "secret", "settings": {"jit": None}},
            {"name": "app_reader", "kind": "reader"},
        ],
    },
    {"name": "empty"},
]


def test_everything_but_the_passwords_stays() -> None:
    assert without_passwords(MODEL) == [
        {
            "name": "mydb",
            "schemas": ["app"],
            "roles": [
                {"name": "app_user", "kind": "user", "settings": {"jit": None}},
                {"name": "app_reader", "kind": "reader"},
            ],
        },
        {"name": "empty", "roles": []},
    ]


def test_the_model_itself_keeps_them() -> None:
    without_passwords(MODEL)
    assert MODEL[0]["roles"][0]["password"] == "secret"


@pytest.mark.parametrize(
    "model", [None, "mydb", ["mydb"], [{"name": "mydb", "roles": "app_user"}], [{"roles": ["x"]}]]
)
def test_what_is_no_model_is_left_to_its_reader(model: Any) -> None:
    assert without_passwords(model) == model
