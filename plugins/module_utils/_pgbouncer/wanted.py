# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to run, from what was asked for and what is installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import pooled_roles
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    defaults,
    descriptors,
    entries,
    hba,
    os_user,
    processes,
    takeover,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import (
    parse_version,
    version_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.read import Installation
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.request import Request
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import check_rules
from ansible_collections.pooled.postgres.plugins.module_utils._sql.scram import (
    parse_verifier,
    password_matches,
)


@dataclass(frozen=True)
class Wanted:
    """What is to run, as far as it follows from the request and the installation.

    C(os_user) is the user of this run, and C(os_user_then) the one after a restart that may be
    forbidden now. C(options) are those of [pgbouncer] without the rules for logins, which
    C(access) has.
    """

    version: tuple[int, int, int]
    may_restart: bool
    os_user: str
    os_user_then: str
    options: Mapping[str, str]
    access: hba.Access
    rules_path: str
    processes: int
    databases: Mapping[str, Mapping[str, str]]
    users: Mapping[str, Mapping[str, str]]
    descriptors: int
    warnings: tuple[str, ...]


def decide(request: Request, found: Installation, most_descriptors: int) -> Wanted:
    """What is to run.

    Args:
        request: what was asked for.
        found: the PgBouncer on this host.
        most_descriptors: how many file descriptors this host allows a service.

    Raises:
        ValueError: naming the argument, its value, and what to do.
    """
    version = found.version or parse_version(request.assume_version or "")
    may_restart = may_restart_now(request.restart, found)
    then = os_user.chosen(
        request.os_user,
        installed=found.installed,
        as_packaged=found.as_packaged and found.drop_in is None,
        unit_user=os_user.unit_user([found.drop_in or ""]) or found.service.unit_user,
    )
    # A process that goes on running must be able to read its files.
    now = then if may_restart else found.service.os_user or then
    options = defaults.effective_options(
        request.options,
        version,
        request.databases,
        auth=request.auth,
        auth_role=request.auth_role,
        places=os_user.layout(now, request.service),
    )
    networks = check_rules((), request.client_networks, clients_variable="client_networks")
    rules_path = hba.path_beside(request.config_file)
    access = hba.access(
        options,
        request.databases,
        path=rules_path,
        client_networks=networks.client_networks,
        require_tls=request.require_tls,
    )
    os_user.check_options(options, now)
    count = processes.checked_count(
        request.processes, version, request.options, options.get("listen_addr", "")
    )
    databases = entries.database_entries(
        request.databases,
        version,
        host=request.backend_host or request.backend_socket_dir,
        port=request.backend_port,
        overrides=request.database_options,
    )
    users = entries.user_entries(
        request.databases, request.user_options, version, auth_role=request.asking_role
    )
    needed = descriptors.descriptors_needed(options, request.databases, databases, users, count)
    return Wanted(
        version=version,
        may_restart=may_restart,
        os_user=now,
        os_user_then=then,
        options=options,
        access=access,
        rules_path=rules_path,
        processes=count,
        databases=databases,
        users=users,
        descriptors=descriptors.descriptor_limit(needed, request.limit_nofile, most_descriptors),
        warnings=networks.warnings,
    )


def may_restart_now(policy: str, found: Installation) -> bool:
    """Whether a running PgBouncer may be restarted.

    Args:
        policy: one of defaults.RESTART_POLICIES.
        found: the PgBouncer on this host. A restart that was interrupted may be finished.
    """
    fresh = not found.installed or found.as_packaged or found.interruption.restarts
    return policy == "always" or (policy == "fresh" and fresh)


def losses_of(request: Request, wanted: Wanted, unmanaged: takeover.Unmanaged | None) -> list[str]:
    """What an unmanaged PgBouncer would lose, in words.

    Raises:
        ValueError: when it may not lose that.
    """
    if unmanaged is None:
        return []
    found = takeover.losses(
        unmanaged,
        options=wanted.options,
        databases=wanted.databases,
        users=wanted.users,
        roles=[role.name for role in pooled_roles(request.databases)],
        auth_role=request.auth_role,
        version=wanted.version,
    )
    if found and not request.takeover:
        raise ValueError(takeover.refusal(unmanaged, found))
    return found


@dataclass(frozen=True)
class Verifiers:
    """Secrets that somebody logs in with, by user, and roles that have none."""

    secrets: Mapping[str, str]
    missing: tuple[str, ...] = ()


def own_secret(request: Request, version: tuple[int, int, int]) -> dict[str, str]:
    """The secret of the role that PgBouncer asks the server as, where it needs one.

    Raises:
        ValueError: when it is not given.
    """
    alias = entries.needs_own_password(request.databases, version, request.auth_role)
    if alias and not request.auth_password:
        raise ValueError(
            f"auth_password: alias {alias!r} is on another server, and PgBouncer"
            f" {version_text(version)} must log in there as its own role"
            f" {request.auth_role!r}; give its password, as pgbouncer_auth_password in the"
            " inventory"
        )
    if not request.backend_host and not alias:
        return {}
    if not request.auth_password:
        raise ValueError(
            f"auth_password: Postgres is on another host ({request.backend_host}), so PgBouncer"
            f" needs the password of its own role {request.auth_role!r}; give it, as"
            " pgbouncer_auth_password in the inventory"
        )
    return {request.auth_role: request.auth_password}


def given_secrets(request: Request) -> dict[str, str]:
    """The secrets of the model's roles, for a userlist.

    Raises:
        ValueError: when Postgres is elsewhere and one is not a verifier.
    """
    given = {role.name: role.password or "" for role in pooled_roles(request.databases)}
    for name, password in given.items():
        if request.backend_host and parse_verifier(password) is None:
            raise ValueError(
                f"auth: with 'userlist' and Postgres on another host, the password of role {name!r}"
                " must be given as the SCRAM verifier that the server has; or use auth 'query'"
            )
    return given


def verifiers(
    given: Mapping[str, str], stored: Mapping[str, str | None], check_mode: bool
) -> Verifiers:
    """The verifiers for a userlist, of the roles that can use them.

    Args:
        given: the roles' passwords in the model; empty where there is none.
        stored: what the server has.
        check_mode: whether a password that the server does not have yet will be set there first.
    """
    secrets: dict[str, str] = {}
    missing = []
    for name, password in given.items():
        found = stored.get(name)
        if check_mode and password and not password_matches(password, found):
            secrets[name] = ""  # the run sets it on the server before it reads it
        elif found is not None and parse_verifier(found) is not None:
            secrets[name] = found
        else:
            missing.append(name)
    return Verifiers(secrets, tuple(missing))
