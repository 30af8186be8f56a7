# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible.module_utils import basic
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.filter.audit_summary import audit_summary
from ansible_collections.pooled.postgres.plugins.module_utils import _module, _text
from ansible_collections.pooled.postgres.plugins.module_utils._audit import page

# (text, as it is shown)
TEXTS = [
    ("", ""),
    ("plain 'quoted' \\x1b", "plain 'quoted' \\x1b"),
    ("größe 日本語 данные 😀", "größe 日本語 данные 😀"),
    ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
    ("\x9b31m", "\\x9b31m"),
    ("abc\u202etxt\u2066", "abc\\u202etxt\\u2066"),
    ("a\r\nb\tc\x07", "a\\r\\nb\\tc\\x07"),
    ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
    ("\ud800", "\\ud800"),
    ("\U000e0041", "\\U000e0041"),
]


@pytest.mark.parametrize(("text", "shown"), TEXTS)
def test_what_does_something_is_written_as_an_escape(text: str, shown: str) -> None:
    assert _text.printable(text) == shown


@given(st.text(st.characters()))
def test_nothing_else_is_left(text: str) -> None:
    assert _text.printable(text).isprintable()
    lines = _text.printable_lines({"a": [text]})["a"][0]
    assert all(line.isprintable() for line in lines.replace("\t", "").split("\n"))


def test_a_module_shows_nothing_that_does_something(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Messages, warnings, diffs and lines; data stays exact."""
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": {}}).encode()
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", arguments)
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    warned: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda _self, text: warned.append(text))
    evil = "\x1b[2J\u202e\x9b"
    shown = "\\x1b[2J\\u202e\\x9b"
    module = _module.PooledModule(argument_spec={})
    module.warn(f"warning {evil}")
    with pytest.raises(SystemExit):
        module.fail_json(
            msg=f"failed\n{evil}",
            diff=[{"before": f"{evil}\n", "after": ""}],
            lines=[evil],
            name=evil,
        )
    printed = json.loads(capsys.readouterr().out)
    assert printed["msg"] == f"failed\n{shown}"
    assert printed["diff"] == [{"before": f"{shown}\n", "after": ""}]
    assert printed["lines"] == [shown]
    assert printed["name"] == evil
    assert warned == [f"warning {shown}"]


def test_pages_and_summaries_show_nothing_that_does_something() -> None:
    assert page.escape("<b>\u202e") == "&lt;b&gt;\\u202e"
    names = ("id", "evidence", "fix", "variable", "why")
    finding = {"severity": "critical", **dict.fromkeys(names, "\x1b[31m")}
    counts = {"critical": 1, "warning": 0, "info": 0, "checked": 1, "accepted": 0, "not_checked": 0}
    lists = {"findings": [finding], "accepted": [], "unused": [], "not_checked": []}
    lines = audit_summary({**lists, "summary": counts}, "host")
    assert sum("\\x1b[31m" in line for line in lines) == 4
    assert all(line.isprintable() for line in lines)
