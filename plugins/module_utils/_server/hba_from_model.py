# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for logins that follow from the model."""

from __future__ import annotations

from typing import Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Database
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import IDENT_MAP
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import (
    LOOPBACK,
    IdentLine,
    LoginRule,
    quoted,
)


def model_rules(
    databases: Sequence[Database],
    *,
    major: int,
    client_networks: Sequence[str] = (),
    pooler_role: str = "",
    pooler_networks: Sequence[str] = (),
    require_tls: bool = False,
    require_tls_on_loopback: bool = False,
    superuser: str = "postgres",
    superuser_os_user: str = "postgres",
) -> tuple[LoginRule, ...]:
    """The rules that follow from the model, in the order in which the server must read them.

    The rules for the unix socket come before any C(local all all peer), which would otherwise
    refuse the model's roles there. With TLS required, what comes without it from elsewhere is
    rejected, so that no rule below lets it in. Roles that must not come through PgBouncer are let
    in from its hosts only where these are among the clients' networks.
    """
    mapped = () if superuser == superuser_os_user else (f"map={IDENT_MAP}",)
    owner = (quoted(superuser, major),)
    rules = [
        LoginRule("local", ("all",), owner, "", "peer", mapped),
        LoginRule("local", ("replication",), owner, "", "peer", mapped),
    ]
    served = [database for database in databases if database.roles]
    names = {database.name: (quoted(database.name, major),) for database in served}
    roles = {
        database.name: tuple(quoted(role.name, major) for role in database.roles)
        for database in served
    }
    pooler = (quoted(pooler_role, major),)
    if pooler_role:
        rules += [
            LoginRule("local", names[database.name], pooler, "", "peer", (f"map={IDENT_MAP}",))
            for database in served
        ]
    rules += [
        LoginRule("local", names[database.name], roles[database.name], "", "scram-sha-256")
        for database in served
    ]
    clients = tuple(dict.fromkeys((*LOOPBACK, *client_networks)))
    everywhere = tuple(dict.fromkeys((*clients, *pooler_networks)))
    # PgBouncer logs in as the role itself: from its hosts only those come that it may let in.
    pooled = {
        database.name: tuple(quoted(role.name, major) for role in database.roles if role.pooled)
        for database in served
    }
    elsewhere = "hostssl" if require_tls else "host"
    here = "hostssl" if require_tls and require_tls_on_loopback else "host"
    rules += [
        LoginRule(
            here if address in LOOPBACK else elsewhere,
            names[database.name],
            (roles if address in clients else pooled)[database.name],
            address,
            "scram-sha-256",
        )
        for database in served
        for address in everywhere
        if address in clients or pooled[database.name]
    ]
    if pooler_role:
        rules += [
            LoginRule(elsewhere, names[database.name], pooler, address, "scram-sha-256")
            for database in served
            for address in dict.fromkeys(pooler_networks)
        ]
    if require_tls:
        rules += [
            LoginRule(
                "hostnossl",
                names[database.name],
                (*roles[database.name], *(pooler if pooler_role else ())),
                "all",
                "reject",
            )
            for database in served
        ]
    return tuple(rules)


def ident_lines(
    *,
    pooler_role: str = "",
    pooler_os_user: str = "postgres",
    superuser: str = "postgres",
    superuser_os_user: str = "postgres",
) -> tuple[IdentLine, ...]:
    """The map that model_rules() refers to.

    The superuser's OS user may be PgBouncer's role too, which gives it nothing new: PgBouncer can
    log in before and after it got an OS user of its own.
    """
    lines = []
    if superuser != superuser_os_user:
        lines.append(IdentLine(superuser_os_user, superuser))
    if pooler_role:
        users = dict.fromkeys((pooler_os_user, superuser_os_user))
        lines += [IdentLine(user, pooler_role) for user in users if user]
    return tuple(lines)
