# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One place opens connections, and says what their sessions are; nothing else changes that."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._sql import connection

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
# They run beside PgBouncer without the collection. One speaks to its console alone; the other one
# says itself what its sessions are.
STANDALONE = (
    ROOT / "roles" / "pgbouncer_exporter" / "files" / "pgbouncer_exporter.py",
    ROOT / "roles" / "pgbouncer" / "files" / "pgbouncer_migrations.py",
)
INFO = [path for path in PLUGINS if path.name.endswith("_info.py")]


def calls(path: Path, wanted: str) -> Iterator[tuple[str, ast.Call]]:
    """Calls of a function by that name, bare or of another module, with the function around."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for around in ast.walk(tree):
        if isinstance(around, ast.FunctionDef):
            for node in ast.walk(around):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                    wanted,
                    wanted.rpartition(".")[2],
                ):
                    yield around.name, node


def uses_postgres_connect(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    return bool(re.search(r"_sql\.connection import \([^)]*\bconnect,|connection\.connect\(", text))


def test_one_function_connects() -> None:
    paths = [*PLUGINS, *sorted((ROOT / "roles").rglob("*.py")), *ROOT.glob("playbooks/**/*.py")]
    found = {
        (path.name, ast.unparse(around))
        for path in paths
        for around in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(around, ast.Attribute) and ast.unparse(around) == "psycopg2.connect"
    }
    assert found == {
        ("connection.py", "psycopg2.connect"),
        *((path.name, "psycopg2.connect") for path in STANDALONE),
    }
    path = ROOT / "plugins" / "module_utils" / "_sql" / "connection.py"
    assert [name for name, _call in calls(path, "psycopg2.connect") if name != "connect"] == [
        "_open"
    ]
    imports = re.compile(r"^\s*(?:import|from) (?:psycopg|pg8000|asyncpg)", re.MULTILINE)
    others = {path.name for path in paths if imports.search(path.read_text(encoding="utf-8"))}
    assert others == {"connection.py", *(path.name for path in STANDALONE)}


@pytest.mark.parametrize(
    "path", [path for path in PLUGINS if uses_postgres_connect(path)], ids=lambda path: path.name
)
def test_each_connection_says_whether_it_writes(path: Path) -> None:
    found = [call for _name, call in calls(path, "connection.connect")]
    assert found
    for call in found:
        (value,) = [word.value for word in call.keywords if word.arg == "read_only"]
        if path in INFO:
            assert ast.unparse(value) == "True"
        else:
            assert "check_mode" in ast.unparse(value) or ast.unparse(value) in (
                "True",
                "self.read_only",
            )


def test_nothing_takes_a_session_back() -> None:
    undone = re.compile(
        r"set_session|SET (?:LOCAL |SESSION )?search_path|set_config\('search_path'"
        r"|RESET (?:ALL|search_path)|SET (?:LOCAL )?row_security",
    )
    for path in PLUGINS:
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"SECURITY DEFINER SET search_path", "", text)
        text = re.sub(r"ALTER ROLE [^\"]*RESET ALL", "", text)
        found = undone.findall(text)
        if path.parts[-2:] == ("_sql", "connection.py"):
            # Through PgBouncer, which takes no options.
            assert found == ["set_session"]
        else:
            assert found == [], path.name


# (options that the user gives, read-only, what must be in there, last)
OPTIONS = [
    (None, False, "-c role=none -c search_path=pg_catalog -c row_security=off"),
    ("-c search_path=public", True, "-c default_transaction_read_only=on"),
]


@pytest.mark.parametrize(("given", "read_only", "pinned"), OPTIONS)
def test_what_a_user_gives_comes_before_what_is_pinned(
    monkeypatch: pytest.MonkeyPatch, given: str | None, read_only: bool, pinned: str
) -> None:
    seen: dict[str, str] = {}
    first: list[list[str]] = []

    class Connection:
        autocommit = False
        server_version = 170004

        def get_parameter_status(self, name: str) -> str:
            assert name == "is_superuser"
            return "on" if read_only else "off"

        def cursor(self, **_options: object) -> Any:
            pinned = {**connection.SESSION, **(connection.READ_ONLY if read_only else {})}
            cursor = MagicMock()
            opened = cursor.__enter__.return_value
            opened.fetchone.return_value = tuple(
                pinned[name] for name in ("search_path", *connection.READ_ONLY)
            )
            opened.execute.side_effect = lambda _query, *values: first.extend(
                one["names"] for one in values
            )
            return cursor

    def connect(async_: bool = False, **arguments: str) -> Connection:
        seen.update(arguments)
        return Connection()

    monkeypatch.setattr(connection.psycopg2, "connect", connect)
    params = {
        "login_host": "", "login_unix_socket": "/run", "login_port": 5432, "login_user": "u",
        "login_password": None, "login_db": "d", "login_os_user": "", "ssl_mode": "prefer",
        "ca_cert": None, "ssl_cert": None, "ssl_key": None,
        "connect_params": {"options": given, "client_encoding": "LATIN1"},
    }  # fmt: skip
    connection.connect(params, read_only=read_only)
    assert pinned in seen["options"]
    assert seen["options"].startswith(given or "-c role=none")
    timeouts = ["idle_session_timeout", "transaction_timeout"]
    assert first == [[*timeouts, *(["lc_messages"] if read_only else [])]]
    last = seen["options"].rpartition("-c default_transaction_read_only=")[2]
    assert last.startswith("on" if read_only else "off ")
    assert seen["options"].rindex("search_path=pg_catalog") >= seen["options"].index("search_path=")
    assert seen["client_encoding"] == "UTF8"
    seen.clear()
    connection.connect_console(params)
    assert "-c search_path=pg_catalog" not in str(seen.get("options"))


def test_options_are_written_as_the_server_reads_them() -> None:
    assert (
        connection.session_options({"a": "read committed", "b": "", "c": "x\\y"})
        == "-c a=read\\ committed -c b= -c c=x\\\\y"
    )


REFUSALS = [
    ('FATAL:  no pg_hba.conf entry for host "[local]", user "postgres"', True),
    ("FATAL:  kein pg_hba.conf-Eintrag für Host »[local]«, Benutzer »postgres«", True),
    ('FATAL:  Peer authentication failed for user "postgres"', True),
    ("FATAL:  Peer-Authentifizierung für Benutzer »postgres« fehlgeschlagen", True),
    ("FATAL:  authentification peer échouée pour l'utilisateur « postgres »", True),
    ("fe_sendauth: no password supplied", True),
    ("connection to server on socket failed: No such file or directory", False),
    ("FATAL:  the database system is starting up", False),
    ("FATAL:  sorry, too many clients already", False),
]


@pytest.mark.parametrize(("text", "refused"), REFUSALS)
def test_a_refused_login_is_told_from_a_server_that_is_away(text: str, refused: bool) -> None:
    assert bool(connection.refusal(text, "postgres", "postgres")) == refused


def test_a_refused_login_of_another_os_user_needs_a_map() -> None:
    advice = connection.refusal("no pg_hba.conf entry", "postgres", "dba")
    assert "OS user 'dba' log in as 'postgres'" in advice
    assert "with a map that lets 'dba' be 'postgres'" in advice
