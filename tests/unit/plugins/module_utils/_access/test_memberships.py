# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles that leave, roles outside the model, and plans that do not depend on the order of rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._access import (
    memberships,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    Belongings,
    Column,
    DatabaseObject,
    DefaultRights,
    Link,
    RoleToDrop,
    ServerRole,
    UnmanagedRole,
    in_order,
    new_cluster,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import Difference
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.access import plan
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.dropped_roles import (
    once_given_away,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import Grant, owner_grants

ADMIN = "postgres"
ROLES = [
    {"name": "app_user", "kind": "user"},
    {"name": "app_reader", "kind": "reader"},
    {"name": "app_migrator", "kind": "migrator"},
]


def wanted(*more, **options):
    return Wanted(parse_databases([{"name": "mydb", "roles": [*ROLES, *more]}]), **options)


def server(to_drop=(), **database):
    actual = new_cluster(17, ADMIN, ("mydb",))
    state = replace(actual.databases["mydb"], exists=True, **database)
    return replace(
        actual,
        databases={"mydb": state},
        role_names=frozenset({ADMIN, *(role.name for role in to_drop)}),
        roles_to_drop={role.name: role for role in to_drop},
    )


def gone(name="former", heir="app_migrator"):
    return {"name": name, "state": "absent", **({"reassign_owned_to": heir} if heir else {})}


def texts(want, actual):
    return [change.text for change in plan(want, actual).changes]


def test_a_role_that_is_gone_needs_nothing():
    assert texts(wanted(gone()), server()) == texts(wanted(), server())
    assert plan(wanted(gone(heir=None)), server()).warnings == ()


def test_a_role_gives_away_what_it_owns_first_and_is_dropped_last():
    actual = server([RoleToDrop("former")], belongings={"former": Belongings(rights=1)})
    found = [text for text in texts(wanted(gone()), actual) if "former" in text]
    assert found == [
        "REASSIGN OWNED BY former TO app_migrator",
        "DROP OWNED BY former",
        "DROP ROLE former",
    ]
    inside = [change for change in plan(wanted(gone()), actual).changes if change.database]
    assert inside[0].text.startswith("REASSIGN OWNED")


def test_a_role_that_nobody_inherits_from_is_told_with_what_it_owns():
    owned = Belongings(owned=(("table", 1, ("t",)),))
    actual = server([RoleToDrop("former")], belongings={"former": owned})
    (warning,) = [
        text for text in plan(wanted(gone(heir=None)), actual).warnings if "former" in text
    ]
    assert "in database 'mydb' it owns" in warning


def test_the_diff_of_a_role_that_is_dropped():
    changes = plan(wanted(gone()), server([RoleToDrop("former")])).changes
    (drop,) = [change for change in changes if change.text == "DROP ROLE former"]
    assert drop.differences == (Difference(("role former", "exists"), "yes", ""),)


@pytest.mark.parametrize(
    ("to_drop", "statements"),
    [
        (RoleToDrop("former"), ["DROP ROLE former"]),
        (
            RoleToDrop("former", shared=True),
            [
                "REASSIGN OWNED BY former TO app_migrator",
                "DROP OWNED BY former",
                "DROP ROLE former",
            ],
        ),
    ],
)
def test_a_role_that_owns_nothing_in_a_database_is_left_alone_there(to_drop, statements):
    found = [text for text in texts(wanted(gone()), server([to_drop])) if "former" in text]
    assert found == statements


AT = "pooled_databases: role 'former'"


@pytest.mark.parametrize(
    ("to_drop", "heir", "message"),
    [
        (
            RoleToDrop("former", sessions=(("mydb", 3), ("", 1))),
            "app_migrator",
            f"{AT} can't be dropped: it has sessions (3 in database 'mydb', 1 in database '');"
            " stop what logs in as it first",
        ),
        (
            RoleToDrop("former", prepared=2),
            "app_migrator",
            f"{AT} can't be dropped: it has 2 prepared transaction(s); commit or roll them back"
            " first",
        ),
        (
            RoleToDrop("former"),
            "nobody",
            f"{AT}: reassign_owned_to: there is no role 'nobody' on the server or in the model",
        ),
        (
            RoleToDrop(ADMIN),
            "app_migrator",
            f"pooled_databases: role '{ADMIN}' can't be dropped: it is the user that this run logs"
            f" in as\npooled_databases: role '{ADMIN}' can't be dropped: it is the server's first"
            " superuser",
        ),
    ],
)
def test_what_stands_against_dropping_is_said_before_anything_changes(to_drop, heir, message):
    with pytest.raises(ValueError) as caught:
        plan(wanted(gone(to_drop.name, heir)), server([to_drop]))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("more", "options", "message"),
    [
        (
            [gone("former", "other"), gone("other")],
            {},
            f"{AT}: reassign_owned_to names 'other', which must be absent itself; name a role that"
            " stays",
        ),
        (
            [gone(), {"name": "app_admin", "kind": "admin", "member_of": ["former"]}],
            {},
            "pooled_databases: role 'app_admin': member_of names 'former', which must be absent;"
            " take it out",
        ),
        (
            [gone()],
            {"pooler_role": "former"},
            f"{AT} is PgBouncer's own role, so it can't be absent",
        ),
    ],
)
def test_models_that_contradict_themselves(more, options, message):
    with pytest.raises(ValueError) as caught:
        plan(wanted(*more, **options), server([RoleToDrop("former")]))
    assert message in str(caught.value).splitlines()


def test_what_was_given_away_counts_as_the_heir_s():
    """What the plan sees is what the server then holds, so the next run has nothing to do."""
    grants = (
        *owner_grants("former", ("SELECT", "INSERT")),
        Grant("app_user", "SELECT", False, "former"),
        Grant("legacy", "SELECT", False, "former"),
    )
    theirs = DatabaseObject("tables", "public", "t", "", "former", grants)
    others = DatabaseObject(
        "tables", "public", "u", "", ADMIN, (Grant("former", "SELECT", False, ADMIN),)
    )
    actual = server(
        [RoleToDrop("former")],
        objects=(theirs, others),
        default_rights=(
            DefaultRights("former", "public", "tables", ()),
            DefaultRights(ADMIN, "", "tables", (Grant("former", "SELECT", False, ADMIN),)),
        ),
        belongings={"former": Belongings(rights=1)},
    )
    state = once_given_away(wanted(gone()), actual).databases["mydb"]
    assert state.objects == (
        replace(
            theirs,
            owner="app_migrator",
            grants=(
                *owner_grants("app_migrator", ("SELECT", "INSERT")),
                Grant("app_user", "SELECT", False, "app_migrator"),
                Grant("legacy", "SELECT", False, "app_migrator"),
            ),
        ),
        replace(others, grants=()),
    )
    assert state.default_rights == (DefaultRights(ADMIN, "", "tables", ()),)


def role_map(*roles):
    return {role.name: role for role in roles}


# (roles, memberships, exclusive, who is outside with what it holds and who becomes it)
UNMANAGED = [
    (
        (ServerRole("anna"), ServerRole("grp", login=False), ServerRole("boss", superuser=True)),
        (Link("anna", "grp"),),
        True,
        {"anna": ({"anna", "grp"}, {"anna"}), "grp": ({"grp"}, {"anna"})},
    ),
    (
        (ServerRole("anna"), ServerRole("grp", login=False)),
        (Link("anna", "grp", inherits=False),),
        True,
        {"anna": ({"anna"}, {"anna"}), "grp": ({"grp"}, {"anna"})},
    ),
    (
        (ServerRole("anna"), ServerRole("grp", login=False)),
        (Link("anna", "grp", may_set=False),),
        True,
        {"anna": ({"anna", "grp"}, {"anna"})},
    ),
    (
        (ServerRole("anna"), ServerRole("app_user"), ServerRole("grp", login=False)),
        (Link("anna", "app_user"), Link("app_user", "grp")),
        True,
        {"anna": ({"anna", "app_user"}, {"anna"})},
    ),
    (
        (ServerRole("anna"), ServerRole("app_user"), ServerRole("grp", login=False)),
        (Link("anna", "app_user"), Link("app_user", "grp")),
        False,
        {"anna": ({"anna", "app_user", "grp"}, {"anna"}), "grp": ({"grp"}, {"anna"})},
    ),
    ((ServerRole("pg_monitor", login=False), ServerRole("former")), (), True, {}),
]


@pytest.mark.parametrize(("roles", "links", "exclusive", "expected"), UNMANAGED)
def test_who_is_outside_and_has_what_by_membership(roles, links, exclusive, expected):
    found = memberships.unmanaged_roles(
        wanted(exclusive=exclusive), role_map(*roles), links, ["former"]
    )
    assert {item.name: (set(item.holds), set(item.used_by)) for item in found} == expected


def test_default_rights_have_one_order_whatever_the_rows_had():
    rows = [DefaultRights("a", schema, "tables", ()) for schema in ("", "public", "x")]
    first, second = (
        in_order(server(default_rights=tuple(items))).databases["mydb"].default_rights
        for items in (rows, rows[::-1])
    )
    assert first == second == tuple(rows)


NAMES = st.sampled_from(["app_user", "app_reader", "app_migrator", "legacy", ""])
PRIVILEGES = st.sampled_from(["SELECT", "INSERT", "TRUNCATE", "USAGE", "EXECUTE"])
GRANTS = st.lists(st.builds(Grant, NAMES, PRIVILEGES, st.booleans(), st.just(ADMIN)), max_size=4)
KINDS = st.sampled_from(["tables", "sequences", "routines", "types"])
WORDS = st.sampled_from(["a", "B", "c d", "é"])
OBJECTS = st.lists(
    st.builds(
        DatabaseObject,
        KINDS,
        st.just("public"),
        WORDS,
        st.just(""),
        st.sampled_from([ADMIN, "app_migrator"]),
        GRANTS.map(tuple),
    ),
    max_size=8,
    unique_by=lambda item: (item.kind, item.name),
)
COLUMNS = st.lists(
    st.builds(Column, st.just("public"), WORDS, WORDS, st.just(ADMIN), GRANTS.map(tuple)),
    max_size=5,
    unique_by=lambda item: (item.table, item.name),
)


@given(OBJECTS, COLUMNS, st.randoms(use_true_random=False))
def test_rows_in_another_order_make_the_same_plan(objects, columns, random):
    unmanaged_roles = [UnmanagedRole(name, frozenset({name})) for name in ("legacy", "anna", "zoe")]
    defaults = [
        DefaultRights(name, "", "tables", (Grant("app_user", "TRUNCATE", False, name),))
        for name in ("legacy", "anna", "app_migrator")
    ]

    def planned():
        actual = server(
            objects=tuple(objects), columns=tuple(columns), default_rights=tuple(defaults)
        )
        return plan(wanted(), replace(actual, unmanaged_roles=tuple(unmanaged_roles)))

    first = planned()
    for rows in (objects, columns, unmanaged_roles, defaults):
        random.shuffle(rows)
    assert planned() == first
    assert [change.sql for change in planned().changes] == [change.sql for change in first.changes]
