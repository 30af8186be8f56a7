# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role monitoring installs, in a real Prometheus that scrapes both releases' metrics."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml

from . import prometheus
from .clusters import _free_port
from .monitoring import run_monitoring
from .prometheus import EXPORTERS, RELEASES, ROOT, Series
from .test_alerts import CASES, GONE, HEALTHY, by_alert

DASHBOARD_DATA = ROOT / "molecule" / "monitoring" / "files" / "dashboard_data.py"
TIMEOUT_S = 120
# Scrapes before the bad target turns bad.
HEALTHY_SCRAPES = 3
# What only a Prometheus has that has no such targets.
MISSING = {"PostgresMetricsMissing", "PgbouncerMetricsMissing"}
DOWN = {"PostgresDown", "PgbouncerDown"}
# Counters that do not rise on a healthy server.
STILL = re.compile("deadlocks|failed_count|checksum_failures|requested_total|idx_scan")


class Exporters(ThreadingHTTPServer):
    """Both exporters of both releases, healthy, bad in every way, and with their servers down.

    Paths are /STATE/RELEASE/EXPORTER. Counters rise with each scrape, but not what must not.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.scrapes: dict[str, int] = {}

    def answer(self, path: str) -> str:
        _empty, state, release, exporter = path.split("/")
        turn = self.scrapes[path] = self.scrapes.get(path, 0) + 1
        series = prometheus.read_scrape(release, exporter)
        lines = {
            str(one): f"{float(one.value) + (turn if one.counter else 0)}"
            if not STILL.search(one.name)
            else one.value
            for one in series
            if one.value != "NaN"
        }
        for metric, _labels, value in HEALTHY:
            for one in series:
                if one.name == metric:
                    lines.pop(str(one))
                    if value is not GONE:
                        lines[str(one)] = str(value)
        if state == "down":
            lines = {"pg_up{}" if exporter == "postgres" else "pgbouncer_up{}": "0"}
        elif state == "bad" and turn > HEALTHY_SCRAPES:
            lines.update(bad(series, turn))
        return "".join(f"{name} {value}\n" for name, value in lines.items())


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # http.server's name
        assert isinstance(self.server, Exporters)
        content = self.server.answer(self.path).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # http.server's name
        pass


def bad(series: list[Series], turn: int) -> dict[str, str]:
    """What all alerts' cases change, apart from what makes a server unknown.

    Standbys come and go, so that the alert about a lost one does not end meanwhile.
    """
    found: dict[str, str] = {}
    for case in CASES:
        if case.alert in DOWN:
            continue
        for metric, labels, value in case.bad:
            same = [one for one in series if one.name == metric]
            if value is GONE or not same or metric == "pooled_server_freeze_max_age":
                continue
            new = Series(metric, {**same[0].labels, **labels}, "0")
            text = str(value)
            if text.startswith("+"):
                text = str(10 * turn * int(text))
            if metric == "pooled_server_standbys":
                text = "0" if turn % 4 else "1"
            for one in [one for one in same if one.has(labels)] or [new]:
                found[str(one)] = text
    return found


def target(name: str, address: str, exporter: str, path: str) -> dict[str, Any]:
    labels = {"instance": f"{name}:{exporter}", "__metrics_path__": path}
    return {"targets": [address], "labels": labels}


@pytest.fixture(scope="module")
def installed(install_monitoring) -> Path:
    """What the role installs, with short durations."""
    return install_monitoring({"monitoring_time_factor": 0.002})


@pytest.fixture(scope="module")
def running(installed, tmp_path_factory) -> Iterator[str]:
    """The address of a Prometheus with the rules and all targets."""
    folder = tmp_path_factory.mktemp("prometheus")
    exporters = Exporters()
    threading.Thread(target=exporters.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{exporters.server_port}"
    closed = f"127.0.0.1:{_free_port()}"
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(installed / "rules" / "*.yml")],
        "scrape_configs": [
            {
                "job_name": exporter,
                "static_configs": [
                    *(
                        target(
                            f"{state}{release}", address, exporter, f"/{state}/{release}/{exporter}"
                        )
                        for state in ("healthy", "bad", "down")
                        for release in RELEASES
                    ),
                    target("away", closed, exporter, "/metrics"),
                ],
            }
            for exporter in EXPORTERS
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
    port = _free_port()
    with (folder / "log").open("w") as log, subprocess.Popen(
        [
            prometheus.program("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=log,
        stderr=log,
    ) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until_ready(url)
            yield url
        finally:
            process.terminate()
            exporters.shutdown()


def wait_until_ready(url: str) -> None:
    until = time.monotonic() + TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        except OSError:
            pass
        assert time.monotonic() < until, "Prometheus does not start"
        time.sleep(0.2)


def ask(url: str, path: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/v1/{path}", timeout=10) as answer:  # noqa: S310
        return json.load(answer)["data"]


@pytest.mark.parametrize("release", RELEASES)
def test_every_panel_has_data(release, installed, running):
    done = subprocess.run(
        [
            *(sys.executable, str(DASHBOARD_DATA), running),
            str(installed / "dashboards" / "pooled.json"),
            *(
                f"--set=server=healthy{release}:postgres",
                f"--set=pooler=healthy{release}:pgbouncer",
            ),
            *("--window", "10s", "--timeout", str(TIMEOUT_S)),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"\d\d panels, 0 with complaints\n", done.stdout)


def test_every_alert_fires_and_its_texts_are_whole(installed, running):
    expected = set(by_alert(installed / "rules" / "pooled.yml")) - MISSING
    until = time.monotonic() + TIMEOUT_S
    seen: dict[str, dict[str, Any]] = {}
    while time.monotonic() < until and expected - set(seen):
        alerts = ask(running, "alerts")["alerts"]
        # One of each series: their values change from one evaluation to the next.
        seen.update({one["labels"]["alertname"]: one for one in alerts if one["state"] == "firing"})
        time.sleep(0.5)
    # Before its first scrape, Prometheus misses all targets.
    assert set(seen) - MISSING == expected
    for one in seen.values():
        for text in one["annotations"].values():
            # What Prometheus and Go write where a template is wrong or has no value.
            assert not re.search(r"<error|<no value>|%!|{{|''|  ", text), text
            assert text == text.strip()
    instances = {one["labels"]["instance"] for one in alerts}
    assert not [name for name in instances if name.startswith("healthy")]


def test_only_a_change_that_promtool_accepts_is_written(tmp_path):
    steps = [({}, 4), ({}, 0), ({"monitoring_postgres_job": "pg("}, None)]
    for variables, changed in [*steps, ({"monitoring_wait_seconds": 7}, 1)]:
        done = run_monitoring(tmp_path, variables)
        if changed is None:
            assert done.returncode != 0
            assert "failed to validate" in done.stdout
        else:
            assert done.returncode == 0, done.stdout + done.stderr
            assert f"changed={changed} " in done.stdout
        text = (tmp_path / "rules" / "pooled.yml").read_text()
        threshold = variables.get("monitoring_wait_seconds", 5)
        assert re.search(rf"maxwait_seconds\{{[^}}]*\}}\) > {threshold}\n", text)
        assert "pg(" not in text


def test_what_is_not_wanted_is_left_out(tmp_path):
    wanted = {
        "monitoring_disabled_alerts": ["PostgresDeadRows", "PostgresDeadlocks"],
        "monitoring_pgbouncer_job": "",
        "monitoring_postgres_job": 'pg-"\\d+',
        "monitoring_labels": {"team": "storage", "severity": "none"},
        "monitoring_dashboards_directory": "",
    }
    done = run_monitoring(tmp_path, wanted)
    assert done.returncode == 0, done.stdout + done.stderr
    rules = by_alert(tmp_path / "rules" / "pooled.yml")
    assert "PostgresDown" in rules
    assert not {"PostgresDeadRows", "PostgresDeadlocks", "PgbouncerDown"} & set(rules)
    assert rules["PostgresDown"]["expr"] == 'pg_up{job=~"pg-\\"\\\\d+"} == 0'
    assert rules["PostgresDown"]["labels"] == {"team": "storage", "severity": "critical"}
    assert not (tmp_path / "dashboards").exists()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"monitoring_disabled_alerts": ["PostgresDead"]},
            "value of monitoring_disabled_alerts must be one or more of: PostgresExporterDown,",
        ),
        (
            {"monitoring_connections_share": 80},
            "monitoring_connections_share: 80 is not a valid share; it must be above 0 and at most"
            " 1, such as 0.8",
        ),
    ],
)
def test_bad_input_changes_nothing(variables, words, tmp_path):
    done = run_monitoring(tmp_path, variables)
    assert done.returncode != 0
    assert words in done.stdout
    assert not (tmp_path / "rules").exists()


def test_scrapes_of_both_releases_have_what_rules_and_panels_read():
    rules = (ROOT / "roles/monitoring/templates/alerts.yml.j2").read_text(encoding="utf-8")
    dashboard = (ROOT / "roles/monitoring/files/pooled.json").read_text(encoding="utf-8")
    read = set(re.findall(r"\b(?:pg|pooled|pgbouncer)_\w+(?=\{)", rules + dashboard))
    assert len(read) > 50
    for release in RELEASES:
        have = {one.name for name in EXPORTERS for one in prometheus.read_scrape(release, name)}
        assert read - have == set()


def test_the_rules_file_is_yaml_that_people_can_read(installed):
    text = (installed / "rules" / "pooled.yml").read_text(encoding="utf-8")
    assert not re.search(r"[ \t]+$|\[\[|\]\]|\n\n", text, re.MULTILINE)
    assert yaml.safe_load(text)["groups"][0]["name"] == "postgres"
