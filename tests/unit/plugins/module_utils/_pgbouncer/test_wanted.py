# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to run, from what was asked for and what is installed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import wanted
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.interruption import (
    Interruption,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.takeover import Unmanaged
from ansible_collections.pooled.postgres.plugins.module_utils._sql.scram import make_verifier

from .examples import NEW, OLD, asked, installed

MOST = 1048576
VERIFIER = make_verifier("secret")
NOT_INSTALLED = {"version": None, "drop_in": None}


def test_what_follows_from_a_request():
    found = wanted.decide(asked(), installed(), MOST)
    assert (found.version, found.os_user, found.may_restart) == (NEW, "pgbouncer", True)
    assert found.databases["mydb"]["host"] == "/run/pg"
    assert set(found.users) == {"pgbouncer_auth", "app_user"}
    assert found.access.text == ""
    assert wanted.decide(asked(limit_nofile="65536"), installed(), MOST).descriptors == 65536
    elsewhere = wanted.decide(asked(backend_host="db"), installed(), MOST)
    assert elsewhere.databases["mydb"]["host"] == "db"


def test_rules_change_the_options_of_access_alone():
    found = wanted.decide(asked(client_networks=["10.0.0.0/8"]), installed(), MOST)
    assert found.options["auth_type"] == "scram-sha-256"
    assert found.access.options["auth_type"] == "hba"
    assert found.rules_path == "/etc/pgbouncer/pooled_hba.conf"
    (warning,) = wanted.decide(asked(client_networks=["0.0.0.0/0"]), installed(), MOST).warnings
    assert warning.startswith("client_networks: 0.0.0.0/0 is every address there is")


@pytest.mark.parametrize(
    ("policy", "more", "expected"),
    [
        ("always", {}, True),
        ("never", {}, False),
        ("never", NOT_INSTALLED, False),
        ("fresh", {}, False),
        ("fresh", {"as_packaged": True}, True),
        ("fresh", NOT_INSTALLED, True),
        ("fresh", {"interruption": Interruption(True, restarts=True)}, True),
        ("fresh", {"interruption": Interruption(True, reconnects=True)}, False),
    ],
)
def test_who_may_be_restarted(policy, more, expected):
    assert wanted.may_restart_now(policy, installed(**more)) is expected


@pytest.mark.parametrize(
    ("request_", "found", "now", "then"),
    [
        (asked(), installed(os_user="postgres"), "postgres", "postgres"),
        (asked(os_user="pgbouncer"), installed(os_user="postgres"), "pgbouncer", "pgbouncer"),
        # A process that goes on running must be able to read its files.
        (
            asked(os_user="pgbouncer", restart="never"),
            installed(os_user="postgres"),
            "postgres",
            "pgbouncer",
        ),
        (
            asked(restart="fresh"),
            installed(os_user="postgres", as_packaged=True, drop_in=None),
            "pgbouncer",
            "pgbouncer",
        ),
    ],
)
def test_whose_processes_they_are(request_, found, now, then):
    decided = wanted.decide(request_, found, MOST)
    assert (decided.os_user, decided.os_user_then) == (now, then)


def test_a_version_that_is_only_assumed():
    found = wanted.decide(asked(assume_version="1.18.0"), installed(**NOT_INSTALLED), MOST)
    assert found.version == OLD


def test_an_unmanaged_configuration_loses_nothing_unless_that_is_allowed():
    unmanaged = Unmanaged("/etc/pgbouncer/pgbouncer.ini", databases={"old": {"host": "x"}})
    target = wanted.decide(asked(), installed(), MOST)
    assert wanted.losses_of(asked(), target, None) == []
    with pytest.raises(ValueError, match=r"takeover: .* a run would take away: database old"):
        wanted.losses_of(asked(), target, unmanaged)
    losses = wanted.losses_of(asked(takeover=True), target, unmanaged)
    assert losses[0] == "database old"


ALIAS = {
    "name": "mydb",
    "roles": [{"name": "app_user", "kind": "user"}],
    "aliases": [{"name": "ro", "host": "r1"}],
}


def test_when_pgbouncer_needs_a_password_of_its_own():
    assert wanted.own_secret(asked(), NEW) == {}
    elsewhere = asked(backend_host="db", auth_password="x")
    assert wanted.own_secret(elsewhere, NEW) == {"pgbouncer_auth": "x"}
    assert wanted.own_secret(asked(databases=[ALIAS]), NEW) == {}
    with pytest.raises(ValueError, match=r"^auth_password: Postgres is on another host \(db\)"):
        wanted.own_secret(replace(elsewhere, auth_password=None), NEW)
    with pytest.raises(ValueError, match=r"^auth_password: alias 'ro' is on another server"):
        wanted.own_secret(asked(databases=[ALIAS]), OLD)


def test_a_userlist_before_a_server_elsewhere_takes_verifiers_alone():
    assert wanted.given_secrets(asked(auth="userlist")) == {"app_user": ""}
    elsewhere = {"auth": "userlist", "backend_host": "db"}
    given = asked(**elsewhere, passwords={"app_user": VERIFIER})
    assert wanted.given_secrets(given) == {"app_user": VERIFIER}
    with pytest.raises(ValueError, match=r"the password of role 'app_user' must be given as") as e:
        wanted.given_secrets(asked(**elsewhere, passwords={"app_user": "s3cret"}))
    assert "s3cret" not in str(e.value)


@pytest.mark.parametrize(
    ("password", "stored", "check_mode", "secrets", "missing"),
    [
        ("", {"a": VERIFIER}, False, {"a": VERIFIER}, ()),
        ("secret", {"a": VERIFIER}, True, {"a": VERIFIER}, ()),
        # The run sets it on the server before it reads it.
        ("other", {"a": VERIFIER}, True, {"a": ""}, ()),
        ("other", {"a": VERIFIER}, False, {"a": VERIFIER}, ()),
        ("", {"a": "md5" + "0" * 32}, False, {}, ("a",)),
        ("", {"a": None}, False, {}, ("a",)),
        ("", {}, False, {}, ("a",)),
    ],
)
def test_verifiers_of_a_userlist(password, stored, check_mode, secrets, missing):
    found = wanted.verifiers({"a": password}, stored, check_mode)
    assert (dict(found.secrets), found.missing) == (secrets, missing)
