# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many file descriptors PgBouncer needs, and the limit to give its service."""

from __future__ import annotations

import re
from typing import Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Database,
    pooled_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.entries import served_names
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import OPTIONS

_NUMBER = re.compile(r"-?[0-9]+\Z")

# Descriptors beyond clients and servers: sockets it listens on, its log, name resolution, the
# console, and clients that are being refused.
_SPARE_DESCRIPTORS = 64
_LEAST_DESCRIPTORS = 1024  # what a service gets from systemd without being asked


def descriptors_needed(
    options: Mapping[str, str],
    databases: Sequence[Database],
    entries: Mapping[str, Mapping[str, str]],
    users: Mapping[str, Mapping[str, str]],
    processes: int = 1,
) -> int:
    """How many file descriptors a PgBouncer with every pool and every client slot full has open.

    With several processes it is each of them, which also passes requests to cancel on to its peers.
    """
    clients = int(options.get("max_client_conn", OPTIONS["max_client_conn"].default or 0))
    default = int(options.get("default_pool_size", OPTIONS["default_pool_size"].default or 0))
    reserve = int(options.get("reserve_pool_size", OPTIONS["reserve_pool_size"].default or 0))
    servers = (processes - 1) * (default or clients)
    for name, database, _options in served_names(databases):
        entry = entries[name]
        for own in [*(users.get(role.name, {}) for role in pooled_roles([database])), {}]:
            pool = own.get("pool_size", entry.get("pool_size", default))
            extra = own.get(
                "reserve_pool_size",
                entry.get("reserve_pool_size", entry.get("reserve_pool", reserve)),
            )
            # 0 means no limit, and then there are at most as many servers as clients.
            servers += (int(pool) or clients) + int(extra)
    return clients + servers + _SPARE_DESCRIPTORS


def descriptor_limit(needed: int, wanted: str, most: int) -> int:
    """The LimitNOFILE to give the service.

    Args:
        needed: what descriptors_needed() says.
        wanted: C(auto) or a number.
        most: what this host allows a service.

    Raises:
        ValueError: when what is needed or wanted can't be had.
    """
    if wanted != "auto":
        if not _NUMBER.match(wanted):
            raise ValueError(f"limit_nofile: {wanted!r} is neither 'auto' nor a whole number")
        if int(wanted) < needed:
            raise ValueError(
                f"limit_nofile: {wanted} is less than the {needed} file descriptors that"
                " max_client_conn and the pools need; give more, or 'auto'"
            )
        if int(wanted) > most:
            raise ValueError(
                f"limit_nofile: {wanted} is more than the {most} that this host allows"
            )
        return int(wanted)
    if needed > most:
        raise ValueError(
            f"max_client_conn and the pools need {needed} file descriptors, but this host allows a"
            f" service {most}: lower max_client_conn by {needed - most}, or raise the host's limit"
            f" (of a container: --ulimit nofile={needed}:{needed} or more)"
        )
    # A power of two, so that a new role or a larger pool seldom needs a restart.
    limit = _LEAST_DESCRIPTORS
    while limit < needed:
        limit *= 2
    return min(limit, most)
