# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    ActualRole,
    Column,
    DatabaseObject,
    Link,
    Login,
    Membership,
    RoleSetting,
    Schema,
    UnmanagedRole,
    new_cluster,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import (
    Change,
    Difference,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.operations import DropOwned
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.access import (
    nested_text,
    plan,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.rights import (
    rights_needs,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._model.role_kinds import KINDS
from ansible_collections.pooled.postgres.plugins.module_utils._sql import scram
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import (
    Grant,
    default_database_acl,
    owner_grants,
)

ADMIN = "postgres"


def wanted(*roles, **options):
    database = {"name": "mydb", "roles": list(roles)}
    database.update(options.pop("database", {}))
    return Wanted(parse_databases([database]), **options)


def role(name, kind="user", **more):
    return {"name": name, "kind": kind, **more}


def server(major=17, **changes):
    """A new server that has the database already, closed to PUBLIC."""
    actual = new_cluster(major, ADMIN, ("mydb",))
    database = replace(
        actual.databases["mydb"],
        exists=True,
        grants=owner_grants(ADMIN, ("CREATE", "TEMPORARY", "CONNECT")),
        **changes.pop("database", {}),
    )
    return replace(actual, databases={"mydb": database}, **changes)


def existing(name, *attributes, **more):
    limit = more.pop("connection_limit", -1)
    return ActualRole(name, frozenset({"LOGIN", "INHERIT", *attributes}), limit, **more)


def texts(want, actual):
    return [change.text for change in plan(want, actual).changes]


def role_texts(want, actual):
    return [change.text for change in plan(want, actual).changes if change.database is None]


def test_nothing_to_do_for_an_empty_model():
    assert texts(Wanted(()), new_cluster(17, ADMIN, ())) == []


@pytest.mark.parametrize(
    ("major", "expected"),
    [
        (14, ["REVOKE CREATE ON SCHEMA public FROM PUBLIC"]),
        (15, []),
    ],
)
def test_public_schema_of_a_new_server_is_closed_where_it_is_open(major, expected):
    actual = new_cluster(major, ADMIN, ("mydb",))
    assert texts(wanted(), actual) == [
        "CREATE DATABASE mydb ENCODING 'UTF8'",
        "REVOKE CONNECT, TEMPORARY ON DATABASE mydb FROM PUBLIC",
        *expected,
    ]


@pytest.mark.parametrize(
    ("major", "privileges"),
    [(14, "USAGE, CREATE"), (15, "USAGE")],
)
def test_cis_closes_every_database_and_limits_the_superuser(major, privileges):
    want = wanted(hardening="cis", pooler_role="pb", pooler_connection_limit=12)
    found = texts(want, new_cluster(major, ADMIN, ("mydb",), "cis"))
    assert "CREATE ROLE pb LOGIN CONNECTION LIMIT 12" in found
    assert "ALTER ROLE postgres CONNECTION LIMIT 10" in found
    assert [text for text in found if text.startswith("REVOKE") and "PUBLIC" in text] == [
        "REVOKE CONNECT, TEMPORARY ON DATABASE mydb FROM PUBLIC",
        f"REVOKE {privileges} ON SCHEMA public FROM PUBLIC",
        "REVOKE EXECUTE ON FUNCTION pgbouncer.get_auth(text) FROM PUBLIC",
        "REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC",
        f"REVOKE {privileges} ON SCHEMA public FROM PUBLIC",
        "REVOKE CONNECT ON DATABASE template1 FROM PUBLIC",
        f"REVOKE {privileges} ON SCHEMA public FROM PUBLIC",
    ]


def test_cis_leaves_what_outsiders_need_and_the_monitor_s_role_is_none():
    actual = new_cluster(17, ADMIN, ("mydb",), "cis")
    unmanaged_roles = (UnmanagedRole("legacy", frozenset({"legacy"})),)
    planned = plan(wanted(hardening="cis"), replace(actual, unmanaged_roles=unmanaged_roles))
    assert not [c.text for c in planned.changes if c.database in ("postgres", "template1")]
    assert [text.split(":")[0] for text in planned.warnings].count("database 'postgres'") == 3
    assert all("'legacy'" in text for text in planned.warnings)


def test_a_login_that_is_no_superuser_leaves_the_server_s_databases():
    actual = replace(
        new_cluster(17, ADMIN, ("mydb",), "cis"),
        login_user="deploy",
        login_is_superuser=False,
        login=Login(frozenset({"CREATEDB", "CREATEROLE"}), frozenset(), frozenset(), frozenset()),
    )
    planned = plan(wanted(hardening="cis"), actual)
    assert not [c.text for c in planned.changes if c.database in ("postgres", "template1")]
    assert "ALTER ROLE postgres CONNECTION LIMIT 10" not in [c.text for c in planned.changes]
    assert (
        "database 'postgres': PUBLIC keeps its rights, because 'deploy' is not a superuser"
        in planned.warnings
    )


def test_database_of_another_encoding_s_template():
    actual = replace(new_cluster(17, ADMIN, ("mydb",)), template_encoding="SQL_ASCII")
    assert texts(wanted(), actual)[0] == "CREATE DATABASE mydb ENCODING 'UTF8' TEMPLATE template0"


# (what the server has, what is executed for role app_user of kind user with limit 5)
ATTRIBUTES = [
    (None, ["CREATE ROLE app_user LOGIN CONNECTION LIMIT 5"]),
    (existing("app_user", connection_limit=5), []),
    (existing("app_user"), ["ALTER ROLE app_user CONNECTION LIMIT 5"]),
    (
        existing("app_user", "SUPERUSER", "CREATEROLE", "REPLICATION", connection_limit=5),
        ["ALTER ROLE app_user NOSUPERUSER NOCREATEROLE NOREPLICATION"],
    ),
    (
        existing("app_user", "BYPASSRLS", "CREATEDB", connection_limit=5),
        ["ALTER ROLE app_user NOCREATEDB NOBYPASSRLS"],
    ),
    (
        ActualRole("app_user", frozenset(), 5),
        ["ALTER ROLE app_user INHERIT LOGIN"],
    ),
    (
        existing("app_user", connection_limit=5, valid_until="2020-01-01 00:00:00 UTC"),
        ["ALTER ROLE app_user VALID UNTIL 'infinity'"],
    ),
    (
        existing("app_user", "CREATEDB", valid_until="2020-01-01 00:00:00 UTC"),
        ["ALTER ROLE app_user NOCREATEDB CONNECTION LIMIT 5 VALID UNTIL 'infinity'"],
    ),
]


@pytest.mark.parametrize(("before", "expected"), ATTRIBUTES)
def test_attributes(before, expected):
    want = wanted(role("app_user", connection_limit=5, settings=NO_SETTINGS))
    actual = server(roles={"app_user": before} if before else {})
    assert role_texts(want, actual) == expected
    assert role_texts(replace(want, exclusive=False), actual) == expected


NO_SETTINGS = {
    "jit": None,
    "statement_timeout": None,
    "idle_in_transaction_session_timeout": None,
    "lock_timeout": None,
}


@pytest.mark.parametrize(
    ("major", "superuser", "bypasses", "given_"),
    [
        (15, True, True, True),
        (15, False, True, False),
        (16, False, True, True),
        (16, False, False, False),
    ],
)
def test_bypassrls_where_the_login_may_give_it(major, superuser, bypasses, given_):
    actual = replace(server(major), login_is_superuser=superuser, login_bypasses_rls=bypasses)
    planned = plan(wanted(role("app_admin", "admin", settings=NO_SETTINGS)), actual)
    assert planned.changes[0].text == "CREATE ROLE app_admin LOGIN" + (
        " BYPASSRLS" if given_ else ""
    )
    assert list(planned.warnings) == (
        []
        if given_
        else [
            "role 'app_admin' stays without BYPASSRLS, because 'postgres' may not give it:"
            " row-level security hides rows from this admin"
        ]
    )


# (settings of the model, settings of the server, what the server makes of values, statements)
SETTINGS = [
    ({"work_mem": "16MB"}, [], {}, ["SET work_mem = '16MB'"]),
    ({"work_mem": "16MB"}, [("", "work_mem", "16MB")], {}, []),
    (
        {"work_mem": "16MB"},
        [("", "work_mem", "16384kB")],
        {("work_mem", "16384kB"): "16MB"},
        [],
    ),
    ({"work_mem": "16MB"}, [("", "work_mem", "8MB")], {}, ["SET work_mem = '16MB'"]),
    ({}, [("", "TimeZone", "UTC")], {}, ["RESET timezone"]),
    ({"timezone": "UTC"}, [("", "TimeZone", "UTC")], {}, []),
    ({"app.x": "it's"}, [], {}, ["SET app.x = 'it''s'"]),
    ({"app.user": "a\\b"}, [], {}, ["SET app.\"user\" = E'a\\\\b'"]),
    (
        {"search_path": '"$user",App'},
        [],
        {},
        ["SET search_path = '$user', 'app'"],
    ),
    ({"search_path": "a, b"}, [("", "search_path", "a,b")], {}, []),
    ({"search_path": "a, b"}, [("", "search_path", "b, a")], {}, ["SET search_path = 'a', 'b'"]),
    ({"search_path": ""}, [("", "search_path", '""')], {}, []),
    # What the server has may be no list, and what is no list may look like one.
    ({"search_path": "a"}, [("", "search_path", '"a')], {}, ["SET search_path = 'a'"]),
    ({"app.x": '"two words'}, [], {}, ["SET app.x = '\"two words'"]),
    ({"search_path": ""}, [], {}, ["SET search_path = ''"]),
    ({"search_path": "a"}, [("", "search_path", "'")], {}, ["SET search_path = 'a'"]),
    ({}, [("mydb", "work_mem", "1MB")], {}, ["IN DATABASE mydb RESET work_mem"]),
    ({}, [("elsewhere", "work_mem", "1MB")], {}, []),
]


@pytest.mark.parametrize(("model", "stored", "canonical", "expected"), SETTINGS)
def test_settings(model, stored, canonical, expected):
    want = wanted(role("app_user", settings={**NO_SETTINGS, **model}))
    before = existing("app_user", settings=tuple(RoleSetting(*item) for item in stored))
    actual = server(roles={"app_user": before}, canonical=canonical)
    planned = plan(want, actual)
    changes = [change for change in planned.changes if change.database is None]
    assert [change.text for change in changes] == [f"ALTER ROLE app_user {e}" for e in expected]
    assert {change.outdates for change in changes} <= {"app_user"}


def test_settings_of_a_new_role_outdate_no_sessions():
    changes = plan(wanted(role("app_user")), server()).changes
    assert {change.outdates for change in changes} == {""}


# (major, memberships there are, statements for member_of: [wanted])
MEMBERSHIPS = [
    (17, [], ["GRANT wanted TO app_user"]),
    (17, [("wanted", False, ADMIN)], []),
    (17, [("wanted", True, ADMIN)], ["REVOKE ADMIN OPTION FOR wanted FROM app_user"]),
    (
        17,
        [("wanted", False, ADMIN), ("extra", False, ADMIN)],
        ["REVOKE extra FROM app_user"],
    ),
    (
        17,
        [("wanted", False, ADMIN), ("extra", False, "A b")],
        ['REVOKE extra FROM app_user GRANTED BY "A b"'],
    ),
    (
        15,
        [("wanted", False, ADMIN), ("extra", False, "A b")],
        ["REVOKE extra FROM app_user"],
    ),
]


@pytest.mark.parametrize(("major", "there", "expected"), MEMBERSHIPS)
def test_memberships(major, there, expected):
    want = wanted(role("app_user", settings=NO_SETTINGS, member_of=["wanted"]))
    before = existing("app_user", memberships=tuple(Membership(*item) for item in there))
    actual = replace(
        server(major, roles={"app_user": before}), role_names=frozenset({"wanted", "extra"})
    )
    assert role_texts(want, actual) == expected
    kept = role_texts(replace(want, exclusive=False), actual)
    assert kept == [text for text in expected if not text.startswith("REVOKE")]


STORED = scram.make_verifier("pw", 1)


@pytest.mark.parametrize(
    ("password", "stored", "changes"),
    [
        (None, None, False),
        (None, STORED, False),
        ("pw", STORED, False),
        (STORED, STORED, False),
        ("pw", None, True),
        ("other", STORED, True),
        ("pw", "md5" + "0" * 32, True),
    ],
)
def test_passwords(password, stored, changes):
    want = wanted(role("app_user", password=password, settings=NO_SETTINGS))
    actual = server(roles={"app_user": existing("app_user", password=stored)})
    planned = [change for change in plan(want, actual).changes if change.database is None]
    assert [change.text for change in planned] == (
        ["ALTER ROLE app_user PASSWORD '********'"] if changes else []
    )
    for change in planned:
        assert change.operation.secret
        verifier = change.sql.split("'")[1]
        assert scram.password_matches(password, verifier)
        assert verifier not in repr(change)


def test_password_that_cannot_be_compared_is_left_and_named():
    want = wanted(role("app_user", password="pw", settings=NO_SETTINGS))
    actual = replace(server(roles={"app_user": existing("app_user")}), reads_passwords=False)
    planned = plan(want, actual)
    assert not [change for change in planned.changes if change.operation.secret]
    assert planned.warnings == (
        "the password of role 'app_user' is left as it is, because 'postgres' may not read what the"
        " server stores, and logging in as 'app_user' from here does not tell whether it differs:"
        " the server must ask for a password over the module's connection",
    )


def test_a_password_that_somebody_gave_the_pooler_s_role_goes():
    want = wanted(pooler_role="pb")
    for stored, expected in ((STORED, ["ALTER ROLE pb PASSWORD NULL"]), (None, [])):
        actual = server(roles={"pb": existing("pb", password=stored)})
        found = [text for text in role_texts(want, actual) if "PASSWORD" in text]
        assert found == expected


def test_passwords_come_last():
    want = wanted(role("a", password="x"), role("b", member_of=["a"]))
    secrets = [
        change.operation.secret for change in plan(want, server()).changes if not change.database
    ]
    assert secrets == sorted(secrets)
    assert any(secrets)


NAMES = st.sampled_from(["app_user", "app_reader", "app_migrator", "outside", "", "owner"])
PRIVILEGES = st.sampled_from(["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "MAINTAIN"])
GRANTS = st.lists(
    st.builds(Grant, NAMES, PRIVILEGES, st.booleans(), st.sampled_from(["owner", "outside"]))
).map(tuple)
RIGHTS = {
    "app_user": KINDS["user"].rights,
    "app_reader": KINDS["reader"].rights,
    "app_migrator": KINDS["migrator"].rights,
}


def carried_out(grants, owner, needs):
    """What the list becomes when the needs are met."""
    left = list(grants)
    for need in needs:
        by = need.as_role or owner
        for grantee in need.grantees:
            for privilege in need.privileges:
                same = [
                    grant
                    for grant in left
                    if (grant.grantee, grant.privilege, grant.grantor) == (grantee, privilege, by)
                ]
                left = [grant for grant in left if grant not in same]
                if need.verb == "GRANT":
                    left.append(Grant(grantee, privilege, False, owner))
                elif need.verb == "REVOKE GRANT OPTION FOR":
                    assert same
                    left.append(Grant(grantee, privilege, False, by))
                else:
                    assert same
    return tuple(left)


@given(GRANTS, st.sampled_from(["owner", "app_user", "app_migrator"]))
def test_rights_become_exact_in_one_step_and_nobody_else_is_touched(grants, owner):
    grants = (
        tuple(replace(grant, grantor="outside") for grant in grants)
        if owner != "owner"
        else (grants)
    )
    needs = rights_needs("tables", owner, grants, RIGHTS, True)
    after = carried_out(grants, owner, needs)
    assert rights_needs("tables", owner, after, RIGHTS, True) == ()
    for name, rights in RIGHTS.items():
        mine = {grant.privilege for grant in after if grant.grantee == name}
        if name == owner or "tables" not in rights:
            assert mine >= {grant.privilege for grant in grants if grant.grantee == name}
        else:
            assert mine == set(rights["tables"])
            assert not any(grant.grantable for grant in after if grant.grantee == name)

    def of_others(items):
        return sorted(
            (grant for grant in items if grant.grantee not in RIGHTS),
            key=lambda grant: (grant.grantee, grant.privilege, grant.grantor, grant.grantable),
        )

    assert of_others(after) == of_others(grants)


@pytest.mark.parametrize("grantable", [False, True])
def test_only_an_option_that_is_there_is_revoked(grantable):
    grants = (
        Grant("app_reader", "SELECT", grantable, "owner"),
        Grant("legacy", "SELECT", False, "app_reader"),
    )
    needs = rights_needs("tables", "owner", grants, {"app_reader": KINDS["reader"].rights}, True)
    found = [(need.verb, need.grantees, need.again) for need in needs]
    assert found == (
        [
            ("GRANT", ("legacy",), True),
            ("REVOKE GRANT OPTION FOR", ("app_reader",), False),
        ]
        if grantable
        else []
    )


@given(GRANTS)
def test_nothing_is_revoked_when_not_exclusive(grants):
    needs = rights_needs("tables", "owner", grants, RIGHTS, False)
    assert {need.verb for need in needs} <= {"GRANT"}


def table(name, *grants, schema="public", owner=ADMIN, kind="tables", arguments=""):
    return DatabaseObject(kind, schema, name, arguments, owner, grants)


def object_texts(*objects, mixed=frozenset()):
    want = wanted(role("app_reader", "reader"))
    actual = server(database={"objects": objects, "mixed": mixed})
    return [text for text in texts(want, actual) if "TABLE" in text or "SEQUENCE" in text]


def test_one_statement_covers_many_objects():
    read = Grant("app_reader", "SELECT", False, ADMIN)
    assert object_texts(table("a")) == ["GRANT SELECT ON TABLE public.a TO app_reader"]
    assert object_texts(table("a"), table("b")) == [
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_reader"
    ]
    assert object_texts(table("a"), table("B"), table("c", read)) == [
        'GRANT SELECT ON TABLE public."B", public.a TO app_reader'
    ]
    assert object_texts(table("a"), table("b"), mixed=frozenset({("public", "tables")})) == [
        "GRANT SELECT ON TABLE public.a, public.b TO app_reader"
    ]
    assert object_texts(table("a", schema="elsewhere")) == []


def test_rights_on_columns_beyond_the_kind_are_revoked():
    beyond = (Grant("app_reader", "UPDATE", False, ADMIN),)
    columns = tuple(Column(schema, "t", "c", ADMIN, beyond) for schema in ("public", "elsewhere"))
    found = texts(wanted(role("app_reader", "reader")), server(database={"columns": columns}))
    assert [text for text in found if "UPDATE" in text] == [
        "REVOKE UPDATE (c) ON TABLE public.t FROM app_reader"
    ]


def test_large_objects_that_an_application_made_are_its_own():
    want = wanted(role("app_migrator", "migrator"), role("app_user"), role("app_reader", "reader"))
    for owner, granted in (("app_migrator", True), ("app_user", False)):
        item = DatabaseObject("large objects", "", "16400", "", owner, ())
        found = texts(want, server(database={"large_objects": (item,)}))
        assert any("16400 TO app_reader" in text for text in found) == granted, owner


UNMANAGED = (UnmanagedRole("legacy", frozenset({"legacy", "staff"})),)
OPEN = default_database_acl(ADMIN)


def public_texts(grants, unmanaged_roles, **options):
    actual = server()
    database = replace(actual.databases["mydb"], grants=grants)
    actual = replace(actual, unmanaged_roles=unmanaged_roles, databases={"mydb": database})
    want = wanted(role("app_user", settings=NO_SETTINGS), **options)
    planned = plan(want, actual)
    revoked = [change.text for change in planned.changes if "FROM PUBLIC" in change.text]
    return revoked, len(planned.warnings)


REVOKED = "REVOKE {} ON DATABASE mydb FROM PUBLIC"

# (further grants, unmanaged_roles, options, privileges revoked from PUBLIC, warnings)
PUBLIC_CASES = [
    ((), (), {}, "CONNECT, TEMPORARY", 0),
    ((), UNMANAGED, {}, "", 2),
    ((), UNMANAGED, {"revoke_public": True}, "CONNECT, TEMPORARY", 0),
    ((Grant("staff", "CONNECT", False, ADMIN),), UNMANAGED, {}, "CONNECT", 1),
    (owner_grants("staff", ("CONNECT", "TEMPORARY")), UNMANAGED, {}, "CONNECT, TEMPORARY", 0),
    ((), (UnmanagedRole("x", frozenset({"x", ADMIN})),), {}, "CONNECT, TEMPORARY", 0),
    ((), (UnmanagedRole("x", frozenset({"x", "app_user"})),), {}, "CONNECT", 1),
]


@pytest.mark.parametrize(
    ("grants", "unmanaged_roles", "options", "revoked", "warnings"), PUBLIC_CASES
)
def test_public_keeps_what_others_need(grants, unmanaged_roles, options, revoked, warnings):
    expected = [REVOKED.format(revoked)] if revoked else []
    assert public_texts((*OPEN, *grants), unmanaged_roles, **options) == (expected, warnings)


def test_only_tables_and_sequences_stay_open_for_who_has_no_right_by_name():
    """Functions of migrators are closed to all, and who needs one has to have it by name."""
    public = {"tables": "SELECT", "routines": "EXECUTE"}
    kept = []
    for kind, privilege in public.items():
        item = table(
            "x", Grant("", privilege, False, "app_migrator"), owner="app_migrator", kind=kind
        )
        actual = server(
            unmanaged_roles=UNMANAGED,
            database={
                "objects": (item,),
                "schemas": {
                    "public": Schema("public", ADMIN, (Grant("legacy", "USAGE", False, ADMIN),))
                },
            },
        )
        state = actual.databases["mydb"]
        state = replace(state, grants=(*state.grants, Grant("legacy", "CONNECT", False, ADMIN)))
        planned = plan(
            wanted(role("app_migrator", "migrator")), replace(actual, databases={"mydb": state})
        )
        kept += [kind for text in planned.warnings if f"PUBLIC keeps {privilege} on 1 of" in text]
    assert kept == ["tables"]


def test_a_member_outside_the_model_is_told_what_it_loses():
    beyond = Grant("app_user", "TRUNCATE", False, ADMIN)
    lacking = {"tables": (), "beyond": (beyond,)}
    told = []
    for name, grants in lacking.items():
        actual = server(
            database={"objects": (table("t", *grants),)},
            unmanaged_roles=(UnmanagedRole("anna", frozenset({"anna", "app_user"})),),
            links=(Link("anna", "app_user"),),
        )
        planned = plan(wanted(role("app_user")), actual)
        told += [name for text in planned.warnings if "'anna' outside the model has, as" in text]
    assert told == ["beyond"]


def test_create_on_a_schema_stays_with_who_needs_it():
    open_schema = Schema("public", ADMIN, (Grant("", "CREATE", False, ADMIN),))
    actual = server(database={"schemas": {"public": open_schema}})
    # Who can't connect does not need it.
    assert plan(wanted(), replace(actual, unmanaged_roles=UNMANAGED)).changes[0].text == (
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    )
    database = replace(actual.databases["mydb"], grants=(Grant("legacy", "CONNECT", False, ADMIN),))
    actual = replace(actual, databases={"mydb": database}, unmanaged_roles=UNMANAGED)
    assert plan(wanted(), actual).changes == ()


def test_owner_of_the_database_needs_no_right_of_public():
    owner = "pg_database_owner"
    schema = Schema("public", owner, (Grant("", "CREATE", False, owner),))
    actual = server(
        database={"schemas": {"public": schema}},
        unmanaged_roles=(UnmanagedRole("x", frozenset({"x", ADMIN})),),
    )
    assert texts(wanted(), actual) == ["REVOKE CREATE ON SCHEMA public FROM PUBLIC"]


@pytest.mark.parametrize(
    ("encoding", "locale", "refused"),
    [
        ("UTF8", "de_DE.ISO-8859-1", False),
        ("LATIN1", "de_DE.ISO-8859-1", True),
        ("LATIN1", "de_DE", True),
        ("SQL_ASCII", "C", False),
        ("SQL_ASCII", "en_US.UTF-8", False),
        ("SQL_ASCII", "de_DE.utf8@euro", False),
    ],
)
def test_a_locale_for_another_encoding_is_refused_before_anything_changes(
    encoding, locale, refused
):
    new = new_cluster(17, ADMIN, ("mydb",))
    actual = replace(new, template_encoding=encoding, pristine_locale=locale)
    try:
        plan(wanted(role("app")), actual)
    except ValueError as error:
        assert refused
        assert f"the server's locale {locale!r} is for another one" in str(error)
    else:
        assert not refused


def test_nothing_is_revoked_from_an_owner():
    grants = (Grant("app_user", "TRUNCATE", True, "app_user"),)
    needs = rights_needs("tables", "app_user", grants, RIGHTS, True)
    assert {need.verb for need in needs} == {"GRANT"}


def test_all_problems_are_told_at_once():
    want = wanted(
        role("app_user", member_of=["nobody"], settings={"search_path": "a b"}),
        database={"extensions": ["postgis"]},
    )
    actual = replace(
        server(12),
        available_extensions=frozenset(),
        setting_errors={("jit", "off"): "not here"},
    )
    with pytest.raises(ValueError) as caught:
        plan(want, actual)
    assert str(caught.value).splitlines() == [
        "pooled_databases: settings.search_path of role 'app_user': 'a b' is not a valid list of"
        " names"
        " separated by commas",
        "the server is Postgres 12; 13 or newer is needed",
        "pooled_databases: member_of of role 'app_user': there is no role 'nobody' on the server or"
        " in the model",
        "pooled_databases: settings.jit of role 'app_user': 'off' is refused: not here",
        "pooled_databases: extension 'postgis' of database 'mydb' is not available on the server;"
        " install the package that brings it, or take it out of extensions",
    ]


@pytest.mark.parametrize(
    ("want", "changes", "message"),
    [
        (
            wanted(role("pgbouncer_auth"), pooler_role="pgbouncer_auth"),
            {},
            "pooled_databases: role 'pgbouncer_auth' is PgBouncer's own; choose another name for"
            " the model's role, or for pooler_role",
        ),
        (
            wanted(role("app_user", member_of=["pgbouncer_auth"]), pooler_role="pgbouncer_auth"),
            {},
            "pooled_databases: member_of of role 'app_user': 'pgbouncer_auth' is PgBouncer's own,"
            " and its members could look up everybody's verifier; take it out",
        ),
        (
            wanted(pooler_role="x", pooler_password="md5" + "0" * 32),
            {},
            "pooler_password: an md5 hash can't be used for SCRAM logins; give the plain text or a"
            " SCRAM-SHA-256 verifier",
        ),
        (
            wanted(pooler_role="x" * 64),
            {},
            f"pooler_role: {'x' * 64!r} is too long for a role name: Postgres keeps 63 bytes",
        ),
        (
            wanted(pooler_role="x"),
            {"login_is_superuser": False},
            "pooler_role: 'postgres' is not a superuser, so it can't make a function that reads"
            " verifiers; leave pooler_role empty and use pgbouncer_auth: userlist",
        ),
        (
            wanted(role("boot")),
            {"bootstrap_superuser": "boot"},
            "pooled_databases: role 'boot' is the server's first superuser, so the model can't hold"
            " it; use another role",
        ),
    ],
)
def test_what_cannot_be_had_is_refused(want, changes, message):
    with pytest.raises(ValueError) as caught:
        plan(want, replace(server(), **changes))
    assert str(caught.value) == message


def test_plan_is_deterministic_and_has_no_doubles():
    roles = [role(f"r{i}", kind, password="x") for i, kind in enumerate(KINDS)]
    want = wanted(*roles, pooler_role="p")
    first = texts(want, new_cluster(16, ADMIN, ("mydb",)))
    assert first == texts(want, new_cluster(16, ADMIN, ("mydb",)))
    assert len(first) == len(set(first))


def test_nested_text():
    changes = [
        Change(None, DropOwned("x"), "", (Difference(("role a b", "left"), "", "10s"),)),
        Change(None, DropOwned("x"), "", (Difference(("role a b", "right"), "off", "a: b"),)),
        Change("d", DropOwned("x"), "", (Difference(("d", "t"), "SELECT", ""),)),
        Change("d", DropOwned("x"), "", (Difference(("d", "t"), "INSERT", ""),)),
    ]
    assert nested_text(changes, after=False) == (
        'd:\n  t: SELECT, INSERT\nrole a b:\n  right: "off"\n'
    )
    assert nested_text(changes, after=True) == 'role a b:\n  left: 10s\n  right: "a: b"\n'
    assert nested_text([], after=True) == ""
