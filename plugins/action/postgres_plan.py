# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action: what a server is to be, worked out once and on the controller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

from ansible_collections.pooled.postgres.plugins.module_utils._plan.postgres import (
    Inventory,
    postgres_plan,
)

ROLE_SPEC = Path(__file__).parents[2] / "roles" / "postgres" / "meta" / "argument_specs.yml"
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
        validated = ArgumentSpecValidator(_role_options()).validate(args["variables"])
        if validated.error_messages:
            return _failed({"problems": list(validated.error_messages)})
        inventory = Inventory(
            host=(task_vars or {})["inventory_hostname"],
            default_versions=args["default_versions"],
            cluster_problem=args["cluster_problem"],
            peers=args["peers"],
            remote_poolers=args["remote_poolers"],
            plain_poolers=args["plain_poolers"],
        )
        plan = postgres_plan(args["look"], validated.validated_parameters, inventory)
        if plan["problems"]:
            return _failed(plan)
        # It is long, and what is to be seen of it is shown by the role.
        return {"changed": False, "_ansible_verbose_override": True, **plan}


def _role_options() -> dict[str, Any]:
    """The role's variables as its own file declares them; all of them are given."""
    options = yaml.safe_load(ROLE_SPEC.read_text(encoding="utf-8"))["argument_specs"]["main"]
    return {
        name: {key: value for key, value in option.items() if key != "default"}
        for name, option in options["options"].items()
    }


def _failed(plan: dict[str, Any]) -> dict[str, Any]:
    """A failure that says all that is wrong, each on a line of its own."""
    known = {"major": plan["major"]} if "major" in plan else {}
    problems = plan["problems"]
    return {"failed": True, "msg": "\n".join(problems), "problems": problems, **known}
