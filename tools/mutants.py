#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make small faults in the pure files of plugins/module_utils; list those that no test catches.

Usage: tools/env tools/mutants.py [--sample 200] [--seed 14] [--room _budget] [--threshold 90]

Each fault is made by itself in a copy of the tree; the tree itself is never changed. First the
tests beside the faulty file are run, then all others below tests/unit/plugins that import it,
however indirectly.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import multiprocessing
import os
import queue
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "ansible_collections.pooled.postgres."
HOUSE = "plugins/module_utils"
TESTS = "tests/unit/plugins"

# A file that imports one of these reaches out of the process; integration tests are for it.
OUTSIDE = {
    *(
        "ansible",
        "fcntl",
        "glob",
        "grp",
        "pathlib",
        "psycopg2",
        "pwd",
        "select",
        "shutil",
        "signal",
    ),
    *("socket", "ssl", "subprocess", "tempfile", "threading", "time"),
}
# What may be used of os: nothing there looks at the host.
PURE_OS = {"path", "urandom"}
LOOKS = {"exists", "getmtime", "getsize", "isdir", "isfile", "islink", "lexists", "realpath"}

FLIPS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
}
OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any"}
EMPTY = {
    "bool": "False",
    "dict": "{}",
    "float": "0.0",
    "frozenset": "frozenset()",
    "int": "0",
    "list": "[]",
    "set": "set()",
    "str": '""',
    "tuple": "()",
}

# How many times as long as without the fault a run may take. That is time of the CPU, which other
# work on the machine does not make longer; by the clock it may be WAIT times as much, for faults
# that sleep.
SLOWER = 5
WAIT = 6
MEMORY_BYTES = 4 << 30


class Broken(Exception):
    """The tests fail, or do not run, without a fault."""


@dataclass(frozen=True, order=True)
class Mutant:
    """A fault: C(text) in place of the bytes from C(start) to C(end) of a file."""

    path: str
    start: int
    end: int
    text: str

    def source(self, original: bytes) -> bytes:
        return original[: self.start] + self.text.encode() + original[self.end :]

    def line(self, original: bytes) -> int:
        return original[: self.start].count(b"\n") + 1

    def diff(self, original: bytes) -> str:
        """The lines that differ, without those around them."""
        before, after = (text.decode().splitlines() for text in (original, self.source(original)))
        lines = list(difflib.unified_diff(before, after, lineterm="", n=0))
        return "\n".join(line for line in lines[2:] if not line.startswith("@@"))


# Faults


class Faults:
    """All faults of one file."""

    def __init__(self, path: str, source: bytes) -> None:
        self.path = path
        self.source = source
        self.tree = ast.parse(source)
        self.lines = [0]
        for line in source.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None  # noqa: S101
        return (
            self.lines[node.lineno - 1] + node.col_offset,
            self.lines[node.end_lineno - 1] + node.end_col_offset,
        )

    def text(self, node: ast.expr) -> str:
        start, end = self.span(node)
        return self.source[start:end].decode()

    def all(self) -> list[Mutant]:
        """All edits; C(valid) says which of them are faults."""
        return sorted({Mutant(self.path, *edit) for edit in self.edits(self.tree, None)})

    @cached_property
    def says(self) -> str:
        return ast.dump(self.tree)

    def valid(self, mutant: Mutant) -> bool:
        """Whether it is Python, and says something else than the source."""
        try:
            return ast.dump(ast.parse(mutant.source(self.source))) != self.says
        except SyntaxError:
            return False  # parentheses that the edit tears apart

    def place(self, mutant: Mutant) -> str:
        """What stays the same when other lines change."""
        start = self.source.rfind(b"\n", 0, mutant.start) + 1
        line = self.source[start:].split(b"\n", 1)[0].decode()
        return f"{self.path}:{line}:{mutant.start - start}:{mutant.end - start}:{mutant.text}"

    def edits(self, node: ast.AST, returns: ast.expr | None) -> Iterator[tuple[int, int, str]]:
        """Edits of a node and what is in it; C(returns) is the type that its function returns."""
        if isinstance(node, ast.Raise | ast.Assert):
            return  # words for people, and what does not happen
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        yield from self.edits_of(node, returns)
        if isinstance(node, ast.FunctionDef):
            returns = node.returns
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self.edits(child, returns)

    def edits_of(self, node: ast.AST, returns: ast.expr | None) -> Iterator[tuple[int, int, str]]:
        if isinstance(node, ast.Compare):
            yield from self.compared(node)
        elif isinstance(node, ast.BoolOp):
            yield from self.joined(node)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            start = self.span(node)[0]
            yield start, start + len(b"not"), ""
        elif isinstance(node, ast.If | ast.IfExp | ast.While):
            yield (*self.span(node.test), "False")
            if not isinstance(node, ast.While):
                yield (*self.span(node.test), "True")
        elif isinstance(node, ast.comprehension):
            for condition in node.ifs:
                yield (*self.span(condition), "True")
        elif isinstance(node, ast.Constant):
            yield from self.constant(node)
        elif isinstance(node, ast.BinOp) and isinstance(
            node.op, ast.Sub | ast.Div | ast.FloorDiv | ast.Mod
        ):
            yield from self.swapped(node)
        elif isinstance(node, ast.Call):
            yield from self.called(node)
        elif isinstance(node, ast.Return) and node.value is not None:
            yield (*self.span(node.value), empty(returns))
        elif isinstance(node, ast.Continue):
            yield (*self.span(node), "break")
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            yield from self.shortened(node)

    def compared(self, node: ast.Compare) -> Iterator[tuple[int, int, str]]:
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            start, end = self.span(left)[1], self.span(right)[0]
            old, new = FLIPS[type(operator)]
            between = self.source[start:end].decode()
            yield start, end, re.sub(rf"(?<![<>=!]){old}(?!=)", new, between, count=1)
            for side in (left, right):
                if isinstance(side, ast.Constant) and isinstance(side.value, str):
                    changed = side.value[:-1] if len(side.value) > 1 else f"{side.value}x"
                    yield (*self.span(side), repr(changed))
            left = right

    def joined(self, node: ast.BoolOp) -> Iterator[tuple[int, int, str]]:
        old, new, nothing = (
            ("and", "or", "True") if isinstance(node.op, ast.And) else ("or", "and", "False")
        )
        for value in node.values:
            yield (*self.span(value), nothing)
        for left, right in zip(node.values, node.values[1:], strict=False):
            start, end = self.span(left)[1], self.span(right)[0]
            between = self.source[start:end].decode()
            yield start, end, re.sub(rf"\b{old}\b", new, between, count=1)

    def constant(self, node: ast.Constant) -> Iterator[tuple[int, int, str]]:
        if isinstance(node.value, bool):
            yield (*self.span(node), str(not node.value))
        elif isinstance(node.value, int | float):
            yield (*self.span(node), str(node.value + 1))
            if node.value > 1:
                yield (*self.span(node), str(node.value - 1))

    def swapped(self, node: ast.BinOp) -> Iterator[tuple[int, int, str]]:
        if isinstance(node.left, ast.Constant | ast.JoinedStr) and isinstance(node.op, ast.Mod):
            return  # a format
        (start, left_end), (right_start, end) = self.span(node.left), self.span(node.right)
        between = self.source[left_end:right_start].decode()
        yield start, end, f"{self.text(node.right)}{between}{self.text(node.left)}"

    def called(self, node: ast.Call) -> Iterator[tuple[int, int, str]]:
        if isinstance(node.func, ast.Name) and node.func.id in OPPOSITES:
            yield (*self.span(node.func), OPPOSITES[node.func.id])
            if len(node.args) == 2 and node.func.id in ("min", "max"):
                for argument in node.args:
                    if not isinstance(argument, ast.Starred):
                        yield (*self.span(node), f"({self.text(argument)})")

    def shortened(self, node: ast.Tuple | ast.List | ast.Set) -> Iterator[tuple[int, int, str]]:
        start, end = self.span(node)
        text = self.source[start:end]
        if len(node.elts) < 2 or not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            return
        if not text.startswith((b"(", b"[", b"{")):
            return  # a key, or what is unpacked
        for number, element in enumerate(node.elts):
            if len(node.elts) == 2:
                comma = "," if isinstance(node, ast.Tuple) else ""
                other = self.text(node.elts[1 - number])
                yield start, end, f"{chr(text[0])}{other}{comma}{chr(text[-1])}"
            elif number:
                yield self.span(node.elts[number - 1])[1], self.span(element)[1], ""
            else:
                yield self.span(element)[0], self.span(node.elts[1])[0], ""


def empty(returns: ast.expr | None) -> str:
    """What says nothing, of the type that a function returns."""
    if isinstance(returns, ast.Subscript):
        returns = returns.value
    if isinstance(returns, ast.Constant) and isinstance(returns.value, str):
        returns = ast.parse(returns.value, mode="eval").body
    return EMPTY.get(returns.id, "None") if isinstance(returns, ast.Name) else "None"


# Files


def is_pure(tree: ast.Module) -> bool:
    """Whether nothing in a file looks at, or changes, what is outside of the process."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0]}
        else:
            names = set()
        if names & OUTSIDE:
            return False
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == "os":
                if node.attr not in PURE_OS:
                    return False
            elif ast.unparse(node.value) == "os.path" and node.attr in LOOKS:
                return False
        if isinstance(node, ast.arg) and node.arg == "connection":
            return False
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "open"
        ):
            return False
    return True


class Tree:
    """The checkout's files: which are pure, and which tests import which."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        )
        self.files = [name for name in listing.stdout.split("\0") if (root / name).is_file()]
        self.python = {
            name: ast.parse((root / name).read_bytes())
            for name in self.files
            if name.startswith(("plugins/", f"{TESTS}/")) and name.endswith(".py")
        }

    def pure(self, room: str = "") -> list[str]:
        """The pure files, of one room if it is given."""
        start = f"{HOUSE}/{room}"
        return [
            name
            for name, tree in self.python.items()
            if name.startswith(f"{HOUSE}/")
            and (not room or name == f"{start}.py" or name.startswith(f"{start}/"))
            and is_pure(tree)
        ]

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Which of the collection's files each file imports."""
        found: dict[str, set[str]] = {}
        for name, tree in self.python.items():
            modules = set()
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.level == 0:
                    modules.add(str(node.module))
                    modules |= {f"{node.module}.{alias.name}" for alias in node.names}
                elif isinstance(node, ast.Import):
                    modules |= {alias.name for alias in node.names}
            found[name] = {
                file
                for module in modules
                if module.startswith(PACKAGE)
                and (file := module[len(PACKAGE) :].replace(".", "/") + ".py") in self.python
            }
        return found

    def reach(self, path: str) -> list[str]:
        """The tests that import a file, however indirectly."""
        importers = {path}
        while more := {name for name, used in self.imports.items() if used & importers} - importers:
            importers |= more
        return sorted(name for name in importers if Path(name).name.startswith("test_"))

    def tests(self, path: str) -> tuple[list[str], list[str]]:
        """The tests beside a file, and all others that import it."""
        house = Path(path).relative_to(HOUSE)
        all_of_them = self.reach(path)
        place = house.parent
        while place.parts:
            beside = [
                name for name in all_of_them if name.startswith(f"{TESTS}/module_utils/{place}/")
            ]
            if beside:
                break
            place = place.parent
        else:
            own = f"{TESTS}/module_utils/test{house.stem}.py"
            beside = [own] if own in all_of_them else []
        return beside, [name for name in all_of_them if name not in beside]


# Runs


@dataclass(frozen=True)
class Pace:
    """How many seconds tests take without a fault."""

    start: float
    files: dict[str, float]

    def of(self, tests: list[str]) -> float:
        return self.start + sum(self.files.get(name, 0) for name in tests)


# Each run of tests is a fork of a process that has imported pytest: half of what a short run takes.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["__main__", "hypothesis", "pytest", "_pytest.unittest", "yaml"])


def in_child(root: Path, arguments: list[str], output: Path, limit_s: float | None) -> None:
    """Run pytest in a copy of the tree, and end this process."""
    if limit_s is not None:
        seconds = int(limit_s) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        # What is compiled with a fault must not be there without it.
        sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.chdir(root)
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(root / ".ansible" / "collections")
    with tempfile.TemporaryDirectory() as examples:
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = examples
        import pytest  # noqa: PLC0415

        code = int(pytest.main(arguments))
    sys.stdout.flush()
    os._exit(code)


class Copy:
    """A copy of the tree, in which one fault at a time is made."""

    def __init__(self, tree: Tree, place: Path) -> None:
        self.tree = tree
        self.root = place

    def fill(self) -> None:
        for name in self.tree.files:
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.tree.root / name, target)
        link = self.root / ".ansible" / "collections" / PACKAGE.rstrip(".").replace(".", "/")
        link.parent.mkdir(parents=True)
        link.symlink_to("../../../..")

    def again(self, place: Path) -> Copy:
        """Another, with what Python has compiled here."""
        shutil.copytree(self.root, place, symlinks=True)
        return Copy(self.tree, place)

    def pytest(
        self, tests: list[str], *more: str, limit_s: float | None = None
    ) -> tuple[int | None, str]:
        """How pytest ended, and what it printed; None when its time was over."""
        output = self.root.with_name("output")
        arguments = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        arguments += ["--hypothesis-profile=mutants", *more, *tests]
        process = FORKS.Process(
            target=in_child, args=(self.root, arguments, output, limit_s), daemon=True
        )
        process.start()
        process.join(None if limit_s is None else WAIT * limit_s)
        if process.is_alive():
            process.kill()
            process.join()
            return None, ""
        return process.exitcode, output.read_text(errors="replace")

    def unmutated(self) -> Pace:
        report = self.root / "unmutated.xml"
        begin = time.monotonic()
        code, output = self.pytest([TESTS], f"--junitxml={report}", "-o", "junit_family=xunit1")
        spent = time.monotonic() - begin
        if code != 0:
            raise Broken(f"The tests fail without a fault:\n{output}")
        files: dict[str, float] = {}
        for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 # our own
            file = str(case.get("file"))
            files[file] = files.get(file, 0) + float(case.get("time", "0"))
        return Pace(spent - sum(files.values()), files)

    def catches(self, tests: list[str], pace: Pace) -> bool:
        """Whether tests fail, or do not come to an end."""
        code, output = self.pytest(tests, limit_s=SLOWER * pace.of(tests))
        if code is None or code < 0 or code in (0, 1, 2):
            return code != 0
        raise Broken(f"pytest ended with {code}:\n{output}")

    def survives(self, mutant: Mutant, pace: Pace) -> bool:
        file = self.root / mutant.path
        # What was compiled without the fault can be taken for it: only time and size are compared.
        for compiled in file.parent.glob(f"__pycache__/{file.stem}.*.pyc"):
            compiled.unlink()
        original = file.read_bytes()
        file.write_bytes(mutant.source(original))
        try:
            return not any(
                tests and self.catches(tests, pace) for tests in self.tree.tests(mutant.path)
            )
        finally:
            file.write_bytes(original)


def sample(tree: Tree, room: str, number: int, seed: int) -> list[Mutant]:
    """As many faults as wanted, each as likely as any other.

    They are the same for the same seed, except where the code has changed.
    """
    ranked = []
    for path in tree.pure(room):
        faults = Faults(path, (tree.root / path).read_bytes())
        for mutant in faults.all():
            rank = hashlib.sha256(f"{seed}:{faults.place(mutant)}".encode()).digest()
            ranked.append((rank, mutant, faults))
    ranked.sort(key=lambda entry: entry[:2])
    valid = (mutant for _rank, mutant, faults in ranked if faults.valid(mutant))
    return sorted(islice(valid, number))


def run(tree: Tree, mutants: list[Mutant], jobs: int) -> list[Mutant]:
    """Try mutants; show and return those that nothing catches."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: queue.Queue[Copy] = queue.Queue()
        first = Copy(tree, Path(folder) / "0" / "tree")
        first.fill()
        pace = first.unmutated()
        copies.put(first)
        for number in range(1, jobs):
            copies.put(first.again(Path(folder) / str(number) / "tree"))

        def lives(mutant: Mutant) -> bool:
            place = copies.get()
            try:
                survived = place.survives(mutant, pace)
            finally:
                copies.put(place)
            if survived:
                original = (tree.root / mutant.path).read_bytes()
                print(f"{mutant.path}:{mutant.line(original)}\n{mutant.diff(original)}", flush=True)
            return survived

        with ThreadPoolExecutor(jobs) as pool:
            survivors = [
                mutant
                for mutant, lived in zip(mutants, pool.map(lives, mutants), strict=True)
                if lived
            ]
    return survivors


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", type=int, default=200, metavar="N", help="how many faults")
    parser.add_argument("--seed", type=int, default=14, help="another seed, other faults")
    parser.add_argument("--room", default="", help="one room only, such as _budget")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many at a time")
    parser.add_argument(
        "--threshold", type=float, default=90, metavar="PERCENT", help="fail below that many caught"
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    options = parser.parse_args()

    tree = Tree(options.root.resolve())
    mutants = sample(tree, options.room, options.sample, options.seed)
    if not mutants:
        parser.error(f"no faults can be made in {options.room or HOUSE}")
    start = time.monotonic()
    try:
        survivors = run(tree, mutants, options.jobs)
    except Broken as broken:
        print(broken, file=sys.stderr)
        return 2
    caught = len(mutants) - len(survivors)
    percent = 100 * caught / len(mutants)
    print(
        f"{caught} of {len(mutants)} caught ({percent:.1f} %)"
        f" in {time.monotonic() - start:.0f} s, seed {options.seed}"
    )
    return int(percent < options.threshold)


if __name__ == "__main__":
    sys.exit(main())
