# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of pg_hba.conf that are not ours."""

from __future__ import annotations

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_file import (
    BLOCK_BEGIN,
    BLOCK_END,
    FILE_HEADER,
    KEPT_HEADER,
    hba_text,
    include_lines,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import (
    LoginRule,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_unmanaged import (
    IncludedRule,
    decided_by_the_model,
    named_by_unmanaged_lines,
    unmanaged_lines,
    unmanaged_names,
    unsafe_lines,
)

MODEL = parse_databases(
    [
        {
            "name": "mydb",
            "roles": [
                {"name": "app_user", "kind": "user"},
                {"name": "app_migrator", "kind": "migrator"},
            ],
        },
        {"name": "empty"},
        {"name": "all", "roles": [{"name": "Reporting, x", "kind": "reader"}]},
    ]
)


ONE = (LoginRule("local", ("mydb",), ("app_user",), "", "scram-sha-256"),)
LINE = ONE[0].line()
BLOCK = f"{BLOCK_BEGIN}\n{LINE}\n{BLOCK_END}\n"
WHOLE = f"{FILE_HEADER}\n{BLOCK}"


def test_unsafe_lines() -> None:
    text = "# host all all all trust\nhost all all all trust\nlocal trust trust peer\n"
    assert unsafe_lines("include a b trust\n") == ()
    assert unsafe_lines(text + "host a b 10.0.0.0/8 password x=1\n") == (
        "line 2 has method trust, which lets everybody in without a password:"
        " host all all all trust",
        "line 4 has method password, which sends passwords in plain text:"
        " host a b 10.0.0.0/8 password x=1",
    )


# A line below our block, and whether it stays when database theirs and roles their and "+x y" are
# those of others.
KEPT = [
    ("host theirs their 10.0.0.0/8 scram-sha-256", True),
    ("hostssl  theirs\ttheir  all  trust  # a comment", True),
    ('host "theirs" "+x y",their 10.0.0.0/8 md5', True),
    ("host theirs, theirs their, their 10.0.0.0/8 md5", True),
    ("local theirs their peer", True),
    ("host theirs all 10.0.0.0/8 scram-sha-256", True),
    ("host theirs all 10.0.0.0/8 reject", True),
    ("local theirs all scram-sha-256", True),
    ("host theirs all 10.0.0.0/8 trust", False),
    ("host theirs their,all 10.0.0.0 255.0.0.0 password", False),
    ("local theirs all peer", False),
    ('host theirs "all" 10.0.0.0/8 scram-sha-256', False),
    ("host all all 0.0.0.0/0 trust", False),
    ("host all their 10.0.0.0/8 scram-sha-256", False),
    ("host mydb their 10.0.0.0/8 scram-sha-256", False),
    ("host theirs,mydb their 10.0.0.0/8 scram-sha-256", False),
    ("host theirs app_user 10.0.0.0/8 scram-sha-256", False),
    ("host theirs +their 10.0.0.0/8 scram-sha-256", False),
    ("host theirs /their 10.0.0.0/8 scram-sha-256", False),
    ("host replication their 10.0.0.0/8 scram-sha-256", False),
    ("host sameuser their 10.0.0.0/8 scram-sha-256", False),
    ("host theirs their 10.0.0.0/8 \\", False),
    ("host @theirs their 10.0.0.0/8 md5", False),
    ("host theirs", False),
    ('host theirs their"their" 10.0.0.0/8 md5', False),
    ("host theirs ,their 10.0.0.0/8 md5", False),
    ("host theirs their, 10.0.0.0/8 md5", False),
    # What it brings is judged by what the server reads: see below.
    ("include theirs", True),
    ("  include_dir hba.d  # theirs", True),
    ("include_if_exists theirs", True),
    ("included theirs", False),
    ('"include" theirs', False),
    ("# host theirs their 10.0.0.0/8 md5", False),
]


@pytest.mark.parametrize(("line", "kept"), KEPT)
def test_lines_for_what_only_others_have(line: str, kept: bool) -> None:
    lines = unmanaged_lines(WHOLE + line + "\n", ["theirs", "/x"], ["their", "+x y"])
    assert lines == ((line,) if kept else ())
    text = hba_text(WHOLE, ONE, True, lines)
    assert text.startswith(WHOLE)
    assert text.splitlines()[len(WHOLE.splitlines()) :] == ([KEPT_HEADER, line] if kept else [])
    again = unmanaged_lines(text, ["theirs"], ["their", "+x y"])
    assert hba_text(text, ONE, True, again) == text
    assert unmanaged_lines(text, [], []) == include_lines(text)


def test_others() -> None:
    names = ["app_user", "mydb", "legacy", "pgbouncer_auth"]
    assert unmanaged_names(MODEL, names, ["pgbouncer_auth"]) == ["legacy"]


def test_what_others_lines_name() -> None:
    text = f"{WHOLE}host one,two  a,+group 10.0.0.0/8 md5\nlocal all b peer\nnonsense\n"
    databases, roles = named_by_unmanaged_lines(text)
    assert (sorted(databases), sorted(roles)) == (["one", "two"], ["a", "b"])


# (what an included rule lets in, whether a managed file can have it)
INCLUDED = [
    (("theirs",), ("their",), "trust", "", True),
    (("theirs",), ("all",), "scram-sha-256", "", True),
    (("theirs",), ("all",), "reject", "", True),
    (("theirs",), ("all",), "trust", "", False),
    (("theirs",), ("all", "their"), "scram-sha-256", "", False),
    (("theirs", "mydb"), ("their",), "scram-sha-256", "", False),
    (("theirs",), ("their", "app_user"), "scram-sha-256", "", False),
    (("all",), ("their",), "scram-sha-256", "", False),
    (("theirs",), ("+their",), "scram-sha-256", "", False),
    (("/^their",), ("their",), "scram-sha-256", "", False),
    (("@file",), ("their",), "scram-sha-256", "", False),
    (("replication",), ("their",), "scram-sha-256", "", False),
    ((), (), "", "authentication option not allowed", False),
]


@pytest.mark.parametrize(("databases", "users", "method", "error", "kept"), INCLUDED)
def test_what_an_included_file_may_say(
    databases: tuple[str, ...], users: tuple[str, ...], method: str, error: str, kept: bool
) -> None:
    rule = IncludedRule("/d/x.conf", 3, "host", databases, users, method, error)
    # Names that mean more than themselves do so whoever has them.
    names = ["theirs", "all", "+their", "/^their", "@file", "replication"]
    found = decided_by_the_model([rule], names, ["their", "+their"])
    assert found == (() if kept else (rule,))
    assert str(rule).startswith("/d/x.conf line 3: ")
    assert str(rule).endswith(error or f" ... {method}")
