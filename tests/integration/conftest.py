# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw-away Postgres servers of several majors, and modules run against them for real.

Fixtures:
    server: a running Cluster of each major in turn, shared by the whole session.
    clean_server: the same, without the databases and roles that earlier tests left.
    make_cluster: makes a Cluster of the test's own, for tests that stop or reconfigure it.
    run_module: runs one of the collection's modules in a process of its own; returns its JSON.
    access, settled: run postgres_access in check mode and for real; settled, then once more.
    fails: runs it to an error before which nothing is changed; returns the message.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, Callable, Iterator, NoReturn

import pytest
from ansible.module_utils import basic

from .clusters import INSTALLED, Cluster, new_cluster, reachable_bindir
from .monitoring import install_monitoring  # noqa: F401  # pylint: disable=unused-import
from .poolers import (  # noqa: F401  # pylint: disable=unused-import # fixtures are among them
    PROGRAMS,
    pgbouncer,
    pooled_server,
    pooler,
    programs_for,
)

MODULES = "ansible_collections.pooled.postgres.plugins.modules"
LEAST_MAJORS = 2
MISSING = (
    f"integration tests need servers of at least {LEAST_MAJORS} majors: run make servers, or name"
    " directories in POOLED_TEST_BINDIRS"
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "major" in metafunc.fixturenames:
        majors = list(INSTALLED) if len(INSTALLED) >= LEAST_MAJORS else [0]
        metafunc.parametrize(
            "major", majors, scope="session", ids=[f"pg{major}" for major in majors]
        )
    if "pgbouncer" in metafunc.fixturenames:
        programs = programs_for(metafunc.definition.get_closest_marker("pgbouncer"))
        metafunc.parametrize(
            "pgbouncer",
            programs if PROGRAMS else [None],
            scope="session",
            ids=[f"pgbouncer{program}" for program in programs] if PROGRAMS else None,
            indirect=True,
        )


@pytest.fixture(scope="session")
def _workplace() -> Iterator[Path]:
    """A short path that the servers' OS user may enter: a socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="pooled-", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="session")
def make_cluster(_workplace: Path) -> Iterator[Callable[..., Cluster]]:
    """Make and start a cluster of a major; stopped at the end of the session."""
    made: list[Cluster] = []

    def make(major: int, encoding: str = "UTF8") -> Cluster:
        if major not in INSTALLED:
            pytest.fail(MISSING)
        directory = _workplace / f"{major}-{len(made)}"
        directory.mkdir()
        cluster = new_cluster(major, reachable_bindir(major, _workplace), directory)
        made.append(cluster)
        cluster.initialise(encoding)
        cluster.start()
        return cluster

    yield make
    for cluster in made:
        cluster.stop()


@pytest.fixture(scope="session")
def server(major: int, make_cluster: Callable[[int], Cluster]) -> Iterator[Cluster]:
    """A running server of each major on this machine in turn."""
    cluster = make_cluster(major)
    yield cluster
    cluster.stop()


@pytest.fixture
def clean_server(server: Cluster) -> Cluster:
    """The session's server without what earlier tests made in it."""
    server.clean()
    return server


@pytest.fixture(scope="session")
def run_module() -> Callable[..., dict[str, Any]]:
    """Run a module as Ansible would, in a process of its own.

    Returns what the module printed, with warnings as plain text. A module that fails has C(failed)
    in it.
    """

    def run(
        name: str, args: dict[str, Any], check: bool = False, diff: bool = True
    ) -> dict[str, Any]:
        arguments = {**args, "_ansible_check_mode": check, "_ansible_diff": diff}
        text = json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
        module = importlib.import_module(f"{MODULES}.{name}")
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            child = os.fork()
            if child == 0:
                _be_module(module, text, stdout.fileno(), stderr.fileno())
            os.waitpid(child, 0)
            stdout.seek(0)
            stderr.seek(0)
            printed, complaints = stdout.read(), stderr.read()
        try:
            result: dict[str, Any] = json.loads(printed)
        except ValueError:
            pytest.fail(f"{name} printed no JSON:\n{printed}\n{complaints}")
        if "warnings" in result:
            result["warnings"] = [_warning_text(warning) for warning in result["warnings"]]
        return result

    return run


@pytest.fixture
def access(
    clean_server: Cluster, run_module: Callable[..., dict[str, Any]]
) -> Callable[..., dict[str, Any]]:
    """Run postgres_access in check mode and then for real; both must say the same."""

    def run(
        databases: list[dict[str, Any]], check_too: bool = True, **options: Any
    ) -> dict[str, Any]:
        args = {**clean_server.login, "databases": databases, **options}
        predicted = run_module("postgres_access", args, check=True) if check_too else None
        result = run_module("postgres_access", args)
        assert not result.get("failed"), result["msg"]
        if predicted:
            for key in ("changed", "statements", "diff", "databases", "warnings"):
                assert predicted.get(key) == result.get(key), key
        return result

    return run


@pytest.fixture
def settled(access: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Run postgres_access, then again: the second run must change nothing."""

    def run(databases: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
        result = access(databases, **options)
        again = access(databases, check_too=False, **options)
        assert again["statements"] == []
        assert not again["changed"]
        assert (again["diff"]["before"], again["diff"]["after"]) == ("", "")
        return result

    return run


@pytest.fixture
def fails(clean_server: Cluster, run_module: Callable[..., dict[str, Any]]) -> Callable[..., str]:
    """Run postgres_access, in both modes, to the same error; nothing may be executed."""

    def run(databases: list[dict[str, Any]], **options: Any) -> str:
        args = {**clean_server.login, "databases": databases, **options}
        predicted = run_module("postgres_access", args, check=True)
        result = run_module("postgres_access", args)
        assert predicted["failed"] and result["failed"]
        assert predicted["msg"] == result["msg"]
        assert not result.get("changed")
        assert clean_server.sql("SELECT 1 FROM pg_database WHERE datname = 'mydb'") == []
        assert clean_server.sql("SELECT 1 FROM pg_roles WHERE rolname LIKE 'app%'") == []
        return str(result["msg"])

    return run


def _be_module(module: Any, text: str, stdout: int, stderr: int) -> NoReturn:
    """What a forked child does: run the module's main() and end."""
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    basic._ANSIBLE_ARGS = text.encode()
    basic._ANSIBLE_PROFILE = "legacy"
    # Tests that load the controller's code would have warnings go to its display.
    internal: Any = sys.modules.get("ansible.module_utils._internal")
    if internal is not None:
        internal.is_controller = False
    try:
        module.main()
    except SystemExit:
        pass
    except BaseException:  # the parent shows it
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _warning_text(warning: Any) -> str:
    """A warning's text; newer versions of ansible-core wrap it."""
    return warning if isinstance(warning, str) else str(warning["event"]["msg"])
