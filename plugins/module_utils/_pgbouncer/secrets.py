# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the auth file must say of users that PgBouncer knows and nobody may log in as.

PgBouncer makes users of its own, for its console and for the role that it asks for verifiers with,
and keeps those that have left the auth file. Without a secret they have an empty password, or one
that follows from the lack of it, and everybody may log in with that.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Callable, Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Database,
    model_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import POOLER_USER
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.clients import Client
from ansible_collections.pooled.postgres.plugins.module_utils._sql.scram import is_verifier

# 32 random bytes.
_RANDOM = re.compile(r"[A-Za-z0-9_-]{43}\Z")


def random_secret() -> str:
    """A secret that nobody can guess, and nobody needs to know."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class AuthFile:
    """What the auth file is to hold.

    C(stale) are users of whom the running PgBouncer keeps something that only a restart takes away.
    """

    secrets: Mapping[str, str]
    stale: tuple[str, ...]


def auth_file(
    given: Mapping[str, str],
    held: Mapping[str, str],
    *,
    auth_role: str,
    users: Iterable[str],
    asks_server: bool,
    may_restart: bool,
    draw: Callable[[], str] = random_secret,
) -> AuthFile:
    """What the auth file is to hold.

    Args:
        given: secrets of users who log in with them: verifiers, or passwords in plain text; empty
            for a verifier that is not known yet.
        held: secrets of users that the running PgBouncer knows from its files.
        auth_role: the role that PgBouncer itself logs in as.
        users: names in [users], each of which PgBouncer makes a user of.
        asks_server: whether PgBouncer asks the server for users that are not in the file.
        may_restart: whether PgBouncer may be restarted for users that it must forget.
        draw: makes a new secret.
    """
    own = {POOLER_USER, auth_role} | (set() if asks_server else set(users))
    leaving = set(held) - set(given) - own
    # A reload leaves them known, without a password. Where the server is asked for the others,
    # that keeps them out even if they have one there; a restart ends it.
    stays = set() if asks_server and may_restart else leaving
    locked = (own | stays) - set(given)
    was_verifier = {
        name
        for name, secret in given.items()
        if is_verifier(held.get(name, "")) and secret and not is_verifier(secret)
    }
    return AuthFile(
        {
            **{name: _kept(held.get(name, "")) or draw() for name in sorted(locked)},
            **given,
        },
        tuple(sorted(was_verifier | (leaving if asks_server else set()))),
    )


def is_ours(listed: Mapping[str, str]) -> bool:
    """Whether the secrets of an auth file are those that this collection wrote.

    One of a version before it kept a secret for PgBouncer's own user is not known by it.
    """
    return bool(_kept(listed.get(POOLER_USER, "")))


def intruders(clients: Iterable[Client], auth_role: str) -> list[str]:
    """A warning about clients that came in before their way was closed, with what ends them.

    Args:
        clients: those that are not on the console.
        auth_role: the role that PgBouncer itself logs in as.
    """
    found = sorted(
        {
            f"{client.user!r} in {client.database!r} from {client.address or 'this host'}"
            for client in clients
            if client.user in (POOLER_USER, auth_role)
        }
    )
    if not found:
        return []
    return [
        "somebody is logged in as a user of PgBouncer's own, which nobody can any more:"
        f" {', '.join(found)}; find out who that is, restart PgBouncer, and change the passwords"
        " of all roles, whose verifiers may have been read"
    ]


def names_taken(databases: Iterable[Database], auth: str, auth_role: str) -> list[str]:
    """Warnings about roles of the model that can't log in through PgBouncer for their names."""
    if auth != "query" or auth_role == POOLER_USER:
        return []
    return [
        f"role {POOLER_USER!r} can't log in through PgBouncer, whose own user has that name: let it"
        " connect directly, or rename it"
        for role in model_roles(databases)
        if role.name == POOLER_USER
    ]


def _kept(secret: str) -> str:
    """A secret of ours that may stay; empty for another one."""
    return secret if _RANDOM.match(secret) else ""
