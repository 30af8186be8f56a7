# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster on this host: its files, its binary, its process and its log."""

from __future__ import annotations

import grp
import os
import pwd
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._host import conf_file, files
from ansible_collections.pooled.postgres.plugins.module_utils._server.errors import Refused
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    catalog_of,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.file import (
    MARKER,
    FileRow,
    with_candidate,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.plan import LiveSetting
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import os_identity

# A server logs a few lines when it refuses to start; more would be somebody else's.
LOG_LINES = 12
TELLING = (
    *("FATAL:", "PANIC:", "ERROR:", "HINT:", "DETAIL:"),
    *("configuration file", "could not ", "was not reloaded"),
)


@dataclass
class Cluster:
    """Where a cluster's pieces are. C(module) is the AnsibleModule that runs programs."""

    module: Any
    major: int
    config_directory: str
    binary_directory: str
    os_user: str
    service: str
    log_file: str
    _data_directory: str = ""

    @property
    def rights(self) -> files.Rights:
        """With whose rights to work on files that the operator names."""
        return files.Rights(self.os_user)

    @property
    def rights_for_reported(self) -> files.Rights:
        """With whose rights to work on files that the server or its configuration names."""
        return files.Rights(self.os_user, everywhere=True)

    def rights_for(self, path: str) -> files.Rights:
        """The rights for a file that the server names, which may be where the operator has it."""
        own = os.path.dirname(path) == os.path.normpath(self.config_directory)
        return self.rights if own else self.rights_for_reported

    @property
    def main_file(self) -> str:
        """Path of postgresql.conf."""
        return f"{self.config_directory}/postgresql.conf"

    @property
    def drop_in(self) -> str:
        """Path of the managed file."""
        return f"{self.config_directory}/conf.d/zz-pooled.conf"

    @property
    def start_conf(self) -> str:
        """Path of the file in which Debian has whether the server comes back after a reboot."""
        return f"{self.config_directory}/start.conf"

    @property
    def auto_conf(self) -> str:
        """Path of the file that ALTER SYSTEM writes."""
        return f"{self.data_directory}/postgresql.auto.conf"

    @property
    def os_group(self) -> str:
        """Group of the server's OS user."""
        try:
            return grp.getgrgid(pwd.getpwnam(self.os_user).pw_gid).gr_name
        except KeyError:
            return self.os_user

    @property
    def installed(self) -> bool:
        """Whether there is a cluster and a binary for it."""
        binary = f"{self.binary_directory}/postgres"
        return os.access(binary, os.X_OK) and files.exists(self.main_file, self.rights)

    def as_server(self, *command: str, pass_fds: tuple[int, ...] = ()) -> tuple[int, str, str]:
        """Run a program as the server's OS user: Postgres refuses root."""
        demote = ["runuser", "-u", self.os_user, "--"] if os.geteuid() == 0 else []
        code, out, err = self.module.run_command(
            [*demote, *command],
            pass_fds=pass_fds,
            cwd="/",
            environ_update={"LC_ALL": "C", "PGTZ": "UTC"},
        )
        return int(code), str(out), str(err)

    def running_at(self) -> tuple[str, int] | None:
        """Socket directory and port of the running server; None when none runs."""
        lines = self._pid_file() if self.pid() else []
        try:
            return lines[4].split(",")[0].strip(), int(lines[3])
        except (IndexError, ValueError):
            return None

    def pid(self) -> int:
        """Process of the running server; 0 when none runs."""
        try:
            pid = int(self._pid_file()[0])
            return pid if self._is_server(pid) else 0
        except (FileNotFoundError, ProcessLookupError, IndexError, ValueError):
            return 0

    def _pid_file(self) -> list[str]:
        try:
            path = f"{self.data_directory}/postmaster.pid"
            return files.read_text(path, self.rights_for_reported).splitlines()
        except FileNotFoundError:
            return []

    @property
    def starting(self) -> bool:
        """Whether the running server says that it does not take connections yet."""
        return [line.strip() for line in self._pid_file()[7:8]] == ["starting"]

    def _is_server(self, pid: int) -> bool:
        """Whether a process is this cluster's server.

        A crash leaves postmaster.pid behind, and its number may be anybody's by now. A server's
        working directory is its data directory, which in a container not even root may look at,
        but its own OS user may.
        """
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as handle:
            name = handle.read()
        if "postgres" not in name and "postmaster" not in name:
            return False
        try:
            with os_identity(self.os_user):
                return os.path.samefile(f"/proc/{pid}/cwd", self.data_directory)
        except PermissionError:
            # To root as the server's OS user it is somebody else's; for others the name must do.
            return os.geteuid() != 0

    @property
    def data_directory(self) -> str:
        """The data directory, as the configuration names it."""
        if not self._data_directory:
            self._data_directory = ServerBinary(self, "").effective_value("data_directory")
        return self._data_directory

    def log_size(self) -> int:
        """Size of the server's log, to see later what came after."""
        try:
            return files.size_of(self.log_file, self.rights)
        except OSError:
            return 0

    def log_text(self, size: int) -> str:
        """All that the server has logged since."""
        return files.read_bytes(self.log_file, self.rights, size).decode("utf-8", "replace")

    def log_since(self, size: int) -> str:
        """What the server has logged since: its errors if there are any, else its last lines."""
        try:
            text = self.log_text(size)
        except OSError as error:
            return f"(no log: {error})"
        return telling_lines(text) or f"(nothing in {self.log_file})"


def telling_lines(text: str) -> str:
    """Lines of a log that say what went wrong; the last ones when none is known to.

    For people only: in other languages than English the words are others.
    """
    lines = text.splitlines()
    telling = [line for line in lines if any(mark in line for mark in TELLING)]
    return "\n".join((telling or lines)[-LOG_LINES:])


class ServerBinary:
    """The server's program, asked what it makes of the cluster's configuration.

    It reads the whole of it with another text in the managed file's place, from memory: nothing is
    written anywhere.
    """

    def __init__(self, cluster: Cluster, drop_in_text: str) -> None:
        self._cluster = cluster
        self._text = drop_in_text
        self._main_text = files.read_text(cluster.main_file, cluster.rights, "surrogateescape")

    @property
    def included_at(self) -> int:
        """Line of postgresql.conf that includes the managed file; 0 when none does."""
        return self._main("")[1]

    def effective_value(self, name: str, values: Mapping[str, str] = MappingProxyType({})) -> str:
        """A setting's value as the server would have it, in canonical form.

        Args:
            name: the setting.
            values: settings to take from here instead of from the files.

        Raises:
            Refused: when the server would not start with that; with its own words.
        """
        candidate = os.memfd_create("zz-pooled.conf")
        main = os.memfd_create("postgresql.conf")
        try:
            candidate_path, main_path = f"/proc/self/fd/{candidate}", f"/proc/self/fd/{main}"
            with open(candidate, "w", encoding="utf-8", closefd=False) as handle:
                handle.write(f"{self._text}\n{MARKER} = 'read'\n")
            with open(main, "w", encoding="utf-8", errors="surrogateescape", closefd=False) as out:
                out.write(self._main(candidate_path)[0])
            # Its words are passed on, so that they are to be in English.
            given = {"lc_messages": "C"} if name != "lc_messages" else {}
            given.update(values)
            overriding = [argument for key in given for argument in ("-c", f"{key}={given[key]}")]
            cluster = self._cluster
            code, answer, words = cluster.as_server(
                f"{cluster.binary_directory}/postgres",
                *("-D", cluster.config_directory, "-c", f"config_file={main_path}"),
                *("-C", name, *overriding),
                pass_fds=(candidate, main),
            )
        finally:
            os.close(candidate)
            os.close(main)
        if code != 0:
            words = words.replace(candidate_path, cluster.drop_in)
            raise Refused(_own_words(words.replace(main_path, cluster.main_file)))
        return answer[:-1] if answer.endswith("\n") else answer

    def validate(self) -> None:
        """Have the server's binary read the whole configuration.

        Raises:
            Refused: when it would not start with it, or does not read the managed file at all.
        """
        if not self.included_at:
            raise Refused(
                f"{self._cluster.main_file} does not include {self._cluster.drop_in}:"
                " add the line include_dir = 'conf.d' at its end"
            )
        main, directory = self._cluster.main_file, self._cluster.drop_in.rpartition("/")[0]
        for path, right in ((main, "-r"), (directory, "-x")):
            if self._cluster.as_server("test", right, path)[0] != 0:
                raise Refused(f"{path} is not readable for {self._cluster.os_user}")
        self.effective_value(MARKER)

    def at_rest(self, names: Iterable[str]) -> tuple[dict[str, LiveSetting], list[FileRow]]:
        """What pg_settings and pg_file_settings would say of a server that is stopped.

        Of the files, only postgresql.auto.conf is reported.
        """
        held = {name.lower() for name in names} | set(dict(_entries(self._text)))
        live = {}
        for key, definition in catalog_of(self._cluster.major).items():
            setting = definition.default
            if key in held:
                try:
                    setting = self.effective_value(key)
                except Refused:
                    setting = "(unreadable)"
            live[key] = LiveSetting(definition, setting)
        path = self._cluster.auto_conf
        text = files.read_file(path, self._cluster.rights_for_reported).content or ""
        rows = [FileRow(path, 0, name, value, True) for name, value in _entries(text)]
        return live, rows

    def _main(self, candidate_path: str) -> tuple[str, int]:
        cluster = self._cluster
        return with_candidate(
            self._main_text, cluster.main_file, cluster.drop_in, candidate_path, self._names_in
        )

    def _names_in(self, directory: str) -> list[str]:
        return files.names_in(directory, self._cluster.rights_for_reported)


def _entries(text: str) -> list[tuple[str, str]]:
    try:
        return conf_file.parse(text)
    except ValueError:
        return []


def _own_words(text: str) -> str:
    """Log lines without their time and process, and without what only repeats them."""
    words = [re.sub(r"^.*?(?:LOG|FATAL):  ", "", line).strip() for line in text.splitlines()]
    return "; ".join(word for word in words if word)
