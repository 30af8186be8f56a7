# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server is to be, and all that is wrong with what was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._plan.postgres import (
    Inventory,
    postgres_plan,
)

ROLE = Path(__file__).resolve().parents[5] / "roles" / "postgres"
VERSIONS = {"12": 15, "13": 17}
CLUSTER = {
    "major": 17,
    "name": "main",
    "port": 5432,
    "data_directory": "/data",
    "standby": False,
    "socket_directories": "/var/run/postgresql",
    "start": "auto",
    "running_connections": 0,
    "managed_settings": {},
}
RESOURCES = {"memory_bytes": 8 << 30, "cpus": 2, "in_cgroup": False}


def look(**changes: Any) -> dict[str, Any]:
    return {
        "distribution": {"id": "debian", "release": "13", "codename": "trixie"},
        "resources": RESOURCES,
        "postgres": {"installed": False, "majors": [], "clusters": []},
        "pgbouncer": {"os_user": "postgres"},
        "libraries": {},
        "createcluster": {"included": True, "later": {}},
        "locale_encoding": "UTF-8",
        **changes,
    }


def clusters(*found: dict[str, Any]) -> dict[str, Any]:
    majors = sorted({one["major"] for one in found})
    return {"installed": bool(found), "majors": majors, "clusters": list(found)}


def variables(**changes: Any) -> dict[str, Any]:
    """The role's variables with its own defaults, those with templates as they are on one host."""
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
    return {
        **defaults,
        "postgres_databases": [{"name": "mydb", "roles": [{"name": "app_user", "kind": "user"}]}],
        "postgres_tls": False,
        "postgres_require_tls": False,
        "postgres_cluster_hosts": ["db"],
        "postgres_poolers": [{"name": "db"}],
        "postgres_pooler_role": "pgbouncer_auth",
        "postgres_pooler_os_user": "auto",
        "postgres_monitor_role": "",
        "postgres_hardening": "standard",
        **changes,
    }


def planned(seen: dict[str, Any] | None = None, /, **changes: Any) -> dict[str, Any]:
    inventory = {"host": "db", "default_versions": VERSIONS, "peers": {}}
    for name in tuple(changes):
        if not name.startswith("postgres_"):
            inventory[name] = changes.pop(name)
    return postgres_plan(seen or look(), variables(**changes), Inventory(**inventory))


def test_the_defaults_are_right() -> None:
    plan = planned()
    assert plan["problems"] == []
    assert (plan["major"], plan["own"]) == (17, [])
    settings = plan["settings"]
    assert settings["port"] == "5432"
    assert settings["max_connections"] == str(plan["connections"]["max_connections"])
    assert settings["shared_buffers"] == plan["memory"]["settings"]["shared_buffers"]
    assert [settings[f"tcp_keepalives_{name}"] for name in ("idle", "interval", "count")] == [
        "60",
        "10",
        "6",
    ]
    assert "listen_addresses" not in settings
    assert plan["libraries"] == ["pg_stat_statements"]
    assert plan["new_cluster"] == {"data_checksums": True, "locale": "C.UTF-8"}
    assert plan["new_cluster_options"] == {
        "initdb_options": "--encoding=UTF8 --locale=C.UTF-8 --data-checksums",
        "create_main_cluster": "true",
        "start_conf": "auto",
        "add_include_dir": "conf.d",
    }
    assert plan["private_socket"] is True


@pytest.mark.parametrize("version", [17, "17", " 17 "])
def test_the_version_may_be_said_in_text_or_as_a_number(version: Any) -> None:
    plan = planned(postgres_version=version)
    assert (plan["problems"], plan["major"]) == ([], 17)


def test_an_older_server_that_is_installed_may_be_managed() -> None:
    older = {**CLUSTER, "major": 15}
    plan = planned(look(postgres=clusters(older)), postgres_version="15")
    assert (plan["problems"], plan["major"], plan["own"]) == ([], 15, [older])


def test_the_users_word_wins_over_every_layer() -> None:
    given = {"shared_buffers": "1GB", "tcp_keepalives_idle": 30, "log_checkpoints": False,
             "max_connections": 77, "work_mem": None}  # fmt: skip
    plan = planned(postgres_settings=given, postgres_hardening="cis")
    settings = plan["settings"]
    assert plan["problems"] == []
    assert settings["shared_buffers"] == "1GB"
    assert settings["tcp_keepalives_idle"] == "30"
    assert settings["log_checkpoints"] == "off"
    assert settings["max_connections"] == "77"
    assert "work_mem" not in settings
    assert plan["user_settings"]["work_mem"] is None


def test_the_profile_wins_over_what_suits_any_server() -> None:
    plan = planned(postgres_hardening="cis")
    assert plan["problems"] == []
    for name, value in plan["hardening"]["settings"].items():
        assert plan["settings"][name] == value
    assert set(plan["libraries"]) == {"pg_stat_statements", *plan["hardening"]["libraries"]}


def test_a_cluster_that_is_there() -> None:
    seen = look(postgres=clusters({**CLUSTER, "running_connections": 300}))
    waiting = planned(seen, postgres_restart="never")
    always = planned(seen, postgres_restart="always")
    assert waiting["own"] == [{**CLUSTER, "running_connections": 300}]
    assert waiting["new_cluster"] == {}
    # Until the restart, there may be as many sessions as it was started for.
    assert waiting["memory"]["cost_bytes"] != always["memory"]["cost_bytes"]


@pytest.mark.parametrize(
    ("seen", "changes", "problem"),
    [
        pytest.param(
            {"distribution": {"id": "ubuntu", "release": "24.04"}}, {},
            "db runs ubuntu 24.04; this role installs Postgres on Debian 12 and 13",
            id="another distribution"),
        pytest.param(
            {"distribution": {"id": "debian", "release": "11"}}, {},
            "db runs debian 11; this role installs Postgres on Debian 12 and 13",
            id="another release"),
        pytest.param(
            {}, {"postgres_version": 16},
            "postgres_version: Debian 13 packages Postgres 17, and 16 is not installed on db; leave"
            " it out, or install that server first",
            id="another major"),
        pytest.param(
            {}, {"cluster_problem": "pooled_cluster: two servers"},
            "pooled_cluster: two servers",
            id="servers that do not go together"),
        pytest.param(
            {}, {"postgres_cluster_hosts": ["db2"]},
            "postgres_cluster_hosts: db is not in it itself; what servers of one cluster must have"
            " alike is computed from all of them, so run with all of them in one play",
            id="not among the servers"),
        pytest.param(
            {}, {"postgres_cluster_hosts": ["db", "db2", "db3"], "peers": {"db3": RESOURCES}},
            "postgres_cluster_hosts: nothing is known about db2; what servers of one cluster must"
            " have alike is computed from all of them, so run with all of them in one play",
            id="a server that was not looked at"),
        pytest.param(
            {"postgres": clusters({**CLUSTER, "standby": True})}, {},
            "db: cluster 17/main is a standby or in recovery (/data has standby.signal or"
            " recovery.signal), which this role does not manage, so nothing was changed; take the"
            " host out of the group of servers, or promote the standby first (pg_ctlcluster 17 main"
            " promote)",
            id="a standby"),
        pytest.param(
            {}, {"postgres_initdb_options": ["--wal-segsize=64", "--username=o'neil"]},
            "postgres_locale, postgres_initdb_options: C.UTF-8 --wal-segsize=64 --username=o'neil"
            " has quotes, backslashes or white space in an option, which the configuration of new"
            " clusters can't carry",
            id="a quote"),
        pytest.param(
            {}, {"postgres_restart_pause_timeout": -1},
            "postgres_restart_pause_timeout: -1 is not a valid number of seconds; give 0 to leave"
            " the pools alone, or how long to wait for open transactions",
            id="a negative time"),
        pytest.param(
            {}, {"remote_poolers": ["pool1", "pool2"]},
            "PgBouncer also runs on pool1, pool2, so db needs postgres_pooler_networks (the"
            " networks of those hosts, in CIDR notation) and postgres_listen_addresses (such as"
            ' "*"), and all of them the same pgbouncer_auth_password, best in group_vars of'
            " all hosts of the cluster",
            id="poolers elsewhere"),
        pytest.param(
            {}, {"postgres_require_tls": True, "plain_poolers": ["pool1"]},
            "postgres_require_tls: PgBouncer on pool1 would be rejected; set pooled_tls there, or"
            " pgbouncer_server_tls_sslmode, in the inventory, to require, verify-ca or verify-full",
            id="a pooler without TLS"),
        pytest.param(
            {}, {"postgres_require_tls": True, "postgres_settings": {"ssl": False}},
            "postgres_require_tls: postgres_settings turns ssl off",
            id="TLS switched off"),
        pytest.param(
            {"postgres": clusters({**CLUSTER, "name": "other"})}, {},
            "postgres_port: port 5432 belongs to cluster 17/other; to manage that one, set"
            " postgres_version and postgres_cluster to it, otherwise choose another port",
            id="a port that is taken"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    seen: dict[str, Any], changes: dict[str, Any], problem: str
) -> None:
    assert planned(look(**seen), **changes)["problems"] == [problem]


def test_poolers_elsewhere_come_in_from_their_networks() -> None:
    plan = planned(
        remote_poolers=["pool1"],
        postgres_pooler_networks=["10.0.3.0/28"],
        postgres_listen_addresses="*",
    )
    assert plan["problems"] == []


def test_the_socket_is_shared_with_an_exporter_and_with_a_pooler_of_another_os_user() -> None:
    pooler = look(pgbouncer={"os_user": "pgbouncer"})
    assert planned(pooler)["private_socket"] is False
    assert planned(pooler)["pooler_os_user"] == "pgbouncer"
    assert planned(pooler, postgres_poolers=[{"name": "pool1"}])["private_socket"] is True
    assert planned(pooler, postgres_pooler_role="")["private_socket"] is True
    assert planned(postgres_monitor_role="prometheus")["private_socket"] is False


def test_all_that_is_wrong_is_reported_together() -> None:
    found = planned(
        look(postgres=clusters({**CLUSTER, "name": "other"})),
        postgres_cluster_hosts=[],
        postgres_settings={"work_mem": "12 bananas", "no_such_setting": 1, "log_checkpoints": True},
        postgres_hba=[{"type": "carrier-pigeon"}],
        postgres_hardening="paranoid",
        postgres_restart_pause_timeout=-1,
        postgres_locale="with space",
    )["problems"]
    starts = [problem.split(":")[0] for problem in found]
    assert sorted(starts) == sorted([
        "postgres_cluster_hosts",
        "postgres_settings.work_mem",
        "postgres_settings.no_such_setting",
        "postgres_hba[0].type",
        "postgres_hardening",
        "postgres_restart_pause_timeout",
        "postgres_locale, postgres_initdb_options",
        "postgres_port",
    ])  # fmt: skip


def test_what_does_not_fit_names_the_setting() -> None:
    (problem,) = planned(postgres_settings={"shared_buffers": "900GB"})["problems"]
    assert "shared_buffers = 900GB alone is more than" in problem


def test_max_connections_can_be_left_to_the_server() -> None:
    seen = look(postgres=clusters({**CLUSTER, "running_connections": 300}))
    plan = planned(seen, postgres_settings={"max_connections": None}, postgres_restart="never")
    assert plan["problems"] == []
    assert "max_connections" not in plan["settings"]


def test_secrets_are_not_kept() -> None:
    secret = {
        "Archive_Command": "curl -u backup --password=S3cret /%p",
        "app.api_token": "S3cret",
    }
    plan = planned(postgres_settings={**secret, "work_mem": "8MB"})
    assert plan["problems"] == []
    assert "S3cret" not in repr(plan)
    assert plan["settings"]["work_mem"] == plan["user_settings"]["work_mem"] == "8MB"
    assert plan["secret_settings"] == {name.lower(): name for name in secret}


@given(st.sets(st.sampled_from(["version", "pause", "settings", "hba", "locale", "tls"])))
def test_no_problem_hides_another(wrong: set[str]) -> None:
    """Only a version that can't be had leaves nothing to say of what depends on it."""
    changes: dict[str, Any] = {
        "version": {"postgres_cluster_hosts": ["elsewhere"]},
        "pause": {"postgres_restart_pause_timeout": -5},
        "settings": {"postgres_settings": {"work_mem": "much"}},
        "hba": {"postgres_hba": ["any"]},
        "locale": {"postgres_locale": "it's"},
        "tls": {"postgres_hardening": "none"},
    }
    given_now = {name: value for one in wrong for name, value in changes[one].items()}
    assert len(planned(**given_now)["problems"]) == len(wrong)


def test_the_variables_are_all_of_the_roles() -> None:
    text = (ROLE / "vars" / "main.yml").read_text(encoding="utf-8")
    declared = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    given_to_it = yaml.safe_load(text)["__postgres_variables"]
    for name in declared["argument_specs"]["main"]["options"]:
        assert f"'{name}': {name}" in given_to_it, name
