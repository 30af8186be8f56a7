# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The running server of a cluster: what it has, and what it is asked to do."""

from __future__ import annotations

import gettext
import time
from typing import Any, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host import files
from ansible_collections.pooled.postgres.plugins.module_utils._secrets import shown_setting
from ansible_collections.pooled.postgres.plugins.module_utils._server.cluster import (
    Cluster,
    telling_lines,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.errors import Refused
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    Definition,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.file import FileRow
from ansible_collections.pooled.postgres.plugins.module_utils._settings.plan import (
    HIDDEN_SOURCES,
    LiveSetting,
    SettingChange,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.values import (
    canonical_setting,
    display,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    ConnectionFailed,
    connect,
    fetch,
    server_message,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import quote_ident

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


class StillStarting(Refused):
    """The server has not answered yet, and has not given up either."""


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
                raise ConnectionFailed("it does not run")
            params["login_unix_socket"], params["login_port"] = running
        return connect(params, autocommit=True, read_only=self.cluster.module.check_mode)

    def rows(self, query: str, values: Sequence[str] = ()) -> list[Any]:
        """Rows of a query."""
        connection = self._connect()
        try:
            return fetch(connection, query, values)
        except connection.Error as error:
            raise Refused(server_message(error)) from error
        finally:
            connection.close()

    def run(self, statements: Sequence[str]) -> None:
        """Run statements that return no rows."""
        connection = self._connect()
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        except connection.Error as error:
            raise Refused(server_message(error)) from error
        finally:
            connection.close()

    def live(self) -> dict[str, LiveSetting]:
        """pg_settings by lower-case name."""
        found = {}
        for row in self.rows(LIVE):
            definition = Definition(
                row.name, row.context, row.vartype, row.unit or "", row.min_val or "",
                row.max_val or "", tuple(row.enumvals or ()), row.boot_val or "",
            )  # fmt: skip
            found[row.name.lower()] = LiveSetting(
                definition, row.setting or "", row.source, row.pending_restart
            )
        return found

    def files(self) -> list[FileRow]:
        """pg_file_settings: what the files say now; errors of a whole file have no name."""
        return [
            FileRow(
                row.sourcefile or "",
                row.sourceline or 0,
                row.name or "",
                row.setting or "",
                row.applied,
                row.error,
            )
            for row in self.rows(FILES)
        ]

    def loaded_at(self) -> Any:
        """When the server last read its files."""
        return self.rows("SELECT pg_conf_load_time() AS loaded")[0].loaded

    def check_logins(self) -> None:
        """Check that it can start again with pg_hba.conf as it is on disk.

        Raises:
            Refused: when not, naming the lines.
        """
        errors = [
            f"pg_hba.conf line {row.line_number}: {row.error}" for row in self.rows(LOGIN_ERRORS)
        ]
        if errors:
            raise Refused(f"it would not start any more: {'; '.join(errors)}")

    def canonical(self, definition: Definition, text: str) -> str:
        """A value of a library's setting as pg_settings shows it.

        What its type does not say, the library does: a session tries the value.

        Raises:
            ValueError: saying why it is not a valid value.
        """
        value = canonical_setting(definition, text)
        known = definition.vartype != "string" or definition.context not in ("user", "superuser")
        if known or shown_setting(definition.name, text) != text:
            return value
        attempt = "SELECT set_config(%s, %s, true) AS value"
        try:
            return str(self.rows(attempt, (definition.name, text))[0].value)
        except Refused as error:
            raise ValueError(str(error)) from error

    def is_fresh(self) -> bool:
        """Whether nobody uses the server yet."""
        return bool(self.rows(FRESH)[0].fresh)

    def has_library(self, name: str) -> bool:
        """Whether a library that must be preloaded is installed."""
        places = self.rows(LIBRARY_PLACES)[0]
        if "/" in name:
            paths = [name.replace("$libdir", places.libdir)]
        else:
            directories = places.path.replace("$libdir", places.libdir).split(":")
            paths = [f"{directory}/{name}" for directory in directories]
        rights = self.cluster.rights_for_reported
        return any(files.exists(path + end, rights) for path in paths for end in ("", ".so"))

    def waiting(self) -> set[str]:
        """Settings that wait for a restart."""
        return {row.definition.name for row in self.live().values() if row.pending_restart}

    def reload(self, expected: Sequence[SettingChange]) -> None:
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
        self.run([f"ALTER SYSTEM RESET {quote_ident(name)}" for name in names])

    def confirm(self, expected: Sequence[SettingChange]) -> None:
        """Check that the server has the values that it must have.

        Raises:
            Refused: when not, naming the settings.
        """
        live = self.live()
        wrong = [denial for change in expected if (denial := self._denies(change, live))]
        if wrong:
            raise Refused(f"it has other values than it must have: {', '.join(wrong)}")

    def _denies(self, change: SettingChange, live: Mapping[str, LiveSetting]) -> str:
        """What the server has instead of a changed setting's value; empty when it has that."""
        row = live.get(change.name.lower())
        if row is None or row.pending_restart or row.source in (*HIDDEN_SOURCES, "override"):
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
        now = display(row.definition, row.setting)
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
            except ConnectionFailed as error:
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
        reported = "FATAL:" in words or "PANIC:" in words
        raise Refused(f"it does not start: {words if reported else f'{answer} {words}'}")

    def _stays(self, pid: int) -> bool:
        """Whether a server that has just answered still does after a while."""
        time.sleep(SETTLE_S)
        try:
            self.rows("SELECT 1 AS one")
        except (ConnectionFailed, Refused):
            return False
        return self.cluster.pid() == pid

    def _is_coming(self) -> bool:
        """Whether systemd takes the service for one that runs or soon will."""
        _code, out, _err = self.cluster.module.run_command(
            ["systemctl", "is-active", self.cluster.service], handle_exceptions=False
        )
        return str(out).strip() in COMING
