# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action: what a server is to be, worked out once and on the controller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.action import ActionBase

from ansible_collections.pooled.postgres.plugins.module_utils._plan.postgres import (
    Inventory,
    postgres_plan,
)
from ansible_collections.pooled.postgres.plugins.module_utils._plan.problems import Problems
from ansible_collections.pooled.postgres.plugins.module_utils._plan.variables import (
    checked_variables,
)

ROLE = Path(__file__).parents[2] / "roles" / "postgres"
SPEC: dict[str, Any] = {
    "look": {"type": "dict", "required": True},
    "variables": {"type": "dict", "required": True},
    "default_versions": {"type": "dict", "required": True},
    "cluster_problem": {"type": "str", "default": ""},
    "peers": {"type": "dict", "default": {}},
    "remote_poolers": {"type": "list", "elements": "str", "default": []},
    "plain_poolers": {"type": "list", "elements": "str", "default": []},
}


class ActionModule(ActionBase):
    """The action."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the role's variables, and work out what follows from them."""
        super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(argument_spec=SPEC)
        host = (task_vars or {})["inventory_hostname"]
        problems = Problems()
        values = checked_variables(
            problems, _of_role("meta/argument_specs.yml")["argument_specs"]["main"]["options"],
            _of_role("defaults/main.yml"), args["variables"],
        )  # fmt: skip
        if not values["postgres_cluster_hosts"]:
            values["postgres_cluster_hosts"] = [host]
        inventory = Inventory(
            host=host,
            default_versions=args["default_versions"],
            cluster_problem=args["cluster_problem"],
            peers=args["peers"],
            remote_poolers=args["remote_poolers"],
            plain_poolers=args["plain_poolers"],
        )
        plan = postgres_plan(args["look"], values, inventory)
        problems.add(*plan["problems"])
        if problems:
            known = {"major": plan["major"]} if "major" in plan else {}
            # Each on a line of its own.
            message = "\n".join(problems)
            return {"failed": True, "msg": message, "problems": list(problems), **known}
        # It is long, and what is to be seen of it is shown by the role.
        return {"changed": False, "_ansible_verbose_override": True, **plan}


def _of_role(path: str) -> dict[str, Any]:
    """A file of the role's own."""
    found: dict[str, Any] = yaml.safe_load((ROLE / path).read_text(encoding="utf-8"))
    return found
