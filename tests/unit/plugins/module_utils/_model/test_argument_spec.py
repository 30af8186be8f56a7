# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model as an option of modules, and passwords beside it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.filter.role_passwords import role_passwords
from ansible_collections.pooled.postgres.plugins.filter.without_passwords import without_passwords
from ansible_collections.pooled.postgres.plugins.module_utils._model.argument_spec import (
    given_databases,
)

MODEL: list[dict[str, Any]] = [
    {
        "name": "mydb",
        "roles": [
            {"name": "app_user", "kind": "user", "password": "hush"},
            {"name": "app_reader", "kind": "reader"},
            {"name": "gone", "state": "absent"},
        ],
    },
    {"name": "other", "roles": [{"name": "app_user", "kind": "user", "password": "hush"}]},
    {"name": "empty", "roles": None},
]


def test_passwords_beside_the_model_are_as_those_in_it() -> None:
    passwords = role_passwords(MODEL)
    assert passwords == {"app_user": "hush"}
    stripped = without_passwords(MODEL)
    assert "hush" not in str(stripped)
    assert given_databases(stripped, passwords) == [
        *MODEL[:2],
        {"name": "empty", "roles": []},
    ]
    assert given_databases(MODEL[:2], passwords) == MODEL[:2]


@pytest.mark.parametrize(
    ("passwords", "message"),
    [
        ({"app_user": "another"}, "passwords: role 'app_user' has another password in its entry"),
        ({"app_usr": "another"}, "passwords: 'app_usr' is not a role of databases"),
    ],
)
def test_passwords_that_do_not_fit_are_refused(passwords: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        given_databases(MODEL[:2], passwords)
    assert "hush" not in str(raised.value)
    assert "another'" not in str(raised.value)


def test_different_passwords_of_one_role_are_refused() -> None:
    other = {"name": "other", "roles": [{"name": "app_user", "kind": "user", "password": "hush!"}]}
    with pytest.raises(AnsibleFilterError, match=r"'app_user' .* differ in password") as raised:
        role_passwords([MODEL[0], other])
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("model", [None, "x", ["x"], [{"roles": "x"}], [{"roles": ["x", {}]}]])
def test_what_is_not_a_model_has_no_passwords(model: Any) -> None:
    assert role_passwords(model) == {}
