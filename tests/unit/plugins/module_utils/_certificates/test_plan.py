# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a certificate is made anew, for which names, and who has one of ours."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import yaml
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.action import tls_certificate as action
from ansible_collections.pooled.postgres.plugins.module_utils._certificates import (
    pooled_tls,
)
from ansible_collections.pooled.postgres.plugins.module_utils._certificates.plan import (
    AUTHORITIES,
    CLIENT_CA_CERT,
    DIRECTORY,
    PURPOSES,
    Found,
    Wanted,
    checked_days,
    file_changes,
    names_of,
    reasons,
)
from ansible_collections.pooled.postgres.plugins.module_utils._host import resources
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.ini import (
    render_ini,
    without_digests,
)
from ansible_collections.pooled.postgres.plugins.modules import tls_certificate
from tools.generate import role_docs

NOW = datetime(2026, 11, 27, tzinfo=timezone.utc)
FAR = NOW + timedelta(days=3650)
WANTED = Wanted(("db1", "192.0.2.1"), ("server",), 365, 30)
FOUND = Found(frozenset(WANTED.names), frozenset({"server"}), NOW + timedelta(days=200), True, True)


def in_days(days: float) -> datetime:
    return NOW + timedelta(days=days)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"names": frozenset({"db1"})}, ["it lacks 192.0.2.1"]),
        ({"names": frozenset({*WANTED.names, "b", "a"})}, ["it also has a, b"]),
        ({"ends": in_days(31)}, []),
        ({"ends": in_days(29)}, ["it expires in 29 days"]),
        ({"ends": in_days(-1)}, ["it has expired"]),
        ({"is_signed": False}, ["another authority signed it"]),
        ({"has_key": False}, ["its key is missing, or another one"]),
        ({"purposes": frozenset({"client"})}, ["it is for other purposes"]),
        ({"is_signed": False, "ends": in_days(1)},
         ["another authority signed it", "it expires in 1 days"]),
    ],
)  # fmt: skip
def test_reasons_for_another_certificate(changes: dict[str, Any], expected: list[str]) -> None:
    assert reasons(WANTED, replace(FOUND, **changes), FAR, NOW) == expected


def test_no_certificate_is_a_reason_of_its_own() -> None:
    assert reasons(WANTED, None, FAR, NOW) == ["there is none"]


@given(
    days=st.integers(1, 3650),
    before=st.integers(0, 3649),
    authority=st.floats(0.1, 4000),
    later=st.floats(0, 3650),
)
def test_what_has_just_been_made_is_never_made_anew(
    days: int, before: int, authority: float, later: float
) -> None:
    """Whenever a run makes one, the next run leaves it alone, whatever the authority's end."""
    wanted = replace(WANTED, days=days, renew_days=min(before, days - 1))
    made_at = in_days(min(later, authority - 0.01) if authority > later else 0)
    ends = min(made_at + timedelta(days=days), in_days(authority))
    found = replace(FOUND, ends=ends)
    soon = made_at + timedelta(minutes=5)
    assert reasons(wanted, found, in_days(authority), soon) == []


@pytest.mark.parametrize(
    ("known", "asked", "expected"),
    [
        (["db1", "db1", "DB1."], [], ("db1",)),
        (["db1", "", None], ["10.0.0.5"], ("db1", "10.0.0.5")),
        (["2001:DB8:0::1"], [], ("2001:db8::1",)),
        (["db_1", "a b", "x" * 64, "-x", "fe80::1%eth0", "1.2.3", "*"], [], ("db_1",)),
        (["db1"], ["Db.Internal"], ("db1", "db.internal")),
    ],
)
def test_names(known: list[Any], asked: list[Any], expected: tuple[str, ...]) -> None:
    assert names_of(known, asked) == expected


@pytest.mark.parametrize("name", ["", "a b", "a/b", "*.internal", "1.2.3.400", "x\ny", "fe80::1%e"])
def test_names_that_somebody_asked_for_are_not_dropped(name: str) -> None:
    with pytest.raises(ValueError, match=r"names: .* is neither a host name nor an address"):
        names_of(["db1"], [name])


@pytest.mark.parametrize(("days", "before"), [(0, 0), (3651, 30), (30, 30), (30, 31), (30, -1)])
def test_days_that_would_renew_at_each_run_are_refused(days: int, before: int) -> None:
    with pytest.raises(ValueError, match="is not allowed"):
        checked_days(days, before)


KEPT = {
    "certificate": "c",
    "authority": "a",
    "key": {"owner": "postgres", "mode": "0400", "usable": True},
}


@pytest.mark.parametrize(
    ("seen", "more", "expected"),
    [
        (KEPT, {}, []),
        (KEPT, {"issue": True}, ["server.crt"]),
        ({}, {"issue": True}, ["server.crt", "server.key", "ca.crt"]),
        ({}, {"only_authority": True}, ["ca.crt"]),
        ({**KEPT, "authority": "b"}, {}, ["ca.crt"]),
        ({**KEPT, "key": {**KEPT["key"], "mode": "0440"}}, {}, ["server.key"]),  # type: ignore[dict-item]
        ({**KEPT, "key": {**KEPT["key"], "owner": "root"}}, {}, ["server.key"]),  # type: ignore[dict-item]
    ],
)
def test_files_that_change(
    seen: dict[str, Any], more: dict[str, bool], expected: list[str]
) -> None:
    arguments = {"issue": False, "only_authority": False, **more}
    assert file_changes(seen, "postgres", "a", **arguments) == expected


def test_the_action_takes_what_its_documentation_says() -> None:
    documented = yaml.safe_load(tls_certificate.DOCUMENTATION)["options"]
    assert set(documented) == set(action.SPEC)
    for name, option in action.SPEC.items():
        for key in ("type", "default", "choices", "elements", "required"):
            assert documented[name].get(key) == option.get(key), (name, key)


def test_the_role_has_the_same_defaults_and_choices() -> None:
    spec = role_docs.options("pooled_tls")
    assert spec["pooled_tls_authority"]["choices"] == list(AUTHORITIES)
    assert spec["pooled_tls_purposes"]["choices"] == list(PURPOSES)
    assert role_docs.load("pooled_tls", "defaults/main.yml")["pooled_tls_client_ca_cert"] == (
        CLIENT_CA_CERT
    )


OWN = {"ssl_cert_file": "/x.crt", "ssl_key_file": "/x.key"}


@pytest.mark.parametrize(
    ("variables", "certificate", "settings"),
    [
        ({}, False, []),
        ({"pooled_tls": False}, False, []),
        ({"pooled_tls": True, "postgres_tls": False}, False, []),
        ({"pooled_tls": True}, True, ["ssl", "ssl_cert_file", "ssl_key_file"]),
        ({"pooled_tls": "yes"}, True, ["ssl", "ssl_cert_file", "ssl_key_file"]),
        ({"postgres_tls": True}, True, ["ssl", "ssl_cert_file", "ssl_key_file"]),
        ({"pooled_tls": True, "postgres_settings": OWN}, False, ["ssl"]),
        ({"pooled_tls": True, "postgres_settings": {"ssl_cert_file": None}}, False, ["ssl"]),
    ],
)
def test_what_tls_brings_to_postgres(
    variables: dict[str, Any], certificate: bool, settings: list[str]
) -> None:
    found = pooled_tls.of_postgres(variables)
    assert (found["certificate"], list(found["settings"])) == (certificate, settings)
    assert all(
        str(value).startswith(f"{DIRECTORY}/postgres/") or value is True
        for value in found["settings"].values()
    )


OURS = {"client_tls_cert_file": f"{DIRECTORY}/pgbouncer/server.crt",
        "client_tls_key_file": f"{DIRECTORY}/pgbouncer/server.key"}  # fmt: skip
GIVEN = {"client_tls_cert_file": "/x.crt", "client_tls_key_file": "/x.key"}
VERIFIED = {"server_tls_sslmode": "verify-full",
            "server_tls_ca_file": f"{DIRECTORY}/pgbouncer/ca.crt"}  # fmt: skip
SERVER = {"pooled_tls": True}


@pytest.mark.parametrize(
    ("given", "more", "expected", "ours"),
    [
        ({}, {}, {"client_tls_sslmode": "require", **OURS}, (True, False)),
        ({}, {"required": False}, {"client_tls_sslmode": "prefer", **OURS}, (True, False)),
        ({"client_tls_sslmode": "allow"}, {}, {"client_tls_sslmode": "allow", **OURS},
         (True, False)),
        (GIVEN, {}, {"client_tls_sslmode": "require", **GIVEN}, (False, False)),
        ({"client_tls_sslmode": "disable"}, {}, {"client_tls_sslmode": "disable"}, (False, False)),
        ({"client_tls_sslmode": None}, {}, {"client_tls_sslmode": None}, (False, False)),
        ({"pool_mode": "session"}, {}, {"client_tls_sslmode": "require", **OURS}, (True, False)),
        ({}, {"backend": "db1", "server": SERVER},
         {"client_tls_sslmode": "require", **OURS, **VERIFIED}, (True, True)),
        (GIVEN, {"backend": "db1", "server": SERVER},
         {"client_tls_sslmode": "require", **GIVEN, **VERIFIED}, (False, True)),
        # Its certificate is not of our authority, or nobody knows.
        ({}, {"backend": "db1", "server": {**SERVER, "postgres_settings": OWN}},
         {"client_tls_sslmode": "require", **OURS, "server_tls_sslmode": "require"},
         (True, False)),
        ({}, {"backend": "rds", "server": None},
         {"client_tls_sslmode": "require", **OURS, "server_tls_sslmode": "require"},
         (True, False)),
        ({"server_tls_ca_file": "/ca"}, {"backend": "db1", "server": SERVER},
         {"client_tls_sslmode": "require", **OURS, "server_tls_ca_file": "/ca",
          "server_tls_sslmode": "verify-full"}, (True, False)),
        ({"server_tls_sslmode": "verify-ca"}, {"backend": "db1", "server": SERVER},
         {"client_tls_sslmode": "require", **OURS, **VERIFIED, "server_tls_sslmode": "verify-ca"},
         (True, True)),
        ({"server_tls_sslmode": "disable"}, {"backend": "db1", "server": SERVER},
         {"client_tls_sslmode": "require", **OURS, "server_tls_sslmode": "disable"},
         (True, False)),
    ],
)  # fmt: skip
def test_what_tls_brings_to_pgbouncer(
    given: dict[str, Any],
    more: dict[str, Any],
    expected: dict[str, Any],
    ours: tuple[bool, bool],
) -> None:
    found = pooled_tls.of_pgbouncer(given, **more)
    assert found["options"] == expected
    assert (found["certificate"], found["authority"]) == ours


@pytest.mark.parametrize(
    ("variables", "plain"),
    [
        ({}, True),
        ({"pooled_tls": True}, False),
        ({"pooled_tls": True, "pgbouncer_tls": False}, True),
        ({"pooled_tls": True, "pgbouncer_server_tls_sslmode": "disable"}, True),
        ({"pgbouncer_server_tls_sslmode": "verify-full"}, False),
        ({"pgbouncer_server_tls_sslmode": "allow"}, True),
        ({"pgbouncer_settings": {"server_tls_sslmode": "require"}}, False),
        ({"pooled_tls": True, "pgbouncer_settings": {"server_tls_sslmode": None}}, True),
        ({"pgbouncer_server_tls_sslmode": "require",
          "pgbouncer_settings": {"server_tls_sslmode": "disable"}}, True),
    ],
)  # fmt: skip
def test_poolers_that_would_come_without_tls(variables: dict[str, Any], plain: bool) -> None:
    hostvars = {"pool": variables, "other": {}}
    assert pooled_tls.plain_poolers(["pool"], hostvars) == (["pool"] if plain else [])


@pytest.mark.parametrize(
    ("version", "ini", "plain"),
    [
        ("1.18.0", "", True),
        ("1.24.1", "", False),
        ("1.18.0", "[pgbouncer]\nserver_tls_sslmode = verify-full\n", False),
        ("1.24.1", "[pgbouncer]\nserver_tls_sslmode=disable\n", True),
        ("1.24.1", "server_tls_sslmode = allow\n;server_tls_sslmode = require\n", True),
        ("1.24.1", "server_tls_sslmode = disable\nserver_tls_sslmode = prefer\n", False),
    ],
)
def test_poolers_that_run_without_tls(version: str, ini: str, plain: bool) -> None:
    assert resources.is_plain_pooler(version, ini) is plain


def test_a_diff_has_words_for_digests_that_nobody_can_foresee() -> None:
    def ini(*notes: str) -> str:
        return render_ini({"client_tls_cert_file": "/c"}, {}, {}, ["a role's"], notes)

    before = ini("client_tls_ca_file 111", "client_tls_cert_file 222")
    done = without_digests(before, ini("client_tls_ca_file 111", "client_tls_cert_file 333"))
    foreseen = without_digests(
        before, ini("client_tls_ca_file 111", "client_tls_cert_file assumed")
    )
    assert done == foreseen
    assert ";   client_tls_ca_file\n;   client_tls_cert_file (new)\n" in done[1]
    assert ";   client_tls_ca_file\n;   client_tls_cert_file\n" in done[0]
    assert without_digests("", ini())[1] == ini()
