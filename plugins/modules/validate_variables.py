#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of an action plugin, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: validate_variables
author: ["pooled.postgres contributors (@pooled)"]
version_added: 0.1.0
short_description: Find misspelt variables of this collection, and validate those of a role
description:
  - Fails when a variable of the host has nearly the name of one that this collection reads, and nothing reads it, such as
    C(postgres_setings). All such names of the host are in one message, with what was probably meant.
  - Other names that begin with C(postgres_), C(pgbouncer_) and so on are left alone, since others may use such prefixes, and so are names that
    begin with an underscore. Names in the variable C(pooled_ignored_variables) are left alone too.
  - Then validates values as M(ansible.builtin.validate_argument_spec) does, where O(argument_spec) is given.
  - Only names are looked at for that. Values are not evaluated.
options:
  argument_spec:
    description: Variables and what they may be, as in C(meta/argument_specs.yml) of a role. Without it only names are looked at.
    type: dict
extends_documentation_fragment: [pooled.postgres.attributes]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
notes:
  - It runs on the controller, and does not connect to the host.
seealso:
  - module: ansible.builtin.validate_argument_spec
"""

EXAMPLES = r"""
- name: Check the names of variables
  pooled.postgres.validate_variables:
"""

RETURN = r"""
misspelt:
  description: By misspelt name, what was probably meant.
  returned: when there is one
  type: dict
  sample: {postgres_setings: [postgres_settings]}
argument_errors:
  description: What is wrong with values.
  returned: when there is something wrong
  type: list
  elements: str
"""
