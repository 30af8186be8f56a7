# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps the model from holding in a database, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    DatabaseObject,
    DefaultRights,
    Schema,
    ServerRole,
    new_cluster,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._access.warnings.database import (
    reports,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import Grant, owner_grants

ADMIN = "postgres"
ROLES = [
    {"name": "app_user", "kind": "user"},
    {"name": "app_reader", "kind": "reader"},
    {"name": "app_migrator", "kind": "migrator"},
]


def told(*roles, server_roles=(), exclusive=True, **database):
    """The reports on a database, of which a model names these roles."""
    wanted = Wanted(
        parse_databases([{"name": "mydb", "roles": list(roles or ROLES)}]), exclusive=exclusive
    )
    actual = new_cluster(17, ADMIN, ("mydb",))
    state = replace(actual.databases["mydb"], exists=True, **database)
    actual = replace(
        actual, databases={"mydb": state}, server_roles={role.name: role for role in server_roles}
    )
    return list(reports(wanted.databases[0], wanted, actual))


def item(kind, owner, *grants):
    return DatabaseObject(kind, "public", "t", "", owner, grants)


@pytest.mark.parametrize(
    ("kind", "owner", "expected"),
    [
        ("tables", "app_migrator", []),
        ("tables", "app_user", ["1 tables belong to role 'app_user'"]),
        ("tables", "stranger", ["1 tables belong to 'stranger'"]),
        ("types", "app_user", ["1 of the types belong to role 'app_user' of kind user (t)"]),
        ("types", "stranger", []),
        ("sequences", "app_user", []),
    ],
)
def test_owners(kind, owner, expected):
    start = "database 'mydb', schema 'public': "
    found = [text for text in told(objects=(item(kind, owner),)) if "belong to" in text]
    assert len(found) == len(expected)
    for text, begins in zip(found, expected, strict=True):
        assert text.startswith(start), text
        assert begins.split(" of the ")[0].split(" belong")[0].split()[0] == "1"
        assert repr(owner) in text


@pytest.mark.parametrize(
    ("maker", "defaults", "expected"),
    [
        (ServerRole("maker"), (), True),
        (ServerRole("boss", superuser=True), (), False),
        (ServerRole("app_migrator"), (), False),
        (
            ServerRole("maker"),
            (
                Grant("app_user", "SELECT", False, "maker"),
                Grant("app_user", "INSERT", False, "maker"),
                Grant("app_user", "UPDATE", False, "maker"),
                Grant("app_user", "DELETE", False, "maker"),
                Grant("app_reader", "SELECT", False, "maker"),
            ),
            False,
        ),
    ],
)
def test_who_creates_what_the_model_has_no_rights_on(maker, defaults, expected):
    schema = Schema(
        "public",
        ADMIN,
        (*owner_grants(ADMIN, ("CREATE",)), Grant(maker.name, "CREATE", False, ADMIN)),
    )
    found = told(
        server_roles=[maker],
        schemas={"public": schema},
        default_rights=(DefaultRights(maker.name, "", "tables", defaults),) if defaults else (),
    )
    assert (
        any(f"{maker.name!r} may create objects in 'public'" in text for text in found) == expected
    )


def defaults(creator, kind, *grants, schema=""):
    rights = DefaultRights(
        creator, schema, kind, tuple(Grant(*one, False, creator) for one in grants)
    )
    found = told(default_rights=(rights,), server_roles=[ServerRole("maker"), ServerRole("legacy")])
    return [text for text in found if "default privileges of" in text]


def test_defaults_of_migrators_for_roles_outside_the_model():
    (text,) = defaults("app_migrator", "tables", ("legacy", "SELECT"))
    assert text.startswith(
        "database 'mydb': default privileges of 'app_migrator' give 'legacy' SELECT on tables, and"
        " it is not in the model: they are revoked"
    )
    # The model's own roles get what their kind has with the same run.
    assert defaults("app_migrator", "tables", ("app_user", "TRUNCATE")) == []


def test_defaults_of_others_beyond_what_the_model_gives():
    (text,) = defaults("maker", "tables", ("app_reader", "SELECT"), ("app_reader", "DELETE"))
    assert "give 'app_reader' more than its kind: DELETE on tables" in text
    assert defaults("maker", "tables", ("app_reader", "SELECT")) == []


def test_that_public_executes_functions_is_postgres_s_own_default():
    assert defaults("maker", "routines", ("", "EXECUTE")) == []
    (text,) = defaults("app_migrator", "routines", ("", "EXECUTE"), ("legacy", "EXECUTE"))
    assert "give 'legacy' EXECUTE on routines" in text


def test_security_definer_routines_matter_where_somebody_only_reads():
    definers = (("public", "f"),)
    (text,) = [t for t in told(definers_of_all=definers) if "SECURITY DEFINER" in t]
    assert "so 'app_reader' may do through them" in text
    writing = told(*ROLES[:1], definers_of_all=definers)
    assert not [text for text in writing if "SECURITY DEFINER" in text]
