# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which options are in effect, and which are refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import defaults, options

from .examples import NEW, OLD, effective, model

ROOT = Path(__file__).resolve().parents[5]


def test_defaults_are_the_roles_defaults():
    path = ROOT / "roles" / "pgbouncer" / "defaults" / "main.yml"
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {name: given[f"pgbouncer_{name}"] for name in defaults.DEFAULTS} == (defaults.DEFAULTS)


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
    assert set(options) >= set(defaults.DEFAULTS)


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
    assert defaults.checked_options({name: value}, NEW) == {name: text}


def test_an_option_is_there_until_it_is_removed():
    options = {"suspend_timeout": 5}
    assert defaults.checked_options(options, (1, 25, 2)) == {"suspend_timeout": "5"}


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
        defaults.checked_options(options, version)
    assert str(caught.value).startswith(f"options.{next(iter(options))}: ")


@pytest.mark.parametrize(
    ("name", "variable"),
    [("listen_port", "pgbouncer_listen_port"), ("dns_max_ttl", "pgbouncer_settings.dns_max_ttl")],
)
def test_a_role_names_its_variable(name, variable):
    with pytest.raises(ValueError, match=rf"^{variable}: "):
        defaults.checked_options({name: "many"}, NEW, "pgbouncer_settings")


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
    assert defaults.checked_options({"brand_new": 5}, (1, 27, 0)) == {"brand_new": "5"}
    with pytest.raises(ValueError, match="has no option"):
        defaults.checked_options({"x = y": 5}, (1, 27, 0))


@given(
    st.dictionaries(
        st.sampled_from(sorted(options.OPTIONS)),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    )
)
def test_options_are_refused_or_one_line_of_text(options):
    try:
        checked = defaults.checked_options(options, NEW)
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
    found = defaults.risks({"ignore_startup_parameters": ignored}, version)
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
    assert defaults.risks(effective(given={"auth_type": value}), NEW) == found


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
         "pgbouncer_client_tls_cert_file: 'server.crt' is not an absolute path, such as"
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
