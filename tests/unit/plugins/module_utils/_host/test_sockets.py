# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sockets a process listens on, while it is busy."""

from __future__ import annotations

import io
import os
import pwd
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host import sockets

US = pwd.getpwuid(os.getuid()).pw_name
# Listens on two sockets, and opens and closes others all the time, as a pooler with logins does.
BUSY = """
import itertools, socket, sys
unix, tcp = socket.socket(socket.AF_UNIX), socket.socket()
unix.bind(sys.argv[1] + "/.s.PGSQL.6543")
unix.listen()
tcp.bind(("127.0.0.1", 0))
tcp.listen()
print(tcp.getsockname()[1], flush=True)
while True:
    opened = list(itertools.chain.from_iterable(socket.socketpair() for _ in range(20)))
    for one in opened:
        one.close()
"""


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Process and TCP port of a program whose sockets come and go."""
    with subprocess.Popen(
        [sys.executable, "-c", BUSY, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        try:
            yield program.pid, int(program.stdout.readline())
        finally:
            program.kill()


def test_what_a_busy_process_listens_on_is_found_each_time(
    busy: tuple[int, int], tmp_path: Path
) -> None:
    pid, port = busy
    for _look in range(100):
        assert sockets.postgres_sockets(pid, US) == [(str(tmp_path), 6543)]
        assert sockets.tcp_sockets(pid, US) == {("127.0.0.1", port)}


def test_a_directory_may_have_spaces(tmp_path: Path) -> None:
    directory = tmp_path / "run of pgbouncer"
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as silent:
        listening.bind(str(directory / ".s.PGSQL.6432"))
        listening.listen()
        silent.bind(str(directory / ".s.PGSQL.6433"))
        assert sockets.postgres_sockets(os.getpid(), US) == [(str(directory), 6432)]
        assert str(directory / ".s.PGSQL.6432") in sockets.listening_unix_sockets()


@pytest.mark.parametrize("place", ["gone", "file", "theirs"])
def test_a_row_that_somebody_writes_into_the_table_is_not_followed(place: str) -> None:
    # A name has at most 107 bytes.
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="s") as home:
        (Path(home) / "a").mkdir()
        (Path(home) / "file").mkdir()
        (Path(home) / "file" / ".s.PGSQL.1").touch()
        (Path(home) / "theirs").mkdir()
        with ExitStack() as opened:
            ours, theirs, forging = (
                opened.enter_context(socket.socket(socket.AF_UNIX)) for _number in range(3)
            )
            theirs.bind(f"{home}/theirs/.s.PGSQL.1")
            if place == "theirs":
                if os.getuid():
                    pytest.skip("only root can give a directory away")
                # A name in it may be moved there from a place where the socket is somebody else's.
                os.chown(f"{home}/theirs", 65534, 65534)
            ours.bind(f"{home}/a/.s.PGSQL.1")
            ours.listen()
            inode = os.readlink(f"/proc/self/fd/{ours.fileno()}")[len("socket:[") : -1]
            forging.bind(f"\0x\n0: 2 0 10000 1 1 {inode} {home}/{place}/.s.PGSQL.1")
            forging.listen()
            assert f"{home}/{place}/.s.PGSQL.1" in sockets.listening_unix_sockets()
            assert sockets.postgres_sockets(os.getpid(), US) == [(f"{home}/a", 1)]


@pytest.mark.parametrize(
    "row", ["0: 2 0 what 1 1 {} /x/.s.PGSQL.1", "0: 2 0 10000 1 1 {} /.s.PGSQL.x"]
)
def test_a_row_that_makes_no_sense_is_passed_over(row: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as ours, socket.socket(socket.AF_UNIX) as forging:
        ours.bind(str(tmp_path / ".s.PGSQL.1"))
        ours.listen()
        inode = os.readlink(f"/proc/self/fd/{ours.fileno()}")[len("socket:[") : -1]
        forging.bind("\0x\n" + row.format(inode))
        forging.listen()
        assert sockets.postgres_sockets(os.getpid(), US) == [(str(tmp_path), 1)]


def test_a_row_that_one_reading_leaves_out_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    head = "Num RefCount Protocol Flags Type St Inode Path\n"
    row = "0: 00000002 00000000 00010000 0001 01 {} /run/.s.PGSQL.{}\n"
    readings = [
        head + row.format(1, 6432) + row.format(2, 6433),
        head + row.format(2, 6433) + row.format(3, 6434),
    ]

    monkeypatch.setattr(
        "builtins.open", lambda *_arguments, **_options: io.StringIO(readings.pop(0))
    )
    paths = sockets.listening_unix_sockets()
    monkeypatch.undo()
    assert paths == [f"/run/.s.PGSQL.{port}" for port in (6432, 6433, 6434)]


def test_of_a_process_that_is_gone_there_is_nothing() -> None:
    program = subprocess.Popen([sys.executable, "-c", ""])
    program.wait()
    assert sockets.postgres_sockets(program.pid, US) == []
    assert sockets.tcp_sockets(program.pid, US) == set()
