# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which options there are, and which versions have them."""

from __future__ import annotations

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import options


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("PgBouncer 1.18.0\nlibevent 2.1.12-stable\nadns: c-ares 1.18.1\n", (1, 18, 0)),
        ("1.24.1", (1, 24, 1)),
        ("1.26", (1, 26, 0)),
    ],
)
def test_parse_version(text, version):
    assert options.parse_version(text) == version


def test_parse_version_refuses_other_text():
    with pytest.raises(ValueError, match=r"^'' is not a version of PgBouncer; it looks like 1"):
        options.parse_version("")


def test_the_options_that_only_a_restart_applies():
    """CF_NO_RELOAD in PgBouncer's src/main.c."""
    assert {name for name, option in options.OPTIONS.items() if not option.reloads} == {
        "disable_pqexec", "job_name", "listen_addr", "listen_backlog", "listen_port", "pidfile",
        "pkt_buf", "resolv_conf", "so_reuseport", "track_extra_parameters", "unix_socket_dir",
        "unix_socket_group", "unix_socket_mode", "user",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "version", "before", "since"),
    [
        ("client_tls_ciphers", (1, 21), "fast", "default"),
        ("max_prepared_statements", (1, 24), "0", "200"),
        ("server_check_query", (1, 25), "select 1", "<empty>"),
        ("server_tls_ciphers", (1, 21), "fast", "default"),
        ("server_tls_sslmode", (1, 20), "disable", "prefer"),
    ],
)
def test_a_default_changes_with_the_version_that_changed_it(name, version, before, since):
    """PgBouncer's NEWS."""
    major, minor = version
    option = options.OPTIONS[name]
    assert options.default_of(option, (major, minor - 1, 9)) == before
    assert options.default_of(option, (major, minor, 0)) == since
    assert options.default_of(option, (major, minor + 1, 0)) == since


@pytest.mark.parametrize(
    ("name", "value", "canonical"),
    [
        ("auth_type", "SCRAM-SHA-256", "scram-sha-256"),
        ("pool_mode", "Transaction", "transaction"),
        ("listen_port", "06432", "6432"),
        ("query_timeout", "1.50", "1.5"),
        ("unix_socket_mode", "0770", "504"),
        ("max_client_conn", "many", "many"),
        # Names, paths and statements differ when their letters do.
        ("admin_users", "DBA", "DBA"),
        ("auth_file", "/etc/pgbouncer/Users.txt", "/etc/pgbouncer/Users.txt"),
        ("server_reset_query", "DISCARD ALL", "DISCARD ALL"),
        ("unknown_option", "Text", "Text"),
    ],
)
def test_values_that_mean_the_same_are_the_same_text(name, value, canonical):
    assert options.canonical_option(name, value) == canonical


def test_the_options_that_came_after_1_18():
    """PgBouncer's NEWS, and the key tables of its tagged sources."""
    since: dict[tuple[int, int], set[str]] = {}
    for name, option in options.OPTIONS.items():
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
