# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dashboard of the role monitoring, and the script that looks for panels without data."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from tools.generate import dashboard

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "molecule" / "monitoring" / "files" / "dashboard_data.py"


def load(path):
    spec = importlib.util.spec_from_file_location("dashboard_data", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


dashboard_data = load(SCRIPT)
INSTALLED = json.loads(dashboard.DASHBOARD.read_text(encoding="utf-8"))
PANELS = [panel for panel in INSTALLED["panels"] if panel["type"] != "row"]


def test_file_is_what_the_table_says():
    assert dashboard.DASHBOARD.read_text(encoding="utf-8") == dashboard.text(), (
        "run: tools/env tools/generate/dashboard.py"
    )


def test_titles_and_numbers_are_unique():
    for key in ("title", "id"):
        found = [panel[key] for panel in INSTALLED["panels"]]
        assert len(found) == len(set(found))


def test_panels_fill_rows_and_do_not_overlap():
    taken = set()
    for panel in INSTALLED["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert max(x for x, _y in cells) < dashboard.WIDTH
        assert not cells & taken
        taken |= cells
    lines = {y for _x, y in taken}
    assert len(taken) == dashboard.WIDTH * len(lines), "a row is not full"
    assert lines == set(range(len(lines)))


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_queries_go_by_the_chosen_source_and_hosts(panel):
    assert panel["datasource"]["uid"] == "${datasource}"
    legends = [target["legendFormat"] for target in panel["targets"]]
    assert len(legends) == len(set(legends))
    for target in panel["targets"]:
        metrics = re.findall(r"\b(?:pg|pooled|pgbouncer)_\w+\{([^}]*)\}", target["expr"])
        for labels in metrics:
            assert re.match(r'instance=~"\$(server|pooler)"', labels), target["expr"]
        assert metrics or "ALERTS{" in target["expr"]
        # A metric without labels would be of hosts that were not chosen.
        assert not re.search(r"\b(?:pg|pooled|pgbouncer)_\w+\b(?!\{)", target["expr"])


class Fake(BaseHTTPRequestHandler):
    """A Prometheus that has data for some queries."""

    # What is in a query, and what its series' values are.
    values: ClassVar = {
        "full": ["1"],
        "zero": ["0"],
        "partly": ["NaN", "2"],
        "nan": ["NaN"],
        "none": [],
    }

    def do_GET(self):
        url = urlsplit(self.path)
        query = {key: found[0] for key, found in parse_qs(url.query).items()}
        if url.path == "/api/v1/query":
            asked = query["query"]
            if "wrong" in asked:
                self.answer(400, {"error": "parse error"})
                return
            found = next(value for name, value in self.values.items() if name in asked)
            self.server.asked.append(asked)
            self.answer(200, {"data": {"result": [{"value": [0, one]} for one in found]}})
        elif url.path == "/api/v1/label/instance/values":
            self.answer(200, {"data": ["db1"] if "full" in query["match[]"] else []})
        else:
            self.answer(404, {})

    def answer(self, code, content):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, format, *args):  # noqa: A002 # http.server's name
        pass


@pytest.fixture
def fake():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Fake)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def run(fake, tmp_path, monkeypatch, capsys, exprs, *options, variable="full"):
    """Exit code and output of the script for panels with these queries."""
    content = {
        "templating": {
            "list": [
                {"type": "datasource", "name": "datasource"},
                {
                    "type": "query",
                    "name": "server",
                    "query": {"query": f"label_values({variable}, instance)"},
                },
            ]
        },
        "panels": [
            {"type": "row", "title": "Row", "panels": []},
            *(
                {"type": "stat", "title": title, "targets": [{"expr": one} for one in queries]}
                for title, queries in exprs.items()
            ),
            {
                "type": "row",
                "title": "Folded",
                "panels": [{"type": "stat", "title": "In it", "targets": [{"expr": "full"}]}],
            },
        ],
    }
    path = tmp_path / "dashboard.json"
    path.write_text(json.dumps(content))
    url = f"http://127.0.0.1:{fake.server_port}/"
    monkeypatch.setattr(sys, "argv", ["dashboard_data.py", url, str(path), *options])
    code = dashboard_data.main()
    return code, capsys.readouterr().out


GOOD = {"One": ["full", "zero"], "Two": ["partly"]}


def test_all_panels_have_data(fake, tmp_path, monkeypatch, capsys):
    assert run(fake, tmp_path, monkeypatch, capsys, GOOD) == (0, "3 panels, 0 with complaints\n")
    assert fake.asked == ["full", "zero", "partly", "full"]


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("none", "no data: none"),
        ("nan", "no data: nan"),
        ("wrong", '{"error": "parse error"}: wrong'),
        ("full{$nobody}", "unknown variable $nobody: full{$nobody}"),
        ("full{${nobody}}", "unknown variable ${nobody}: full{${nobody}}"),
    ],
)
def test_panel_without_data_fails(query, complaint, fake, tmp_path, monkeypatch, capsys):
    found = run(fake, tmp_path, monkeypatch, capsys, {**GOOD, "Bad": ["full", query]})
    assert found == (1, f"Bad: {complaint}\n4 panels, 1 with complaints\n")


def test_panel_may_be_empty_when_named(fake, tmp_path, monkeypatch, capsys):
    options = ("--allow-empty", "Bad")
    found = run(fake, tmp_path, monkeypatch, capsys, {**GOOD, "Bad": ["none"]}, *options)
    assert found == (0, "4 panels, 0 with complaints\n")


@pytest.mark.parametrize("options", [("--allow-empty", "Nobody"), ("--set", "nobody=1")])
def test_unknown_names_are_refused(options, fake, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(fake, tmp_path, monkeypatch, capsys, GOOD, *options)
    assert "obody" in capsys.readouterr().err


def test_variable_without_values_fails(fake, tmp_path, monkeypatch, capsys):
    found = run(fake, tmp_path, monkeypatch, capsys, GOOD, variable="none")
    expected = "$server: no data: label_values(none, instance)\n3 panels, 1 with complaints\n"
    assert found == (1, expected)


def test_variables_are_filled_in(fake, tmp_path, monkeypatch, capsys):
    queries = {"One": ['full{a=~"$server", b=~"${server}|x$"}[$__rate_interval]']}
    options = ("--set", "server=db1:.*", "--window", "9s")
    assert run(fake, tmp_path, monkeypatch, capsys, queries, *options)[0] == 0
    assert fake.asked[0] == 'full{a=~"db1:.*", b=~"db1:.*|x$"}[9s]'


def test_it_waits_for_data(fake, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Fake, "values", {**Fake.values, "late": []})
    wait = dashboard_data.time.sleep

    def sleep(_seconds):
        Fake.values["late"] = ["1"]
        wait(0)

    monkeypatch.setattr(dashboard_data.time, "sleep", sleep)
    found = run(fake, tmp_path, monkeypatch, capsys, {"One": ["late"]}, "--timeout", "30")
    assert found == (0, "2 panels, 0 with complaints\n")
