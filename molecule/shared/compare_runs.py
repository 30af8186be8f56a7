#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare recorded runs: did check mode say what the run then did, and was a second run idle.

usage: compare_runs.py predicted CHECK.json RUN.json
       compare_runs.py idle MOST_ROUND_TRIPS MOST_TASKS RUN.json

Exits with 1 and says what differs.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

# What our modules say they did; it must be the same in a prediction and in its run.
SAID = ("actions", "statements")


def load(path: str) -> dict[str, Any]:
    """A recorded run."""
    record: dict[str, Any] = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    if not record["results"]:
        raise SystemExit(f"{path}: no task ran")
    return record


def changes(record: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Each host's results that report a change, in order."""
    by_host: dict[str, list[dict[str, Any]]] = {}
    for result in record["results"]:
        by_host.setdefault(result["host"], [])
        if result["changed"]:
            by_host[result["host"]].append(result)
    return by_host


def after(result: dict[str, Any]) -> Any:
    """What a result's diff says there will be."""
    diff = result.get("diff") or {}
    parts = diff if isinstance(diff, list) else [diff]
    return [part.get("after") for part in parts if part.get("after")]


def differences(check: dict[str, Any], run: dict[str, Any]) -> Iterator[str]:
    """Where a prediction and its run differ, as lines."""
    predicted, done = changes(check), changes(run)
    for host in sorted(set(predicted) | set(done)):
        said, did = predicted.get(host, []), done.get(host, [])
        if [result["task"] for result in said] != [result["task"] for result in did]:
            yield (
                f"{host}: predicted changes in {[result['task'] for result in said]},"
                f" made them in {[result['task'] for result in did]}"
            )
            continue
        for before_run, in_run in zip(said, did):
            for key in SAID:
                if before_run.get(key) != in_run.get(key):
                    yield (
                        f"{host}: {in_run['task']}: predicted {key} {before_run.get(key)},"
                        f" reported {in_run.get(key)}"
                    )
            if in_run["action"].startswith("pooled.") and after(before_run) != after(in_run):
                yield (
                    f"{host}: {in_run['task']}: predicted the state\n{after(before_run)}\n"
                    f"and reported\n{after(in_run)}"
                )


def main(arguments: list[str]) -> int:
    """Run one comparison."""
    kind, first, second, *third = arguments
    if kind == "predicted":
        check, run = load(first), load(second)
        if (check["mode"], run["mode"]) != ("check", "run"):
            raise SystemExit(f"{first} is a {check['mode']}, {second} a {run['mode']}")
        if not any(changes(run).values()):
            raise SystemExit(f"{second}: changed nothing, so there was nothing to predict")
        found = list(differences(check, run))
        for host, made in changes(run).items():
            print(f"{host}: {len(made)} tasks changed something, as predicted")
    else:
        (path,) = third
        run = load(path)
        found = [
            f"{host}: not idle: {[result['task'] for result in made]}"
            for host, made in changes(run).items()
            if made
        ]
        for host in changes(run):
            own = [result for result in run["results"] if result["host"] == host]
            trips = sum(result["reached_host"] for result in own)
            tasks = sum(result["status"] == "ok" for result in own)
            print(f"{host}: {trips} round trips, {tasks} tasks; the whole run {run['seconds']} s")
            if trips > int(first):
                found.append(f"{host}: {trips} round trips, more than {first}")
            if tasks > int(second):
                found.append(f"{host}: {tasks} tasks, more than {second}")
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
