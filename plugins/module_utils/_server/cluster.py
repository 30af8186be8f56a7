# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster on this host: its binary, its process, its service and its log."""

from __future__ import annotations

import gettext
import grp
import os
import pwd
import re
import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host import (
    conf_file as _conf_file,
    files as _files,
)
from ansible_collections.pooled.postgres.plugins.module_utils._secrets import shown_setting
from ansible_collections.pooled.postgres.plugins.module_utils._settings import settings as _guc
from ansible_collections.pooled.postgres.plugins.module_utils._sql import connection as _postgres

# A server logs a few lines when it refuses to start; more would be somebody else's.
LOG_LINES = 12
TELLING = (
    *("FATAL:", "PANIC:", "ERROR:", "HINT:", "DETAIL:"),
    *("configuration file", "could not ", "was not reloaded"),
)
# What a server logs, in the language of its lc_messages, when it goes on with its old TLS.
TLS_NOT_RELOADED = "SSL configuration was not reloaded"
RELOAD_TIMEOUT_S = 15
POLL_S = 0.1
# How long the logging collector may take to write what the server has said.
COLLECTOR_S = 0.5
# How long a restarted server has to stay up after its first answer.
SETTLE_S = 1.0
COMING = ("active", "activating", "reloading")

# reset_val, because setting goes through functions that show something else: keepalives are 0 over
# a unix socket, file modes are octal.
LIVE = """
SELECT name, reset_val AS setting, unit, vartype, min_val, max_val, enumvals, boot_val, context,
       source, pending_restart
FROM pg_settings
"""
FILES = """
SELECT sourcefile, sourceline, name, setting, applied, error FROM pg_file_settings ORDER BY seqno
"""
# Nobody uses the server yet: nothing is in it and nobody else is connected.
FRESH = """
SELECT NOT pg_is_in_recovery()
   AND NOT EXISTS (SELECT FROM pg_database
                   WHERE datname NOT IN ('postgres', 'template0', 'template1'))
   AND NOT EXISTS (SELECT FROM pg_roles WHERE rolcanlogin AND oid <> 10)
   AND NOT EXISTS (SELECT FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'p', 'm'))
   AND NOT EXISTS (SELECT FROM pg_replication_slots)
   AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid()
                   AND backend_type IN ('client backend', 'walsender')) AS fresh
"""
LOGIN_ERRORS = "SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL"
LIBRARY_PLACES = """
SELECT current_setting('dynamic_library_path') AS path,
       (SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR') AS libdir
"""
LANGUAGE = """
SELECT reset_val AS language, (SELECT setting FROM pg_config WHERE name = 'LOCALEDIR') AS directory
FROM pg_settings WHERE name = 'lc_messages'
"""


class Refused(Exception):
    """The server's binary, or the server, does not take it; the text is its own words."""


class StillStarting(Refused):
    """The server has not answered yet, and has not given up either."""


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
    def rights(self) -> _files.Rights:
        """With whose rights to work on files that the operator names."""
        return _files.Rights(self.os_user)

    @property
    def rights_for_reported(self) -> _files.Rights:
        """With whose rights to work on files that the server or its configuration names."""
        return _files.Rights(self.os_user, everywhere=True)

    def rights_for(self, path: str) -> _files.Rights:
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
        return os.access(binary, os.X_OK) and _files.exists(self.main_file, self.rights)

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
            return _files.read_text(path, self.rights_for_reported).splitlines()
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
            with _postgres.os_identity(self.os_user):
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
            return _files.size_of(self.log_file, self.rights)
        except OSError:
            return 0

    def log_text(self, size: int) -> str:
        """All that the server has logged since."""
        return _files.read_bytes(self.log_file, self.rights, size).decode("utf-8", "replace")

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
    told = [line for line in lines if any(mark in line for mark in TELLING)]
    return "\n".join((told or lines)[-LOG_LINES:])


class ServerBinary:
    """The server's program, asked what it makes of the cluster's configuration.

    It reads the whole of it with another text in the managed file's place, from memory: nothing is
    written anywhere.
    """

    def __init__(self, cluster: Cluster, drop_in_text: str) -> None:
        self._cluster = cluster
        self._text = drop_in_text
        self._main_text = _files.read_text(cluster.main_file, cluster.rights, "surrogateescape")

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
                handle.write(f"{self._text}\n{_guc.MARKER} = 'read'\n")
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
        self.effective_value(_guc.MARKER)

    def at_rest(self, names: Iterable[str]) -> tuple[dict[str, _guc.Live], list[_guc.FileRow]]:
        """What pg_settings and pg_file_settings would say of a server that is stopped.

        Of the files, only postgresql.auto.conf is told.
        """
        held = {name.lower() for name in names} | set(dict(_entries(self._text)))
        live = {}
        for key, definition in _guc.catalog_of(self._cluster.major).items():
            setting = definition.default
            if key in held:
                try:
                    setting = self.effective_value(key)
                except Refused:
                    setting = "(unreadable)"
            live[key] = _guc.Live(definition, setting)
        path = self._cluster.auto_conf
        text = _files.read_file(path, self._cluster.rights_for_reported).content or ""
        rows = [_guc.FileRow(path, 0, name, value, True) for name, value in _entries(text)]
        return live, rows

    def _main(self, candidate_path: str) -> tuple[str, int]:
        cluster = self._cluster
        return _guc.with_candidate(
            self._main_text, cluster.main_file, cluster.drop_in, candidate_path, self._names_in
        )

    def _names_in(self, directory: str) -> list[str]:
        return _files.names_in(directory, self._cluster.rights_for_reported)


def _entries(text: str) -> list[tuple[str, str]]:
    try:
        return _conf_file.parse(text)
    except ValueError:
        return []


def _own_words(text: str) -> str:
    """Log lines without their time and process, and without what only repeats them."""
    words = [re.sub(r"^.*?(?:LOG|FATAL):  ", "", line).strip() for line in text.splitlines()]
    return "; ".join(word for word in words if word)


class RunningServer:
    """The running server of a cluster; each question is a connection of its own."""

    def __init__(self, cluster: Cluster, params: dict[str, Any]) -> None:
        self.cluster = cluster
        self.params = params

    def runs(self) -> bool:
        """Whether there is a server to ask; of one elsewhere that is taken for granted."""
        return bool(self.params["login_host"]) or self.cluster.running_at() is not None

    def _connect(self) -> Any:
        params = dict(self.params)
        if not params["login_host"]:
            running = self.cluster.running_at()
            if running is None:
                raise _postgres.ConnectionFailed("it does not run")
            params["login_unix_socket"], params["login_port"] = running
        return _postgres.connect(params, autocommit=True, read_only=self.cluster.module.check_mode)

    def rows(self, query: Any) -> list[Any]:
        """Rows of a query."""
        connection = self._connect()
        try:
            return _postgres.fetch(connection, query)
        except _postgres.psycopg2.Error as error:
            raise Refused(_postgres.server_message(error)) from error
        finally:
            connection.close()

    def run(self, statements: Sequence[Any]) -> None:
        """Run statements that are no queries."""
        connection = self._connect()
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        except _postgres.psycopg2.Error as error:
            raise Refused(_postgres.server_message(error)) from error
        finally:
            connection.close()

    def live(self) -> dict[str, _guc.Live]:
        """pg_settings by lower-case name."""
        found = {}
        for row in self.rows(LIVE):
            definition = _guc.Definition(
                row.name, row.context, row.vartype, row.unit or "", row.min_val or "",
                row.max_val or "", tuple(row.enumvals or ()), row.boot_val or "",
            )  # fmt: skip
            found[row.name.lower()] = _guc.Live(
                definition, row.setting or "", row.source, row.pending_restart
            )
        return found

    def files(self) -> list[_guc.FileRow]:
        """pg_file_settings: what the files say now; errors of a whole file have no name."""
        return [
            _guc.FileRow(row.sourcefile or "", row.sourceline or 0, row.name or "",
                         row.setting or "", row.applied, row.error)
            for row in self.rows(FILES)
        ]  # fmt: skip

    def loaded_at(self) -> Any:
        """When the server last read its files."""
        return self.rows("SELECT pg_conf_load_time() AS loaded")[0].loaded

    def check_logins(self) -> None:
        """See that it can start again with pg_hba.conf as it is on disk.

        Raises:
            Refused: when not, naming the lines.
        """
        errors = [
            f"pg_hba.conf line {row.line_number}: {row.error}" for row in self.rows(LOGIN_ERRORS)
        ]
        if errors:
            raise Refused(f"it would not start any more: {'; '.join(errors)}")

    def canonical(self, definition: _guc.Definition, text: str) -> str:
        """A value of a library's setting as pg_settings shows it.

        What its type does not say, the library does: a session tries the value.

        Raises:
            ValueError: saying why it is not a valid value.
        """
        value = _guc.canonical(definition, text)
        known = definition.vartype != "string" or definition.context not in ("user", "superuser")
        if known or shown_setting(definition.name, text) != text:
            return value
        attempt = _postgres.sql.SQL("SELECT set_config({}, {}, true) AS value").format(
            _postgres.sql.Literal(definition.name), _postgres.sql.Literal(text)
        )
        try:
            return str(self.rows(attempt)[0].value)
        except Refused as error:
            raise ValueError(str(error)) from error

    def is_fresh(self) -> bool:
        """Whether nobody uses the server yet."""
        return bool(self.rows(FRESH)[0].fresh)

    def has_library(self, name: str) -> bool:
        """Whether a library that shall be preloaded is installed."""
        places = self.rows(LIBRARY_PLACES)[0]
        if "/" in name:
            paths = [name.replace("$libdir", places.libdir)]
        else:
            directories = places.path.replace("$libdir", places.libdir).split(":")
            paths = [f"{directory}/{name}" for directory in directories]
        rights = self.cluster.rights_for_reported
        return any(_files.exists(path + end, rights) for path in paths for end in ("", ".so"))

    def waiting(self) -> set[str]:
        """Settings that wait for a restart."""
        return {row.definition.name for row in self.live().values() if row.pending_restart}

    def reload(self, expected: Sequence[_guc.Change]) -> None:
        """Have the server read its files, and wait until it confirms.

        Raises:
            Refused: when it does not; with its own words.
        """
        before = self.loaded_at()
        size = self.cluster.log_size()
        self.run(["SELECT pg_reload_conf()"])
        deadline = time.monotonic() + RELOAD_TIMEOUT_S
        while True:
            wrong = []
            if self.loaded_at() > before:
                live = self.live()
                wrong = [change.name for change in expected if self._denies(change, live)]
                if not wrong:
                    break
            if time.monotonic() > deadline:
                what = ", ".join(wrong) or "the files"
                raise Refused(f"did not take {what}: {self.cluster.log_since(size)}")
            time.sleep(POLL_S)
        # It takes the name of a certificate before it looks at the file.
        if any(change.name.startswith("ssl") for change in expected):
            if live["logging_collector"].setting == "on":
                time.sleep(COLLECTOR_S)
            text = self.cluster.log_text(size)
            for said in (TLS_NOT_RELOADED, self.translated(TLS_NOT_RELOADED)):
                if said in text:
                    # The reason is right above it; below may be statements of all sessions.
                    raise Refused(telling_lines(text[: text.rindex(said) + len(said)]))

    def translated(self, text: str) -> str:
        """A text of the server in the language in which it logs."""
        found = self.rows(LANGUAGE)[0]
        domain = f"postgres-{self.cluster.major}"
        languages = [found.language or "C"]
        catalog = gettext.translation(domain, found.directory, languages, fallback=True)
        return catalog.gettext(text)

    def reset(self, names: Sequence[str]) -> None:
        """Take settings out of postgresql.auto.conf."""
        reset = _postgres.sql.SQL("ALTER SYSTEM RESET {}")
        self.run([reset.format(_postgres.sql.Identifier(name)) for name in names])

    def confirm(self, expected: Sequence[_guc.Change]) -> None:
        """See that the server has the values that it shall have.

        Raises:
            Refused: when not, naming the settings.
        """
        live = self.live()
        wrong = [denial for change in expected if (denial := self._denies(change, live))]
        if wrong:
            raise Refused(f"it has other values than it must have: {', '.join(wrong)}")

    def _denies(self, change: _guc.Change, live: Mapping[str, _guc.Live]) -> str:
        """What the server has instead of a changed setting's value; empty when it has that."""
        row = live.get(change.name.lower())
        if row is None or row.pending_restart or row.source in (*_guc.HIDDEN_SOURCES, "override"):
            return ""
        if row.setting == change.expected:
            return ""
        if row.source == "default" and change.expected == row.definition.default:
            # Such as -1, of which the server works out the value.
            return ""
        reason = ""
        if "." in change.name:
            # The library may have been loaded since: only now is known what the value's text means.
            try:
                if self.canonical(row.definition, change.expected) == row.setting:
                    return ""
            except ValueError as error:
                reason = f" ({error})"
        now = _guc.display(row.definition, row.setting)
        return f"{change.name} is {shown_setting(change.name, now)}, not {change.after}{reason}"

    def restart(self, timeout_s: int) -> None:
        """Restart the service, and wait until the server answers and stays up.

        Raises:
            StillStarting: when it has not answered in time, but says that it is starting.
            Refused: when it does not; with its own words.
        """
        cluster = self.cluster
        size, old = cluster.log_size(), cluster.pid()
        code, _out, err = cluster.module.run_command(
            ["systemctl", "restart", cluster.service], handle_exceptions=False
        )
        deadline = time.monotonic() + timeout_s
        answer = err.strip() if code else ""
        while True:
            pid = cluster.pid()
            if old and pid == old:
                raise Refused(
                    f"{cluster.service} does not restart it, process {pid} goes on: {answer}"
                )
            try:
                self.rows("SELECT 1 AS one")
            except _postgres.ConnectionFailed as error:
                answer = answer or str(error)
            else:
                if self._stays(pid):
                    return
                raise Refused(f"it answered, and ended at once: {cluster.log_since(size)}")
            if time.monotonic() > deadline:
                if cluster.starting:
                    raise StillStarting(f"it still starts after {timeout_s} s: {answer}")
                break
            # A service whose command failed, or that says that it is down, does not come later.
            if not cluster.pid() and (code or not self._is_coming()):
                break
            time.sleep(POLL_S)
        words = cluster.log_since(size)
        told = "FATAL:" in words or "PANIC:" in words
        raise Refused(f"it does not start: {words if told else f'{answer} {words}'}")

    def _stays(self, pid: int) -> bool:
        """Whether a server that has just answered still does after a while."""
        time.sleep(SETTLE_S)
        try:
            self.rows("SELECT 1 AS one")
        except (_postgres.ConnectionFailed, Refused):
            return False
        return self.cluster.pid() == pid

    def _is_coming(self) -> bool:
        """Whether systemd takes the service for one that runs or soon will."""
        _code, out, _err = self.cluster.module.run_command(
            ["systemctl", "is-active", self.cluster.service], handle_exceptions=False
        )
        return str(out).strip() in COMING
