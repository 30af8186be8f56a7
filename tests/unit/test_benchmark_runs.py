# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How benchmarks/runs.py counts, divides and compares."""

from __future__ import annotations

import subprocess

import pytest

from benchmarks import runs

OUTPUT = """
TASK [A task with a recap of its own: PLAY ok=1] ****
ok: [db1]

PLAY RECAP *********************************************************************
db-1.example               : ok=67   changed=0    unreachable=0    failed=0    skipped=37
db2                        : ok=12   changed=3    unreachable=0    failed=0    skipped=40

"""


def test_recap_is_read_for_each_host():
    counts = runs.recap(OUTPUT)
    assert {host: (one["ok"], one["changed"], one["skipped"]) for host, one in counts.items()} == {
        "db-1.example": (67, 0, 37),
        "db2": (12, 3, 40),
    }


@pytest.mark.parametrize(("word", "most"), [("ok", 67), ("changed", 3), ("skipped", 40)])
def test_most_that_a_host_has(word, most):
    assert runs.per_host(runs.recap(OUTPUT), word) == most


def test_ratios_are_those_of_each_round():
    assert runs.ratios([1.0, 9.0], [2.0, 3.0]) == [0.5, 3.0]


def test_rounds_that_do_not_pair_have_no_ratios():
    with pytest.raises(ValueError, match="zip"):
        runs.ratios([1.0], [2.0, 3.0])


def test_spread_has_the_middle_and_both_ends():
    assert runs.spread([3.0, 1.0, 2.04]) == "2.0 (1.0 to 3.0)"
    assert runs.spread([0.257, 0.5, 0.1], 2) == "0.26 (0.10 to 0.50)"


def test_growth_is_for_each_host_beside_the_first():
    assert runs.growth([10.0, 12.0, 90.0], [26.0, 1.0, 27.0], hosts=8) == 2.0


def test_what_an_ini_file_says_has_no_comments_and_no_order():
    one = runs.sections("; made\n[b]\nx:1 = host=/run port=1:2\n[a]\nz = %d\ny=1\n")
    other = runs.sections("[a]\ny = 1\nz = %d\n; by hand\n\n[b]\nx:1=host=/run port=1:2\n")
    assert one == other == {"b": {"x:1": "host=/run port=1:2"}, "a": {"y": "1", "z": "%d"}}


@pytest.mark.parametrize(
    ("ours", "theirs", "lines"),
    [
        ({"roles": ["a", "b"]}, {"roles": ["a", "b"]}, []),
        ({"roles": ["a", "b"]}, {"roles": ["a"]}, ["roles: only ours: b"]),
        ({"roles": ["a"]}, {"roles": ["a", "c"]}, ["roles: only the peer's: c"]),
        ({"roles": ["a"]}, {}, ["roles: only ours: a"]),
        ({}, {"schemas": ["s"]}, ["schemas: only the peer's: s"]),
    ],
)
def test_what_only_one_of_two_states_has(ours, theirs, lines):
    assert runs.differences(ours, theirs) == lines


def test_the_same_row_twice_is_not_the_same_as_once():
    assert runs.differences({"rules": ["x", "x"]}, {"rules": ["x"]}) == ["rules: only ours: x"]


def test_each_program_that_goes_to_a_host_is_counted_once(tmp_path):
    wrapper = tmp_path / "ssh"
    wrapper.write_text(runs.COUNTING.format(folder=tmp_path, program="/bin/echo"))
    said = [
        subprocess.run(["/bin/sh", wrapper, *argv], check=True, capture_output=True, text=True)
        for argv in (["-o", "ControlPersist"], ["-C", "db1", "a  b"], ["-C", "db2", "true"])
    ]
    assert [one.stdout for one in said] == ["-o ControlPersist\n", "-C db1 a  b\n", "-C db2 true\n"]
    assert len((tmp_path / "trips").read_text().splitlines()) == 2
