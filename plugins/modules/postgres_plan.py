#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of an action plugin, which works on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_plan
author: ["pooled.postgres contributors (@pooled)"]
version_added: 0.1.0
short_description: Work out what a Postgres server is to be
description:
  - Checks the variables of the role P(pooled.postgres.postgres#role) against one look at the host, and works out connections, memory, settings and
    libraries from them. The role does it once in a run.
  - Everything that is wrong is reported together, each problem on a line of its own.
  - Runs on the controller. It neither reaches the host nor changes anything.
options:
  look:
    description: What M(pooled.postgres.host_resources_info) returned.
    type: dict
    required: true
  variables:
    description: All variables of the role P(pooled.postgres.postgres#role), by name. The databases need no passwords.
    type: dict
    required: true
  default_versions:
    description: The major that each release of Debian packages.
    type: dict
    required: true
  cluster_problem:
    description: What is wrong with C(pooled_cluster), as P(pooled.postgres.database_cluster#filter) says it.
    type: str
    default: ''
  peers:
    description: RV(pooled.postgres.host_resources_info#module:resources) of the other hosts of C(postgres_cluster_hosts), by host.
    type: dict
    default: {}
  remote_poolers:
    description: Other hosts of the inventory with a PgBouncer for this server.
    type: list
    elements: str
    default: []
  plain_poolers:
    description: Those of O(remote_poolers) that do not use TLS to this server.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - pooled.postgres.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Changes nothing.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Work out what the server is to be
  pooled.postgres.postgres_plan:
    look: "{{ host }}"
    variables: "{{ variables_of_the_role }}"
    default_versions: {"12": 15, "13": 17}
  register: plan
"""

RETURN = r"""
problems:
  description: All that is wrong. The task fails when there is any.
  returned: always
  type: list
  elements: str
major:
  description: Major version of the server.
  returned: success
  type: int
  sample: 17
own:
  description: The cluster that is meant, out of O(look), when it exists.
  returned: success
  type: list
  elements: dict
connections:
  description: The connection budget, as P(pooled.postgres.connection_budget#filter) returns it.
  returned: success
  type: dict
memory:
  description: The memory budget, as P(pooled.postgres.memory_budget#filter) returns it.
  returned: success
  type: dict
hardening:
  description: The hardening profile, as P(pooled.postgres.hardening#filter) returns it.
  returned: success
  type: dict
tls:
  description: Settings for TLS, and whether the certificate is the collection's, as P(pooled.postgres.postgres_tls#filter) returns it.
  returned: success
  type: dict
libraries:
  description: Libraries to preload.
  returned: success
  type: list
  elements: str
user_settings:
  description: C(postgres_settings), checked, with null values and with secrets masked.
  returned: success
  type: dict
settings:
  description: All settings that the server is to have, with secrets masked.
  returned: success
  type: dict
secret_settings:
  description: Those of RV(settings) that are masked, with the name under which C(postgres_settings) has each.
  returned: success
  type: dict
pooler_os_user:
  description: OS user of PgBouncer on the server's host.
  returned: success
  type: str
private_socket:
  description: Whether the unix socket is the server's OS user's alone.
  returned: success
  type: bool
new_cluster_options:
  description: What C(createcluster.conf) says of new clusters.
  returned: success
  type: dict
new_cluster:
  description: What a cluster that a run creates is checked for; empty when it exists.
  returned: success
  type: dict
"""
