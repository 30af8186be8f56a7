# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles and playbooks take from the hosts of their own cluster, and from no others."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = ROOT / "roles"
FIND = yaml.safe_load((ROOT / "playbooks" / "tasks" / "clusters.yml").read_text(encoding="utf-8"))
CHECK = "Check which hosts belong together"
TELL = "Tell applications how to connect"
SHOWN = {
    "postgres": ["postgres_poolers", "__postgres_remote_poolers"],
    "pgbouncer": ["pgbouncer_backend_host", "pgbouncer_backend_port", "pgbouncer_client_networks"],
    "postgres_access": ["__postgres_access_asking_poolers"],
}


def model(name: str) -> list[dict[str, Any]]:
    return [{"name": name, "roles": [{"name": f"{name}_user", "kind": "user"}]}]


# The server orders has PgBouncer beside it, that of billing on another host, and reports has none.
CLUSTERS: dict[str, Any] = {
    "orders": {"hosts": {"orders": {}}, "vars": {"pooled_databases": model("shop")}},
    "billing": {
        "hosts": {"bill-db": {"ansible_host": "10.0.0.2", "postgres_port": 5444}, "bill-pool": {}},
        "vars": {
            "pooled_cluster": "billing",
            "pooled_databases": model("money"),
            "postgres_client_networks": ["10.2.0.0/16"],
            "pgbouncer_default_pool_size": 7,
        },
    },
    "reports": {"hosts": {"reports": {}}, "vars": {"pooled_databases": model("figures")}},
}
GROUPS: dict[str, Any] = {
    "postgres": {"hosts": {"orders": {}, "bill-db": {}, "reports": {}}},
    "pgbouncer": {"hosts": {"orders": {}, "bill-pool": {}}},
}


def inventory(**more: Any) -> dict[str, Any]:
    """With more variables of hosts."""
    own = {"own": {"hosts": more}}
    return copy.deepcopy({"all": {"children": {**CLUSTERS, **GROUPS, **own}}})


def run(
    folder: Path, hosts: dict[str, Any], plays: list[Any], *arguments: str
) -> list[dict[str, Any]]:
    """Per play, the results of its last tasks by host."""
    (folder / "inventory.json").write_text(json.dumps(hosts))
    (folder / "plays.json").write_text(json.dumps(plays))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "inventory.json", "plays.json",
         *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8",
             "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
             "ANSIBLE_STDOUT_CALLBACK": "json"},
    )  # fmt: skip
    ended: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return [play["tasks"][-1]["hosts"] for play in ended["plays"] if play["tasks"]]


def of_role(role: str, *tasks: Any) -> dict[str, Any]:
    """A play with a role's variables, as far as they are not the host's own."""
    defaults = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text(encoding="utf-8"))
    group = "pgbouncer" if role == "pgbouncer" else "postgres"
    # Those of a play are the last word, of a role nearly the first.
    asked = {name: value for name, value in defaults.items() if name in SHOWN[role]}
    asked |= {name: defaults[name] for name in defaults if name.endswith("_group")}
    return {
        "hosts": group,
        "gather_facts": False,
        "vars": asked,
        "tasks": [{"include_vars": str(ROLES / role / "vars" / "main.yml")}, *tasks],
    }


def shows(role: str) -> dict[str, Any]:
    listed = ", ".join(f"'{name}': {name}" for name in SHOWN[role])
    return {"debug": {"msg": "{{ {" + listed + "} }}"}}


def check_of(role: str) -> Any:
    tasks = yaml.safe_load((ROLES / role / "tasks" / "preflight.yml").read_text(encoding="utf-8"))
    (check,) = [task for task in tasks if task["name"] == CHECK]
    return check


EXPECTED = {
    "postgres": {
        "orders": [[{"name": "orders"}], []],
        "bill-db": [[{"name": "bill-pool", "default_pool_size": 7}], ["bill-pool"]],
        # As without any PgBouncer: room for one with the usual pools.
        "reports": [[{"name": "pgbouncer"}], []],
    },
    "pgbouncer": {
        "orders": ["", 5432, []],
        "bill-pool": ["10.0.0.2", 5444, ["10.2.0.0/16"]],
    },
    "postgres_access": {"orders": [[]], "bill-db": [["bill-pool"]], "reports": [[]]},
}


@pytest.mark.parametrize("known", [True, False], ids=["in a playbook", "a role alone"])
def test_a_role_sees_the_hosts_of_its_cluster(tmp_path: Path, known: bool) -> None:
    find = {"hosts": "postgres:pgbouncer", "gather_facts": False, "tasks": FIND}
    plays = [of_role(role, shows(role)) for role in SHOWN]
    hosts = inventory(**{"bill-pool": {"pgbouncer_auth_password": "secret"}})
    results = run(tmp_path, hosts, [find, *plays] if known else plays)[int(known) :]
    for role, result in zip(SHOWN, results, strict=True):
        seen = {
            host: [
                int(one["msg"][name]) if name.endswith("_port") else one["msg"][name]
                for name in SHOWN[role]
            ]
            for host, one in result.items()
        }
        assert seen == EXPECTED[role], role


def test_own_groups_of_a_host_keep_their_meaning(tmp_path: Path) -> None:
    """They were what several servers in an inventory needed before."""
    hosts = inventory(
        **{
            "bill-pool": {"pooled_cluster": "", "pgbouncer_postgres_group": "elder"},
            "bill-db": {"pooled_cluster": "", "postgres_pgbouncer_group": "before_bill"},
        }
    )
    hosts["all"]["children"] |= {
        "elder": {"hosts": {"old-db": {"ansible_host": "10.0.0.9"}}},
        "before_bill": {"hosts": {"bill-pool": {}, "orders": {}}},
    }
    hosts["all"]["children"]["billing"]["vars"] = {}
    plays = [of_role("postgres", shows("postgres")), of_role("pgbouncer", shows("pgbouncer"))]
    for play in plays:
        # What hosts say has to win over the defaults.
        play["vars"] = {k: v for k, v in play["vars"].items() if not k.endswith("_group")}
    hosts["all"]["vars"] = {
        "postgres_pgbouncer_group": "pgbouncer",
        "pgbouncer_postgres_group": "postgres",
    }
    servers, poolers = run(tmp_path, hosts, plays)
    assert servers["bill-db"]["msg"]["postgres_poolers"] == [
        {"name": "bill-pool"},
        {"name": "orders"},
    ]
    assert servers["orders"]["msg"]["postgres_poolers"] == [{"name": "orders"}]
    assert poolers["bill-pool"]["msg"]["pgbouncer_backend_host"] == "10.0.0.9"


def test_pgbouncer_alone_is_refused_where_it_is_not_known_which_is_meant(tmp_path: Path) -> None:
    hosts = inventory(**{"bill-pool": {"pooled_cluster": ""}})
    (result,) = run(tmp_path, hosts, [of_role("pgbouncer", check_of("pgbouncer"))])
    assert not result["orders"].get("failed")
    assert result["bill-pool"]["msg"] == (
        "pooled_cluster: bill-pool has PgBouncer and no server, and the inventory has several"
        " clusters: orders, billing, reports. Set it to the one that bill-pool belongs to, best in"
        " group_vars of a group for each cluster"
    )


def test_pgbouncer_alone_that_a_play_tells_its_server_is_not_refused(tmp_path: Path) -> None:
    hosts = inventory(**{"bill-pool": {"pooled_cluster": ""}})
    play = of_role("pgbouncer", check_of("pgbouncer"))
    play["vars"]["pgbouncer_backend_host"] = "db.example.org"
    (result,) = run(tmp_path, hosts, [play])
    assert not result["bill-pool"].get("failed")


def test_several_servers_of_a_cluster_are_refused(tmp_path: Path) -> None:
    hosts = inventory(reports={"pooled_cluster": "billing"})
    # That of a server is one of all problems that its plan names.
    problem = "__postgres_database_cluster.problem"
    names = {"fail": {"msg": "{{ " + problem + " }}"}, "when": f"{problem} != ''"}
    plays = [of_role("postgres", names), of_role("pgbouncer", check_of("pgbouncer"))]
    words = "the servers bill-db, reports are all in the cluster billing, and only one server"
    refused = {}
    for play in plays:
        (result,) = run(tmp_path, hosts, [play])
        refused |= {host: words in str(one.get("msg")) for host, one in result.items()}
        refused |= {host: False for host, one in result.items() if not one.get("failed")}
    assert refused == {"orders": False, "bill-db": True, "reports": True, "bill-pool": True}


def test_the_example_is_what_it_says(tmp_path: Path) -> None:
    example = ROOT / "examples" / "clusters"
    shown = {"debug": {"var": "__pooled_clusters"}}
    play = {"hosts": "postgres:pgbouncer", "gather_facts": False, "tasks": [*FIND, shown]}
    (result,) = run(tmp_path, {}, [play], "-i", str(example / "hosts.yml"))
    assert set(result) == {
        "orders-db",
        "billing-db",
        "reports-db",
        "billing-pool1",
        "billing-pool2",
    }
    # The play has found it out once, and each host has it.
    for one in result.values():
        assert one["__pooled_clusters"] == {
            "clusters": [
                {"name": "orders", "servers": ["orders-db"], "poolers": ["orders-db"]},
                {
                    "name": "billing",
                    "servers": ["billing-db"],
                    "poolers": ["billing-pool1", "billing-pool2"],
                },
                {"name": "reports", "servers": ["reports-db"], "poolers": []},
            ],
            "problems": {},
        }


def told(folder: Path, hosts: dict[str, Any], *arguments: str) -> dict[str, list[str]]:
    """By file the URLs in it, after the play of the playbook site that writes them."""
    site = yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text(encoding="utf-8"))
    (play,) = [play for play in site if play["name"] == TELL]
    find = {"hosts": "postgres:pgbouncer", "gather_facts": False, "tasks": FIND}
    results = run(folder, hosts, [find, play], *arguments)
    assert not [one for one in results[-1].values() if one.get("failed")]
    return {
        file.name: [entry["urls"]["libpq"] for entry in yaml.safe_load(file.read_text())]
        for file in folder.glob("*.yml")
    }


SHOP = ["postgresql://shop_user@orders:6432/shop"]
MONEY = ["postgresql://money_user@bill-pool:6432/money"]
FIGURES = ["postgresql://figures_user@reports:5432/figures"]


def test_client_settings_of_each_cluster_are_in_a_file_of_its_own(tmp_path: Path) -> None:
    everywhere = ("-e", f"pooled_client_settings_file={tmp_path}/apps.yml")
    assert told(tmp_path, inventory(), *everywhere) == {
        "apps-orders.yml": SHOP,
        "apps-billing.yml": MONEY,
        "apps-reports.yml": FIGURES,
    }


def test_a_file_that_is_one_clusters_alone_keeps_its_name(tmp_path: Path) -> None:
    hosts = inventory()
    for name in ("orders", "billing"):
        variables = hosts["all"]["children"][name]["vars"]
        hosts["all"]["children"][name] = {
            **CLUSTERS[name],
            "vars": {**variables, "pooled_client_settings_file": f"{tmp_path}/{name}.yml"},
        }
    assert told(tmp_path, hosts) == {"orders.yml": SHOP, "billing.yml": MONEY}


def test_the_file_of_the_only_cluster_keeps_its_name(tmp_path: Path) -> None:
    children = {
        "postgres": {"hosts": {"bill-db": {}}},
        "pgbouncer": {"hosts": {"bill-pool": {}}},
        "billing": CLUSTERS["billing"],
    }
    everywhere = ("-e", f"pooled_client_settings_file={tmp_path}/apps.yml")
    assert told(tmp_path, {"all": {"children": children}}, *everywhere) == {"apps.yml": MONEY}


def test_a_run_for_one_cluster_writes_its_file_and_needs_nothing_of_others(tmp_path: Path) -> None:
    broken = {
        "pooled_databases": "{{ vault_that_is_not_given }}",
        "pgbouncer_listen_port": "{{ x }}",
    }
    hosts = inventory(orders=broken, reports=broken)
    everywhere = ("-e", f"pooled_client_settings_file={tmp_path}/apps.yml", "--limit=billing")
    assert told(tmp_path, hosts, *everywhere) == {"apps-billing.yml": MONEY}
