# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hardening profiles: what is in which, for every major, and connection limits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.filter import (
    hardening as hardening_filter,
    with_connection_limits as limits,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._settings.check import check_settings
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    known_definition,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.hardening import (
    check_profile,
    hardening_for,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.profiles import (
    CIPHERS,
    CIS,
    LIBRARIES,
    POINTS,
    PROFILES,
    STANDARD,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.role_limits import (
    connection_limit,
    with_connection_limits,
)

DOCS = Path(__file__).resolve().parents[5] / "docs" / "security.md"
MAJORS = range(13, 19)


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("profile", PROFILES)
def test_every_setting_is_one_that_the_major_takes(profile, major):
    found = hardening_for(profile, major)
    assert check_settings(found.settings, major) == found.settings
    assert set(found.reasons) == set(found.settings)
    assert not found.left_out


@pytest.mark.parametrize("major", MAJORS)
def test_no_standard_setting_needs_a_restart(major):
    for name in hardening_for(STANDARD, major).settings:
        definition = known_definition(name, major)
        assert definition
        assert not definition.needs_restart, name
    assert not hardening_for(STANDARD, major).libraries


@pytest.mark.parametrize("major", MAJORS)
def test_cis_has_all_of_standard(major):
    assert (
        hardening_for(STANDARD, major).settings.items()
        <= hardening_for(CIS, major).settings.items()
    )


# (what is asked, what has to be there, what must not be)
ASKED = [
    ((CIS, 17, "main"), {"log_filename": "postgresql-17-main.log", "log_statement": "ddl"}, set()),
    ((CIS, 15, "a%b"), {"log_filename": "postgresql-15-a%%b.log"}, set()),
    ((CIS, 17, "main"), {"log_connections": "on", "ssl_min_protocol_version": "TLSv1.3"}, set()),
    ((CIS, 18, "main"), {"log_connections": "authorization"}, set()),
    (
        (STANDARD, 17, "main"),
        {"log_replication_commands": "on", "password_encryption": "scram-sha-256"},
        {"log_statement", "logging_collector", "log_timezone", "ssl", "unix_socket_permissions"},
    ),
]


@pytest.mark.parametrize(("asked", "there", "absent"), ASKED)
def test_what_is_in_a_profile(asked, there, absent):
    settings = hardening_for(*asked).settings
    assert there.items() <= settings.items()
    assert not absent & set(settings)


def test_packages_of_libraries_that_are_missing():
    found = hardening_for(CIS, 17, installed=["pgaudit"])
    assert found.libraries == ("auth_delay", "passwordcheck", "pgaudit", "set_user")
    assert (found.new, found.packages) == (("set_user",), ("postgresql-17-set-user",))
    assert hardening_for(CIS, 15).packages == ("postgresql-15-pgaudit", "postgresql-15-set-user")
    assert hardening_for(STANDARD, 15).packages == ()


def test_libraries_without_a_package_are_left_out_with_their_settings_and_named():
    found = hardening_for(CIS, 16, packaged=False, installed=["set_user"])
    assert found.libraries == ("auth_delay", "passwordcheck", "set_user")
    assert "pgaudit.log" not in found.settings
    assert "set_user.superuser_allowlist" in found.settings
    assert found.packages == ()
    (line,) = found.left_out
    assert line.startswith("pgaudit: there is no package of it for Postgres 16 here")


def test_what_a_profile_preloaded_goes_with_it():
    """Only with the profile's own mark: a library that somebody else wanted stays."""
    assert hardening_for(STANDARD, 17).unwanted == ()
    assert hardening_for(STANDARD, 17, before=CIS).unwanted == tuple(
        item.name for item in LIBRARIES
    )
    assert hardening_for(CIS, 17, before=CIS).unwanted == ()
    assert hardening_for(CIS, 17).settings["pooled.hardening"] == CIS
    assert "pooled.hardening" not in hardening_for(STANDARD, 17).settings


def test_a_socket_that_others_need_stays_open_and_is_named():
    found = hardening_for(CIS, 17, private_socket=False)
    assert "unix_socket_permissions" not in found.settings
    assert [line.partition(":")[0] for line in found.left_out] == ["unix_socket_permissions"]


@pytest.mark.parametrize("value", ["CIS", "", None, "strict", True])
def test_other_profiles_are_refused(value):
    with pytest.raises(ValueError, match=r"pooled_hardening: .* choose one of standard, cis"):
        check_profile(value)


@pytest.mark.parametrize("major", [12, 19])
def test_other_majors_are_refused(major):
    with pytest.raises(ValueError, match=f"Postgres {major} is not supported"):
        hardening_for(CIS, major)


def test_ciphers_have_forward_secrecy_and_authenticated_encryption():
    for name in CIPHERS:
        assert re.match(
            r"ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM-SHA(256|384)|CHACHA20-POLY1305)\Z", name
        )


@given(st.integers(0, 10_000))
def test_a_limit_is_never_below_what_the_budget_counts(counted):
    assert connection_limit(counted) >= max(counted, 10)


def test_roles_without_a_limit_get_one_and_others_keep_theirs():
    roles = [
        {"name": "api", "kind": "user"},
        {"name": "few", "kind": "user", "connection_limit": 3},
        {"name": "free", "kind": "user", "connection_limit": -1},
        {"name": "ci", "kind": "migrator"},
        {"name": "gone", "state": "absent"},
    ]
    model = [{"name": "mydb", "roles": roles}, {"name": "bare"}]
    limited = with_connection_limits(model, {"api": 30, "few": 3})
    parsed = parse_databases(limited)[0]
    found = {role.name: role.connection_limit for role in parsed.roles}
    assert found == {"api": 60, "few": 3, "free": -1, "ci": 10}
    assert "connection_limit" not in limited[0]["roles"][4]
    assert limited[1] == {"name": "bare"}
    assert "connection_limit" not in roles[0], "the model itself is not changed"


def test_without_a_budget_each_role_needs_a_limit():
    model = [{"name": "mydb", "roles": [{"name": "api", "kind": "user"}]}]
    with pytest.raises(ValueError, match="no connection budget to derive one from: api; give each"):
        with_connection_limits(model, None)
    model[0]["roles"][0]["connection_limit"] = 5
    assert with_connection_limits(model, None) == model


def test_filters_say_the_same():
    found = hardening_for(CIS, 17)
    plain = hardening_filter.hardening("cis", "17")
    assert plain["settings"] == found.settings
    assert plain["libraries"] == list(found.libraries)
    with pytest.raises(Exception, match="postgres_hardening: 'x' is not a valid profile"):
        hardening_filter.hardening("x", 17, variable="postgres_hardening")
    assert limits.with_connection_limits([{"name": "d", "roles": [{"name": "r"}]}], {}) == [
        {"name": "d", "roles": [{"name": "r", "connection_limit": 10}]}
    ]


def test_the_documentation_has_each_setting_and_library_of_the_table():
    text = DOCS.read_text(encoding="utf-8")
    for point in POINTS:
        value = point.value if len(point.value) < 60 else "six suites"
        value = value.format(major="<version>", cluster="<cluster>").strip() or "empty"
        row = rf"\| `{re.escape(point.setting)}` \| `?{re.escape(value)}`? \| {point.profile} \|"
        assert re.search(row + rf" {re.escape(point.cis)} \|", text), point.setting
    for library in LIBRARIES:
        assert re.search(rf"\| `{library.name}` \| preloaded \| cis \| {library.cis} \|", text)
