# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action: the host's variables by name, and by value against the specification of a role."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action.validate_argument_spec import (
    ActionModule as ValidateArgumentSpec,
)

from ansible_collections.pooled.postgres.plugins.module_utils._model import variables

# A playbook registers under this name that it has looked at all names, whatever came of it.
_CHECKED = "__pooled_names"
SPEC: dict[str, Any] = {"argument_spec": {"type": "dict"}}


class ActionModule(ValidateArgumentSpec):
    """The action. It stays on the controller, and needs no connection."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check that no name is misspelt, and then that the values are as specified."""
        self.validate_argument_spec(argument_spec=SPEC)
        given = task_vars or {}
        # Names alone: a value may be a secret, or a template that has no value here.
        found = {} if _CHECKED in given else variables.misspelt(given)
        if found and variables.IGNORED in given:
            ignored = self._templar.template(given[variables.IGNORED])
            try:
                found = variables.without(found, ignored)
            except ValueError as error:
                raise AnsibleActionFail(str(error)) from error
        if found:
            return {
                "failed": True,
                "changed": False,
                "msg": variables.misspelt_text(found),
                "misspelt": found,
                # Where the text is shown with its line ends as \n, each name has a line here.
                "_ansible_verbose_always": True,
            }
        if self._task.args.get("argument_spec") is None:
            return {"changed": False}
        result: dict[str, Any] = super().run(tmp, task_vars)
        return result
