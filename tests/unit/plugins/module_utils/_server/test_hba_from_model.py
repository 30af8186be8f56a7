# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for logins that follow from the model."""

from __future__ import annotations

from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_file import (
    tokens,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_from_model import (
    ident_lines,
    model_rules,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import (
    LoginRule,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_unmanaged import (
    unmanaged_names,
)

MODEL = parse_databases(
    [
        {
            "name": "mydb",
            "roles": [
                {"name": "app_user", "kind": "user"},
                {"name": "app_migrator", "kind": "migrator"},
            ],
        },
        {"name": "empty"},
        {"name": "all", "roles": [{"name": "Reporting, x", "kind": "reader"}]},
    ]
)


def words(rules: tuple[LoginRule, ...]) -> list[str]:
    return [" ".join(tokens(rule.line())) for rule in rules]


def test_model_rules() -> None:
    rules = model_rules(
        MODEL,
        major=17,
        client_networks=["10.0.0.0/8"],
        pooler_role="pgbouncer_auth",
        pooler_networks=["10.9.0.4/32"],
    )
    model, odd = "mydb app_user,app_migrator", '"all" "Reporting, x"'
    networks = ["127.0.0.1/32", "::1/128", "10.0.0.0/8", "10.9.0.4/32"]
    assert words(rules) == [
        "local all postgres peer",
        "local replication postgres peer",
        "local mydb pgbouncer_auth peer map=pooled",
        'local "all" pgbouncer_auth peer map=pooled',
        f"local {model} scram-sha-256",
        f"local {odd} scram-sha-256",
        *(f"host {model} {network} scram-sha-256" for network in networks),
        *(f"host {odd} {network} scram-sha-256" for network in networks),
        "host mydb pgbouncer_auth 10.9.0.4/32 scram-sha-256",
        'host "all" pgbouncer_auth 10.9.0.4/32 scram-sha-256',
    ]


def test_with_tls_required_nobody_comes_without_it_from_elsewhere() -> None:
    rules = model_rules(
        MODEL[:1],
        major=17,
        client_networks=["10.0.0.0/8"],
        pooler_role="pgbouncer_auth",
        pooler_networks=["10.9.0.4/32"],
        require_tls=True,
    )
    model = "mydb app_user,app_migrator"
    assert words(rules)[4:] == [
        f"host {model} 127.0.0.1/32 scram-sha-256",
        f"host {model} ::1/128 scram-sha-256",
        f"hostssl {model} 10.0.0.0/8 scram-sha-256",
        f"hostssl {model} 10.9.0.4/32 scram-sha-256",
        "hostssl mydb pgbouncer_auth 10.9.0.4/32 scram-sha-256",
        f"hostnossl {model},pgbouncer_auth all reject",
    ]
    here_too = model_rules(MODEL[:1], major=17, require_tls=True, require_tls_on_loopback=True)
    assert words(here_too)[3:] == [
        f"hostssl {model} 127.0.0.1/32 scram-sha-256",
        f"hostssl {model} ::1/128 scram-sha-256",
        f"hostnossl {model} all reject",
    ]
    # Alone it asks for nothing.
    assert model_rules(MODEL[:1], major=17, require_tls_on_loopback=True) == model_rules(
        MODEL[:1], major=17
    )
    alone = model_rules(MODEL[:1], major=17, require_tls=True)
    assert words(alone)[-1] == f"hostnossl {model} all reject"


def test_roles_that_are_kept_out_of_the_pool_do_not_come_from_its_hosts():
    roles = [{"name": "app", "kind": "user"}, {"name": "batch", "kind": "user", "pooled": False}]
    model = parse_databases(
        [{"name": "shop", "roles": roles}, {"name": "books", "roles": roles[1:]}]
    )
    networks = {"client_networks": ["10.0.0.0/8", "10.9.0.2/32"],
                "pooler_networks": ["10.9.0.1/32", "10.9.0.2/32"]}  # fmt: skip
    rules = model_rules(model, major=17, **networks)
    let_in = {
        (rule.databases[0], rule.address): rule.users for rule in rules if rule.type == "host"
    }
    both = ("app", "batch")
    assert let_in == {
        ("shop", "127.0.0.1/32"): both,
        ("shop", "::1/128"): both,
        ("shop", "10.0.0.0/8"): both,
        ("shop", "10.9.0.1/32"): ("app",),
        ("shop", "10.9.0.2/32"): both,
        ("books", "127.0.0.1/32"): ("batch",),
        ("books", "::1/128"): ("batch",),
        ("books", "10.0.0.0/8"): ("batch",),
        ("books", "10.9.0.2/32"): ("batch",),
    }


def test_without_a_pooler_nobody_else_logs_in() -> None:
    rules = model_rules(MODEL[:1], major=15)
    assert words(rules) == [
        "local all postgres peer",
        "local replication postgres peer",
        "local mydb app_user,app_migrator scram-sha-256",
        "host mydb app_user,app_migrator 127.0.0.1/32 scram-sha-256",
        "host mydb app_user,app_migrator ::1/128 scram-sha-256",
    ]


def test_another_owner_of_the_server_needs_the_map() -> None:
    owner = {"superuser": "postgres", "superuser_os_user": "pg"}
    assert words(model_rules((), major=15, **owner)) == [
        "local all postgres peer map=pooled",
        "local replication postgres peer map=pooled",
    ]
    lines = ident_lines(pooler_role="pgbouncer_auth", pooler_os_user="bouncer", **owner)
    assert [" ".join(line.line().split()) for line in lines] == [
        "pooled pg postgres",
        "pooled bouncer pgbouncer_auth",
        # Who is the superuser anyway: so PgBouncer can get another OS user while it is in use.
        "pooled pg pgbouncer_auth",
    ]


def test_a_role_that_shall_go_may_log_in_nowhere_and_is_nobody_else_s() -> None:
    roles = [{"name": "app_user", "kind": "user"}, {"name": "legacy", "state": "absent"}]
    databases = parse_databases([{"name": "mydb", "roles": roles}])
    assert "legacy" not in " ".join(words(model_rules(databases, major=15)))
    assert unmanaged_names(databases, ["app_user", "legacy", "mydb"], []) == []
