# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role's variables against its own specification, each by itself."""

from __future__ import annotations

from typing import Any, Mapping

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.pooled.postgres.plugins.module_utils._plan.problems import Problems

# What the check of the others goes on with in the place of a value that is not valid, where the
# role's default is a template.
_NEUTRAL: Mapping[str, Any] = {"list": [], "dict": {}, "bool": False, "int": 0, "str": ""}


def checked_variables(
    problems: Problems,
    options: Mapping[str, Mapping[str, Any]],
    defaults: Mapping[str, Any],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """The variables in their types.

    What is not valid is a problem, and replaced by the default, so that the rest can be checked.

    Args:
        problems: where what is wrong is added.
        options: what the role declares, by name.
        defaults: the role's defaults, as they are in its file.
        given: the variables.
    """
    values = {}
    for name, option in options.items():
        spec = {key: value for key, value in option.items() if key != "default"}
        checked = ArgumentSpecValidator({name: spec}).validate({name: given[name]})
        wrong = list(checked.error_messages)
        if given[name] is None and defaults[name] is not None:
            shown = f", {defaults[name]!r}" if _is_literal(defaults[name]) else ""
            wrong = [f"{name}: null is not a valid value; leave it out for the default{shown}"]
        problems.add(*wrong)
        if not wrong:
            values[name] = checked.validated_parameters[name]
        elif _is_literal(defaults[name]):
            values[name] = defaults[name]
        else:
            choices = option.get("choices")
            values[name] = choices[0] if choices else _NEUTRAL[option["type"]]
    return values


def _is_literal(default: Any) -> bool:
    return "{{" not in str(default)
