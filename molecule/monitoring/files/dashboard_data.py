#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the queries of a dashboard's panels and variables, and say which have no data.

Needs Python's standard library only. Every query of a panel has to have at least one number;
what has none is asked again until the time is up, since rates need two scrapes.

Usage: dashboard_data.py http://127.0.0.1:9090 pooled.json [--allow-empty TITLE]... [--window 1m]
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Iterator


def ask(url: str, path: str, **parameters: str) -> Any:
    """What Prometheus answers.

    Raises:
        ValueError: it refuses the query; its words.
    """
    query = urllib.parse.urlencode(parameters)
    try:
        with urllib.request.urlopen(f"{url}/api/v1/{path}?{query}", timeout=30) as answer:  # noqa: S310
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        raise ValueError(error.read().decode(errors="replace")) from error


def filled_in(query: str, variables: dict[str, str], window: str) -> str:
    """A query as Grafana sends it, with what is chosen for each variable.

    Raises:
        ValueError: it has a variable that the dashboard does not have.
    """
    for name in ("__rate_interval", "__interval", "__range"):
        query = query.replace(f"${name}", window)
    for name, value in variables.items():
        query = query.replace(f"${{{name}}}", value)
        query = re.sub(rf"\${name}\b", lambda _found, value=value: value, query)
    # A dollar may also be at the end of a regular expression.
    left = re.search(r"\$(?:\w+|\{\w+\})", query)
    if left:
        raise ValueError(f"unknown variable {left[0]}")
    return query


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels, those in folded rows too."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def has_number(url: str, query: str) -> bool:
    result = ask(url, "query", query=query)["result"]
    return any(math.isfinite(float(series["value"][1])) for series in result)


def label_has_values(url: str, query: str) -> bool:
    """Whether a variable's C(label_values(metric, label)) finds something."""
    found = re.fullmatch(r"label_values\((.*),\s*(\w+)\)", query)
    if not found:
        raise ValueError(f"not understood: {query}")
    return bool(ask(url, f"label/{found[2]}/values", **{"match[]": found[1]}))


def variables(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Those whose values come from Prometheus."""
    return [one for one in dashboard["templating"]["list"] if one["type"] == "query"]


def complaints(
    url: str, dashboard: dict[str, Any], chosen: dict[str, str], window: str
) -> dict[str, list[str]]:
    """What is wrong with the queries, by the title of the panel or the name of the variable."""
    queried = variables(dashboard)
    checks = [(f"${one['name']}", label_has_values, [one["query"]["query"]]) for one in queried] + [
        (panel["title"], has_number, [one["expr"] for one in panel["targets"]])
        for panel in panels(dashboard)
    ]
    found: dict[str, list[str]] = {}
    for title, check, queries in checks:
        for query in queries:
            try:
                good, why = check(url, filled_in(query, chosen, window)), "no data"
            except ValueError as error:
                good, why = False, str(error)
            if not good:
                found.setdefault(title, []).append(f"{why}: {query}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url", help="address of Prometheus")
    parser.add_argument("dashboard", type=Path, help="the dashboard's file")
    parser.add_argument("--allow-empty", action="append", default=[], metavar="TITLE")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="VARIABLE=REGEX",
        help="what is chosen for a variable; all of its values without this",
    )
    parser.add_argument("--window", default="1m", help="time over which rates are counted")
    parser.add_argument("--timeout", type=float, default=0, metavar="SECONDS")
    args = parser.parse_args()

    dashboard = json.loads(args.dashboard.read_text(encoding="utf-8"))
    titles = [panel["title"] for panel in panels(dashboard)]
    unknown = sorted(set(args.allow_empty) - set(titles))
    if unknown:
        parser.error(f"the dashboard has no panel {', '.join(unknown)}")
    chosen = {one["name"]: ".*" for one in variables(dashboard)}
    for one in args.set:
        name, equals, value = one.partition("=")
        if not equals or name not in chosen:
            parser.error(f"--set {one}: not one of {', '.join(chosen)} with a value")
        chosen[name] = value
    until = time.monotonic() + args.timeout
    while True:
        found = complaints(args.url.rstrip("/"), dashboard, chosen, args.window)
        bad = {title: why for title, why in found.items() if title not in args.allow_empty}
        if not bad or time.monotonic() >= until:
            break
        time.sleep(1)
    for title, lines in bad.items():
        for line in lines:
            print(f"{title}: {line}")
    print(f"{len(titles)} panels, {len(bad)} with complaints")
    return int(bool(bad) or not titles)


if __name__ == "__main__":
    sys.exit(main())
