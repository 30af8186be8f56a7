# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What PgBouncer is to be: the role's variables, checked before anything changes."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import pooled_roles
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    defaults,
    hba,
    takeover as pgbouncer_takeover,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.entries import (
    database_entries,
    user_entries,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import (
    parse_version,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.processes import (
    checked_count,
)
from ansible_collections.pooled.postgres.plugins.module_utils._plan.problems import Problems
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import check_rules

_CONFIG_FILE = "/etc/pgbouncer/pgbouncer.ini"


def pgbouncer_options(
    options: Mapping[str, Any],
    version: str,
    databases: Any = (),
    database_options: Mapping[str, Any] | None = None,
    user_options: Mapping[str, Any] | None = None,
    auth: str = "query",
    auth_role: str = "pgbouncer_auth",
    processes: int = 1,
    client_networks: Any = (),
    require_tls: bool = False,
    backend_host: str = "",
    backend_port: int = 5432,
    unmanaged: Mapping[str, Any] | None = None,
    takeover: bool = False,
) -> dict[str, str]:
    """The options as the file would hold them.

    Args are those of the filter P(pooled.postgres.checked_pgbouncer_options#filter).

    Raises:
        ValueError: with all that is wrong, each on a line of its own.
    """
    problems = Problems()
    parsed = parse_version(version)
    model = problems.without(lambda: parse_databases(list(databases), "pgbouncer_databases"))
    effective = problems.of_each(
        options,
        lambda some: defaults.effective_options(
            some, parsed, model or (), auth=auth, auth_role=auth_role, where="pgbouncer_settings"
        ),
        # Some options need others beside them.
        lambda one: defaults.checked_options(one, parsed, "pgbouncer_settings"),
    )
    networks = problems.without(
        lambda: check_rules((), client_networks, clients_variable="pgbouncer_client_networks")
    )
    problems.without(
        lambda: checked_count(
            int(processes),
            parsed,
            options,
            (effective or {}).get("listen_addr", ""),
            "pgbouncer_processes",
            "pgbouncer_settings",
        )
    )
    if model is None:
        raise ValueError("\n".join(problems))
    entries = problems.of_each(
        database_options or {},
        lambda some: database_entries(
            model,
            parsed,
            host=backend_host,
            port=int(backend_port),
            overrides=some,
            where="pgbouncer_database_options",
        ),
    )
    users = problems.of_each(
        user_options or {},
        lambda some: user_entries(
            model,
            some,
            parsed,
            "pgbouncer_user_options",
            auth_role if auth == "query" else "",
        ),
    )
    if effective is None or networks is None or entries is None or users is None:
        raise ValueError("\n".join(problems))
    access = problems.without(
        lambda: hba.access(
            effective,
            model,
            path=hba.path_beside(_CONFIG_FILE),
            client_networks=networks.client_networks,
            require_tls=bool(require_tls),
            where="pgbouncer_settings",
        )
    )
    if unmanaged and not takeover:
        found = pgbouncer_takeover.from_fact(unmanaged)
        losses = pgbouncer_takeover.losses(
            found,
            options=effective,
            databases=entries,
            users=users,
            roles=[role.name for role in pooled_roles(model)],
            auth_role=auth_role,
            version=parsed,
        )
        if losses:
            problems.add(pgbouncer_takeover.refusal(found, losses, "pgbouncer_takeover"))
    if problems or access is None:
        raise ValueError("\n".join(problems))
    return dict(access.options)
