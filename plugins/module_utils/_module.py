# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module of the collection is made of: an AnsibleModule that keeps secrets to itself.

What it shows does nothing to the terminal that it is shown on.
"""

from __future__ import annotations

from typing import Any, Callable, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pooled.postgres.plugins.module_utils._secrets import (
    MASK,
    check_connect_params,
    masked,
    masked_diff,
    masked_text,
    secrets_in,
    written_forms,
)
from ansible_collections.pooled.postgres.plugins.module_utils._text import (
    printable_lines,
    printable_result,
)


class PooledModule(AnsibleModule):  # type: ignore[misc]
    """An AnsibleModule whose arguments reach no log, and whose result shows no secret."""

    def __init__(self, argument_spec: dict[str, Any]) -> None:
        self._forms: set[str] = set()
        super().__init__(argument_spec=argument_spec, supports_check_mode=True)
        try:
            check_connect_params("connect_params", self.params.get("connect_params") or {})
        except ValueError as error:
            self.fail_json(msg=str(error))

    def log(self, msg: Any, log_args: Any = None) -> None:
        """Write to the host's log: that the module ran, and nothing of what it was given.

        Ansible masks only what is written exactly as it was given, and writes arguments as Python
        does. Its own C(no_log) of a module is overridden by the controller on each run.
        """
        super().log("Invoked" if log_args is not None else msg)

    def warn(self, warning: str, **kwargs: Any) -> None:
        """Warn without secrets, which newer versions of Ansible do not mask here."""
        super().warn(printable_lines(self._mask()(warning)), **kwargs)

    def exit_json(self, **kwargs: Any) -> NoReturn:
        """End well."""
        super().exit_json(**self._without_secrets(kwargs))
        raise AssertionError

    def fail_json(self, *args: Any, **kwargs: Any) -> NoReturn:
        """End with an error."""
        texts = printable_lines(masked(args, self._mask()))
        super().fail_json(*texts, **self._without_secrets(kwargs))
        raise AssertionError

    def _without_secrets(self, result: dict[str, Any]) -> dict[str, Any]:
        mask = self._mask()
        # As Ansible would add them.
        result.setdefault("invocation", {"module_args": self.params})
        return printable_result(
            {
                key: masked_diff(value, mask) if key == "diff" else masked(value, mask)
                for key, value in result.items()
            }
        )

    def _mask(self) -> Callable[[str], str]:
        """What masks the secrets among the arguments, in whatever form, and what looks like one."""
        for secret in {*self.no_log_values, *secrets_in(self.params)} - self._forms:
            self._forms |= written_forms(secret)
        self.no_log_values.update(self._forms)
        forms = sorted(self.no_log_values, key=len, reverse=True)

        def mask(text: str) -> str:
            # Whole ones first: the look of a text ends a secret at its first space.
            for form in forms:
                text = text.replace(form, MASK)
            return masked_text(text)

        return mask
