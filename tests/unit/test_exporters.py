# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the exporters give: PgBouncer's on Debian 12, and the queries that Postgres's is told."""

from __future__ import annotations

import http.client
import importlib.util
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
PAGE = {
    "SHOW VERSION": [{"version": "PgBouncer 1.18.0"}],
    "SHOW STATS": [{"database": 'my"d\\b', "total_xact_count": 7, "total_wait_time": 2500000}],
    "SHOW POOLS": [
        {"database": "mydb", "user": "app", "cl_active": 3, "maxwait": 2, "maxwait_us": 500000}
    ],
    "SHOW DATABASES": [
        {"name": "alias", "host": None, "port": 5432, "database": "mydb", "pool_size": 25}
    ],
    "SHOW LISTS": [{"list": "used_clients", "items": 4}, {"list": "newer", "items": 1}],
    "SHOW CONFIG": [{"key": "max_client_conn", "value": "10000"}, {"key": "job", "value": "x"}],
}
SAMPLES = """\
# TYPE pgbouncer_up gauge
pgbouncer_up 1
# TYPE pgbouncer_version_info gauge
pgbouncer_version_info{version="PgBouncer 1.18.0"} 1
# TYPE pgbouncer_stats_sql_transactions_pooled_total counter
pgbouncer_stats_sql_transactions_pooled_total{database="my\\"d\\\\b"} 7
# TYPE pgbouncer_stats_client_wait_seconds_total counter
pgbouncer_stats_client_wait_seconds_total{database="my\\"d\\\\b"} 2.5
# TYPE pgbouncer_pools_client_active_connections gauge
pgbouncer_pools_client_active_connections{database="mydb",user="app"} 3
# TYPE pgbouncer_pools_client_maxwait_seconds gauge
pgbouncer_pools_client_maxwait_seconds{database="mydb",user="app"} 2.5
# TYPE pgbouncer_databases_pool_size gauge
pgbouncer_databases_pool_size\
{database="mydb",force_user="",host="",name="alias",pool_mode="",port="5432"} 25
# TYPE pgbouncer_used_clients gauge
pgbouncer_used_clients 4
# TYPE pgbouncer_config_max_client_connections gauge
pgbouncer_config_max_client_connections 10000
"""


@pytest.fixture(scope="module")
def exporter() -> ModuleType:
    path = ROOT / "roles" / "pgbouncer_exporter" / "files" / "pgbouncer_exporter.py"
    spec = importlib.util.spec_from_file_location("pgbouncer_exporter", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_samples_are_those_of_the_console(exporter: ModuleType) -> None:
    assert "".join(f"{line}\n" for line in exporter.samples(PAGE.__getitem__)) == SAMPLES


def test_descriptors_of_a_process(exporter: ModuleType, tmp_path: Path) -> None:
    directory = tmp_path / "7" / "fd"
    directory.mkdir(parents=True)
    for number in range(3):
        (directory / str(number)).touch()
    limits = "Limit    Soft Limit  Hard Limit  Units\nMax open files    1024    524288    files\n"
    (tmp_path / "7" / "limits").write_text(limits)
    assert exporter.descriptors(7, str(tmp_path)) == [
        "# TYPE pgbouncer_process_open_fds gauge",
        "pgbouncer_process_open_fds 3",
        "# TYPE pgbouncer_process_max_fds gauge",
        "pgbouncer_process_max_fds 1024",
    ]


def test_the_other_end_of_a_socket(exporter: ModuleType, tmp_path: Path) -> None:
    socket = exporter.socket
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        client.connect(str(tmp_path / "s"))
        assert exporter.peer_pid(client.fileno()) == os.getpid()


def refuses() -> Any:
    raise OSError("no such file or directory")


@contextmanager
def serving(exporter: ModuleType) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), exporter.handler(refuses))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def got(port: int, path: str) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers["Content-Type"], content


def test_a_pooler_that_is_down_is_an_answer(
    exporter: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(exporter) as port:
        assert got(port, "/metrics") == (
            200,
            "text/plain; version=0.0.4; charset=utf-8",
            b"# TYPE pgbouncer_up gauge\npgbouncer_up 0\n",
        )
        assert got(port, "/")[0] == 404
    assert capsys.readouterr().err == "PgBouncer can't be read: no such file or directory\n"


def queries(major: int, **variables: int) -> dict[str, Any]:
    folder = ROOT / "roles" / "postgres_exporter"
    defaults = yaml.safe_load((folder / "defaults" / "main.yml").read_text(encoding="utf-8"))
    text = (folder / "templates" / "queries.yml.j2").read_text(encoding="utf-8")
    template = jinja2.Template(text, trim_blocks=True, undefined=jinja2.StrictUndefined)
    values = {
        **defaults,
        **variables,
        "__postgres_exporter_major": major,
        "__postgres_exporter_statements_schema": '"public"',
    }
    found: dict[str, Any] = yaml.safe_load(template.render(values))
    return found


def metrics(major: int) -> dict[str, str]:
    """Each metric with its labels and its meaning, as the guide's table shows it."""
    rows = {}
    for name, query in queries(major).items():
        columns = {key: value for entry in query["metrics"] for key, value in entry.items()}
        labels = [key for key, value in columns.items() if value["usage"] == "LABEL"]
        for key, value in columns.items():
            if key not in labels:
                shown = ", ".join(f"`{label}`" for label in labels)
                rows[f"{name}_{key}"] = f"| `{name}_{key}` | {shown} | {value['description']} |"
    return rows


def test_all_majors_have_the_same_metrics() -> None:
    assert metrics(13) == metrics(16) == metrics(17) == metrics(18)
    assert "pg_stat_checkpointer" in str(queries(17))
    assert "pg_stat_checkpointer" not in str(queries(16))


@pytest.mark.parametrize("major", [13, 17])
def test_each_relation_is_qualified(major: int) -> None:
    """The role's search_path holds for all of them; this holds without it too."""
    text = " ".join(query["query"] for query in queries(major).values())
    text = re.sub(
        r"(extract|substring)\([^()]* FROM | DISTINCT FROM ", " ", text, flags=re.IGNORECASE
    )
    named = re.findall(r"\b(?:FROM|JOIN)\s+([^\s(]+)", text)
    assert len(named) > 20
    assert {name for name in named if not re.match(r'(pg_catalog|"public")\.', name)} == set()


@pytest.mark.parametrize("name", metrics(17))
def test_the_guide_has_each_metric(name: str) -> None:
    assert metrics(17)[name] in DOCS.splitlines()


def test_the_guide_has_no_other_metrics() -> None:
    (table,) = re.findall(
        r"^\| metric \|(.*?)^PgBouncer's metrics:", DOCS, re.MULTILINE | re.DOTALL
    )
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(metrics(17))


# What the views of Postgres have that can become less.
GAUGES = re.compile(r"id|n_(live|dead)_tup|n_mod_since_analyze|last_\w+|(\w+_)?size_bytes")


@pytest.mark.parametrize(("name", "query"), queries(17).items(), ids=queries(17))
def test_each_column_is_declared_and_selected(name: str, query: dict[str, Any]) -> None:
    columns = [key for entry in query["metrics"] for key in entry]
    assert len(columns) == len(set(columns))
    for entry in query["metrics"]:
        for key, value in entry.items():
            assert re.search(rf"\b{key}\b", query["query"]), f"{name} does not select {key}"
            if name.startswith("pooled_"):
                assert (value["usage"] == "COUNTER") == key.endswith("_total")
            elif value["usage"] != "LABEL":
                assert (value["usage"] == "GAUGE") == bool(GAUGES.fullmatch(key))


def test_files_that_somebody_else_wrote_are_kept_before_they_are_replaced():
    tasks = [
        task["ansible.builtin.template"]
        for role in ("pgbouncer_exporter", "postgres_exporter")
        for task in yaml.safe_load((ROOT / "roles" / role / "tasks" / "configure.yml").read_text())
        if "ansible.builtin.template" in task
    ]
    written = {task["dest"].strip("{} "): task for task in tasks}
    # A drop-in of our own name is nobody else's.
    del written["__postgres_exporter_drop_in"]
    assert len(written) == 3
    for name, task in written.items():
        exporter = "postgres" if "postgres" in name else "pgbouncer"
        host = f"__{exporter}_exporter_host"
        assert task["backup"] == f"{{{{ {name} in {host}.unmanaged_files }}}}"
