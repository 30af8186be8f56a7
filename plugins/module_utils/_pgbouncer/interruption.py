# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The note beside PgBouncer's files that says what a run has begun and not ended."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.plan import (
    Action,
    ReconnectPools,
    RestartProcess,
)

_TITLE = "A run of pooled.postgres was interrupted here; the next one finishes its work:"


@dataclass(frozen=True)
class Interruption:
    """What an earlier run had begun when it was killed; nothing when C(unfinished) is false."""

    unfinished: bool = False
    restarts: bool = False
    reconnects: bool = False


def note_path(config_file: str) -> str:
    """Where the note is."""
    return os.path.join(os.path.dirname(config_file), ".pooled-unfinished")


def note(actions: Sequence[Action], lines: Sequence[str]) -> str:
    """The note for a run: lines for people, and a last one for parsed().

    Args:
        actions: what the run is to do.
        lines: the same in words.
    """
    fields = {
        "restarts": any(isinstance(action, RestartProcess) for action in actions),
        "reconnects": any(isinstance(action, ReconnectPools) for action in actions),
    }
    return "\n".join([_TITLE, *lines, json.dumps(fields), ""])


def parsed(text: str) -> Interruption:
    """What the text of a note says."""
    lines = text.splitlines()
    try:
        fields = json.loads(lines[-1])
        return Interruption(True, bool(fields["restarts"]), bool(fields["reconnects"]))
    except (IndexError, KeyError, TypeError, ValueError):
        # Earlier versions wrote no such line.
        return Interruption(
            True,
            any(line.startswith("restart for ") for line in lines),
            any(line.split(" (")[0] == "RECONNECT" for line in lines),
        )
