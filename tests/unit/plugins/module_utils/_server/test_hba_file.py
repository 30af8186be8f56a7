# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of pg_hba.conf and pg_ident.conf."""

from __future__ import annotations

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_file import (
    BLOCK_BEGIN,
    BLOCK_END,
    FILE_HEADER,
    KEPT_HEADER,
    PACKAGE_RULES,
    aligned,
    has_includes,
    hba_text,
    ident_text,
    is_as_packaged,
    is_ours,
    shown_change,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_from_model import (
    ident_lines,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import (
    LoginRule,
)

PACKAGED = """# PostgreSQL Client Authentication Configuration File
# DO NOT DISABLE!
local   all             postgres                                peer

# TYPE  DATABASE        USER            ADDRESS                 METHOD

local   all             all                                     peer
host    all             all             127.0.0.1/32            scram-sha-256
host    all             all             ::1/128                 scram-sha-256
local   replication     all                                     peer
host    replication     all             127.0.0.1/32            scram-sha-256
host    replication     all             ::1/128                 scram-sha-256
"""


ONE = (LoginRule("local", ("mydb",), ("app_user",), "", "scram-sha-256"),)
LINE = ONE[0].line()
BLOCK = f"{BLOCK_BEGIN}\n{LINE}\n{BLOCK_END}\n"
WHOLE = f"{FILE_HEADER}\n{BLOCK}"
OTHERS = "# theirs\nhost  legacy  legacy  10.0.0.0/8  md5\n"

TEXTS = [
    pytest.param(PACKAGED, True, WHOLE, id="whole-over-packaged"),
    pytest.param(WHOLE + "host all all all trust\n", True, WHOLE, id="whole-mends-additions"),
    pytest.param(WHOLE, True, WHOLE, id="whole-is-stable"),
    pytest.param(OTHERS, False, BLOCK + OTHERS, id="block-before-others"),
    pytest.param(BLOCK + OTHERS, False, BLOCK + OTHERS, id="block-is-stable"),
    pytest.param(
        f"{OTHERS}{BLOCK_BEGIN}\nlocal all all trust\n{BLOCK_END}\n",
        False,
        BLOCK + OTHERS,
        id="block-mended-and-moved-up",
    ),
    pytest.param(WHOLE, False, BLOCK, id="whole-given-up"),
    pytest.param(
        f"{WHOLE}{KEPT_HEADER}\n{OTHERS}", False, BLOCK + OTHERS, id="whole-with-kept-given-up"
    ),
    pytest.param(BLOCK_END + "\n" + OTHERS, False, BLOCK + OTHERS, id="stray-end"),
    pytest.param("", False, BLOCK, id="no-file"),
]


@pytest.mark.parametrize(("existing", "whole", "expected"), TEXTS)
def test_hba_text(existing: str, whole: bool, expected: str) -> None:
    assert hba_text(existing, ONE, whole) == expected


def test_a_block_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError) as error:
        hba_text(f"{OTHERS}{BLOCK_BEGIN}\n{LINE}\n", ONE, False)
    assert str(error.value) == (
        "pg_hba.conf: line 3 says '# BEGIN pooled.postgres', but no line below it says"
        " '# END pooled.postgres', so that managed lines can't be told from unmanaged ones; put"
        " that line back below the managed ones"
    )


IDENT = ident_lines(pooler_role="pgbouncer_auth")
IDENT_BLOCK = f"{BLOCK_BEGIN}\n{IDENT[0].line()}\n{BLOCK_END}\n"
IDENT_TEXTS = [
    ("# comment\n", "# comment\n" + IDENT_BLOCK),
    ("mymap  a  b", "mymap  a  b\n" + IDENT_BLOCK),
    (IDENT_BLOCK + "mymap a b\n", "mymap a b\n" + IDENT_BLOCK),
    ("pooled  evil  pgbouncer_auth\n", IDENT_BLOCK),
    ('"pooled"  evil  pgbouncer_auth\n', IDENT_BLOCK),
]


@pytest.mark.parametrize(("existing", "expected"), IDENT_TEXTS)
def test_ident_text(existing: str, expected: str) -> None:
    assert ident_text(existing, IDENT) == expected
    assert ident_text(expected, IDENT) == expected


def test_ident_text_without_a_pooler() -> None:
    assert ident_text("mymap a b\n" + IDENT_BLOCK, ()) == "mymap a b\n"


def test_as_packaged() -> None:
    assert is_as_packaged(PACKAGED)
    assert is_as_packaged(PACKAGED.replace("scram-sha-256", "md5"))
    assert not is_as_packaged(PACKAGED + "host all all 10.0.0.0/8 scram-sha-256\n")
    assert not is_as_packaged("")
    assert is_ours(WHOLE)
    assert not is_ours(BLOCK)


def test_shown_change() -> None:
    assert shown_change(PACKAGED, WHOLE) == {
        "before": "\n".join(PACKAGE_RULES) + "\n",
        "after": WHOLE,
    }
    assert shown_change("# only comments\n", "# only comments\n" + IDENT_BLOCK) == {
        "before": "",
        "after": IDENT_BLOCK,
    }
    assert shown_change(OTHERS, BLOCK + OTHERS) == {"before": OTHERS, "after": BLOCK + OTHERS}


def test_columns_are_as_wide_as_they_need_to_be_but_for_very_long_lists() -> None:
    many = tuple(f"application_{number}" for number in range(6))
    rules = (
        LoginRule("local", ("mydb",), ("a", "somewhat_longer"), "", "peer", ("map=pooled",)),
        LoginRule("host", ("mydb",), ("a",), "10.0.0.0/8", "scram-sha-256"),
        LoginRule("host", ("mydb",), many, "10.0.0.0/8", "scram-sha-256"),
    )
    assert aligned(rules) == [
        "local mydb a,somewhat_longer            peer map=pooled",
        "host  mydb a                 10.0.0.0/8 scram-sha-256",
        f"host  mydb {','.join(many)} 10.0.0.0/8 scram-sha-256",
    ]


def test_shown_change_leaves_out_what_is_only_aligned_otherwise() -> None:
    before = "host mydb a 10.0.0.0/8 scram-sha-256\nhost mydb b 10.0.0.0/8 scram-sha-256\n"
    after = (
        "host mydb   a   10.0.0.0/8 scram-sha-256\nhost mydb   longer 10.0.0.0/8 scram-sha-256\n"
    )
    shown = shown_change(before, after)
    assert shown == {
        "before": after.splitlines(keepends=True)[0] + before.splitlines(keepends=True)[1],
        "after": after,
    }
    spaced = before.replace(" ", "  ")
    assert shown_change(before, spaced) == {"before": before, "after": spaced}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("pooled a b\n# include other\n", False),
        ("pooled include b\n", False),
        ("pooled a b\ninclude_if_exists other", True),
        ("  include_dir maps.d\n", True),
    ],
)
def test_files_of_others_are_noticed(text, expected):
    assert has_includes(text) is expected
