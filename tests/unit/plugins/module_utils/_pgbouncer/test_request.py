# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pgbouncer_config is asked for."""

from __future__ import annotations

from dataclasses import fields

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.request import (
    Request,
    parsed_request,
)
from ansible_collections.pooled.postgres.plugins.modules import pgbouncer_config

from .examples import ARGUMENTS, asked


def test_each_argument_of_the_module_has_a_field():
    # Passwords become part of the model.
    arguments = set(pgbouncer_config.argument_spec()) - {"passwords"}
    assert {field.name for field in fields(Request)} == arguments | {"check_mode"}
    assert set(ARGUMENTS) == set(pgbouncer_config.argument_spec())


def test_what_only_a_check_takes_for_granted():
    given = {"assume_files": ["/a"], "assume_user": True}
    assert asked(check_mode=True, **given).assumed_files == ["/a"]
    assert asked(check_mode=True, **given).assumes_user
    assert list(asked(**given).assumed_files) == []
    assert not asked(**given).assumes_user


def test_who_asks_the_server():
    assert asked().asking_role == "pgbouncer_auth"
    assert asked(auth="userlist").asking_role == ""


def test_passwords_come_into_the_model():
    (role,) = asked(passwords={"app_user": "secret"}).databases[0].roles
    assert role.password == "secret"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"os_user": "root"}, "os_user: 'root' is not allowed"),
        ({"databases": [{"name": ""}]}, "databases"),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        parsed_request({**ARGUMENTS, **given}, False)
