# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: size a Postgres server so that its memory suffices."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory import (
    budget,
)

DOCUMENTATION = r"""
name: memory_budget
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: Size a Postgres server so that its memory suffices
description:
  - Chooses C(shared_buffers), C(effective_cache_size), C(work_mem) and the other settings that
    depend on the machine, so that everything the server may use at the same time fits into what it
    may have.
  - Fails when the connections asked for do not fit, and says how many would.
positional: workload, max_connections, major
options:
  _input:
    description:
      - The machine, as RV(pooled.postgres.host_resources_info#module:resources) describes it.
      - C(memory_bytes) and C(cpus) are required.
    type: dict
    required: true
  workload:
    description: What the server is for.
    type: str
    choices: [web, oltp, dw, mixed, desktop]
    default: web
  max_connections:
    description:
      - The number of connections, such as P(pooled.postgres.connection_budget#filter) derives it.
      - V(auto) takes the largest number up to 100 that leaves at least 2 MB of C(work_mem).
    type: str
    default: '60'
  major:
    description: Major version of the server, 13 to 18.
    type: int
    default: 17
  share:
    description: Part of the memory that is Postgres's, above 0 and up to 1.
    type: float
    default: 1.0
  reserved:
    description: Memory that others on the host need, such as V(2GB).
    type: str
    default: '0'
  settings:
    description:
      - Settings that the user decides. They are counted in the sum and left out of the result.
      - V(null) leaves a setting at the server's own default.
    type: dict
    default: {}
  running_connections:
    description:
      - C(max_connections) of the server as it runs, where a lower one waits for a restart. Until then memory is sized for the
        larger number, if that fits at all.
      - V(0) when it does not count.
    type: int
    default: 0
  running:
    description:
      - Name and value of what the server's managed file sets now, as C(managed_settings) of its cluster in
        RV(pooled.postgres.host_resources_info#module:postgres).
      - A size there that is one step from the one that would be chosen, or that a C(MemTotal) up to 16 MB larger or smaller would
        lead to, stays, when everything still fits. So no restart is asked for because the kernel counts a little memory more or
        less. The step is always counted from what would be chosen, whatever has run before.
    type: dict
    default: {}
  cluster:
    description:
      - The same as the input for the other servers that this one replicates with, when there are any.
      - C(max_connections), C(max_worker_processes), C(max_wal_senders), C(max_prepared_transactions) and C(max_locks_per_transaction),
        which a standby must not have lower than its primary, are then the same for all of them.
    type: list
    elements: dict
    default: []
  storage:
    description: What the data is on.
    type: str
    choices: [ssd, hdd]
    default: ssd
"""

EXAMPLES = r"""
- name: Show what a server of 16 GB and 4 CPUs would get
  ansible.builtin.debug:
    msg: "{{ ({'memory_bytes': 17179869184, 'cpus': 4} | pooled.postgres.memory_budget('web', 200, 17)).table }}"
"""

RETURN = r"""
_value:
  description:
    - C(settings), name and value of each setting that was chosen; those the user decides are not
      among them.
    - C(rows), the same with C(formula) and C(bound_by), and the user's too.
    - C(parts) of the sum, with C(name), C(bytes) and C(formula). They add up to C(cost_bytes); what is left of C(budget_bytes) is
      not assigned.
    - C(table), lines for people to read.
    - C(budget_bytes) and C(cost_bytes), what the server may use and what it can use at most.
    - C(shared_bytes), its shared memory at most.
    - C(huge_pages), with C(used), whether the sum counts on huge pages, C(page_bytes), and C(needed), with so many of which
      (C(vm.nr_hugepages)) the server is sure to get them.
    - C(warnings), what a person should know.
  type: dict
"""


def memory_budget(
    resources: Mapping[str, Any],
    workload: str = "web",
    max_connections: int | str = 60,
    major: int | str = 17,
    share: float | str = 1.0,
    reserved: int | str = "0",
    settings: Mapping[str, Any] | None = None,
    running_connections: int | str = 0,
    running: Mapping[str, Any] | None = None,
    cluster: Sequence[Mapping[str, Any]] | None = None,
    storage: str = "ssd",
) -> dict[str, Any]:
    """The budget as plain data."""
    try:
        found = budget.memory_budget_until_restart(
            int(running_connections),
            resources,
            workload=workload,
            max_connections=max_connections,
            major=major,
            share=share,
            reserved=reserved,
            settings=settings,
            running=running,
            cluster=cluster,
            storage=storage,
        )
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error
    return budget.as_data(found)


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"memory_budget": memory_budget}
