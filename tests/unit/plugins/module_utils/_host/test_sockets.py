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
