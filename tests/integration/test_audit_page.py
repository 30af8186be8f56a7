# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit's page in a browser, on a desk, a phone and paper: a server set up as guides do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from ansible_collections.pooled.postgres.plugins.filter.audit_page import audit_page

from .clusters import INSTALLED

GIB = 1024**3
POPULAR_CONF = """
shared_buffers = 128MB
max_connections = 100
listen_addresses = '127.0.0.1'
"""
FLEET = {"name": "api", "role": "app", "replicas": 5, "workers": 4, "pool_size": 10,
         "max_overflow": 10, "via": "direct"}  # fmt: skip
MODEL = [{"name": "mydb", "roles": [{"name": "app", "kind": "user"}], "clients": [FLEET]}]
# As wide as names can be, and without a place to break.
LONG = "q" * 63
# A folder for screenshots, for people to look at.
SCREENSHOTS = os.environ.get("POOLED_SCREENSHOTS")

# WCAG 2.2's contrast of each text with what is behind it, where that is less than 4.5.
FAINT = """() => {
  const channel = (part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  };
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim()) continue;
    const ink = light(parse(getComputedStyle(node).color));
    const paper = light(behind(node));
    const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (contrast < 4.5) faint.push([texts.currentNode.data, contrast]);
  }
  return faint;
}"""
# Elements whose text sticks out of them or out of the page.
CUT_OFF = """() => [...document.querySelectorAll('body *')].filter((node) => {
  const style = getComputedStyle(node);
  const place = node.getBoundingClientRect();
  return place.right > innerWidth + 1
    || style.overflowX === 'hidden' && node.scrollWidth > node.clientWidth + 1;
}).map((node) => node.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def results(make_cluster, run_module):
    """What the audit finds on a server with the common mistakes, and on one with long names."""
    cluster = make_cluster(max(INSTALLED))
    with (cluster.data / "postgresql.conf").open("a") as conf:
        conf.write(POPULAR_CONF)
    cluster.restart()
    cluster.sql("CREATE ROLE app LOGIN SUPERUSER PASSWORD 'secret'")
    cluster.sql(f'CREATE ROLE "{LONG}" LOGIN')
    cluster.sql("CREATE DATABASE mydb OWNER app")
    cluster.sql(f'CREATE DATABASE "{LONG}" OWNER "{LONG}"')
    cluster.sql("CREATE TABLE orders (id int)", "mydb", "app")

    def look(databases):
        asked = {**cluster.login, "databases": databases, "resources": {"memory_bytes": 16 * GIB}}
        result = run_module("postgres_audit_info", asked)
        assert not result.get("failed"), result["msg"]
        return result

    with cluster.connect("mydb", "app", application_name="api") as application:
        application.execute("BEGIN")
        with cluster.connect(LONG, LONG, application_name=LONG):
            seen = {"db1.example.org": look(MODEL), "db2-" + LONG: look([])}
    cluster.stop()
    return seen


@pytest.fixture(scope="module")
def browser():
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "there is no Chromium; `make browser` installs it"
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        # Chromium has no sandbox for root, who the tests may be.
        chromium = playwright.chromium.launch(
            executable_path=program, args=quiet, chromium_sandbox=os.geteuid() != 0
        )
        yield chromium
        chromium.close()


@pytest.fixture(
    params=[(1200, 900, "light"), (1200, 900, "dark"), (390, 844, "light"), (320, 568, "dark")],
    ids=lambda size: f"{size[0]}-{size[2]}",
)
def shown(request, browser, results, tmp_path):
    """The page in a window of that size; nothing but the file may be asked for."""
    width, height, scheme = request.param
    file = tmp_path / "audit.html"
    file.write_text(audit_page(results, [*results, "db3"], when="2026-11-22 12:00"))
    asked, complaints = [], []
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.on("request", lambda one: asked.append(one.url))
    page.on("console", lambda one: complaints.append(one.text))
    page.goto(file.as_uri())
    if SCREENSHOTS:
        target = Path(SCREENSHOTS, f"audit-{width}-{scheme}.png")
        page.screenshot(path=target, full_page=True)
    yield page
    page.close()
    assert (asked, complaints) == ([file.as_uri()], [])


def test_fits_and_can_be_read(shown, results):
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert shown.evaluate(CUT_OFF) == []
    assert shown.evaluate(FAINT) == []
    text = " ".join(shown.inner_text("main").split())
    findings = [one for result in results.values() for one in result["findings"]]
    assert len(findings) > 20
    for one in findings:
        for key in ("evidence", "fix", "why", "variable"):
            assert " ".join(one[key].split()) in text
    assert "Not audited, see the run's output: db3" in text


def test_bars_are_to_scale(shown, results):
    host = shown.locator("section.host").first
    result = results["db1.example.org"]
    needed = [one["connections"] for one in result["connections"]["parts"] if one["connections"]]
    column = host.locator(".columns > div", has=shown.get_by_role("heading", name="Connections"))
    drawn = column.locator(".bar")
    whole = drawn.bounding_box()
    parts = [part.bounding_box() for part in drawn.locator("span").all()]
    assert len(parts) == len(needed) > 1
    for part, number in zip(parts, needed, strict=True):
        assert part["width"] == pytest.approx(whole["width"] * number / sum(needed), abs=2)
    # 100 are there, 406 needed: the mark is where the hundredth is.
    mark = column.locator(".limit span")
    assert mark.inner_text() == "max_connections 100"
    assert mark.bounding_box()["x"] - whole["x"] == pytest.approx(
        whole["width"] * 100 / sum(needed), abs=2
    )
    memory = host.locator(".columns > div", has=shown.get_by_role("heading", name="Memory"))
    assert memory.locator(".limit span").inner_text() == "16 GB there"
    there = memory.locator(".bar").bounding_box()
    used = sum(part.bounding_box()["width"] for part in memory.locator(".bar span").all())
    bytes_used = sum(one["bytes"] for one in result["memory"]["parts"])
    assert used == pytest.approx(there["width"] * min(1, bytes_used / (16 * GIB)), abs=8)


def test_links_lead_to_the_hosts(shown):
    shown.get_by_role("link", name="db2-").click()
    assert shown.url.endswith("#host1")
    assert shown.evaluate(
        "document.querySelector('#host1').getBoundingClientRect().top < innerHeight"
    )


def test_on_paper(browser, results, tmp_path):
    file = tmp_path / "audit.html"
    file.write_text(audit_page(results))
    # The width of A4 with margins of a centimetre, at 96 dots an inch.
    page = browser.new_page(viewport={"width": 718, "height": 1000}, color_scheme="dark")
    page.emulate_media(media="print")
    page.goto(file.as_uri())
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate(FAINT) == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    # Bars and dots are drawn, though browsers leave backgrounds out.
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.bar span')).printColorAdjust")
        == "exact"
    )
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS, "audit-print.png"), full_page=True)
    page.close()
