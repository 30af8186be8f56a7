# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    AbsentRole,
    Alias,
    Database,
    Role,
    absent_roles,
    ignorable_startup_parameters,
    model_roles,
    pooled_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._model.setting_text import (
    setting_text,
)


def one(**role):
    """A model of one database with one role."""
    return [{"name": "mydb", "roles": [{"name": "app_user", "kind": "user", **role}]}]


def only_role(**role):
    return parse_databases(one(**role))[0].roles[0]


FULL = [
    {
        "name": "mydb",
        "schemas": ["public", "app"],
        "extensions": ["hstore", {"name": "cube", "schema": "geo"}, {"name": "citext"}],
        "roles": [
            {
                "name": "app_user",
                "kind": "user",
                "password": "pw",
                "connection_limit": "200",
                "settings": {"statement_timeout": "10s", "work_mem": 8192, "LOCK_TIMEOUT": None},
                "member_of": ["group"],
            },
            {"name": "app_migrator", "kind": "migrator"},
        ],
        "clients": [
            {"name": "api", "role": "app_user", "replicas": 5, "workers": 4, "pool_size": 10},
            {"name": "job", "role": "app_migrator", "via": "direct", "max_overflow": 0},
        ],
    }
]


def test_everything_is_parsed():
    (database,) = parse_databases(FULL)
    user, migrator = database.roles
    assert (database.name, database.schemas, database.extensions) == (
        "mydb",
        ("public", "app"),
        ("hstore", "cube", "citext"),
    )
    assert database.extension_schemas == (("cube", "geo"),)
    assert user == Role(
        "app_user",
        "user",
        "pw",
        200,
        (
            ("idle_in_transaction_session_timeout", "60s"),
            ("jit", "off"),
            ("statement_timeout", "10s"),
            ("work_mem", "8192"),
        ),
        ("group",),
    )
    assert (migrator.password, migrator.connection_limit, migrator.member_of) == (None, -1, ())
    api, job = database.clients
    assert (api.connections, api.via) == (5 * 4 * (10 + 10), "pgbouncer")
    assert (job.connections, job.via) == (5, "direct")


def test_defaults():
    (database,) = parse_databases([{"name": "mydb"}])
    assert database == Database("mydb", ("public",), (), (), ())


def test_nothing_is_a_model():
    assert parse_databases([]) == ()


@pytest.mark.parametrize(
    ("kind", "timeouts"),
    [
        ("user", {"statement_timeout": "30s", "idle_in_transaction_session_timeout": "60s"}),
        ("reader", {"statement_timeout": "30s", "idle_in_transaction_session_timeout": "60s"}),
        ("migrator", {}),
        ("admin", {"idle_in_transaction_session_timeout": "10min"}),
    ],
)
def test_settings_of_each_kind(kind, timeouts):
    expected = {"jit": "off", "lock_timeout": "5s", **timeouts}
    assert dict(only_role(kind=kind).settings) == expected


def test_repr_of_a_role_has_no_password():
    assert repr(only_role(password="secret")) == "Role(name='app_user', kind='user')"


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "on"), (False, "off"), (5, "5"), (1.5, "1.5"), ("7s", "7s"), ("", "")],
)
def test_setting_text(value, text):
    assert setting_text("x", value) == text


AT = "pooled_databases[0]"
ROLE = AT + ".roles[0]"
CLIENT = AT + ".clients[0]"

# (model, exact error)
WRONG = [
    ({}, "pooled_databases: give a list, not dict"),
    ("mydb", "pooled_databases: give a list, not str"),
    (["mydb"], f"{AT}: give a dictionary, not str"),
    (
        [{"nam": "x", "zzz": 1}],
        f"{AT}: unknown key nam, zzz; allowed are name, schemas, extensions, roles, clients,"
        " pools, aliases",
    ),
    ([{}], f"{AT}.name: None is not a valid name for a database: give a non-empty string"),
    ([{"name": ""}], f"{AT}.name: '' is not a valid name for a database: give a non-empty string"),
    ([{"name": 5}], f"{AT}.name: 5 is not a valid name for a database: give a non-empty string"),
    (
        [{"name": "a\nb"}],
        f"{AT}.name: 'a\\nb' is not a valid name for a database: control characters such as line"
        " breaks"
        " are not allowed",
    ),
    (
        [{"name": "é" * 32}],
        f"{AT}.name: {'é' * 32!r} is too long for a database name: Postgres keeps 63 bytes",
    ),
    ([{"name": "template1"}], f"{AT}.name: 'template1' is reserved; choose another name"),
    ([{"name": "pgbouncer"}], f"{AT}.name: 'pgbouncer' is reserved; choose another name"),
    (
        [{"name": "a", "schemas": ["pooled_extensions"]}],
        f"{AT}.schemas: 'pooled_extensions' is where extensions of this collection's own are, so"
        " that no role creates in it; choose another name",
    ),
    (
        [{"name": "a", "extensions": "hstore"}],
        f"{AT}.extensions: give a list, not str",
    ),
    (
        [{"name": "a", "extensions": [{"name": "hstore", "shema": "x"}]}],
        f"{AT}.extensions[0]: unknown key shema; allowed are name, schema",
    ),
    (
        [{"name": "a", "extensions": [{"schema": "x"}]}],
        f"{AT}.extensions[0]: None is not a valid name for a extension: give a non-empty string",
    ),
    (
        [{"name": "a", "extensions": [{"name": "x", "schema": "pg_catalog"}]}],
        f"{AT}.extensions[0].schema: 'pg_catalog' belongs to the server itself",
    ),
    (
        [{"name": "a", "extensions": [{"name": "x", "schema": "pgbouncer"}]}],
        f"{AT}.extensions[0].schema: 'pgbouncer' is where PgBouncer's function lives; choose"
        " another name",
    ),
    (
        [{"name": "a", "extensions": ["x", {"name": "x", "schema": "y"}]}],
        f"{AT}.extensions: 'x' is listed twice",
    ),
    (
        [{"name": "a"}, {"name": "a"}],
        "pooled_databases[1].name: database 'a' is listed twice",
    ),
    ([{"name": "a", "schemas": []}], f"{AT}.schemas: give at least one schema"),
    ([{"name": "a", "schemas": "x"}], f"{AT}.schemas: give a list of names, not str"),
    ([{"name": "a", "schemas": ["x", "x"]}], f"{AT}.schemas: 'x' is listed twice"),
    (
        [{"name": "a", "schemas": ["pg_catalog"]}],
        f"{AT}.schemas: 'pg_catalog' belongs to the server itself",
    ),
    (
        [{"name": "a", "schemas": ["information_schema"]}],
        f"{AT}.schemas: 'information_schema' belongs to the server itself",
    ),
    ([{"name": "a", "roles": {}}], f"{AT}.roles: give a list, not dict"),
    (
        one(knd="user"),
        f"{ROLE}: unknown key knd; allowed are name, kind, password, connection_limit, settings,"
        " member_of, pools, pooled, state, reassign_owned_to",
    ),
    (one(pooled="no"), f"{ROLE}.pooled: 'no' is not allowed; give true or false"),
    (
        one(pooled=False, pools={"pool_size": 3}),
        f"{ROLE}.pools: role 'app_user' may not log in through PgBouncer (pooled: false), so it has"
        " no pools there; remove one of the two keys",
    ),
    (
        [{**one(pooled=False)[0], "clients": [{"name": "api", "role": "app_user"}]}],
        f"{CLIENT}.via: client 'api' connects through PgBouncer, where its role 'app_user' may not"
        " log in (pooled: false); set via: direct, or remove pooled: false from the role",
    ),
    (
        [*one(pooled=False), {**one()[0], "name": "other"}],
        "pooled_databases: role 'app_user' is one role of the whole server, but its entries in"
        " databases 'mydb' and 'other' differ in pooled; make them equal",
    ),
    (one(name="public"), f"{ROLE}.name: 'public' is reserved by Postgres; choose another name"),
    (one(name="none"), f"{ROLE}.name: 'none' is reserved by Postgres; choose another name"),
    (one(name="pg_x"), f"{ROLE}.name: 'pg_x' is reserved by Postgres; choose another name"),
    (
        one(kind="usr"),
        f"{ROLE}.kind: 'usr' is not a valid kind of role; choose one of user, reader, migrator,"
        " admin",
    ),
    (
        one(password=""),
        f"{ROLE}.password of role 'app_user': give non-empty text, or leave the key out to keep"
        " the password as it is",
    ),
    (
        one(password=12345),
        f"{ROLE}.password of role 'app_user': give non-empty text, or leave the key out to keep"
        " the password as it is",
    ),
    (
        one(password="md5" + "0" * 32),
        f"{ROLE}.password of role 'app_user': an md5 hash can't be used for SCRAM logins; give the"
        " plain text or a SCRAM-SHA-256 verifier",
    ),
    (
        one(connection_limit=-2),
        f"{ROLE}.connection_limit: -2 is not a whole number of at least -1",
    ),
    (
        one(connection_limit=True),
        f"{ROLE}.connection_limit: True is not a whole number of at least -1",
    ),
    (
        one(connection_limit="many"),
        f"{ROLE}.connection_limit: 'many' is not a whole number of at least -1",
    ),
    (one(settings=["x"]), f"{ROLE}.settings: give a dictionary, not list"),
    (one(settings={"a b": 1}), f"{ROLE}.settings: 'a b' is not a valid name of a setting"),
    (
        one(settings={"work_mem": [1]}),
        f"{ROLE}.settings.work_mem: [1] is not a valid value for a setting: give text, a number or"
        " a"
        " boolean",
    ),
    (
        one(settings={"search_path": "a\0b"}),
        f"{ROLE}.settings.search_path: 'a\\x00b' contains control characters",
    ),
    (
        one(member_of=["app_user"]),
        f"{ROLE}.member_of: role 'app_user' can't be a member of itself",
    ),
    (
        [{"name": "a", "roles": one()[0]["roles"] * 2}],
        f"{AT}.roles[1].name: role 'app_user' is listed twice in database 'a'",
    ),
    (
        [*one(), {**one(connection_limit=5, password="x")[0], "name": "other"}],
        "pooled_databases: role 'app_user' is one role of the whole server, but its entries in"
        " databases 'mydb' and 'other' differ in password, connection_limit; make them equal",
    ),
    (
        [{**one()[0], "clients": [{"name": "api", "role": "nobody"}]}],
        f"{CLIENT}.role: 'nobody' is not a role of this database; its roles are app_user",
    ),
    (
        [{"name": "a", "clients": [{"name": "api", "role": "x"}]}],
        f"{CLIENT}.role: 'x' is not a role of this database; its roles are none",
    ),
    (
        [{**one()[0], "clients": [{"name": "api", "role": "app_user", "via": "pgpool"}]}],
        f"{CLIENT}.via: 'pgpool' is not a valid way to connect; choose one of pgbouncer, direct",
    ),
    (
        [{**one()[0], "clients": [{"name": "api", "role": "app_user", "pool_size": 0}]}],
        f"{CLIENT}.pool_size: 0 means no limit in SQLAlchemy, which no budget can hold; give at"
        " least 1 (for NullPool, the most concurrent transactions of a process)",
    ),
    (
        [{**one()[0], "clients": [{"name": "api", "role": "app_user", "max_overflow": -1}]}],
        f"{CLIENT}.max_overflow: -1 means no limit in SQLAlchemy, which no budget can hold; give"
        " at least 0",
    ),
    (
        [{**one()[0], "clients": [{"name": "api", "role": "app_user", "workers": 0}]}],
        f"{CLIENT}.workers: 0 is not a whole number of at least 1",
    ),
    (
        [{**one()[0], "clients": [{"name": "api", "role": "app_user", "surge": "a lot"}]}],
        f"{CLIENT}.surge: 'a lot' is neither a number of replicas nor a share of them, such as"
        " '25%'",
    ),
    (
        [{**one()[0], "clients": [{"name": "api", "role": "app_user", "alias": "mydb_session"}]}],
        f"{CLIENT}.alias: 'mydb_session' is not an alias of this database; its aliases are none",
    ),
    (
        [
            {
                **one()[0],
                "aliases": [{"name": "other"}],
                "clients": [{"name": "api", "role": "app_user", "alias": "other", "via": "direct"}],
            }
        ],
        f"{CLIENT}.alias: 'other' is a name of PgBouncer's, and this client connects directly;"
        " leave it out, or set via: pgbouncer",
    ),
    (
        [{**one()[0], "clients": [{"name": "api", "role": "app_user"}] * 2}],
        f"{AT}.clients[1].name: client 'api' is listed twice in database 'mydb'",
    ),
    (
        one(state="gone"),
        f"{ROLE}.state: 'gone' is not a valid state of a role; choose one of present, absent",
    ),
    (
        one(reassign_owned_to="app_migrator"),
        f"{ROLE}.reassign_owned_to of role 'app_user': only a role that is to go gives away what it"
        " owns; add state: absent, or leave the key out",
    ),
    (
        one(state="absent", reassign_owned_to="app_user"),
        f"{ROLE}.reassign_owned_to: role 'app_user' can't be given its own objects; name another"
        " role",
    ),
    (
        one(state="absent", reassign_owned_to=""),
        f"{ROLE}.reassign_owned_to: '' is not a valid name for a role: give a non-empty string",
    ),
    (
        [*one(), {**one(state="absent")[0], "name": "other"}],
        "pooled_databases: role 'app_user' is one role of the whole server, but its entries in"
        " databases 'mydb' and 'other' differ in state; make them equal",
    ),
    (
        [
            *one(state="absent", reassign_owned_to="a"),
            {**one(state="absent", reassign_owned_to="b")[0], "name": "other"},
        ],
        "pooled_databases: role 'app_user' is one role of the whole server, but its entries in"
        " databases 'mydb' and 'other' differ in reassign_owned_to; make them equal",
    ),
    (
        [{**one(state="absent")[0], "clients": [{"name": "api", "role": "app_user"}]}],
        f"{CLIENT}.role: 'app_user' is not a role of this database; its roles are none",
    ),
]


AN_ALIAS = {"name": "mydb", "aliases": [{"name": "mydb_session", "pool_mode": "session"}]}
WRONG += [
    (
        [{"name": "mydb", "pools": 5}],
        f"{AT}.pools: give a dictionary of PgBouncer's options, such as {{pool_size: 40}}, not int",
    ),
    (
        one(pools=["session"]),
        f"{ROLE}.pools: give a dictionary of PgBouncer's options, such as {{pool_size: 40}},"
        " not list",
    ),
    ([{"name": "mydb", "aliases": {}}], f"{AT}.aliases: give a list of aliases, not dict"),
    (
        [{"name": "mydb", "aliases": [{"pool_mode": "session"}]}],
        f"{AT}.aliases[0].name: None is not a valid name for a database: give a non-empty string",
    ),
    (
        [{"name": "mydb", "aliases": [{"name": "pgbouncer"}]}],
        f"{AT}.aliases[0].name: 'pgbouncer' is reserved; choose another name",
    ),
    (
        [AN_ALIAS, {"name": "mydb_session"}],
        "pooled_databases: alias 'mydb_session' of database 'mydb' is also the name of database"
        " 'mydb_session'; choose another name",
    ),
    (
        [AN_ALIAS, {**AN_ALIAS, "name": "other"}],
        "pooled_databases: alias 'mydb_session' of database 'other' is also the name of an alias"
        " of database 'mydb'; choose another name",
    ),
]


@pytest.mark.parametrize(("model", "message"), WRONG)
def test_wrong_models_are_refused_by_name(model, message):
    with pytest.raises(ValueError) as caught:
        parse_databases(model)
    assert str(caught.value) == message


def test_messages_name_the_variable_that_was_given():
    with pytest.raises(ValueError, match=r"^postgres_access_databases\[0\]: give a dictionary"):
        parse_databases(["x"], "postgres_access_databases")


@given(st.text(min_size=1))
def test_a_password_is_never_in_a_message(password):
    for broken in ({"kind": "usr"}, {"connection_limit": "x"}, {"settings": 3}):
        with pytest.raises(ValueError) as caught:
            parse_databases(one(password="<" + password + ">", **broken))
        assert "<" + password + ">" not in str(caught.value)


@given(st.text())
def test_any_name_is_taken_whole_or_refused(name):
    try:
        parsed = only_role(name=name).name
    except ValueError:
        return
    assert parsed == name
    assert len(name.encode()) <= 63


def test_equal_roles_may_be_in_several_databases():
    databases = parse_databases([*one(), {**one()[0], "name": "other"}])
    assert [role.name for role in model_roles(databases)] == ["app_user"]


def test_roles_that_are_kept_out_of_the_pool():
    kept_out = {"name": "batch", "kind": "user", "pooled": False, "settings": {"jit": "on"}}
    clients = [{"name": "nightly", "role": "batch", "via": "direct"}]
    model = parse_databases(
        [{"name": "mydb", "roles": [*one()[0]["roles"], kept_out], "clients": clients}]
    )
    assert [role.name for role in model_roles(model)] == ["app_user", "batch"]
    assert [role.name for role in pooled_roles(model)] == ["app_user"]
    # What it sets for itself does not matter to the pool.
    assert ignorable_startup_parameters(model) == ("jit",)


def test_absent_roles_count_nowhere():
    databases = parse_databases(
        [
            {
                "name": "mydb",
                "roles": [
                    {"name": "app_user", "kind": "user"},
                    {"name": "former", "state": "absent", "reassign_owned_to": "app_user"},
                    {"name": "stays", "kind": "migrator", "password": "x", "state": "absent"},
                ],
            },
            {"name": "other", "roles": [{"name": "stays", "state": "absent"}]},
        ]
    )
    assert [role.name for role in databases[0].roles] == ["app_user"]
    assert [role.name for role in model_roles(databases)] == ["app_user"]
    assert absent_roles(databases) == (
        AbsentRole("former", "app_user"),
        AbsentRole("stays", ""),
    )


@pytest.mark.parametrize(
    ("jits", "expected"),
    [
        ([], ()),
        (["off"], ("jit",)),
        (["off", "off"], ("jit",)),
        (["off", "on"], ()),
        (["off", None], ()),
    ],
)
def test_jit_may_be_ignored_when_every_role_turns_it_off(jits, expected):
    roles = [
        {"name": f"r{index}", "kind": "user", "settings": {"jit": jit}}
        for index, jit in enumerate(jits)
    ]
    databases = parse_databases([{"name": "mydb", "roles": roles}])
    assert ignorable_startup_parameters(databases) == expected


def test_pools_and_aliases_carry_pgbouncers_options():
    alias = {"name": "ro", "host": ["r1", "r2"], "pool_size": 3, "pool_mode": None}
    (database,) = parse_databases(
        [{**one(pools={"pool_size": 4})[0], "pools": {"pool_size": 2}, "aliases": [alias]}]
    )
    assert database.pools == (("pool_size", 2),)
    assert database.roles[0].pools == (("pool_size", 4),)
    assert database.aliases == (Alias("ro", (("host", ("r1", "r2")), ("pool_size", 3))),)
    assert database.aliases[0].elsewhere
    assert not Alias("session", (("pool_mode", "session"),)).elsewhere


@pytest.mark.parametrize(
    ("replicas", "surge", "more"),
    [
        (5, None, 0),
        (5, 0, 0),
        (5, 2, 2),
        (5, "2", 2),
        (5, "25%", 2),
        (4, "25%", 1),
        (1, "25%", 1),
        (0, "25%", 0),
        (3, "100%", 3),
        (3, "0%", 0),
    ],
)
def test_replicas_that_run_besides_during_a_release(replicas, surge, more):
    client = {"name": "api", "role": "app_user", "replicas": replicas, "workers": 2,
              "pool_size": 3, "max_overflow": 1, "surge": surge}  # fmt: skip
    (parsed,) = parse_databases([{**one()[0], "clients": [client]}])[0].clients
    assert parsed.surge == more
    assert parsed.processes == (replicas + more) * 2
    assert parsed.connections == (replicas + more) * 2 * 4


def test_a_client_names_its_alias():
    client = {"name": "api", "role": "app_user", "alias": "mydb_session"}
    aliases = [{"name": "mydb_session", "pool_mode": "session"}, {"name": "mydb_ro", "host": "b"}]
    (parsed,) = parse_databases([{**one()[0], "aliases": aliases, "clients": [client]}])
    assert parsed.clients[0].alias == "mydb_session"
    assert [alias.gives_sessions for alias in parsed.aliases] == [True, False]
