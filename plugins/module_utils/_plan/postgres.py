# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server is to be: the role's variables and one look at the host, worked out once.

Everything that is wrong with them is reported together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections import (
    budget as connection_budget,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory import (
    budget as memory_budget,
)
from ansible_collections.pooled.postgres.plugins.module_utils._certificates import pooled_tls
from ansible_collections.pooled.postgres.plugins.module_utils._host import debian
from ansible_collections.pooled.postgres.plugins.module_utils._model import keepalives
from ansible_collections.pooled.postgres.plugins.module_utils._plan.problems import Problems
from ansible_collections.pooled.postgres.plugins.module_utils._secrets import shown_setting
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import check_rules
from ansible_collections.pooled.postgres.plugins.module_utils._settings.check import (
    check_setting_name,
    check_settings,
    check_settings_and_nulls,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.hardening import (
    as_data,
    hardening_for,
)

KEEPALIVES: Mapping[str, int] = {
    "tcp_keepalives_idle": keepalives.IDLE_S,
    "tcp_keepalives_interval": keepalives.INTERVAL_S,
    "tcp_keepalives_count": keepalives.COUNT,
}
# What suits any server.
USUAL: Mapping[str, Any] = {
    **KEEPALIVES,
    "log_checkpoints": True,
    "log_lock_waits": True,
    "log_min_duration_statement": "1s",
}
# Sessions of an exporter that reads no databases of its own.
_LEAST_EXPORTER_SESSIONS = 3
_INITDB_OPTION = re.compile(r"[^'\\\s]+\Z")
_INITDB_LOCALE = re.compile(r"--(locale|lc-|icu|builtin)")


@dataclass(frozen=True)
class Inventory:
    """What the inventory says beside the role's variables.

    Attributes:
        host: the server's host, as the inventory names it.
        default_versions: the major that each release of Debian packages.
        cluster_problem: what is wrong with C(pooled_cluster); empty when nothing is.
        peers: resources of the other hosts of C(postgres_cluster_hosts), by host, as far as they
            were looked at.
        remote_poolers: the other hosts of the inventory with a PgBouncer for this server.
        plain_poolers: those of them that do not use TLS to it.
    """

    host: str
    default_versions: Mapping[str, int]
    peers: Mapping[str, Mapping[str, Any]]
    cluster_problem: str = ""
    remote_poolers: Sequence[str] = ()
    plain_poolers: Sequence[str] = ()


def postgres_plan(
    look: Mapping[str, Any], variables: Mapping[str, Any], inventory: Inventory
) -> dict[str, Any]:
    """What the server is to be, as plain data, with all C(problems) that were found.

    With problems, some of the rest may be missing. It is kept with the host's facts, so secrets in
    settings are masked; C(secret_settings) has the names under which C(postgres_settings) holds
    them.

    Args:
        look: what M(pooled.postgres.host_resources_info) returned.
        variables: those of the role, by name.
        inventory: what the inventory says beside them.
    """
    problems = Problems()
    plan = _plan(problems, look, variables, inventory)
    if "settings" in plan:
        plan.update(_without_secrets(plan, variables["postgres_settings"]))
    return {**plan, "problems": list(problems)}


def _without_secrets(plan: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with secrets masked, and under which name each of those was given."""
    names = {check_setting_name(name, plan["major"], "postgres_settings"): name for name in given}
    masked = {name: shown_setting(name, text) for name, text in plan["settings"].items()}
    user = {
        name: text if text is None else shown_setting(name, text)
        for name, text in plan["user_settings"].items()
    }
    secret = {name: names[name] for name, text in masked.items() if text != plan["settings"][name]}
    return {"settings": masked, "user_settings": user, "secret_settings": secret}


def _plan(
    problems: Problems,
    look: Mapping[str, Any],
    variables: Mapping[str, Any],
    inventory: Inventory,
) -> dict[str, Any]:
    release = look["distribution"]["release"]
    default = inventory.default_versions.get(release)
    if look["distribution"]["id"] != "debian" or default is None:
        releases = " and ".join(inventory.default_versions)
        problems.add(
            f"{inventory.host} runs {look['distribution']['id']} {release};"
            f" this role installs Postgres on Debian {releases}"
        )
        return {}
    problems.unless(not inventory.cluster_problem, inventory.cluster_problem)
    problems.add(*_of_servers_together(variables["postgres_cluster_hosts"], inventory))
    version = variables["postgres_version"]
    major = _whole(version) if version else default
    if major not in (default, *look["postgres"]["majors"]):
        problems.add(
            f"postgres_version: Debian {release} packages Postgres {default}, and {version} is not"
            f" installed on {inventory.host}; leave it out, or install that server first"
        )
        return {}
    name = variables["postgres_cluster"]
    own = [
        one for one in look["postgres"]["clusters"] if (one["major"], one["name"]) == (major, name)
    ]
    problems.add(*(_of_a_standby(inventory.host, one) for one in own if one.get("standby")))
    problems.add(*_of_values(variables))
    plan: dict[str, Any] = {"major": major, "own": own}
    user = _checked_settings(problems, variables["postgres_settings"], major)
    listen = variables["postgres_listen_addresses"]
    initdb = _initdb_options(variables)
    plan["new_cluster_options"] = _new_cluster_options(name, initdb)
    plan["new_cluster"] = {} if own else _new_cluster(variables)
    problems.add(
        *debian.cluster_problems(
            name,
            major,
            int(variables["postgres_port"]),
            listen,
            user or {},
            look["postgres"]["clusters"],
            look["createcluster"],
            plan["new_cluster_options"],
            plan["new_cluster"].get("locale", ""),
            look["locale_encoding"],
        )
    )
    problems.without(
        lambda: check_rules(
            variables["postgres_hba"],
            variables["postgres_client_networks"],
            variables["postgres_pooler_networks"],
            poolers_variable="postgres_pooler_networks",
        )
    )
    managed = own[0].get("managed_settings", {}) if own else {}
    plan.update(_pooler_here(look, variables, inventory.host))
    hardening = problems.without(
        lambda: hardening_for(
            variables["postgres_hardening"],
            major,
            name,
            installed=[item for item, majors in look["libraries"].items() if major in majors],
            packaged=major == default,
            private_socket=plan["private_socket"],
            before=managed.get("pooled.hardening", ""),
            variable="postgres_hardening",
        )
    )
    if user is not None:
        plan["user_settings"] = dict(user)
        plan.update(_budgets(problems, look, variables, inventory, plan, managed))
    if user is None or hardening is None or "memory" not in plan:
        return plan
    plan["hardening"] = as_data(hardening)
    plan["libraries"] = list(
        dict.fromkeys([*variables["postgres_preload_libraries"], *hardening.libraries])
    )
    tls = pooled_tls.of_postgres(
        {"postgres_tls": variables["postgres_tls"], "postgres_settings": plan["user_settings"]}
    )
    plan["tls"] = tls
    settings = problems.without(
        lambda: check_settings(
            {
                **plan["memory"]["settings"],
                "listen_addresses": listen,
                "port": variables["postgres_port"],
                "max_connections": plan["connections"]["max_connections"],
                **USUAL,
                **hardening.settings,
                **tls["settings"],
                **plan["user_settings"],
            },
            major,
            "postgres_settings",
        )
    )
    if settings is None:
        return plan
    plan["settings"] = dict(settings)
    problems.add(*_of_ways_in(variables, inventory, plan["settings"]))
    return plan


def _checked_settings(problems: Problems, given: Any, major: int) -> dict[str, str | None] | None:
    """C(postgres_settings), checked; each that is wrong is a problem of its own."""

    return problems.of_each(
        given,
        lambda settings: check_settings_and_nulls(settings, major, "postgres_settings"),
    )


def _whole(value: Any) -> int:
    text = str(value).strip()
    return int(text) if re.match(r"[0-9]{1,9}\Z", text) else 0


def _of_servers_together(hosts: Sequence[str], inventory: Inventory) -> list[str]:
    unknown = [host for host in hosts if host not in (inventory.host, *inventory.peers)]
    if inventory.host not in hosts:
        why = f"{inventory.host} is not in it itself"
    elif unknown:
        why = f"nothing is known about {', '.join(unknown)}"
    else:
        return []
    return [
        f"postgres_cluster_hosts: {why}; what servers of one cluster must have alike is computed"
        " from all of them, so run with all of them in one play"
    ]


def _of_a_standby(host: str, cluster: Mapping[str, Any]) -> str:
    major, name = cluster["major"], cluster["name"]
    return (
        f"{host}: cluster {major}/{name} is a standby or in recovery ({cluster['data_directory']}"
        " has standby.signal or recovery.signal), which this role does not manage, so nothing was"
        " changed; take the host out of the group of servers, or promote the standby first"
        f" (pg_ctlcluster {major} {name} promote)"
    )


def _of_values(variables: Mapping[str, Any]) -> list[str]:
    problems = Problems()
    given = [variables["postgres_locale"], *variables["postgres_initdb_options"]]
    problems.unless(
        all(_INITDB_OPTION.match(str(option)) for option in given),
        f"postgres_locale, postgres_initdb_options: {' '.join(map(str, given))} has quotes,"
        " backslashes or white space in an option, which the configuration of new clusters can't"
        " carry",
    )
    seconds = variables["postgres_restart_pause_timeout"]
    problems.unless(
        re.match(r"[0-9]+\Z", str(seconds)) is not None,
        f"postgres_restart_pause_timeout: {seconds} is not a valid number of seconds; give 0 to"
        " leave the pools alone, or how long to wait for open transactions",
    )
    return problems


def _initdb_options(variables: Mapping[str, Any]) -> list[str]:
    checksums = ["--data-checksums"] if variables["postgres_data_checksums"] else []
    return [
        "--encoding=UTF8",
        f"--locale={variables['postgres_locale']}",
        *checksums,
        *map(str, variables["postgres_initdb_options"]),
    ]


def _new_cluster_options(name: str, initdb: Sequence[str]) -> dict[str, str]:
    """What createcluster.conf says of new clusters."""
    return {
        "initdb_options": " ".join(initdb),
        "create_main_cluster": "true" if name == "main" else "false",
        "start_conf": "auto",
        "add_include_dir": "conf.d",
    }


def _new_cluster(variables: Mapping[str, Any]) -> dict[str, Any]:
    """What a cluster that a run creates is checked for."""
    options = map(str, variables["postgres_initdb_options"])
    own_locale = any(_INITDB_LOCALE.match(option) for option in options)
    locale = {} if own_locale else {"locale": variables["postgres_locale"]}
    return {"data_checksums": bool(variables["postgres_data_checksums"]), **locale}


def _pooler_here(
    look: Mapping[str, Any], variables: Mapping[str, Any], host: str
) -> dict[str, Any]:
    """PgBouncer on the server's own host, and whether the unix socket is the server's alone."""
    user = variables["postgres_pooler_os_user"]
    user = look["pgbouncer"]["os_user"] if user == "auto" else user
    names = {pooler.get("name") for pooler in variables["postgres_poolers"]}
    here = variables["postgres_pooler_role"] != "" and bool(names & {host, "pgbouncer"})
    shared = variables["postgres_monitor_role"] or (here and user != "postgres")
    return {"pooler_os_user": user, "private_socket": not shared}


def _budgets(
    problems: Problems,
    look: Mapping[str, Any],
    variables: Mapping[str, Any],
    inventory: Inventory,
    plan: Mapping[str, Any],
    managed: Mapping[str, Any],
) -> dict[str, Any]:
    """The connections, and the memory for them."""
    user, databases = plan["user_settings"], variables["postgres_databases"]
    monitored = len(databases) if variables["postgres_monitor_role"] else 0
    connections = problems.without(
        lambda: connection_budget.connection_budget(
            databases,
            variables["postgres_poolers"],
            user.get("max_connections") or variables["postgres_max_connections"],
            user.get("superuser_reserved_connections") or 3,
            user.get("reserved_connections") or 0,
            max(_LEAST_EXPORTER_SESSIONS, 2 + monitored),
        )
    )
    if connections is None:
        return {}
    running = plan["own"][0].get("running_connections", 0) if plan["own"] else 0
    memory = problems.without(
        lambda: memory_budget.memory_budget_until_restart(
            0 if variables["postgres_restart"] == "always" else int(running),
            look["resources"],
            workload=variables["postgres_workload"],
            max_connections=connections.max_connections,
            major=plan["major"],
            share=variables["postgres_memory_share"],
            reserved=variables["postgres_memory_reserved"],
            settings=user,
            running=managed,
            cluster=list(inventory.peers.values()),
            storage=variables["postgres_storage"],
        )
    )
    found = {"connections": connection_budget.as_data(connections)}
    return found if memory is None else {**found, "memory": memory_budget.as_data(memory)}


def _of_ways_in(
    variables: Mapping[str, Any], inventory: Inventory, settings: Mapping[str, Any]
) -> list[str]:
    """Whether PgBouncer on other hosts, and clients, can come in."""
    problems = Problems()
    remote = ", ".join(inventory.remote_poolers)
    problems.unless(
        not remote
        or bool(variables["postgres_pooler_networks"] and settings.get("listen_addresses")),
        f"PgBouncer also runs on {remote}, so {inventory.host} needs postgres_pooler_networks (the"
        ' networks of those hosts, in CIDR notation) and postgres_listen_addresses (such as "*"),'
        " and all of them the same pgbouncer_auth_password, best in group_vars of all hosts"
        " of the cluster",
    )
    if not variables["postgres_require_tls"]:
        return problems
    plain = ", ".join(inventory.plain_poolers)
    problems.unless(
        not plain,
        f"postgres_require_tls: PgBouncer on {plain} would be rejected; set pooled_tls there, or"
        " pgbouncer_server_tls_sslmode, in the inventory, to require, verify-ca or verify-full",
    )
    problems.unless(
        str(settings.get("ssl") or "on").lower() in ("on", "true", "yes", "1"),
        "postgres_require_tls: postgres_settings turns ssl off",
    )
    return problems
