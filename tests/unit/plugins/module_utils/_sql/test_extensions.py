# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._sql.extensions import (
    Extension,
    Surroundings,
    creation,
    in_order,
)

MOVES = Extension(relocatable=True)
STAYS = Extension()
TRUSTED = Extension(trusted=True)
FIXED = Extension(schema="cron")
NEEDS = Extension(relocatable=True, requires=("base", "absent"))
CLOSED = Surroundings({"base": "lib"})
CREATABLE = Surroundings({"base": "lib"}, creatable=frozenset({"public", "cron"}))
HOLDING = Surroundings({"base": "lib"}, holding=frozenset({"public"}))
BASE_OPEN = Surroundings({"base": "lib"}, creatable=frozenset({"lib"}))
DIRECT = ('CREATE EXTENSION "x-y" SCHEMA public',)
ALONE = (
    "CREATE SCHEMA pooled_extension",
    'CREATE EXTENSION "x-y" SCHEMA pooled_extension',
    'ALTER EXTENSION "x-y" SET SCHEMA public',
    "DROP SCHEMA pooled_extension",
)

# (the extension, the database, whether it is new, the statements)
CASES = [
    (MOVES, CLOSED, False, DIRECT),
    (STAYS, CLOSED, False, DIRECT),
    (FIXED, CLOSED, False, ('CREATE EXTENSION "x-y"',)),
    (TRUSTED, CREATABLE, False, DIRECT),
    (TRUSTED, HOLDING, False, DIRECT),
    (MOVES, CREATABLE, False, ALONE),
    (MOVES, HOLDING, False, ALONE),
    (MOVES, CREATABLE, True, DIRECT),
    (STAYS, CREATABLE, True, DIRECT),
    (MOVES, HOLDING, True, ALONE),
    (NEEDS, CLOSED, False, DIRECT),
    (NEEDS, CREATABLE, False, ALONE),
]


@pytest.mark.parametrize(("extension", "around", "new", "statements"), CASES)
def test_how_an_extension_is_created(
    extension: Extension, around: Surroundings, new: bool, statements: tuple[str, ...]
) -> None:
    created = creation("x-y", "public", extension, around, new)
    assert tuple(operation.sql for operation in created) == statements


@pytest.mark.parametrize(
    ("extension", "around", "schema"),
    [
        (STAYS, CREATABLE, "public"),
        (STAYS, HOLDING, "public"),
        (FIXED, CREATABLE, "cron"),
        (NEEDS, BASE_OPEN, "lib"),
    ],
)
def test_a_script_never_runs_where_others_create(
    extension: Extension, around: Surroundings, schema: str
) -> None:
    with pytest.raises(ValueError, match=f"others may create in schema '{schema}'; revoke CREATE"):
        creation("x", "public", extension, around)


REQUIRING = {
    "c": Extension(requires=("b", "a")),
    "b": Extension(requires=("a",)),
    "a": Extension(),
    "alone": Extension(requires=("not listed",)),
}


@pytest.mark.parametrize("listed", list(itertools.permutations(REQUIRING)))
def test_each_comes_after_those_that_it_requires(listed: tuple[str, ...]) -> None:
    found = in_order(listed, REQUIRING)
    assert sorted(found) == sorted(listed)
    assert found.index("a") < found.index("b") < found.index("c")


def test_the_order_is_kept_where_nothing_is_required() -> None:
    assert in_order(("z", "earthdistance", "y", "cube"), {}) == ("z", "cube", "earthdistance", "y")
