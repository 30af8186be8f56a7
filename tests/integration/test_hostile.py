# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A migrator fills its schemas with traps; nothing that we do with other rights steps into one.

Each trap says in the server's log who called it, whatever becomes of the transaction.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.unit.test_exporters import queries

from .clusters import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
PLANT = (ROOT / "molecule" / "hostile" / "files" / "plant.sql").read_text(encoding="utf-8")
CALLED = re.compile(r"LOG:  hostile (.+?) called by (\S+) as (\S+)")
PINNED = "-c search_path=pg_catalog"
EXTENSION = "pg_stat_statements"
Run = Callable[..., dict[str, Any]]


def model(which: str, *more: dict[str, Any], **database: Any) -> list[dict[str, Any]]:
    """An application's database, and the maintenance database too."""
    return [
        {
            "name": "mydb",
            "schemas": ["app", "public"],
            "roles": [
                {"name": "app_migrator", "kind": "migrator", "password": f"m {which}"},
                {"name": "app_user", "kind": "user", "password": f"u {which}"},
                {"name": "app_reader", "kind": "reader"},
                *more,
            ],
            **database,
        },
        {
            "name": "postgres",
            "schemas": ["public"],
            "roles": [{"name": "app_migrator", "kind": "migrator", "password": f"m {which}"}],
        },
    ]


class Trapped:
    """A server with traps, and what of them was called since."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self._seen = 0

    def called(self) -> list[tuple[str, ...]]:
        """Trap, session's user and current user of each call by somebody else than the migrator."""
        found = CALLED.findall(self.cluster.log()[self._seen :])
        self._seen = len(self.cluster.log())
        return sorted({call for call in found if call[1] not in ("app_migrator", "former")})

    def sql(self, statement: str, dbname: str = "postgres") -> list[Any]:
        """Rows of a superuser's statement that steps into nothing."""
        with self.cluster.connect(dbname, options=PINNED) as connection:
            cursor = connection.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []


@pytest.fixture(scope="module")
def trapped(major: int, make_cluster: Callable[[int], Any], run_module: Run) -> Iterator[Trapped]:
    cluster = make_cluster(major)
    former = {"name": "former", "kind": "migrator"}
    done = run_module("postgres_access", {**cluster.login, "databases": model("one", former)})
    assert "msg" not in done, done
    with cluster.connect("mydb", "former") as connection:
        connection.execute(
            "CREATE TABLE app.old (i int); CREATE FUNCTION app.old() RETURNS int LANGUAGE sql"
            " SECURITY DEFINER AS 'SELECT 1'"
        )
    for dbname, schema in (("mydb", "app"), ("mydb", "public"), ("postgres", "public")):
        with cluster.connect(dbname, "app_migrator") as connection:
            connection.execute(f"SET hostile.schema = {schema}")
            connection.execute(PLANT)
            # Nobody but a superuser makes what the server itself would call.
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(
                    "CREATE EVENT TRIGGER trap ON ddl_command_end EXECUTE FUNCTION"
                    f" {schema}.trapped()"
                )
    server = Trapped(cluster)
    for dbname, path in (("mydb", "app, public, pg_catalog"), ("postgres", "public, pg_catalog")):
        server.sql(f"ALTER DATABASE {dbname} SET search_path = {path}")
    yield server
    cluster.stop()


@pytest.fixture(autouse=True)
def nothing_stepped_into(trapped: Trapped) -> Iterator[None]:
    """What each test here is about, whatever else it looks at."""
    trapped.called()
    yield
    assert trapped.called() == []
    assert trapped.sql("SELECT rolname FROM pg_roles WHERE rolsuper") == [("postgres",)]


def test_traps_work(trapped: Trapped) -> None:
    """A superuser's session that does not take care steps into them."""
    careless = "SELECT oid <> 10, count(*) FROM pg_roles WHERE rolname = 'x'::text GROUP BY 1"
    with trapped.cluster.connect() as connection:
        connection.execute(careless)
    names = {what for what, user, _current in trapped.called() if user == "postgres"}
    assert {"pg_roles", "type text"} <= names
    assert trapped.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'app_migrator'") == [(True,)]
    trapped.sql("ALTER ROLE app_migrator NOSUPERUSER")


@pytest.mark.parametrize("check", [True, False], ids=["check", "run"])
def test_access(trapped: Trapped, run_module: Run, check: bool) -> None:
    """New passwords, rights that drifted, a role that goes, and an extension that comes."""
    cluster = trapped.cluster
    with cluster.connect("mydb", "app_migrator", options=PINNED) as connection:
        connection.execute("REVOKE SELECT ON app.trap FROM app_reader")
    available = trapped.sql(
        f"SELECT name FROM pg_available_extensions WHERE name IN ('{EXTENSION}', 'plpgsql')"
    )
    gone = {"name": "former", "state": "absent", "reassign_owned_to": "app_migrator"}
    # Into a schema where the migrator creates, which nothing but the model puts it in.
    listed = [
        {"name": name, "schema": "public"} if name == EXTENSION else name
        for (name,) in sorted(available)
    ]
    databases = model("two", gone, extensions=listed)
    done = run_module("postgres_access", {**cluster.login, "databases": databases}, check=check)
    assert "msg" not in done, done
    statements = [one["statement"] for one in done["statements"]]
    assert "REASSIGN OWNED BY former TO app_migrator" in statements
    assert "DROP ROLE former" in statements
    assert any("app.trap TO app_reader" in text or "SCHEMA app TO" in text for text in statements)
    if (EXTENSION,) in available:
        assert f"CREATE EXTENSION {EXTENSION} SCHEMA pooled_extension" in statements
    assert any("database 'postgres' is where superusers" in text for text in done["warnings"])
    if not check:
        again = run_module("postgres_access", {**cluster.login, "databases": databases})
        assert again["statements"] == []
        assert cluster.can_log_in("app_user", "u two", "mydb")
        place = "SELECT extname, extnamespace::regnamespace::text FROM pg_extension"
        assert trapped.sql(place + " ORDER BY 1", "mydb") == [
            (name, "public" if name == EXTENSION else "pg_catalog")
            for name in sorted(name for (name,) in available)
        ]
        assert (
            trapped.sql("SELECT nspname FROM pg_namespace WHERE nspname ~ 'pooled'", "mydb") == []
        )


@pytest.mark.parametrize("check", [True, False], ids=["check", "run"])
def test_monitor_and_its_queries(trapped: Trapped, run_module: Run, check: bool) -> None:
    cluster = trapped.cluster
    arguments = {**cluster.login, "databases": ["mydb"], "extensions": ["plpgsql"]}
    done = run_module("postgres_monitor", arguments, check=check)
    assert done["changed"]
    if check:
        return
    assert not run_module("postgres_monitor", arguments)["changed"]
    for name, query in queries(cluster.major).items():
        for dbname in ("postgres",) if query.get("master") else ("postgres", "mydb"):
            if "statement" in name:
                continue  # their views are asked for in Molecule, where they are
            with cluster.connect(dbname, "prometheus") as connection:
                connection.execute(query["query"])


@pytest.mark.parametrize("check", [True, False], ids=["check", "run"])
def test_audit_and_sessions(trapped: Trapped, run_module: Run, check: bool) -> None:
    cluster = trapped.cluster
    audit = run_module(
        "postgres_audit_info", {**cluster.login, "databases": model("two")}, check=check
    )
    assert "msg" not in audit, audit
    assert not [item for item in audit["not_checked"] if "permission" in str(item)]
    with ExitStack() as stack:
        idle, holder = (
            stack.enter_context(cluster.connect("mydb", user, options=PINNED))
            for user in ("app_user", "app_migrator")
        )
        waiter = cluster.connect("mydb", "app_migrator", options=PINNED)
        stack.callback(waiter.close)
        holder.execute("BEGIN; LOCK TABLE app.trap")
        waiter.pgconn.send_query(b"BEGIN; LOCK TABLE app.trap")
        deadline = time.monotonic() + PATIENCE_S
        while not trapped.sql("SELECT 1 FROM pg_locks WHERE NOT granted"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        info = run_module("postgres_sessions_info", cluster.login, check=check)
        assert "msg" not in info, info
        assert "app.trap" in str(info["blocking"])
        holder.execute("ROLLBACK")
        idle.execute("BEGIN")
        arguments = {**cluster.login, "roles": ["app_user"], "older_than": "0s"}
        ended = run_module("postgres_sessions", arguments, check=check)
        assert "msg" not in ended, ended
        assert [row["role"] for row in ended["ended"]] == ["app_user"]
        if not check:
            with pytest.raises(psycopg.OperationalError):
                idle.execute("SELECT")


@pytest.mark.parametrize("check", [True, False], ids=["check", "run"])
def test_settings(trapped: Trapped, run_module: Run, check: bool) -> None:
    cluster = trapped.cluster
    conf = cluster.data / "postgresql.conf"
    folder = cluster.data / "conf.d"
    if not folder.exists():
        folder.mkdir(mode=0o755)
        if cluster.user:
            os.chown(folder, cluster.user.pw_uid, cluster.user.pw_gid)
        conf.write_text(f"{conf.read_text()}\ninclude_dir = 'conf.d'\n")
    arguments = {
        "settings": {"work_mem": "5MB"},
        "version": cluster.major,
        "config_directory": str(cluster.data),
        "binary_directory": str(cluster.bindir),
        "log_file": str(cluster.log_path),
        "service": "none",
        "login_os_user": cluster.os_user,
    }
    done = run_module("postgres_settings", arguments, check=check)
    assert "msg" not in done, done
    assert done["changed"]


@pytest.mark.parametrize("check", [True, False], ids=["check", "run"])
def test_hba(trapped: Trapped, run_module: Run, check: bool) -> None:
    cluster = trapped.cluster
    rules = (cluster.data / "pg_hba.conf").read_text()
    arguments = {**cluster.login, "databases": model("two"), "exclusive": "no"}
    done = run_module("postgres_hba", arguments, check=check)
    assert "msg" not in done, done
    assert done["changed"]
    # As it was, so that this test can look.
    (cluster.data / "pg_hba.conf").write_text(rules)
    cluster.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE_S
    while why := cluster.refusal("SELECT"):
        assert time.monotonic() < deadline, why
        time.sleep(0.02)
