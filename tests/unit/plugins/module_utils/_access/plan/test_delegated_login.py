# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    ActualRole,
    DatabaseObject,
    Login,
    Schema,
    new_cluster,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import Change
from ansible_collections.pooled.postgres.plugins.module_utils._access.operations import (
    AlterRole,
    DropOwned,
    GrantMembership,
    RevokeMembership,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.access import plan
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.delegated_login import (
    reaches,
    role_problems,
    with_temporary_membership,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import (
    Grant,
    owner_grants,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.extensions import (
    Extension,
    Surroundings,
)

ME = "master"
WORDS = frozenset({"INHERIT", "CREATEROLE", "CREATEDB"})


def login(**more):
    given = {
        "attributes": WORDS,
        "holds": frozenset({ME}),
        "becomes": frozenset({ME}),
        "administers": frozenset(),
    }
    return Login(**{**given, **more})


def wanted():
    roles = [{"name": "app_user", "kind": "user"}, {"name": "app_migrator", "kind": "migrator"}]
    return Wanted(parse_databases([{"name": "mydb", "roles": roles}]))


def server(major, mine, *existing, owner=ME, schema_owner="pg_database_owner", objects=()):
    actual = new_cluster(major, ME, ("mydb",))
    database = replace(
        actual.databases["mydb"],
        exists=True,
        owner=owner,
        grants=owner_grants(owner, ("CREATE", "TEMPORARY", "CONNECT")),
        schemas={
            "public": Schema(
                "public", schema_owner, owner_grants(schema_owner, ("USAGE", "CREATE"))
            )
        },
        objects=objects,
    )
    roles = {name: ActualRole(name, frozenset({"LOGIN", "INHERIT"}), -1) for name in existing}
    return replace(
        actual,
        databases={"mydb": database},
        roles=roles,
        role_names=frozenset({ME, "postgres", *existing}),
        bootstrap_superuser="postgres",
        login_is_superuser=False,
        login_bypasses_rls=False,
        reads_passwords=False,
        login=mine,
    )


# major, login, roles that exist, a role, whether its rights can be had
REACHES = [
    (17, None, (), "anybody", True),
    (17, login(), (), ME, True),
    (17, login(), (), "app_migrator", True),  # it will have made it
    (17, login(), ("app_migrator",), "app_migrator", False),
    (17, login(administers=frozenset({"app_migrator"})), ("app_migrator",), "app_migrator", True),
    (17, login(holds=frozenset({ME, "app_migrator"})), ("app_migrator",), "app_migrator", True),
    # A role outside the model is nobody to make use of.
    (17, login(administers=frozenset({"other"})), ("other",), "other", False),
    (17, login(holds=frozenset({ME, "other"})), ("other",), "other", True),
    (15, login(administers=frozenset({"app_migrator"})), ("app_migrator",), "app_migrator", True),
    # Before 16 the rights of a membership are the member's business as a whole.
    (15, login(attributes=WORDS - {"INHERIT"}), (), "app_migrator", False),
    (16, login(attributes=WORDS - {"INHERIT"}), (), "app_migrator", True),
]


@pytest.mark.parametrize(("major", "mine", "existing", "role", "expected"), REACHES)
def test_reaches(major, mine, existing, role, expected):
    assert reaches(role, wanted(), server(major, mine, *existing)) == expected


@pytest.mark.parametrize(
    ("operation", "words", "allowed"),
    [
        (AlterRole("grp", ("NOLOGIN",)), WORDS, True),
        (AlterRole("grp", ("NOLOGIN",)), frozenset({"INHERIT"}), False),
        (GrantMembership("grp", "app_user"), frozenset({"INHERIT"}), True),
        (RevokeMembership("grp", "app_user"), frozenset({"INHERIT"}), True),
        (AlterRole("app_user", ("NOLOGIN",)), frozenset({"INHERIT"}), True),
    ],
)
def test_altering_a_role_takes_createrole_and_granting_it_does_not(operation, words, allowed):
    mine = login(attributes=words, administers=frozenset({"grp"}))
    actual = server(17, mine, "app_user", "app_migrator", "grp")
    changes = [Change(None, operation, "", (), acts_for=frozenset({"grp"}))]
    problems = list(role_problems(wanted(), actual, changes))
    assert problems == (
        []
        if allowed
        else [
            f"'master' may not do this with role 'grp', because it has no CREATEROLE:"
            f" {operation.sql}"
        ]
    )


def change(*acts_for):
    return Change("mydb", DropOwned("x"), "", (), acts_for=frozenset(acts_for))


# major, login, what a change needs, the statements before and after it
LENT = [
    (17, None, ("app_migrator",), ([], [])),
    (17, login(), (ME,), ([], [])),
    (
        17,
        login(),
        ("app_migrator",),
        (
            ["GRANT app_migrator TO master WITH INHERIT TRUE"],
            ["REVOKE app_migrator FROM master"],
        ),
    ),
    (
        15,
        login(),
        ("app_migrator", "app_user"),
        (
            ["GRANT app_migrator TO master", "GRANT app_user TO master"],
            ["REVOKE app_user FROM master", "REVOKE app_migrator FROM master"],
        ),
    ),
    (
        17,
        login(granted_to_itself=frozenset({"app_migrator"})),
        ("app_migrator",),
        (
            ["GRANT app_migrator TO master WITH INHERIT TRUE"],
            ["REVOKE INHERIT OPTION FOR app_migrator FROM master"],
        ),
    ),
    (17, login(holds_created_roles=True), ("app_migrator",), ([], [])),
]


@pytest.mark.parametrize(("major", "mine", "needs", "expected"), LENT)
def test_rights_are_lent_for_one_transaction(major, mine, needs, expected):
    before, after = expected
    changes = with_temporary_membership([change(*needs)], wanted(), server(major, mine))
    assert [item.sql for item in changes] == [*before, "DROP OWNED BY x", *after]
    assert all(item.differences == () for item in changes)


def test_nothing_is_lent_for_nothing():
    assert with_temporary_membership([], wanted(), server(17, login())) == []


@pytest.mark.parametrize("major", [13, 14, 15, 16, 17, 18])
@pytest.mark.parametrize("table_owner", [ME, "app_migrator", "stranger"])
def test_each_statement_is_one_that_the_login_may_make(major, table_owner):
    table = DatabaseObject("tables", "public", "t", "", table_owner, ())
    actual = server(major, login(), objects=(table,))
    planned = plan(wanted(), actual)
    needed = {role for item in planned.changes if item.database for role in item.acts_for}
    assert needed <= {ME, "app_migrator"}
    on_table = [item.text for item in planned.changes if "public.t " in item.text]
    left = [text for text in planned.warnings if "(t), whose rights 'master' has not" in text]
    assert (len(on_table), len(left)) == ((0, 1) if table_owner == "stranger" else (1, 0))


def test_all_in_schema_is_not_said_where_something_is_out_of_reach():
    mine = [DatabaseObject("tables", "public", name, "", ME, ()) for name in ("a", "b")]
    theirs = DatabaseObject("tables", "public", "c", "", "stranger", ())
    assert "ALL TABLES" in str(
        [c.text for c in plan(wanted(), server(17, login(), objects=(*mine,))).changes]
    )
    actual = server(17, login(), objects=(*mine, theirs))
    planned = [item.text for item in plan(wanted(), actual).changes]
    assert "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE public.a, public.b TO app_user" in planned


def test_a_superuser_is_asked_nothing():
    actual = replace(server(17, None, owner="stranger"), login_is_superuser=True)
    assert plan(wanted(), actual).changes


# What keeps the login from it, and what it is told.
REFUSED = [
    (
        server(17, login(), owner="stranger"),
        "database 'mydb' belongs to 'stranger', so 'master' may not change rights on it:"
        " 'app_migrator' would lack CREATE, CONNECT, TEMPORARY; 'app_user' would lack CONNECT; fix"
        " it with ALTER DATABASE mydb OWNER TO master",
    ),
    (
        server(17, login(attributes=frozenset({"INHERIT"}))),
        "there is no role 'app_user', and 'master' may not create it: no CREATEROLE",
    ),
    (
        server(17, login(), schema_owner="stranger"),
        "database 'mydb', schema 'public' belongs to 'stranger', so 'master' may not change rights"
        " on it: 'app_migrator' would lack USAGE, CREATE; 'app_user' would lack USAGE; fix it with"
        " ALTER SCHEMA public OWNER TO master",
    ),
]


@pytest.mark.parametrize(("actual", "message"), REFUSED, ids=["database", "role", "schema"])
def test_what_it_may_not_give_is_refused(actual, message):
    with pytest.raises(ValueError) as caught:
        plan(wanted(), actual)
    assert message in str(caught.value).splitlines()


def with_role(mine, major=17, **changes):
    actual = server(major, mine, "app_user")
    changed = replace(actual.roles["app_user"], **changes)
    return replace(actual, roles={"app_user": changed})


# From 16 on, it takes the attribute itself to take one away, before that CREATEROLE does for some.
@pytest.mark.parametrize(
    ("major", "word", "mine", "refused"),
    [
        (15, "SUPERUSER", WORDS, True),
        (17, "SUPERUSER", WORDS, True),
        (15, "REPLICATION", WORDS | {"REPLICATION"}, True),
        (17, "REPLICATION", WORDS | {"REPLICATION"}, False),
        (17, "REPLICATION", WORDS, True),
        (15, "CREATEDB", WORDS - {"CREATEDB"}, False),
        (17, "CREATEDB", WORDS, False),
        (17, "CREATEDB", WORDS - {"CREATEDB"}, True),
    ],
)
def test_an_attribute_that_it_may_not_take_away_is_refused(major, word, mine, refused):
    me = login(attributes=mine, administers=frozenset({"app_user"}))
    actual = with_role(me, major, attributes=frozenset({"LOGIN", "INHERIT", word}))
    message = (
        f"role 'app_user' has {word}, which 'master' may not take away; as a superuser run ALTER"
        f" ROLE app_user NO{word}"
    )
    assert (message in role_problems(wanted(), actual, ())) is refused


def test_a_plan_that_it_may_not_carry_out_is_none():
    mine = login(administers=frozenset({"app_user"}))
    with pytest.raises(ValueError, match="has SUPERUSER, which 'master' may not take away"):
        plan(wanted(), with_role(mine, attributes=frozenset({"LOGIN", "INHERIT", "SUPERUSER"})))
    assert plan(wanted(), with_role(mine)).changes


def test_a_role_that_it_administers_is_not_altered_without_createrole():
    mine = login(attributes=frozenset({"INHERIT", "CREATEDB"}), administers=frozenset({"app_user"}))
    with pytest.raises(ValueError) as caught:
        plan(wanted(), with_role(mine, connection_limit=7))
    assert any(
        line.startswith(
            "'master' may not do this with role 'app_user', because it has no CREATEROLE: ALTER"
        )
        for line in str(caught.value).splitlines()
    )


def test_what_stays_on_objects_out_of_reach_is_told_by_what_is_wrong_with_it():
    extra = (Grant("app_user", "TRUNCATE", False, "stranger"),)
    table = DatabaseObject("tables", "public", "t", "", "stranger", extra)
    found = plan(wanted(), server(17, login(), objects=(table,))).warnings
    start = "database 'mydb', schema 'public': tables of 'stranger' (t)"
    told = [text.split("has not: ")[1] for text in found if text.startswith(start)]
    assert sorted(text.split(" on them")[0] for text in told) == [
        "'app_user' get no SELECT, INSERT, UPDATE, DELETE",
        "'app_user' keep TRUNCATE",
    ]


@pytest.mark.parametrize(
    ("mine", "statements"),
    [(None, 4), (login(), 1)],
    ids=["superuser", "delegated"],
)
def test_an_extension_is_made_alone_only_with_a_superuser_s_rights(mine, statements):
    want = Wanted(parse_databases([{"name": "mydb", "roles": [], "extensions": ["hstore"]}]))
    actual = server(17, mine)
    state = replace(actual.databases["mydb"], surroundings=Surroundings({}, frozenset({"public"})))
    actual = replace(
        actual,
        databases={"mydb": state},
        extensions={"hstore": Extension(relocatable=True)},
        available_extensions=frozenset({"hstore"}),
        login_is_superuser=mine is None,
    )
    found = [item for item in plan(want, actual).changes if "hstore" in item.subject]
    assert len(found) == statements
