# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PgBouncer host takes networks and TLS from the Postgres behind it, unless it has its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "pgbouncer"
# Servers that demand TLS, or not, by what their own variables leave to the role postgres.
SERVERS: dict[str, dict[str, object]] = {
    "hardened": {"postgres_hardening": "cis"},
    "all_hardened": {"pooled_hardening": "cis"},
    "excepted": {"pooled_hardening": "cis", "postgres_hardening": "standard"},
    "with_tls": {"postgres_tls": True},
    "without_tls": {"postgres_tls": False},
}
INVENTORY = {
    "all": {
        "vars": {"ansible_connection": "local"},
        "children": {
            "postgres": {
                "hosts": {"db": {}},
                "vars": {"postgres_client_networks": ["{{ office }}"], "postgres_require_tls": True,
                         "office": "10.0.0.0/8"},
            },
            "pgbouncer": {
                "hosts": {
                    "db": {},
                    "pool": {},
                    "own": {"pgbouncer_client_networks": ["10.1.0.0/16"],
                            "pgbouncer_require_tls": False},
                    **{f"before_{name}": {"pgbouncer_postgres_group": name} for name in SERVERS},
                }
            },
            **{name: {"hosts": {f"server_{name}": own}} for name, own in SERVERS.items()},
        },
    }
}  # fmt: skip
PLAY = [
    {
        "hosts": "pgbouncer",
        "gather_facts": False,
        # What a role that was included before leaves behind in a play; hosts' own variables win.
        "roles": [{"role": "empty"}],
        "tasks": [
            {"include_vars": str(ROLE / "vars" / "main.yml")},
            {"debug": {"msg": ["{{ pgbouncer_client_networks }}", "{{ pgbouncer_require_tls }}"]}},
        ],
    }
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    home = tmp_path_factory.mktemp("networks")
    defaults = home / "roles" / "empty" / "defaults"
    defaults.mkdir(parents=True)
    left = "postgres_client_networks: []\npostgres_require_tls: false\n"
    (defaults / "main.yml").write_text(left + (ROLE / "defaults" / "main.yml").read_text()[4:])
    (home / "inventory.json").write_text(json.dumps(INVENTORY))
    (home / "play.json").write_text(json.dumps(PLAY))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "inventory.json", "play.json"],
        cwd=home, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "LC_ALL": "C.UTF-8",
             "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
             "ANSIBLE_STDOUT_CALLBACK": "json"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (play,) = json.loads(done.stdout[done.stdout.index("{") :])["plays"]
    return {host: one["msg"] for host, one in play["tasks"][-1]["hosts"].items()}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("db", [["10.0.0.0/8"], True]),
        ("pool", [["10.0.0.0/8"], True]),
        ("own", [["10.1.0.0/16"], False]),
        ("before_hardened", [[], True]),
        ("before_all_hardened", [[], True]),
        ("before_excepted", [[], False]),
        ("before_with_tls", [[], True]),
        ("before_without_tls", [[], False]),
    ],
)
def test_networks_and_tls(answers, host, expected):
    assert answers[host] == expected
