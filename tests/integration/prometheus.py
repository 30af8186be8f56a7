# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both exporters said on each release, and the programs of Prometheus.

The files in scrapes/ are what real exporters answered in scenario monitoring, on Debian 12 and 13,
while all was going wrong that makes an alert. What neither a rule nor the dashboard reads is left
out, and so are all statements but three.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRAPES = Path(__file__).resolve().parent / "scrapes"
BROUGHT = ROOT / ".cache" / "prometheus" / "usr" / "bin"
RELEASES = ("12", "13")
EXPORTERS = ("postgres", "pgbouncer")


@dataclass(frozen=True)
class Series:
    """A series of a scrape with its value there."""

    name: str
    labels: dict[str, str]
    value: str
    counter: bool = False

    def has(self, labels: dict[str, str]) -> bool:
        return labels.items() <= self.labels.items()

    def __str__(self) -> str:
        inner = ",".join(f'{key}="{value}"' for key, value in sorted(self.labels.items()))
        return f"{self.name}{{{inner}}}"


def read_scrape(release: str, exporter: str) -> list[Series]:
    """What an exporter of a release answered."""
    found = []
    counters = set()
    text = (SCRAPES / f"{release}-{exporter}.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        typed = re.fullmatch(r"# TYPE (\w+) counter", line)
        if typed:
            counters.add(typed[1])
        sample = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if sample:
            name, inner, value = sample.groups()
            labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', inner or ""))
            found.append(Series(name, labels, value, name in counters))
    return found


def program(name: str) -> str:
    """Path of promtool or prometheus."""
    if (BROUGHT / name).exists():
        return str(BROUGHT / name)
    found = shutil.which(name)
    if not found:
        pytest.fail(f"{name} is missing: run make servers, or install Prometheus")
    return found
