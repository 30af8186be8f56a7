# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that come from an address of their own: drivers can't choose theirs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def coming_from(source: str, port: int, to: str = "127.0.0.1") -> Iterator[int]:
    """A port on 127.0.0.1 that leads to another one, whose server sees the source address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener, source, to, port), daemon=True).start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket, source: str, to: str, port: int) -> None:
    while True:
        try:
            near = listener.accept()[0]
        except OSError:
            return
        far = socket.create_connection((to, port), source_address=(source, 0))
        for ends in ((near, far), (far, near)):
            threading.Thread(target=_copy, args=ends, daemon=True).start()


def _copy(come: socket.socket, go: socket.socket) -> None:
    with suppress(OSError):
        while data := come.recv(65536):
            go.sendall(data)
    for end in (come, go):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
