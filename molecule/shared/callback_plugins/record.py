# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Callback: write down what a run did, for tests that compare a prediction with its run."""

from __future__ import annotations

import json
import os
import pathlib
import time
from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: record
type: aggregate
short_description: Records each run as a JSON file
description:
  - For each run, one file C(<number>-<playbook>-<check|run>.json) in the folder that the environment variable names.
  - It holds each task's outcome on each host, in order, and how many of them reached the host.
options:
  folder:
    description: Where the files go. Nothing is recorded when it is not set.
    env:
      - name: POOLED_RECORD_FOLDER
"""

# What runs on the controller only; everything else is at least one round trip to the host.
ON_CONTROLLER = {"pooled.postgres.postgres_plan", "pooled.postgres.validate_variables"} | frozenset(
    f"ansible.builtin.{name}"
    for name in (
        "add_host",
        "assert",
        "debug",
        "fail",
        "group_by",
        "import_playbook",
        "import_role",
        "import_tasks",
        "include_role",
        "include_tasks",
        "include_vars",
        "meta",
        "set_fact",
        "validate_argument_spec",
    )
)
KEPT = ("actions", "statements", "diff", "pending_restart", "findings")


class CallbackModule(CallbackBase):
    """Collects outcomes and writes them when the run ends."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "record"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._started = time.time()
        self._playbook = ""
        self._results: list[dict[str, Any]] = []

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Remember which playbook this is."""
        self._playbook = pathlib.Path(playbook._file_name).stem

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task ended well."""
        self._add(result, "ok")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task failed."""
        self._add(result, "failed")

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A task did not apply; it did not reach the host."""
        self._add(result, "skipped")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The run ended."""
        folder = os.environ.get("POOLED_RECORD_FOLDER")
        if not folder:
            return
        target = pathlib.Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        mode = "check" if context.CLIARGS.get("check") else "run"
        number = len(list(target.glob("*.json"))) + 1
        record = {
            "playbook": self._playbook,
            "mode": mode,
            "seconds": round(time.time() - self._started, 1),
            "results": self._results,
        }
        path = target / f"{number:03d}-{self._playbook}-{mode}.json"
        path.write_text(json.dumps(record, indent=1, default=str), encoding="utf-8")

    def _add(self, result: Any, status: str) -> None:
        task = getattr(result, "task", None) or result._task
        host = getattr(result, "host", None) or result._host
        outcome = getattr(result, "result", None) or result._result
        action = task.resolved_action or task.action
        delegated = task.delegate_to in ("localhost", "127.0.0.1")
        self._results.append(
            {
                "host": host.get_name(),
                "task": task.get_name(),
                "action": action,
                "status": status,
                "changed": bool(outcome.get("changed")),
                "reached_host": status != "skipped"
                and action not in ON_CONTROLLER
                and not delegated,
                **{key: outcome[key] for key in KEPT if key in outcome},
            }
        )
