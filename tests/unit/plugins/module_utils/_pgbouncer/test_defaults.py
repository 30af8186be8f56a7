# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which options a version takes, how they are written, and the least that makes them run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    parse_databases,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    defaults as _pgbouncer,
    entries as _pgbouncer_entries,
    options as _pgbouncer_options,
    plan as _pgbouncer_plan,
)

ROOT = Path(__file__).resolve().parents[5]
OLD, NEW = (1, 18, 0), (1, 24, 1)
UNIT = "/etc/systemd/system/pgbouncer.service.d/pooled.conf"
INI = "/etc/pgbouncer/pgbouncer.ini"
USERLIST = "/etc/pgbouncer/userlist.txt"


def model(*names: str, settings: dict[str, str | None] | None = None):
    roles = [{"name": "app_user", "kind": "user", "settings": settings or {}}]
    return parse_databases([{"name": name, "roles": roles} for name in names or ["mydb"]])


def effective(version=NEW, given=None, databases=None, auth="query", **more):
    return _pgbouncer.effective_options(
        given or {},
        version,
        model() if databases is None else databases,
        auth=auth,
        auth_role="pgbouncer_auth",
        **more,
    )


def test_defaults_are_the_roles_defaults():
    path = ROOT / "roles" / "pgbouncer" / "defaults" / "main.yml"
    defaults = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {name: defaults[f"pgbouncer_{name}"] for name in _pgbouncer.DEFAULTS} == (
        _pgbouncer.DEFAULTS
    )


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("PgBouncer 1.18.0\nlibevent 2.1.12-stable\nadns: c-ares 1.18.1\n", (1, 18, 0)),
        ("1.24.1", (1, 24, 1)),
        ("1.26", (1, 26, 0)),
    ],
)
def test_parse_version(text, version):
    assert _pgbouncer_options.parse_version(text) == version


def test_parse_version_refuses_other_text():
    with pytest.raises(ValueError, match=r"^'' is no version of PgBouncer; it looks like 1"):
        _pgbouncer_options.parse_version("")


# (version, option, its value in the file; None for not there)
EFFECTIVE = [
    (OLD, "listen_port", "6432"),
    (OLD, "max_prepared_statements", None),
    ((1, 21, 0), "max_prepared_statements", "200"),
    (NEW, "max_prepared_statements", "200"),
    (OLD, "ignore_startup_parameters", "extra_float_digits,jit"),
    ((1, 20, 0), "ignore_startup_parameters", "extra_float_digits,jit,options"),
    ((1, 26, 0), "ignore_startup_parameters", "extra_float_digits,jit,options"),
    ((1, 26, 1), "ignore_startup_parameters", "extra_float_digits,jit"),
    (NEW, "auth_user", "pgbouncer_auth"),
    (NEW, "auth_query", "SELECT username, password FROM pgbouncer.get_auth($1)"),
    (NEW, "tcp_keepidle", "60"),
]


@pytest.mark.parametrize(("version", "name", "value"), EFFECTIVE)
def test_effective_options(version, name, value):
    assert effective(version).get(name) == value


def test_jit_is_ignored_only_where_every_role_says_it_itself():
    databases = model(settings={"jit": None})
    assert effective(OLD, databases=databases)["ignore_startup_parameters"] == "extra_float_digits"


def test_the_users_word_wins_and_null_means_pgbouncers_default():
    options = effective(given={"default_pool_size": 40, "tcp_keepidle": None})
    assert options["default_pool_size"] == "40"
    assert "tcp_keepidle" not in options


def test_a_userlist_asks_no_server():
    assert not {"auth_user", "auth_query"} & set(effective(auth="userlist"))


@pytest.mark.parametrize("version", [(1, minor, 0) for minor in range(18, 27)])
def test_every_version_takes_the_defaults(version):
    options = effective(version)
    assert set(options) >= set(_pgbouncer.DEFAULTS)


TEXTS = [
    ("log_connections", True, "1"),
    ("log_connections", False, "0"),
    ("log_connections", 1, "1"),
    ("query_timeout", 1.5, "1.5"),
    ("query_timeout", "60", "60"),
    ("unix_socket_mode", "770", "0770"),
    ("unix_socket_mode", "0770", "0770"),
    ("unix_socket_mode", 0o770, "0770"),
    ("max_client_conn", "0200", "200"),
    ("listen_addr", ["10.0.0.1", "::1"], "10.0.0.1,::1"),
    ("listen_addr", "", ""),
    ("max_packet_size", 2**32 - 1, "4294967295"),
]


@pytest.mark.parametrize(("name", "value", "text"), TEXTS)
def test_checked_options(name, value, text):
    assert _pgbouncer.checked_options({name: value}, NEW) == {name: text}


def test_an_option_is_there_until_it_is_removed():
    options = {"suspend_timeout": 5}
    assert _pgbouncer.checked_options(options, (1, 25, 2)) == {"suspend_timeout": "5"}


WRONG = [
    (NEW, {"pool_size": 1}, "PgBouncer 1.24.1 has no option 'pool_size'"),
    (NEW, {"query_timout": 1}, "'query_timout'; did you mean query_timeout?"),
    (
        OLD,
        {"max_prepared_statements": 5},
        "option max_prepared_statements exists since PgBouncer 1.21, and this host has 1.18.0;"
        " remove it, or install a newer PgBouncer",
    ),
    (
        (1, 26, 1),
        {"suspend_timeout": 5},
        "PgBouncer 1.26 has removed option suspend_timeout, and this host has 1.26.1; remove it",
    ),
    (
        NEW,
        {"query_timeout": "30s"},
        "'30s' is not allowed; give seconds, as a number without a unit",
    ),
    (NEW, {"pool_mode": "Transaction"}, "'Transaction' is not allowed; give one of session,"),
    (NEW, {"listen_port": 70000}, "70000 is not allowed; give a whole number from 1 to 65535"),
    (NEW, {"max_packet_size": 2**32}, "give a whole number from 1 to 4294967295"),
    (NEW, {"listen_port": True}, "True is not allowed; give a whole number"),
    (NEW, {"log_stats": "yes"}, "'yes' is not allowed; give true or false"),
    (NEW, {"unix_socket_mode": "rwx"}, "give an octal file mode such as '0770'"),
    (NEW, {"logfile": "/a\nauth_type = any"}, "has control characters such as line breaks in it"),
    (NEW, {"logfile": " /a"}, "' /a' is not allowed; give text without spaces around it"),
    (NEW, {"logfile": {"a": 1}}, "is not allowed; give text"),
    (NEW, {"service_name": "x"}, "can't be set here: it is another name for job_name; use that"),
    (NEW, {"conffile": "x"}, "can't be set here: PgBouncer sets it itself"),
    (NEW, {"auth_file": None}, "auth_file: null is not allowed; PgBouncer can't be run without it"),
    (NEW, {"unix_socket_dir": ""}, "unix_socket_dir: empty is not allowed"),
    (NEW, {"auth_type": "Trust"}, "'Trust' is not allowed; give one of plain, md5, cert, hba,"),
]


@pytest.mark.parametrize(("version", "options", "message"), WRONG)
def test_checked_options_refuses(version, options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        _pgbouncer.checked_options(options, version)
    assert str(caught.value).startswith(f"options.{next(iter(options))}: ")


@pytest.mark.parametrize(
    ("name", "variable"),
    [("listen_port", "pgbouncer_listen_port"), ("dns_max_ttl", "pgbouncer_settings.dns_max_ttl")],
)
def test_a_role_names_its_variable(name, variable):
    with pytest.raises(ValueError, match=rf"^{variable}: "):
        _pgbouncer.checked_options({name: "many"}, NEW, "pgbouncer_settings")


@pytest.mark.parametrize("where", ["options", "pgbouncer_settings"])
@pytest.mark.parametrize("value", ["trust", "any"])
def test_clients_without_a_password_are_refused(where, value):
    with pytest.raises(ValueError) as caught:
        effective(given={"auth_type": value}, where=where)
    assert str(caught.value) == (
        f"{where}.auth_type: {value!r} is not allowed, because it lets everybody who reaches"
        " PgBouncer in without a password; remove it, and set pgbouncer_auth_type if"
        " 'scram-sha-256' does not do (md5, cert, hba, pam)"
    )


def test_a_version_beyond_the_table_decides_itself():
    assert _pgbouncer.checked_options({"brand_new": 5}, (1, 27, 0)) == {"brand_new": "5"}
    with pytest.raises(ValueError, match="has no option"):
        _pgbouncer.checked_options({"x = y": 5}, (1, 27, 0))


@given(
    st.dictionaries(
        st.sampled_from(sorted(_pgbouncer_options.OPTIONS)),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    )
)
def test_options_are_refused_or_one_line_of_text(options):
    try:
        checked = _pgbouncer.checked_options(options, NEW)
    except ValueError:
        return
    for name, text in checked.items():
        assert options[name] is not None
        assert text == text.strip()
        assert not re.search(r"[\x00-\x1f]", text)


@pytest.mark.parametrize(
    ("version", "ignored", "warns"),
    [
        (NEW, "extra_float_digits", True),
        (NEW, "extra_float_digits, options", False),
        (NEW, "", False),
        (OLD, "extra_float_digits", False),
        ((1, 19, 1), "extra_float_digits", False),
        ((1, 20, 0), "extra_float_digits", True),
        ((1, 26, 0), "extra_float_digits", True),
        ((1, 26, 1), "extra_float_digits", False),
    ],
)
def test_risks(version, ignored, warns):
    found = _pgbouncer.risks({"ignore_startup_parameters": ignored}, version)
    assert bool(found) == warns
    assert all("CVE-2026-107349" in risk for risk in found)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (
            "plain",
            [
                "auth_type 'plain' makes clients send their passwords readable to everybody on the"
                " way, unless TLS hides them; use 'scram-sha-256'"
            ],
        ),
        ("md5", []),
        ("scram-sha-256", []),
        ("cert", []),
    ],
)
def test_risks_of_auth_types(value, found):
    assert _pgbouncer.risks(effective(given={"auth_type": value}), NEW) == found


def entries(version=NEW, names=("mydb",), **overrides):
    return _pgbouncer_entries.database_entries(
        model(*names), version, host="/run/pg", port=5433, overrides=overrides
    )


def test_database_entries():
    assert entries(mydb={"pool_size": 7, "reserve_pool_size": 1, "pool_mode": None}) == {
        "mydb": {
            "host": "/run/pg",
            "port": "5433",
            "dbname": "mydb",
            "pool_size": "7",
            "reserve_pool_size": "1",
        }
    }


def test_an_old_version_has_its_own_name_for_the_reserve():
    assert entries(OLD, mydb={"reserve_pool_size": 1})["mydb"]["reserve_pool"] == "1"


BAD_ENTRIES = [
    (("my db",), {}, "database 'my db': PgBouncer's configuration can't carry this name; it takes"),
    (("größe",), {}, "can't carry this name"),
    (("a*",), {}, "can't carry this name"),
    (("mydb",), {"other": {}}, "database_options: 'other' is no database of pgbouncer_databases;"),
    (("mydb",), {"mydb": 5}, "database_options.mydb: give a dictionary of options"),
    (
        ("mydb",),
        {"mydb": {"pool": 5}},
        "database_options.mydb.pool: PgBouncer 1.24.1 has no option",
    ),
    (("mydb",), {"mydb": {"user": "x"}}, "mydb.user: this option can't be set here: a forced user"),
    (("mydb",), {"mydb": {"timezone": ""}}, "mydb.timezone: PgBouncer takes no empty value here"),
    (
        ("mydb",),
        {"mydb": {"query_wait_timeout": 5}},
        "query_wait_timeout exists since PgBouncer 1.26",
    ),
]


@pytest.mark.parametrize(("names", "overrides", "message"), BAD_ENTRIES)
def test_database_entries_refuses(names, overrides, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        entries(names=names, **overrides)


def test_user_entries():
    options = {"app_user": {"pool_size": 3, "pool_mode": "session"}}
    assert _pgbouncer_entries.user_entries(model(), options, NEW) == {
        "app_user": {"pool_size": "3", "pool_mode": "session"}
    }
    with pytest.raises(
        ValueError, match=r"user_options.app_user.pool_size: .* since PgBouncer 1.23"
    ):
        _pgbouncer_entries.user_entries(model(), options, OLD)
    with pytest.raises(ValueError, match="'stranger' is no role of pgbouncer_databases"):
        _pgbouncer_entries.user_entries(model(), {"stranger": {}}, NEW)


def test_a_role_that_is_kept_out_has_no_entry_and_no_options():
    roles = [
        {"name": "app_user", "kind": "user"},
        {"name": "batch", "kind": "user", "pooled": False},
    ]
    databases = parse_databases([{"name": "mydb", "roles": roles}])
    assert _pgbouncer_entries.user_entries(databases, {}, NEW) == {"app_user": {}}
    with pytest.raises(ValueError, match=r"^user_options: role 'batch' may not log in through"):
        _pgbouncer_entries.user_entries(databases, {"batch": {"pool_size": 3}}, NEW)


def test_user_entries_hold_the_auth_role_to_what_the_budget_counts():
    two = model("one", "two")
    assert _pgbouncer_entries.user_entries(two, {}, OLD, auth_role="pgbouncer_auth") == {
        "pgbouncer_auth": {"max_user_connections": "4"}
    }
    assert _pgbouncer_entries.user_entries((), {}, OLD, auth_role="pgbouncer_auth") == {}


def parsed(**more):
    roles = [{"name": "app_user", "kind": "user"}, {"name": "Größe", "kind": "reader"}]
    return parse_databases([{"name": "mydb", "roles": roles, **more}])


ALIASES = [
    {"name": "mydb_session", "pool_mode": "session", "pool_size": 4},
    {"name": "mydb_ro", "host": ["r1", "r2"], "port": 5433},
]


def served(version=NEW, overrides=None, **more):
    return _pgbouncer_entries.database_entries(
        parsed(**more), version, host="/run/pg", port=5432, overrides=overrides or {}
    )


def test_aliases_are_served_beside_their_database():
    here = {"host": "/run/pg", "port": "5432", "dbname": "mydb"}
    there = {"host": "r1,r2", "port": "5433", "dbname": "mydb"}
    session = {**here, "pool_mode": "session", "pool_size": "4"}
    assert served(aliases=ALIASES) == {
        "mydb": here,
        "mydb_session": session,
        "mydb_ro": {**there, "auth_dbname": "mydb"},
    }
    assert served(OLD, aliases=ALIASES)["mydb_ro"] == there


def test_variables_win_over_the_models_pools():
    pools = {"pool_size": 9, "reserve_pool_size": 2, "timezone": "UTC"}
    overrides = {"mydb": {"pool_size": 3, "timezone": None}, "mydb_session": {"pool_size": 1}}
    entries = served(OLD, overrides, pools=pools, aliases=ALIASES)
    assert entries["mydb"]["pool_size"] == "3"
    assert entries["mydb"]["reserve_pool"] == "2"
    assert "timezone" not in entries["mydb"]
    assert entries["mydb_session"]["pool_size"] == "1"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"pools": {"pool_siz": 3}},
         "database 'mydb': pools.pool_siz: PgBouncer 1.18.0 has no option 'pool_siz'; did"),
        ({"pools": {"server_lifetime": 3}},
         "database 'mydb': pools.server_lifetime: option server_lifetime exists since PgBouncer 1"),
        ({"aliases": [{"name": "x", "pool_mode": "sesion"}]},
         "database 'mydb': alias 'x': pool_mode: 'sesion' is not allowed; give one of session,"),
        ({"aliases": [{"name": "my db"}]},
         "database 'my db': PgBouncer's configuration can't carry this name; it takes letters"),
        ({"aliases": [{"name": "x", "user": "root"}]},
         "database 'mydb': alias 'x': user: this option can't be set here: a forced user takes"),
    ],
)  # fmt: skip
def test_aliases_and_pools_that_are_refused(more, message):
    with pytest.raises(ValueError) as caught:
        served(OLD, **more)
    assert str(caught.value).startswith(message)


def test_every_role_has_an_entry_that_takes_options_back():
    assert _pgbouncer_entries.user_entries(parsed(), {}, NEW, auth_role="auth") == {
        "auth": {"max_user_connections": "2"},
        "app_user": {},
    }
    # Before 1.23 a user with an entry is not looked up, and can't log in.
    assert _pgbouncer_entries.user_entries(parsed(), {}, OLD, auth_role="auth") == {
        "auth": {"max_user_connections": "2"}
    }
    assert _pgbouncer_entries.user_entries(parsed(), {}, OLD) == {"app_user": {}}


def with_pools(name, **pools):
    roles = [{"name": name, "kind": "user", "pools": pools}]
    return parse_databases([{"name": "mydb", "roles": roles}])


def test_a_roles_pools():
    databases = with_pools("app_user", pool_size=3, pool_mode="session")
    assert _pgbouncer_entries.user_entries(
        databases, {"app_user": {"pool_size": 5, "pool_mode": None}}, NEW
    ) == {"app_user": {"pool_size": "5"}}
    for broken, version, role, message in (
        (databases, OLD, "", "role 'app_user': pools.pool_size: option pool_size exists since"),
        (with_pools("app_user", pool_mode="session"), OLD, "auth",
         "role 'app_user': pools.pool_mode: PgBouncer 1.18.0 lets no role with options of its own"
         " log in by auth_query; give the database an alias with these options, set"
         " pgbouncer_auth: userlist, or install PgBouncer 1.23 or newer"),
        (with_pools("Größe", pool_size=3), NEW, "",
         "role 'Größe': pools.pool_size: PgBouncer's configuration can't carry the name 'Größe';"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(message)):
            _pgbouncer_entries.user_entries(broken, {}, version, auth_role=role)


@pytest.mark.parametrize(
    ("version", "aliases", "auth_role", "expected"),
    [
        (OLD, ALIASES, "auth", "mydb_ro"),
        (OLD, ALIASES[:1], "auth", ""),
        (OLD, ALIASES, "", ""),
        (NEW, ALIASES, "auth", ""),
    ],
)
def test_needs_own_password(version, aliases, auth_role, expected):
    databases = parsed(aliases=aliases)
    assert _pgbouncer_entries.needs_own_password(databases, version, auth_role) == expected


def test_descriptors_of_aliases_and_of_roles_with_pools_of_their_own():
    databases = with_pools("app_user", pool_size=50, reserve_pool_size=0)
    (database,) = databases
    databases = (replace(database, aliases=parsed(aliases=ALIASES[:1])[0].aliases),)
    options = effective(given={"max_client_conn": 100, "reserve_pool_size": 5})
    described = _pgbouncer_entries.database_entries(databases, NEW, host="", port=1, overrides={})
    users = _pgbouncer_entries.user_entries(databases, {}, NEW)
    # app_user's 50 and PgBouncer's own 25 + 5 in mydb, 50 and 4 + 5 in its alias.
    assert (
        _pgbouncer_entries.descriptors_needed(options, databases, described, users)
        == 100 + 50 + 30 + 50 + 9 + 64
    )


TLS = {"client_tls_sslmode": "require", "client_tls_cert_file": "/c", "client_tls_key_file": "/k"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"client_tls_sslmode": "require"},
         "pgbouncer_client_tls_sslmode: 'require' needs pgbouncer_client_tls_key_file and"
         " pgbouncer_client_tls_cert_file, which PgBouncer shows its clients"),
        ({**TLS, "client_tls_key_file": None},
         "pgbouncer_client_tls_key_file: it is missing; a certificate and its key come together"),
        ({"server_tls_key_file": "/k"},
         "pgbouncer_server_tls_cert_file: it is missing; a certificate and its key come together"),
        ({**TLS, "client_tls_cert_file": "server.crt"},
         "pgbouncer_client_tls_cert_file: 'server.crt' is no absolute path, such as"
         " /etc/pgbouncer/client.crt"),
        ({**TLS, "client_tls_sslmode": "verify-ca"},
         "pgbouncer_client_tls_sslmode: 'verify-ca' needs pgbouncer_client_tls_ca_file, with the"
         " authorities to trust"),
        ({"server_tls_sslmode": "verify-full"},
         "pgbouncer_server_tls_sslmode: 'verify-full' needs pgbouncer_server_tls_ca_file, with the"
         " authorities to trust"),
    ],
)  # fmt: skip
def test_tls_options_that_do_not_go_together(given, message):
    with pytest.raises(ValueError) as caught:
        effective(given=given, where="pgbouncer_settings")
    assert str(caught.value) == message


def test_tls_options_that_go_together():
    assert effective(given=TLS)["client_tls_cert_file"] == "/c"
    assert effective(given={"server_tls_sslmode": "require"})["server_tls_sslmode"] == "require"


def test_descriptors_needed_counts_clients_and_every_pool():
    options = effective(given={"max_client_conn": 100, "reserve_pool_size": 5})
    databases = model("a", "b")
    described = _pgbouncer_entries.database_entries(
        databases, NEW, host="", port=1, overrides={"b": {"pool_size": 10, "reserve_pool_size": 0}}
    )
    # app_user and PgBouncer's own role in each: 2 * (25 + 5) + 2 * 10, and 64 to spare.
    assert (
        _pgbouncer_entries.descriptors_needed(options, databases, described, {})
        == 100 + 60 + 20 + 64
    )
    # And a pool for requests to cancel to each of the other processes.
    assert (
        _pgbouncer_entries.descriptors_needed(options, databases, described, {}, 3)
        == 100 + 60 + 20 + 64 + 2 * 25
    )


@pytest.mark.parametrize(
    ("needed", "wanted", "most", "limit"),
    [
        (10, "auto", 20000, 1024),
        (1025, "auto", 20000, 2048),
        (10184, "auto", 1048576, 16384),
        (10184, "auto", 12000, 12000),
        (10184, "65536", 1048576, 65536),
    ],
)
def test_descriptor_limit(needed, wanted, most, limit):
    assert _pgbouncer_entries.descriptor_limit(needed, wanted, most) == limit


@pytest.mark.parametrize(
    ("needed", "wanted", "most", "message"),
    [
        (10184, "auto", 4096, "this host allows a service 4096: lower max_client_conn by 6088,"),
        (10184, "1024", 20000, "limit_nofile: 1024 is less than the 10184 file descriptors"),
        (100, "65536", 20000, "limit_nofile: 65536 is more than the 20000 that this host allows"),
        (100, "lots", 20000, "limit_nofile: 'lots' is neither 'auto' nor a whole number"),
    ],
)  # fmt: skip
def test_descriptor_limit_refuses(needed, wanted, most, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        _pgbouncer_entries.descriptor_limit(needed, wanted, most)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_descriptor_limit_is_enough_or_refused(needed, most):
    try:
        limit = _pgbouncer_entries.descriptor_limit(needed, "auto", most)
    except ValueError:
        assert needed > most
    else:
        assert needed <= limit <= most


def desired(version=NEW, given=None, overrides=None, user_overrides=None, descriptors=16384):
    databases = model()
    described = _pgbouncer_entries.database_entries(
        databases, version, host="/run/pg", port=5432, overrides=overrides or {}
    )
    users = _pgbouncer_entries.user_entries(databases, user_overrides or {}, version)
    return _pgbouncer_plan.Desired(effective(version, given), described, users, descriptors)


def running_as(wanted, version=NEW, **rows):
    """The pooler that runs exactly what is wanted, as its console shows it."""
    package = _pgbouncer_plan.package_state(version, wanted.descriptors)
    assert package.config is not None
    config = {
        name: replace(
            setting,
            value=_pgbouncer_options.canonical(name, wanted.options.get(name, setting.default)),
        )
        for name, setting in package.config.items()
    }
    row = {
        "host": "/run/pg", "port": 5432, "database": "mydb", "force_user": None, "pool_size": 25,
        "min_pool_size": 0, "reserve_pool_size": 5, "pool_mode": None, "max_connections": 0,
        **rows,
    }  # fmt: skip
    user = {
        "pool_size": "", "reserve_pool_size": "", "pool_mode": None,
        "max_user_connections": 0, "max_user_client_connections": 0,
    }  # fmt: skip
    shown = {"name": "app_user", **{key: user[key] for key in user if version > OLD}}
    return replace(
        package,
        config=config,
        databases={"mydb": row, "pgbouncer": {"name": "x"}},
        users={"app_user": {**shown, "pool_mode": None}, "pgbouncer": {"name": "pgbouncer"}},
    )


def steps(wanted, running, files=(), **more):
    arguments = {
        "unit": UNIT,
        "daemon_reload": False,
        "unfinished": False,
        "stale": (),
        "reconnect": False,
        "may_restart": True,
        **more,
    }
    return _pgbouncer_plan.plan(wanted, running, files=files, **arguments)


@pytest.mark.parametrize("version", [OLD, NEW])
def test_what_runs_as_wanted_needs_nothing(version):
    wanted = desired(version)
    assert _pgbouncer_plan.differences(wanted, running_as(wanted, version)) == []
    assert steps(wanted, running_as(wanted, version)).actions == []


# (what runs, what is wanted, actions)
CHANGES = [
    ({"default_pool_size": 24}, {}, ["RELOAD"]),
    ({"server_lifetime": "3600.0"}, {}, []),
    ({"unix_socket_mode": "0777"}, {}, []),
    ({"unix_socket_mode": "0770"}, {}, ["restart for unix_socket_mode"]),
    ({"listen_port": 6433, "pool_mode": "session"}, {}, ["restart for listen_port"]),
    ({"query_timeout": 5}, {}, ["RELOAD"]),
    # It has no default of its own, which a reload could give it back.
    ({"auth_dbname": "postgres"}, {}, ["restart for auth_dbname"]),
    ({}, {"auth_dbname": "postgres"}, ["RELOAD"]),
    ({}, {"track_extra_parameters": "search_path"}, ["restart for track_extra_parameters"]),
    ({}, {"listen_addr": "10.0.0.1", "listen_port": 1}, ["restart for listen_addr, listen_port"]),
]


@pytest.mark.parametrize(("runs", "given", "actions"), CHANGES)
def test_the_least_that_works(runs, given, actions):
    assert steps(desired(given=given), running_as(desired(given=runs))).actions == actions


@pytest.mark.parametrize(
    ("rows", "actions"),
    [
        ({"pool_size": 3}, ["RELOAD"]),
        ({"host": "10.0.0.1"}, ["RELOAD"]),
        ({"pool_mode": "session"}, ["RELOAD"]),
        ({"max_connections": 9}, ["RELOAD"]),
        ({"force_user": "postgres"}, ["restart for database mydb user"]),
        ({"paused": 1, "disabled": 0, "current_connections": 4}, []),
    ],
)
def test_databases_that_run_otherwise(rows, actions):
    wanted = desired()
    assert steps(wanted, running_as(wanted, **rows)).actions == actions


@pytest.mark.parametrize(
    ("given", "row", "found"),
    [
        ({}, {}, []),
        ({"pool_size": 3}, {"pool_size": 3}, []),
        ({"pool_size": 3}, {}, [("user app_user pool_size", "", "3")]),
        ({"pool_size": 16}, {"pool_size": "       16"}, []),
        ({}, {"pool_size": "       16"}, [("user app_user pool_size", "16", "")]),
        ({}, {"pool_mode": "session"}, [("user app_user pool_mode", "session", "")]),
        ({}, {"max_user_connections": 7}, [("user app_user max_user_connections", "7", "0")]),
        ({"max_user_connections": 7}, {"max_user_connections": 7}, []),
    ],
)
def test_users_that_run_otherwise(given, row, found):
    wanted = desired(user_overrides={"app_user": given})
    running = running_as(wanted)
    running = replace(running, users={"app_user": {**running.users["app_user"], **row}})
    differences = _pgbouncer_plan.differences(wanted, running)
    assert [(one.name, one.running, one.wanted) for one in differences] == found
    assert all(one.reloads for one in differences)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, []),  # it may be the number of the row before
        ({"pool_size": 16}, []),
        ({"pool_size": 7}, [("user app_user pool_size", "16", "7")]),
        ({"reserve_pool_size": 2}, [("user app_user reserve_pool_size", "", "2")]),
    ],
)
def test_a_number_that_show_users_carries_over_from_the_row_before(given, found):
    wanted = desired(user_overrides={"app_user": given})
    running = running_as(wanted)
    row = {**running.users["app_user"], "pool_size": "       16"}
    running = replace(running, users={"aaa": row, "app_user": row})
    differences = _pgbouncer_plan.differences(wanted, running)
    assert [(one.name, one.running, one.wanted) for one in differences] == found


@pytest.mark.parametrize(
    ("shown", "wanted", "actions"),
    [
        ("a", "a", []),
        ("a", "b", ["RELOAD"]),
        ("", "b", []),  # it could not be asked
        ("a", "", []),
    ],
)
def test_a_certificate_that_is_served_otherwise(shown, wanted, actions):
    target = replace(desired(), certificate=wanted)
    assert steps(target, replace(running_as(target), certificate=shown)).actions == actions


def test_a_lifetime_is_shown_without_its_fraction():
    wanted = desired(given={"server_lifetime": 90.5})
    assert steps(wanted, running_as(wanted, server_lifetime=90)).actions == []
    assert steps(wanted, running_as(wanted, server_lifetime=91)).actions == ["RELOAD"]


def test_databases_that_come_and_go():
    wanted = desired()
    running = running_as(wanted)
    other = replace(running, databases={"old": {}, "pgbouncer": {}})
    found = [(one.name, one.wanted) for one in _pgbouncer_plan.differences(wanted, other)]
    assert found == [("database old", "absent"), ("database mydb", "present")]


def test_a_files_change_is_read_again_and_a_units_change_by_systemd():
    wanted = desired()
    running = running_as(wanted)
    assert steps(wanted, running, [USERLIST]).actions == [f"write {USERLIST}", "RELOAD"]
    assert steps(wanted, running, [UNIT]).actions == [f"write {UNIT}", "systemctl daemon-reload"]
    assert steps(wanted, running, daemon_reload=True).actions == ["systemctl daemon-reload"]


def test_a_limit_takes_a_restart_only_when_it_is_too_low():
    wanted = desired()
    running = running_as(wanted)
    assert steps(wanted, replace(running, descriptors=65536)).actions == []
    assert steps(wanted, replace(running, descriptors=1024)).actions == ["restart for LimitNOFILE"]


def test_a_pooler_that_is_down_is_started():
    wanted = desired()
    down = _pgbouncer_plan.Running(False, None, {}, {}, None)
    assert steps(wanted, down, [INI], reconnect=True).actions == [f"write {INI}", "start"]


def test_a_pooler_that_does_not_answer_is_restarted():
    wanted = desired()
    mute = _pgbouncer_plan.Running(True, None, {}, {}, 16384)
    assert steps(wanted, mute).actions == ["restart for a console that does not answer"]


def test_an_unfinished_run_is_finished():
    wanted = desired()
    running = running_as(wanted)
    assert steps(wanted, running, unfinished=True).actions == ["RELOAD"]
    assert steps(wanted, running, unfinished=True, stale=["x"]).actions == ["restart for x"]


def test_reconnecting_alone_and_not_after_a_restart():
    wanted = desired()
    running = running_as(wanted)
    assert steps(wanted, running, reconnect=True).actions == ["RECONNECT"]
    restarted = steps(wanted, replace(running, descriptors=1), [INI], reconnect=True)
    assert restarted.actions == [f"write {INI}", "restart for LimitNOFILE"]


def test_a_forbidden_restart_is_held_back_and_the_rest_done():
    wanted = desired(given={"listen_port": 7000, "query_timeout": 5})
    planned = steps(wanted, running_as(desired()), [INI], may_restart=False)
    assert planned.actions == [f"write {INI}", "RELOAD"]
    assert planned.held_back == ("listen_port",)
    applied = running_as(desired(given={"query_timeout": 5}))
    again = steps(wanted, applied, may_restart=False)
    assert again.actions == []
    assert again.held_back == ("listen_port",)


@pytest.mark.parametrize("version", [OLD, NEW])
def test_what_the_package_starts_needs_a_restart(version):
    package = _pgbouncer_plan.package_state(version, 1024)
    planned = steps(desired(version), package, [UNIT, INI])
    assert planned.actions == [
        f"write {UNIT}",
        f"write {INI}",
        "systemctl daemon-reload",
        "restart for listen_addr, LimitNOFILE",
    ]


NOTED = ["app_user: jit=off"]
JIT_OFF = {"statement_timeout": None, "lock_timeout": None,
           "idle_in_transaction_session_timeout": None}  # fmt: skip


@pytest.mark.parametrize(
    ("noted", "settings", "expected"),
    [
        ([], None, False),
        ([], JIT_OFF, True),
        (NOTED, JIT_OFF, False),
        (NOTED, {**JIT_OFF, "jit": True}, True),
        # A role that is gone logs in no more, and a new one has no sessions.
        (NOTED, None, False),
        ([*NOTED, "old: jit=off"], JIT_OFF, False),
        (["other: jit=off"], JIT_OFF, False),
    ],
)
def test_carries_old_settings(noted, settings, expected):
    databases = () if settings is None else model(settings=settings)
    assert _pgbouncer_plan.carries_old_settings(noted, databases) == expected


@pytest.mark.parametrize(
    ("noted", "entries", "expected"),
    [
        ({}, {"a": {"timezone": "UTC"}}, False),
        ({"a": {"timezone": "UTC"}}, {"a": {"timezone": "UTC", "pool_size": "3"}}, False),
        ({"a": {"timezone": "UTC"}}, {"a": {}}, True),
        ({"a": {}}, {"a": {"application_name": "x"}}, True),
        ({"a": {"timezone": "UTC"}}, {"b": {}}, False),
    ],
)
def test_carries_old_parameters(noted, entries, expected):
    assert _pgbouncer_plan.carries_old_parameters(noted, entries) == expected


def test_role_settings_lines_have_a_line_for_each_role():
    databases = parse_databases(
        [
            {
                "name": "mydb",
                "roles": [
                    {"name": "b", "kind": "migrator"},
                    {"name": "a", "kind": "user", "settings": dict.fromkeys(
                        ["jit", "statement_timeout", "lock_timeout",
                         "idle_in_transaction_session_timeout"])},
                ],
            }
        ]
    )  # fmt: skip
    assert _pgbouncer_plan.role_settings_lines(databases) == ["a:", "b: jit=off lock_timeout=5s"]


def test_the_options_that_only_a_restart_applies():
    """CF_NO_RELOAD in PgBouncer's src/main.c."""
    assert {name for name, option in _pgbouncer_options.OPTIONS.items() if not option.reloads} == {
        "disable_pqexec", "job_name", "listen_addr", "listen_backlog", "listen_port", "pidfile",
        "pkt_buf", "resolv_conf", "so_reuseport", "track_extra_parameters", "unix_socket_dir",
        "unix_socket_group", "unix_socket_mode", "user",
    }  # fmt: skip


def test_the_defaults_that_changed_after_1_18():
    """From them follows what a running PgBouncer has to be told."""
    changed = {
        name: option.changed
        for name, option in _pgbouncer_options.OPTIONS.items()
        if option.changed
    }
    assert changed == {
        "client_tls_ciphers": ((1, 21), "default"),
        "max_prepared_statements": ((1, 24), "200"),
        "server_check_query": ((1, 25), "<empty>"),
        "server_tls_ciphers": ((1, 21), "default"),
        "server_tls_sslmode": ((1, 20), "prefer"),
    }


def test_the_options_that_came_after_1_18():
    """PgBouncer's NEWS, and the key tables of its tagged sources."""
    since: dict[tuple[int, int], set[str]] = {}
    for name, option in _pgbouncer_options.OPTIONS.items():
        since.setdefault(option.since, set()).add(name)
    del since[1, 18]
    assert since == {
        (1, 19): {"auth_dbname", "cancel_wait_timeout", "peer_id"},
        (1, 20): {"track_extra_parameters"},
        (1, 21): {"max_prepared_statements"},
        (1, 23): {"auth_ident_file"},
        (1, 24): {"max_db_client_connections", "max_user_client_connections"},
        (1, 25): {
            "auth_ldap_options", "client_tls13_ciphers", "query_wait_notify", "scram_iterations",
            "server_tls13_ciphers", "transaction_timeout",
        },
        (1, 26): {"login_notify_message", "pool_idle_timeout"},
    }  # fmt: skip
