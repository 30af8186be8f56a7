#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: clients of a PgBouncer wait while a server on another host restarts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbouncer_pause
author: ["pooled.postgres contributors (@pooled)"]
version_added: 0.1.0
short_description: Let clients of PgBouncer wait while its server restarts
description:
  - Pauses the databases of a PgBouncer that lead to a server on another host, and resumes them. Clients wait meanwhile; they do not fail.
  - M(pooled.postgres.postgres_settings) does the same by itself for a PgBouncer on the server's own host.
  - A process stays behind that resumes them by itself after O(limit), whatever becomes of the run.
  - Databases that somebody else has paused are left alone.
options:
  state:
    description: V(paused) pauses them, V(resumed) resumes what V(paused) has paused.
    type: str
    choices: [paused, resumed]
    required: true
  server_addresses:
    description: Addresses of the server's host, such as RV(pooled.postgres.postgres_settings#module:addresses).
    type: list
    elements: str
    default: []
  server_port:
    description: Port of the server.
    type: int
    default: 5432
  timeout:
    description: How many seconds to wait for open transactions, while all other clients wait already. V(0) pauses nothing.
    type: int
    default: 10
  limit:
    description: After how many seconds they are resumed at the latest, when nobody says O(state=resumed).
    type: int
    default: 60
  held:
    description: With O(state=resumed), what RV(held) was.
    type: dict
    default: {}
  service:
    description: PgBouncer's systemd service. Its further processes are instances of it, such as C(pgbouncer@2).
    type: str
    default: pgbouncer
notes:
  - Runs on PgBouncer's host, as root.
  - Clients that wait for longer than PgBouncer's C(query_wait_timeout) are disconnected by it.
extends_documentation_fragment:
  - pooled.postgres.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: pooled.postgres.postgres_settings
"""

EXAMPLES = r"""
- name: Let clients wait
  pooled.postgres.pgbouncer_pause:
    state: paused
    server_addresses: [10.0.0.5]
  become: true
  delegate_to: pool1
  register: pause

- name: Let them go on
  pooled.postgres.pgbouncer_pause:
    state: resumed
    held: "{{ pause.held }}"
  become: true
  delegate_to: pool1
"""

RETURN = r"""
actions:
  description: What was done, or would be done, in order.
  returned: always
  type: list
  elements: str
  sample: ["pause mydb of pgbouncer"]
held:
  description: What is paused, and by which process; for O(state=resumed).
  returned: always
  type: dict
"""

import ipaddress
from dataclasses import asdict
from typing import Any, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._module import PooledModule
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    hold,
    pause,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql import connection

NOTHING: dict[str, Any] = {"pid": 0, "started": "", "pools": []}


def main() -> None:
    """Entry point."""
    module = PooledModule(
        {
            "state": {"type": "str", "choices": ["paused", "resumed"], "required": True},
            "server_addresses": {"type": "list", "elements": "str", "default": []},
            "server_port": {"type": "int", "default": 5432},
            "timeout": {"type": "int", "default": 10},
            "limit": {"type": "int", "default": 60},
            "held": {"type": "dict", "default": {}},
            "service": {"type": "str", "default": "pgbouncer"},
        },
    )
    params = module.params
    try:
        pause.check_timeout(params["timeout"], "timeout")
        addresses = {ipaddress.ip_address(one) for one in params["server_addresses"]}
    except ValueError as error:
        module.fail_json(msg=str(error))
    connection.require_psycopg2(module)
    if params["state"] == "resumed":
        held = {**NOTHING, **params["held"]}
        for warning in () if module.check_mode else hold.end(held):
            module.warn(warning)
        module.exit_json(changed=False, actions=actions("resume", held), held=NOTHING)
    server = pause.Server(
        frozenset(),
        params["server_port"],
        lambda address: ipaddress.ip_address(address.partition("%")[0]) in addresses,
    )

    def run(command: Sequence[str]) -> tuple[int, str, str]:
        code, out, err = module.run_command(list(command), handle_exceptions=False)
        return int(code), str(out), str(err)

    pools = []
    if params["timeout"]:
        pools = hold.find(run, params["service"], server, module.warn)
    held = {**NOTHING, "pools": [asdict(one) for one in pools]}
    if pools and not module.check_mode:
        holder = hold.Hold(pools, params["timeout"], params["limit"], detached=True)
        for warning in holder.begin():
            module.warn(warning)
        held = holder.detach()
    module.exit_json(changed=bool(pools), actions=actions("pause", held), held=held)


def actions(verb: str, held: dict[str, Any]) -> list[str]:
    """What happens, as lines to read."""
    return [pause.action(verb, one["unit"], one["databases"]) for one in held["pools"]]


if __name__ == "__main__":
    main()
