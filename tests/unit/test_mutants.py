# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/mutants.py on a collection of one file: what a weak test misses is listed, and no more."""

from __future__ import annotations

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

from tools import mutants

ROOT = Path(__file__).resolve().parents[2]
FILE = "plugins/module_utils/_toy/share.py"
TEST = "tests/unit/plugins/module_utils/_toy/test_share.py"

CODE = """\
def share(total: int, wanted: int) -> int:
    while total % 4:
        total -= 1
    return max(1, min(wanted, total // 2))
"""
IMPORT = "from ansible_collections.pooled.postgres.plugins.module_utils._toy.share import share\n"
GOOD = f"""{IMPORT}
def test_share():
    assert (share(10, 9), share(10, 3), share(1, 1)) == (4, 3, 1)
"""
WEAK = f"{IMPORT}\ndef test_share():\n    assert share(10, 3) == 3\n"


def edits(code: str) -> set[str]:
    """The new lines that faults make."""
    source = code.encode()
    faults = mutants.Faults("a.py", source)
    return {
        " ".join(line[1:].strip() for line in mutant.diff(source).split("\n") if line[0] == "+")
        for mutant in faults.all()
        if faults.valid(mutant)
    }


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = a < b", {"x = a <= b"}),
        ("x = a >= b", {"x = a > b"}),
        ("x = a == b is not c", {"x = a != b is not c", "x = a == b is c"}),
        ("x = a not in b", {"x = a in b"}),
        ("x = (a) == (b)", {"x = (a) != (b)"}),
        ("x = a == 'user'", {"x = a != 'user'", "x = a == 'use'"}),
        ("x = not a", {"x =  a"}),
        (
            "x = a and b and c",
            {
                *("x = a or b and c", "x = a and b or c"),
                *("x = True and b and c", "x = a and True and c", "x = a and b and True"),
            },
        ),
        ("x = a or b", {"x = a and b", "x = False or b", "x = a or False"}),
        ("x = 7", {"x = 6", "x = 8"}),
        ("x = 0", {"x = 1"}),
        ("x = True", {"x = False"}),
        ("x = min(a, b)", {"x = max(a, b)", "x = (a)", "x = (b)"}),
        ("x = any(a)", {"x = all(a)"}),
        ("x = a - b", {"x = b - a"}),
        ("x = a // b", {"x = b // a"}),
        ("x = '%s' % b", set()),
        ("x = (a, b)", {"x = (a,)", "x = (b,)"}),
        ("x = [a, b, c]", {"x = [b, c]", "x = [a, c]", "x = [a, b]"}),
        ("x, y = a", set()),
        ("x = a if b else c", {"x = a if True else c", "x = a if False else c"}),
        ("x = [a for a in b if a]", {"x = [a for a in b if True]"}),
        ("if a:\n    b()", {"if True:", "if False:"}),
        ("for a in b:\n    continue", {"break"}),
        ("def f() -> tuple[str, ...]:\n    return a", {"return ()"}),
        ("def f() -> 'str':\n    return a", {'return ""'}),
        ("def f():\n    return a", {"return None"}),
    ],
)
def test_faults(code: str, expected: set[str]) -> None:
    assert edits(code) == expected


@pytest.mark.parametrize(
    "code",
    [
        '"""1 == 2"""',
        "x: Literal[1, 2]",
        "def f(a: Literal[1]) -> Literal[2]: ...",
        "raise ValueError(f'{1 + a}', 3)",
        "@dataclass(frozen=True)\nclass A: ...",
    ],
)
def test_what_is_left_alone(code: str) -> None:
    assert edits(code) == set()


@pytest.mark.parametrize(
    ("code", "pure"),
    [
        ("import re", True),
        ("import os\nx = os.path.join(a, b)", True),
        ("import os\nx = os.path.exists(a)", False),
        ("import os\nx = os.getuid()", False),
        ("from pathlib import Path", False),
        ("def f(connection): ...", False),
        ("x = open(a)", False),
    ],
)
def test_what_is_pure(code: str, pure: bool) -> None:
    assert mutants.is_pure(ast.parse(code)) is pure


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A checkout with one pure file, and one that is not."""
    for name in ("pyproject.toml", "tests/conftest.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).write_text(CODE)
    (tmp_path / FILE).with_name("look.py").write_text(f"import pwd\n\n{CODE}")
    (tmp_path / TEST).parent.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def survivors(toy: Path, test: str, *lines: str) -> list[str]:
    """Which of the faults that make these lines a test misses; the checkout must not change."""
    (toy / TEST).write_text(test)
    before = {path: path.read_bytes() for path in toy.rglob("*") if path.is_file()}
    tree = mutants.Tree(toy)
    tried = [
        mutant
        for mutant in mutants.sample(tree, "", 1000, 0)
        if any(line in mutant.source(CODE.encode()).decode() for line in lines)
    ]
    assert len(tried) == len(lines)
    found = mutants.run(tree, tried, 2)
    assert {path: path.read_bytes() for path in toy.rglob("*") if path.is_file()} == before
    return [mutant.text for mutant in found]


def test_a_weak_test_misses_what_a_good_one_catches(toy: Path) -> None:
    swapped, dropped = "min(wanted, 2 // total)", "max(1, (wanted))"
    assert survivors(toy, WEAK, swapped, dropped) == ["(wanted)"]
    assert survivors(toy, GOOD, swapped, dropped) == []


def test_a_fault_that_has_no_end_is_caught(toy: Path) -> None:
    """By steps of two, 9 passes 0."""
    test = WEAK.replace("share(10, 3) == 3", "share(9, 9) == 4")
    assert survivors(toy, test, "total -= 2") == []


def test_a_file_that_no_test_imports_is_not_covered(toy: Path) -> None:
    assert survivors(toy, "def test_nothing(): ...\n", "total -= 2") == ["2"]


def test_the_command_counts_and_fails_below_the_threshold(toy: Path) -> None:
    (toy / TEST).write_text(WEAK)
    fault = "-    return max(1, min(wanted, total // 2))\n+    return max(1, (wanted))\n"
    command = [ROOT / "tools" / "mutants.py", "--root", toy, "--room", "_toy", "--seed", "9"]
    for threshold, code in (("50", 0), ("51", 1)):
        done = subprocess.run(
            [*command, "--sample", "2", "--threshold", threshold],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        assert done.stdout.startswith(f"{FILE}:4\n{fault}1 of 2 caught (50.0 %)")


def test_tests_that_fail_without_a_fault_prove_nothing(toy: Path) -> None:
    (toy / TEST).write_text(WEAK.replace("== 3", "== 4"))
    with pytest.raises(mutants.Broken, match="fail without a fault"):
        mutants.run(mutants.Tree(toy), [], 1)
