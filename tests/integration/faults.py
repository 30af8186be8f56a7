# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Break a module at each of its steps in turn: by a kill, or by a disk that is full from there on.

A step is what changes something that others can see: a call that changes a file or its name, a
statement that is no query, a program that is run. Steps count from the first that touches a file.

Tests take every fifth step; with POOLED_EXHAUSTIVE=1 in the environment, each.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Any, Callable

Main = Callable[[], None]

# Odd and no multiple of 3, so that what alternates from step to step still does.
STRIDE = 1 if os.environ.get("POOLED_EXHAUSTIVE") else 5
# They only read, or can't be told from the step before.
NO_STEPS = ("_opened", "_opened_as_owner", "_sync_directory")
FILE_STEPS = (os.open, os.write, os.fchown, os.fchmod, os.fsync, os.rename, os.unlink)


def killed_at(step: int, main: Main) -> Main:
    """The module, which is killed by SIGKILL before that step, counted from 1.

    Statements and programs have a second step, right after them: when a program has ended, so that
    the next run does not meet it at work.
    """
    seen = 0

    def watch(frame: Any, event: str, function: Any) -> None:
        nonlocal seen
        if event not in ("c_call", "c_return"):
            return
        if "plugins" in frame.f_code.co_filename and function in FILE_STEPS:
            found = event == "c_call" and frame.f_code.co_name not in NO_STEPS
        else:
            found = bool(seen) and _changes(frame, getattr(function, "__name__", ""))
        if found:
            seen += 1
            if seen == step:
                if event == "c_return" and getattr(function, "__name__", "") == "fork_exec":
                    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
                os.kill(os.getpid(), signal.SIGKILL)

    def killed() -> None:
        sys.setprofile(watch)
        main()

    return killed


def _changes(frame: Any, function_name: str) -> bool:
    """Whether a call of psycopg2's or subprocess's own changes something."""
    if function_name == "execute":
        found = frame.f_locals.get("query", frame.f_locals.get("statement"))
        return not str(found).lstrip().startswith("SELECT") or "pg_reload_conf" in str(found)
    return function_name == "fork_exec" and "systemctl" in str(frame.f_locals.get("args"))


def full_from(step: int, main: Main) -> Main:
    """The module, for which the disk is full from that step on, counted from 1.

    Names can still be changed and removed, as on real file systems. A write writes half.
    """
    seen = 0

    def failing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            if function is os_open and not args[1] & os.O_CREAT:
                return function(*args, **kwargs)
            seen += 1
            if seen < step:
                return function(*args, **kwargs)
            if function is os_write:
                function(args[0], args[1][: len(args[1]) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return call

    os_open, os_write = os.open, os.write

    def full() -> None:
        # In the module's own process, which ends with it.
        for name in ("open", "write", "fsync"):
            setattr(os, name, failing(getattr(os, name)))
        main()

    return full
