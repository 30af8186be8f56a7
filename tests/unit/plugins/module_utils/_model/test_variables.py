# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Misspelt names are found, and names that others use are left alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._model import variables
from ansible_collections.pooled.postgres.plugins.module_utils._model.known_variables import KNOWN

ROOT = Path(__file__).resolve().parents[5]
# How names of ours begin, written down apart from the code.
PREFIXES = ("audit_", "monitoring_", "pgbouncer_", "pooled_", "postgres_", "sessions_")
LETTERS = "abcdefghijklmnopqrstuvwxyz_0123456789"
# What roles and applications of others name their variables.
FOREIGN = """
postgres_host postgres_hostname postgres_user postgres_username postgres_password postgres_db
postgres_dbname postgres_db_name postgres_url postgres_uri postgres_dsn postgres_image
postgres_tag postgres_data postgres_data_dir postgres_backup postgres_backup_dir postgres_conf
postgres_config_dir postgres_log_dir postgres_bin_dir postgres_home postgres_group postgres_uid
postgres_sslmode postgres_ssl postgres_exporter_version postgres_exporter_port
postgres_exporter_user postgres_root_password postgres_admin_user postgres_pool_size
postgres_enabled postgres_package postgres_service postgres_container_name postgres_volume
postgres_network postgres_replica_count postgres_wal_dir postgres_shared_buffers postgres_work_mem
postgresql_version postgresql_databases postgresql_users postgresql_port postgresql_settings
postgresql_hba_entries postgresql_restarted_state postgresql_unix_socket_directories
postgresql_listen_addresses postgresql_max_connections pgbouncer_user pgbouncer_group
pgbouncer_host pgbouncer_port pgbouncer_version pgbouncer_install pgbouncer_conf_dir
pgbouncer_log_dir pgbouncer_auth_user pgbouncer_auth_username pgbouncer_auth_dbname
pgbouncer_auth_query pgbouncer_pools pgbouncer_generate_userlist pgbouncer_max_db_connections
pgbouncer_ignore_startup_parameters pgbouncer_users pgbouncer_client_tls_dir
pgbouncer_client_tls_ciphers pgbouncer_server_tls_protocols pgbouncer_admin_users
pgbouncer_stats_users pgbouncer_config pgbouncer_image pgbouncer_service
pgbouncer_exporter_version pgbouncer_enabled pgbackrest_repo pg_port pghost audit_log
audit_log_file audit_user audit_host audit_port audit_enabled audit_rules auditd_rules audit_logs
audit_dir audits_enabled audio_memory sessions_table sessions_backend sessions_path
sessions_cookie sessions_redis session_timeout session_mode session_roles session_databases
session_end pooled_connections pooled_memory pooler_tls pooler_databases pool_tls
monitoring_enabled monitoring_server monitoring_user monitoring_interval monitoring_namespace
monitoring_host monitoring_port postgres_access postgres_exporter pgbouncer_exporter
postgres_result postgres_hosts_result pgbouncer_result postgres pgbouncer ansible_host
ansible_port inventory_hostname hostvars groups version settings share
"""


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        # A letter left out, doubled, changed, swapped with the next.
        ("postgres_setings", ["postgres_settings"]),
        ("postgres_hbaa", ["postgres_hba"]),
        ("pgbouncer_listen_pord", ["pgbouncer_listen_port"]),
        ("pooled_databsaes", ["pooled_databases"]),
        ("postgres_maxconnections", ["postgres_max_connections"]),
        ("postgres__settings", ["postgres_settings"]),
        # Two of them, in long words or in different ones.
        ("postgres_listen_address", ["postgres_listen_addresses"]),
        ("pgbouncer_defautl_pol_size", ["pgbouncer_default_pool_size"]),
        ("postgres_setins", ["postgres_settings"]),
        # Words in another order, or not written out.
        ("pgbouncer_port_listen", ["pgbouncer_listen_port"]),
        ("postgres_connections_max", ["postgres_max_connections"]),
        ("postgres_max_conn", ["postgres_max_connections"]),
        ("pgbouncer_listen_address", ["pgbouncer_listen_addr"]),
        ("pgbouncer_max_client_connections", ["pgbouncer_max_client_conn"]),
        # Words left out on the command line.
        ("sessions_idle", ["sessions_idle_transaction_age"]),
        ("sessions_idle_age", ["sessions_idle_transaction_age"]),
        ("audit_fail", ["audit_fail_on"]),
        # The prefix itself.
        ("pgbouncr_listen_port", ["pgbouncer_listen_port"]),
        ("postgre_databases", ["postgres_databases"]),
        ("postgressettings", ["postgres_settings"]),
        ("polled_tls", ["pooled_tls"]),
        ("postgresh_ba", ["postgres_hba"]),
        ("sesions_end", ["sessions_end"]),
        # More than one may have been meant, and the closest are named.
        (
            "sessions_query",
            ["sessions_query_age", "sessions_query_length"],
        ),
        ("postgres_exporter_tablets", ["postgres_exporter_tables"]),
        ("pooled_ignored_variable", ["pooled_ignored_variables"]),
    ],
)
def test_what_was_meant(name: str, meant: list[str]) -> None:
    assert variables.misspelt([name]) == {name: meant}


@pytest.mark.parametrize("name", FOREIGN.split())
def test_what_others_use_is_left_alone(name: str) -> None:
    assert variables.misspelt([name]) == {}


@pytest.mark.parametrize(
    "name",
    ["__postgres_setings", "_postgres_settings", "_postgres_setings", "__postgres_settings"],
)
def test_internal_names_are_left_alone(name: str) -> None:
    assert variables.misspelt([name]) == {}


def test_all_are_found_in_order() -> None:
    names = ["postgres_setings", "postgres_settings", "other", "audit_reprt", "pooled_tsl"]
    assert list(variables.misspelt(names)) == ["audit_reprt", "pooled_tsl", "postgres_setings"]


def test_only_the_closest_are_named() -> None:
    known = frozenset({"pooled_max_conn", "pooled_max_connections"})
    assert variables.misspelt(["pooled_max_con"], known) == {"pooled_max_con": ["pooled_max_conn"]}


def test_three_errors_are_too_many() -> None:
    two, three = "monitoring_conections_critcal_share", "monitoring_conections_critcal_shate"
    assert variables.misspelt([two, three]) == {two: ["monitoring_connections_critical_share"]}


def test_words_are_left_out_of_names_for_playbooks_alone() -> None:
    """An inventory of others may well have a postgres_data."""
    known = frozenset({"postgres_data_checksums", "audit_data_checksums"})
    assert variables.misspelt(["postgres_data"], known) == {}
    assert variables.misspelt(["audit_data"], known) == {"audit_data": ["audit_data_checksums"]}
    roles = {path.name for path in (ROOT / "roles").iterdir()}
    assert not any(role.startswith(("audit", "sessions")) for role in roles)


@st.composite
def edited(draw: st.DrawFn) -> tuple[str, str]:
    """A known name, and what one typing error makes of it."""
    name = draw(st.sampled_from(sorted(one for one in KNOWN if len(one) >= 10)))
    at = draw(st.integers(0, len(name) - 1))
    kind = draw(st.sampled_from(["insert", "delete", "change", "swap"]))
    letter = draw(st.sampled_from(LETTERS))
    if kind == "insert":
        return name, name[:at] + letter + name[at:]
    if kind == "delete":
        return name, name[:at] + name[at + 1 :]
    if kind == "change":
        return name, name[:at] + letter + name[at + 1 :]
    at = min(at, len(name) - 2)
    return name, name[:at] + name[at + 1] + name[at] + name[at + 2 :]


@settings(max_examples=1000)
@given(edited())
def test_any_single_error_is_found(pair: tuple[str, str]) -> None:
    name, typed = pair
    first = typed.partition("_")[0]
    found = variables.misspelt([typed])
    if typed in KNOWN or typed.startswith("_") or first in variables._OTHER_WORDS:
        assert found == {}
    else:
        assert name in found[typed]


@given(st.sets(st.sampled_from(sorted(KNOWN))))
def test_a_known_name_is_never_reported(names: set[str]) -> None:
    assert variables.misspelt(names) == {}


def test_each_known_name_begins_with_a_prefix() -> None:
    assert {f"{name.partition('_')[0]}_" for name in KNOWN} == set(PREFIXES)


def test_the_text_has_a_line_for_each_name() -> None:
    found = {"audit_logn": ["audit_a", "audit_b"], "postgres_hbaa": ["postgres_hba"]}
    assert variables.misspelt_text(found).split("\n") == [
        "audit_logn: nothing reads a variable of this name; did you mean audit_a or audit_b?",
        "postgres_hbaa: nothing reads a variable of this name; did you mean postgres_hba?",
        "If a name is meant for something else, list it in pooled_ignored_variables.",
    ]


def test_what_the_user_has_for_something_else_is_left_out() -> None:
    found = variables.misspelt(["postgres_database", "postgres_setings"])
    assert variables.without(found, ["postgres_database", "another"]) == {
        "postgres_setings": ["postgres_settings"]
    }
    assert variables.without(found, []) == found


@pytest.mark.parametrize("ignored", ["postgres_database", None, [1], {"postgres_database": True}])
def test_what_is_not_a_list_of_names_is_refused(ignored: object) -> None:
    with pytest.raises(ValueError, match=r"^pooled_ignored_variables: it must be a list of names"):
        variables.without({"postgres_database": ["postgres_databases"]}, ignored)


# A word that could be a variable: not an attribute, a path, or a name with dots or dashes.
WORD = re.compile(r"(?<![\w./$-])[a-z_][a-z0-9_]*(?![\w-]|\.[a-z])")
PLACES = (
    "README.md", "docs/*.md", "examples/**/*", "molecule/**/*", "playbooks/**/*", "roles/**/*",
    "tests/**/*", "benchmarks/**/*", "tools/**/*",
)  # fmt: skip
# A metric, a role in a database, and the documentation's examples of names that are reported.
NO_VARIABLES = {
    "pooled_database",
    "pgbouncer_auth2",
    "pgbouncr_listen_port",
    "postgres_database",
    "postgres_max_conn",
    "postgres_setings",
    "sessions_idle",
}
HERE = {Path(__file__).name, "test_misspelt_variables.py"}
TEXTS = (".md", ".yml", ".yaml", ".j2", ".ini", ".py", "")


def words() -> dict[str, str]:
    """All words of the tree that could be variables, with a file that has each."""
    found = {}
    for place in PLACES:
        for path in ROOT.glob(place):
            if path.is_file() and path.suffix in TEXTS and path.name not in HERE:
                text = path.read_text(encoding="utf-8", errors="replace").replace("\\n", " ")
                for word in WORD.findall(text):
                    found[word] = str(path.relative_to(ROOT))
    return found


def test_no_name_in_the_tree_is_reported() -> None:
    """Of roles, groups, results, inventories and examples, whatever each is."""
    found = words()
    assert {"postgres_settings", "sessions_idle_transaction_age", "postgres_access"} <= set(found)
    reported = variables.misspelt(set(found) - NO_VARIABLES)
    assert {name: (meant, found[name]) for name, meant in reported.items()} == {}
