# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.hba import Client
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.secrets import (
    AuthFile,
    auth_file,
    intruders,
    names_taken,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.scram import make_verifier

OURS = "a" * 43
OTHER = "b" * 43
VERIFIER = make_verifier("x", 1, b"salt")
QUERY = {"asks_server": True, "may_restart": True}
USERLIST = {"asks_server": False, "may_restart": True}


def made(given_secrets, held, **more):
    number = count(1)
    arguments = {"auth_role": "pgbouncer_auth", "users": [], **QUERY, **more}
    return auth_file(given_secrets, held, draw=lambda: f"new {next(number)}", **arguments)


@pytest.mark.parametrize(
    ("given_secrets", "held", "more", "secrets", "stale"),
    [
        # Both of PgBouncer's users, and what is there already stays.
        ({}, {}, {}, {"pgbouncer": "new 1", "pgbouncer_auth": "new 2"}, ()),
        ({}, {"pgbouncer": OURS, "pgbouncer_auth": OTHER}, {},
         {"pgbouncer": OURS, "pgbouncer_auth": OTHER}, ()),
        # What somebody else wrote there does not.
        ({}, {"pgbouncer": "", "pgbouncer_auth": "md5"}, {},
         {"pgbouncer": "new 1", "pgbouncer_auth": "new 2"}, ()),
        ({}, {"pgbouncer": VERIFIER}, {}, {"pgbouncer": "new 1", "pgbouncer_auth": "new 2"}, ()),
        # One that PgBouncer logs in with on another host.
        ({"pgbouncer_auth": "mine"}, {"pgbouncer": OURS, "pgbouncer_auth": OTHER}, {},
         {"pgbouncer": OURS, "pgbouncer_auth": "mine"}, ()),
        ({}, {"pgbouncer": OURS}, {"auth_role": "pgbouncer"}, {"pgbouncer": OURS}, ()),
        # Who leaves the file, with a restart and without one.
        ({}, {"pgbouncer": OURS, "pgbouncer_auth": OTHER, "old": VERIFIER}, {},
         {"pgbouncer": OURS, "pgbouncer_auth": OTHER}, ("old",)),
        ({}, {"pgbouncer": OURS, "pgbouncer_auth": OTHER, "old": VERIFIER}, {"may_restart": False},
         {"old": "new 1", "pgbouncer": OURS, "pgbouncer_auth": OTHER}, ("old",)),
        ({}, {"pgbouncer": OURS, "pgbouncer_auth": OTHER, "old": "c" * 43}, {"may_restart": False},
         {"old": "c" * 43, "pgbouncer": OURS, "pgbouncer_auth": OTHER}, ("old",)),
        # Nobody is asked for them: then they stay out without a restart.
        ({"u": VERIFIER}, {"pgbouncer": OURS, "pgbouncer_auth": OTHER, "old": VERIFIER}, USERLIST,
         {"old": "new 1", "pgbouncer": OURS, "pgbouncer_auth": OTHER, "u": VERIFIER}, ()),
        # A role with an entry in [users] and without a verifier.
        ({"u": VERIFIER}, {"pgbouncer": OURS, "pgbouncer_auth": OTHER, "v": VERIFIER},
         {**USERLIST, "users": ["u", "v"]},
         {"pgbouncer": OURS, "pgbouncer_auth": OTHER, "u": VERIFIER, "v": "new 1"}, ()),
        ({}, {"pgbouncer": OURS, "pgbouncer_auth": OTHER}, {"users": ["u", "pgbouncer_auth"]},
         {"pgbouncer": OURS, "pgbouncer_auth": OTHER}, ()),
        # A password in plain text leaves the keys of a verifier behind; one to come is none.
        ({"u": "plain"}, {"pgbouncer": OURS, "pgbouncer_auth": OTHER, "u": VERIFIER}, USERLIST,
         {"pgbouncer": OURS, "pgbouncer_auth": OTHER, "u": "plain"}, ("u",)),
        ({"u": ""}, {"pgbouncer": OURS, "pgbouncer_auth": OTHER, "u": VERIFIER}, USERLIST,
         {"pgbouncer": OURS, "pgbouncer_auth": OTHER, "u": ""}, ()),
        ({"u": VERIFIER}, {"pgbouncer": OURS, "pgbouncer_auth": OTHER, "u": "plain"}, USERLIST,
         {"pgbouncer": OURS, "pgbouncer_auth": OTHER, "u": VERIFIER}, ()),
    ],
)  # fmt: skip
def test_auth_file(given_secrets, held, more, secrets, stale):
    assert made(given_secrets, held, **more) == AuthFile(secrets, stale)


NAMES = st.sampled_from(["pgbouncer", "pgbouncer_auth", "u", "v", "old"])
SECRETS = st.sampled_from(["", "md5", "plain", OURS, VERIFIER])


@given(
    st.dictionaries(NAMES, st.sampled_from(["plain", VERIFIER])),
    st.dictionaries(NAMES, SECRETS),
    st.lists(NAMES),
    st.booleans(),
    st.booleans(),
)
def test_nobody_is_left_without_a_secret(given_secrets, held, users, asks, may_restart):
    more = {
        "auth_role": "pgbouncer_auth",
        "users": users,
        "asks_server": asks,
        "may_restart": may_restart,
    }
    first = auth_file(given_secrets, held, **more)
    assert all(secret not in ("", "md5") for secret in first.secrets.values())
    known = {"pgbouncer", "pgbouncer_auth", *held, *(() if asks else users)}
    missing = known - set(first.secrets)
    assert missing <= (set(first.stale) if may_restart else set())
    assert {**first.secrets, **given_secrets} == first.secrets
    again = auth_file(given_secrets, first.secrets, **more)
    assert again.secrets == first.secrets
    assert may_restart is False or not asks or again.stale == ()


def test_secrets_stay_from_run_to_run():
    first = auth_file({}, {}, auth_role="a", users=[], **QUERY)
    assert auth_file({}, first.secrets, auth_role="a", users=[], **QUERY) == first
    assert len(set(first.secrets.values())) == 2


def test_a_role_with_the_name_of_pgbouncers_own_user_is_warned_of():
    databases = parse_databases([{"name": "d", "roles": [{"name": "pgbouncer", "kind": "user"}]}])
    (warning,) = names_taken(databases, "query", "pgbouncer_auth")
    assert warning.startswith("role 'pgbouncer' can't log in through PgBouncer")
    assert names_taken(databases, "userlist", "pgbouncer_auth") == []
    assert names_taken(databases, "query", "pgbouncer") == []


def test_clients_that_are_in_are_reported_once_each():
    assert intruders([Client("d", "app_user", "10.0.0.9", False)], "a") == []
    seen = [("d", "a", "10.0.0.9"), ("d", "a", "10.0.0.9"), ("d", "pgbouncer", "")]
    (warning,) = intruders([Client(*one, False) for one in seen], "a")
    assert "'a' in 'd' from 10.0.0.9, 'pgbouncer' in 'd' from this host; find out" in warning
