#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the project's checks, stop at the first step that fails, and sum up what was seen.

Usage: tools/env tools/check.py lint unit sanity integration molecule
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "results"


@dataclass(frozen=True)
class Counts:
    """How many single checks ended how."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped
        )

    def __str__(self) -> str:
        parts = [
            f"{number} {word}"
            for number, word in (
                (self.failed, "failed"),
                (self.passed, "passed"),
                (self.skipped, "skipped"),
            )
            if number
        ]
        return ", ".join(parts) or "nothing ran"


@dataclass(frozen=True)
class Command:
    """One command of a step; C(count) reads its output and exit code."""

    argv: tuple[str, ...]
    count: Callable[[str, int], Counts]


def count_one(_output: str, code: int) -> Counts:
    """A linter is one check."""
    return Counts(passed=int(code == 0), failed=int(code != 0))


def count_pytest(name: str) -> Callable[[str, int], Counts]:
    """Pytest's own report says how many tests ended how."""

    def count(_output: str, code: int) -> Counts:
        report = RESULTS / f"{name}.xml"
        if not report.exists():
            return count_one("", code)
        total = Counts()
        for suite in ET.parse(report).getroot().iter("testsuite"):  # noqa: S314 # our own
            tests, failures, errors, skipped = (
                int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
            )
            bad = failures + errors
            total += Counts(passed=tests - bad - skipped, failed=bad, skipped=skipped)
        return total if total.failed or code == 0 else total + Counts(failed=1)

    return count


def count_sanity(output: str, code: int) -> Counts:
    """ansible-test names each test as it starts it and lists the failed ones at the end."""
    started = set(re.findall(r'^Running sanity test "([^"]+)"', output, re.MULTILINE))
    failed = {
        name
        for line in re.findall(r"The \d+ sanity test\(s\) listed below .*failed: (.+)", output)
        for name in re.split(r",\s*", line.strip())
    }
    bad = max(len(failed), int(code != 0))
    return Counts(passed=len(started) - bad, failed=bad)


def count_molecule(output: str, code: int) -> Counts:
    """The recap has a line of counted actions for each scenario."""
    total = Counts()
    for line in re.findall(r"^\S+\s*: actions=\d+.*$", output, re.MULTILINE):
        number = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)}
        total += Counts(
            passed=number["successful"],
            # After a failure Molecule also misses the cleanup playbook, which there need not be.
            failed=number["failed"] + (number["missing"] if code == 0 else 0),
            skipped=number["skipped"] + number["disabled"],
        )
    return total if total.failed or code == 0 else total + Counts(failed=1)


def pytest(name: str, *more: str) -> Command:
    report = RESULTS / f"{name}.xml"
    argv = ("pytest", f"tests/{name}", "--durations=5", f"--junitxml={report}", *more)
    return Command(argv, count_pytest(name))


def linter(command: str) -> Command:
    return Command(tuple(shlex.split(command)), count_one)


# Run by hand, as CONTRIBUTING says: update needs the history of the checkout, clusters takes time.
BY_HAND = {"clusters", "update"}

STEPS: dict[str, tuple[Command, ...]] = {
    "lint": (
        linter("ruff check ."),
        linter("ruff format --check ."),
        linter("mypy -p ansible_collections.pooled.postgres.plugins"),
        linter("mypy tools examples"),
        linter("yamllint --strict ."),
        linter("ansible-lint --strict"),
    ),
    "unit": (pytest("unit"),),
    # Each worker has servers of its own, and mostly waits for them.
    "integration": (pytest("integration", "--numprocesses=2"),),
    "sanity": (Command(("tools/sanity.py",), count_sanity),),
    "molecule": tuple(
        Command(
            ("molecule", "test", "-s", file.parent.name, "--no-command-borders"), count_molecule
        )
        for file in sorted(ROOT.glob("molecule/*/molecule.yml"))
        if file.parent.name not in BY_HAND
    ),
}
# A scenario mostly waits for its hosts.
AT_ONCE = {"molecule": 2}


def run(command: Command) -> Counts:
    """Run one command, showing its output as it comes."""
    print(f"\n$ {shlex.join(command.argv)}", flush=True)
    return watch(command, sys.stdout)


def run_aside(command: Command) -> Counts:
    """Run one command beside others, showing its output when it has ended."""
    print(f"started: {shlex.join(command.argv)}", flush=True)
    output = io.StringIO()
    counts = watch(command, output)
    print(f"\n$ {shlex.join(command.argv)}\n{output.getvalue()}", end="", flush=True)
    return counts


def watch(command: Command, output: TextIO) -> Counts:
    """Run one command, copying what it prints."""
    process = subprocess.Popen(
        command.argv,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None  # noqa: S101 # for the type checker
    lines = []
    for line in process.stdout:
        output.write(line)
        output.flush()
        lines.append(re.sub(r"\x1b\[[0-9;]*m", "", line))
    return command.count("".join(lines), process.wait())


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("steps", nargs="+", choices=list(STEPS), metavar="STEP")
    steps: list[str] = parser.parse_args().steps

    RESULTS.mkdir(parents=True, exist_ok=True)
    for report in RESULTS.glob("*.xml"):
        report.unlink()
    if sys.stdout.isatty():
        os.environ.update(ANSIBLE_FORCE_COLOR="1", FORCE_COLOR="1", PY_COLORS="1")
    else:
        os.environ.update(ANSIBLE_NOCOLOR="1", NO_COLOR="1", PY_COLORS="0")

    rows: list[tuple[str, str, str]] = []
    total = Counts()
    begin = time.monotonic()
    for step in steps:
        if total.failed:
            rows.append((step, "not run", ""))
            continue
        start = time.monotonic()
        counts = Counts()
        if step in AT_ONCE:
            with ThreadPoolExecutor(AT_ONCE[step]) as pool:
                counts = sum(pool.map(run_aside, STEPS[step]), counts)
        else:
            for command in STEPS[step]:
                counts += run(command)
        rows.append((step, str(counts), clock(time.monotonic() - start)))
        total += counts
    spent = time.monotonic() - begin

    width = max(len(row[1]) for row in rows)
    print()
    for name, outcome, duration in rows:
        print(f"{name:<12} {outcome:<{width}} {duration:>6}".rstrip())
    print(f" {total} in {spent:.2f}s ({clock(spent)}) ".center(78, "="))
    return int(total.failed > 0 or total.passed == 0)


if __name__ == "__main__":
    sys.exit(main())
