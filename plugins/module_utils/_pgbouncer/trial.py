# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trial starts: a PgBouncer of its own beside the one that runs, with what is to run next."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

from ansible_collections.pooled.postgres.plugins.module_utils._host import identity
from ansible_collections.pooled.postgres.plugins.module_utils._host.files import Rights
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    console,
    hba,
    ini,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.differences import (
    Desired,
    described,
    differences,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.running import Running
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.service import (
    START_TIMEOUT_S,
    PgBouncerError,
    complaints,
    log_text,
)

# Where any user may make a directory that is its own, with a path short enough for a socket.
# TMPDIR may be root's alone.
_TRIAL_PLACE = "/tmp"  # noqa: S108 - the directory's name is random, and its mode 0700


def try_out(binary: str, desired: Desired, os_user: str, rules: str = "") -> None:
    """Start a PgBouncer of its own, beside the running one, with what is desired; then stop it.

    It listens on nothing but a socket in a private directory and has no users. It runs as
    C(os_user), since the one that is desired may be yet to be created.

    Args:
        binary: path of the program.
        desired: what is to run.
        os_user: an OS user that exists.
        rules: the file with rules for logins, where it is not there yet.

    Raises:
        PgBouncerError: when it does not come up, understands a value otherwise, or drops a rule.
    """
    user = pwd.getpwnam(os_user)
    # All of it is that user's own, made with its rights: root never touches what is in there.
    with identity.acting_as(user):
        directory = tempfile.mkdtemp(prefix="pgbouncer-", dir=_TRIAL_PLACE)
    process = None
    try:
        place = {name: os.path.join(directory, name) for name in ("logfile", "pidfile")}
        place["auth_file"] = os.path.join(directory, "userlist.txt")
        place["unix_socket_dir"] = directory
        if rules:
            place["auth_hba_file"] = os.path.join(directory, hba.FILE_NAME)
        options = {**desired.options, **place, "listen_addr": ""}
        for name in ("unix_socket_mode", "user"):
            options.pop(name, None)
        trial = replace(desired, options=options, descriptors=0, certificate="", os_user="")
        config_file = os.path.join(directory, "pgbouncer.ini")
        for path, content in (
            (place["auth_file"], ""),
            *([(place["auth_hba_file"], rules)] if rules else []),
            (
                config_file,
                ini.render_ini(options, trial.databases, trial.users, [], peers=trial.peers),
            ),
        ):
            with identity.acting_as(user):
                Path(path).write_bytes(content.encode("utf-8"))
        with tempfile.TemporaryFile("w+b") as printed:
            process = _spawn([binary, config_file], user, printed)
            port = int(desired.options["listen_port"])
            found = _trial_state(process, directory, port, os_user)
            log = log_text(place["logfile"], Rights(os_user, everywhere=True))
            words = complaints(log)
            if found is None:
                # What happens before it opens its log is only printed.
                printed.seek(0)
                words = words or complaints(printed.read().decode("utf-8", "replace"))
                raise PgBouncerError(
                    f"PgBouncer does not start with it: {words or _ended(process.poll())}"
                )
        dropped = hba.complaints(log_text(place["logfile"], Rights(os_user, everywhere=True)))
        if dropped:
            files = [] if rules else hba.own_files(desired.options)
            raise PgBouncerError(hba.dropped(dropped, files))
        wrong = differences(trial, found)
        if wrong:
            raise PgBouncerError(f"PgBouncer understands it otherwise: {described(wrong)}. {words}")
    finally:
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            process.wait()
        with identity.acting_as(user):
            # Somebody may have put something else there; that stays.
            shutil.rmtree(directory, ignore_errors=True)


def _trial_state(
    process: subprocess.Popen[bytes], directory: str, port: int, os_user: str
) -> Running | None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with console.opened(directory, port, os_user) as its_console:
                return its_console.running(None)
        except console.ConsoleError:
            time.sleep(0.05)
    return None


def _ended(code: int | None) -> str:
    """What became of a PgBouncer that said nothing."""
    if code is None:
        return f"it did not answer on its console within {START_TIMEOUT_S} s"
    return f"it ended with exit code {code} and no message"


def _spawn(
    command: list[str], user: pwd.struct_passwd, output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a program as a user, for half a minute at most even if this process is killed."""
    return subprocess.Popen(
        [*identity.words_before(user), "timeout", "30", *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd="/",
    )
