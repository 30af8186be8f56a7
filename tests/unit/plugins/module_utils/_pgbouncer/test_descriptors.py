# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many file descriptors are needed, and the limit."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import descriptors, entries

from .examples import ALIASES, NEW, effective, model, parsed, with_pools


def test_descriptors_of_aliases_and_of_roles_with_pools_of_their_own():
    databases = with_pools("app_user", pool_size=50, reserve_pool_size=0)
    (database,) = databases
    databases = (replace(database, aliases=parsed(aliases=ALIASES[:1])[0].aliases),)
    options = effective(given={"max_client_conn": 100, "reserve_pool_size": 5})
    described = entries.database_entries(databases, NEW, host="", port=1, overrides={})
    users = entries.user_entries(databases, {}, NEW)
    # app_user's 50 and PgBouncer's own 25 + 5 in mydb, 50 and 4 + 5 in its alias.
    assert (
        descriptors.descriptors_needed(options, databases, described, users)
        == 100 + 50 + 30 + 50 + 9 + 64
    )


def test_descriptors_needed_counts_clients_and_every_pool():
    options = effective(given={"max_client_conn": 100, "reserve_pool_size": 5})
    databases = model("a", "b")
    described = entries.database_entries(
        databases, NEW, host="", port=1, overrides={"b": {"pool_size": 10, "reserve_pool_size": 0}}
    )
    # app_user and PgBouncer's own role in each: 2 * (25 + 5) + 2 * 10, and 64 to spare.
    assert descriptors.descriptors_needed(options, databases, described, {}) == 100 + 60 + 20 + 64
    # And a pool for requests to cancel to each of the other processes.
    assert (
        descriptors.descriptors_needed(options, databases, described, {}, 3)
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
    assert descriptors.descriptor_limit(needed, wanted, most) == limit


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
        descriptors.descriptor_limit(needed, wanted, most)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_descriptor_limit_is_enough_or_refused(needed, most):
    try:
        limit = descriptors.descriptor_limit(needed, "auto", most)
    except ValueError:
        assert needed > most
    else:
        assert needed <= limit <= most
