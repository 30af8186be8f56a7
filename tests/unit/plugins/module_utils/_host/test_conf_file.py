# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The format of postgresql.conf."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._host import conf_file

SETTINGS = st.dictionaries(
    st.from_regex(r"[a-z_][a-z0-9_$]{0,9}(\.[a-z_][a-z0-9_$]{0,9})?", fullmatch=True),
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40),
)


@given(SETTINGS)
def test_a_file_says_what_it_was_made_of(settings):
    text = conf_file.render(settings)
    assert dict(conf_file.parse(text)) == settings
    assert list(dict(conf_file.parse(text))) == sorted(settings)


# (text, entries)
FILES = [
    ("", []),
    ("# nothing\n\n  \n", []),
    ("work_mem = 4MB", [("work_mem", "4MB")]),
    ("Work_Mem 4MB # comment", [("work_mem", "4MB")]),
    ("work_mem='4MB'# comment\na.b = 'x'", [("work_mem", "4MB"), ("a.b", "x")]),
    ("a = 'it''s \\'so\\' \\\\ \\101 \\t#'", [("a", "it's 'so' \\ A \t#")]),
    ("a = -1\na = 2", [("a", "-1"), ("a", "2")]),
    ("a = ''", [("a", "")]),
]


@pytest.mark.parametrize(("text", "entries"), FILES)
def test_parse_file(text, entries):
    assert conf_file.parse(text) == entries


@pytest.mark.parametrize("line", ["what is this?", "a = 'b", "a = b c", "= 1", "a ="])
def test_parse_file_names_the_line(line):
    with pytest.raises(ValueError, match="line 2 is not a valid setting") as caught:
        conf_file.parse(f"work_mem = 1\n{line}\n")
    assert repr(line.strip()) in str(caught.value)


def test_without_settings_keeps_all_other_lines():
    text = "# do not edit\nwork_mem = '3MB'\nWORK_MEM = 4\nport = 5\n"
    assert conf_file.without(text, ["work_mem"]) == "# do not edit\nport = 5\n"


# (text of postgresql.conf, result, line that includes the managed file)


PARTS = [
    ("", "a = 1\n", True),
    ("a = 1\n", "b = 2\na = 1\n", True),
    ("a = 2\n", "a = 1\n", False),
    ("what is this?", "a = 1\n", False),
]


@pytest.mark.parametrize(("text", "whole", "expected"), PARTS)
def test_is_part_of(text, whole, expected):
    assert conf_file.is_part_of(text, whole) is expected
