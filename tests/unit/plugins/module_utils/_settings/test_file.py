# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The managed file, and the files of which it is one."""

from __future__ import annotations

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host import conf_file
from ansible_collections.pooled.postgres.plugins.module_utils._settings.file import (
    FileRow,
    last_good_text,
    preloaded_libraries,
    with_candidate,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.values import (
    names_of_libraries,
)

DROP_IN = "/etc/postgresql/17/main/conf.d/zz-pooled.conf"
MAIN = "/etc/postgresql/17/main/postgresql.conf"


def test_libraries_that_stay_in_the_managed_file():
    rows = [
        FileRow("/d/own.conf", 1, "shared_preload_libraries", "old, kept", True),
        FileRow("/d/theirs.conf", 1, "shared_preload_libraries", "old", True),
    ]
    assert preloaded_libraries(["new"], rows, "/d/own.conf", ["old"]) == "kept, old, new"


INCLUDES = [
    ("port = 1\n", "port = 1\n", 0),
    (
        "port = 1\ninclude_dir = 'conf.d' # all\nx = 2\n",
        "port = 1\ninclude '/etc/postgresql/17/main/conf.d/10.conf'\n"
        "include '/etc/postgresql/17/main/conf.d/9.conf'\ninclude '/fd/3'\n"
        "include '/etc/postgresql/17/main/conf.d/zzz.conf'\nx = 2\n",
        2,
    ),
    ("INCLUDE_DIR '/etc/postgresql/17/main/conf.d/'\n", None, 1),
    ("include_if_exists 'a.conf'\n", "include_if_exists '/etc/postgresql/17/main/a.conf'\n", 0),
    ("include '/b''c'\n", "include '/b''c'\n", 0),
    ("include conf.d/zz-pooled.conf\n", "include '/fd/3'\n", 1),
    ("include_dir = 'other'\n", "", 0),
    ("#include_dir = 'conf.d'\n", "#include_dir = 'conf.d'\n", 0),
]


@pytest.mark.parametrize(("text", "result", "line"), INCLUDES)
def test_with_candidate(text, result, line):
    def files_in(directory: str) -> list[str]:
        names = ["9.conf", "zzz.conf", ".hidden.conf", "README", "10.conf"]
        return names if directory == "/etc/postgresql/17/main/conf.d" else []

    written, included_at = with_candidate(text, MAIN, DROP_IN, "/fd/3", files_in)
    assert included_at == line
    assert result is None or written.strip() == result.strip()


def test_libraries_of_others_stay_and_come_first():
    rows = [
        FileRow(MAIN, 1, "shared_preload_libraries", 'timescaledb, "Odd one"', True),
        FileRow(DROP_IN, 1, "Shared_Preload_Libraries", "timescaledb,other", True),
        FileRow(MAIN, 2, "work_mem", "nothing", True),
    ]
    value = preloaded_libraries(["pg_stat_statements", "other"], rows)
    assert value == 'timescaledb, "Odd one", other, pg_stat_statements'
    assert names_of_libraries(value) == [
        "timescaledb",
        "Odd one",
        "other",
        "pg_stat_statements",
    ]


# (the file it last started with, what waits, the file it runs with)
LAST_GOOD = [
    ("a = '0'\nb = '0'\n", ["B"], {"a": "1", "b": "0"}),
    ("a = '0'\n", ["b"], {"a": "1"}),
    ("gone = '0'\n", ["gone"], {"a": "1", "b": "1", "gone": "0"}),
    ("what is this?", ["b"], {"a": "1"}),
    ("", [], {"a": "1", "b": "1"}),
]


@pytest.mark.parametrize(("before", "waiting", "expected"), LAST_GOOD)
def test_last_good(before, waiting, expected):
    wanted = "a = '1'\nb = '1'\n"
    assert last_good_text(wanted, before, waiting) == conf_file.render(expected)


# (a file, another one, whether it sets nothing that the other does not set likewise)
