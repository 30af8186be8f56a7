# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords go only to a server that is known, or that asks for them with SCRAM.

Whoever stands between us and the server can answer in its place that it has no TLS, and ask for the
password in clear text. libpq refuses that since 16, with C(require_auth). For an older one, this
process connects to the server itself and lets libpq talk through it: what the server asks for is
seen before libpq sees it, and nothing else gets through.
"""

from __future__ import annotations

import select
import shutil
import socket
import ssl
import struct
import tempfile
import threading
from dataclasses import dataclass, field
from typing import Any, Mapping

REQUIRE_AUTH_LIBPQ = 160000
VERIFYING = ("verify-ca", "verify-full")
# Method, as require_auth has it, by the number of an authentication request.
METHODS = {
    2: "krb5",
    3: "password",
    5: "md5",
    7: "gss",
    8: "gss",
    9: "sspi",
    10: "scram-sha-256",
    11: "scram-sha-256",
    12: "scram-sha-256",
}
SCRAM_FINAL = 12
IN_WORDS = {
    "password": "the password in clear text",
    "md5": "an MD5 hash of the password",
    "none": "no password",
}
# Parameters of libpq that decide where a connection goes, and that the relay does not know.
_NOT_RELAYED = ("dsn", "hostaddr", "passfile", "service", "sslpassword", "target_session_attrs")
# What may name a password that libpq then finds for itself.
_NAMING_PASSWORDS = ("passfile", "service")
# Where no password is given, libpq may still find one.
_NO_OPEN_PASSWORD = "!password,!md5"  # noqa: S105 - a list of methods
_SASL = struct.pack("!i", 10)
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_MOST_MESSAGE = 1 << 16
_CHUNK = 1 << 16
_MOST_WAITING = 1 << 20


class NotAllowed(Exception):
    """The server asks for what it must not get; the text is the method's name."""


def required_methods(given: Mapping[str, Any]) -> str:
    """The value of require_auth for a connection; empty where the server may ask for anything.

    Args:
        given: libpq's parameters.
    """
    if given.get("require_auth"):
        return str(given["require_auth"])
    verifies = given.get("sslmode") in VERIFYING or (
        given.get("sslmode") == "require" and given.get("sslrootcert")
    )
    if verifies or _is_local(given):
        return ""
    if not given.get("password"):
        return _NO_OPEN_PASSWORD
    return "scram-sha-256,none" if given.get("sslcert") else "scram-sha-256"


def _is_local(given: Mapping[str, Any]) -> bool:
    """Whether all that libpq may connect to is a unix socket of this host."""
    hosts = str(given.get("host") or "").split(",")
    return not given.get("hostaddr") and all(not host or host[0] in "/@" for host in hosts)


def allowed_methods(required: str) -> frozenset[str]:
    """The methods that a value of require_auth allows.

    Raises:
        ValueError: when it is not a list of methods.
    """
    known = {*METHODS.values(), "none"} - {"krb5"}
    items = [item.strip() for item in required.split(",")]
    names = [item.removeprefix("!") for item in items]
    negated = [item.startswith("!") for item in items]
    unknown = sorted(set(names) - known)
    if unknown or len(set(negated)) > 1:
        raise ValueError(
            f"connect_params.require_auth: {required!r} is not a list of"
            f" {', '.join(sorted(known))}, all of them or none with an exclamation mark before it"
        )
    return frozenset(known - set(names) if negated[0] else names)


@dataclass
class AuthenticationFilter:
    """What a server says until it has let the client in, message by message."""

    allowed: frozenset[str]
    let_in: bool = False
    _asked: str = ""
    _proved: bool = False
    _held: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> bytes:
        """What may be passed on of that and of what came before.

        Raises:
            NotAllowed: when the server asks for something else than what is allowed.
        """
        if self.let_in:
            return data
        self._held += data
        passed = bytearray()
        while len(self._held) >= 5:
            (length,) = struct.unpack_from("!i", self._held, 1)
            if not 4 <= length <= _MOST_MESSAGE:
                raise NotAllowed("unknown")
            if len(self._held) < 1 + length:
                break
            message = bytes(self._held[: 1 + length])
            del self._held[: 1 + length]
            lets_in = self._lets_in(message)
            passed += _without_binding(message)
            if lets_in:
                self.let_in = True
                passed += self._held
                self._held.clear()
        return bytes(passed)

    def _lets_in(self, message: bytes) -> bool:
        if message[:1] != b"R":
            # An error, a notice, or the negotiation of a version: libpq sends nothing after these.
            if message[:1] not in b"ENv":
                raise NotAllowed("unknown")
            return False
        (code,) = struct.unpack_from("!i", message, 5) if len(message) >= 9 else (-1,)
        if code == 0:
            if self._asked == "scram-sha-256" and not self._proved:
                raise NotAllowed("unknown")
            if not self._asked and "none" not in self.allowed:
                raise NotAllowed("none")
            return True
        method = METHODS.get(code, "unknown")
        if method not in self.allowed and not (code == 8 and self._asked == "sspi"):
            raise NotAllowed(method)
        self._asked = self._asked or method
        self._proved = self._proved or code == SCRAM_FINAL
        return False


def _without_binding(message: bytes) -> bytes:
    """A list of mechanisms without SCRAM with channel binding, which libpq can't have here."""
    if message[:1] != b"R" or message[5:9] != _SASL:
        return message
    names = [name for name in message[9:].split(b"\0") if name and not name.endswith(b"-PLUS")]
    body = _SASL + b"".join(name + b"\0" for name in names) + b"\0"
    return b"R" + struct.pack("!i", 4 + len(body)) + body


def refusal(method: str, user: str) -> str:
    """What to say when the server asked for what it must not get."""
    asked = IN_WORDS.get(method, f"a login with method {method}")
    text = (
        f"the server asked for {asked}, and without a certificate that is verified anybody could"
        " have; it was not answered"
    )
    if method == "password":
        return (
            f"{text}. Set ssl_mode to verify-full and ca_cert to the file of the server's"
            " authority, or have the server ask with SCRAM"
        )
    if method == "md5":
        return (
            f"{text}. Give role {user!r} a SCRAM password (password_encryption = scram-sha-256 and"
            " ALTER ROLE ... PASSWORD), set ssl_mode to verify-full and ca_cert, or allow it with"
            " connect_params: {require_auth: 'scram-sha-256,md5'}"
        )
    if method == "none":
        return (
            "the server let us in without asking for the password, and without a certificate that"
            " is verified anybody could have. Leave login_password out, or allow it with"
            " connect_params: {require_auth: none}"
        )
    return (
        f"{text}. Set ssl_mode to verify-full and ca_cert, or name the method in connect_params:"
        " {require_auth: ...}"
    )


class Guard:
    """How libpq must connect so that only such a server gets the password."""

    def __init__(self, given: Mapping[str, Any], libpq: int) -> None:
        """Prepare.

        Args:
            given: libpq's parameters.
            libpq: its version, such as 150004.

        Raises:
            ValueError: when require_auth is not a list of methods.
            OSError: when there is no server.
        """
        self.arguments = dict(given)
        self.required = required_methods(given)
        self._relay: Relay | None = None
        if not self.required:
            return
        allowed = allowed_methods(self.required)
        if libpq >= REQUIRE_AUTH_LIBPQ:
            self.arguments["require_auth"] = self.required
            return
        self.arguments.pop("require_auth", None)
        if not any(map(given.get, ("password", "require_auth", *_NAMING_PASSWORDS))):
            return  # one that libpq finds by itself is beyond an older one
        # With channel binding no older libpq answers anything but SCRAM either.
        if given.get("channel_binding") != "require":
            self._relay = Relay(given, allowed)
            self.arguments.update(host=self._relay.directory, sslmode="disable")

    def explained(self, said: str) -> str:
        """What libpq said of a failure, with what led to it and what to do."""
        user = str(self.arguments.get("user", ""))
        if self._relay is not None:
            if self._relay.refused:
                return refusal(self._relay.refused, user)
            return said.replace(f'on socket "{self._relay.path}"', self._relay.far_name)
        if self.required and "method requirement" in said:
            for words, method in (
                ("cleartext", "password"),
                ("hashed password", "md5"),
                ("did not complete authentication", "none"),
            ):
                if words in said:
                    return f"{said}: {refusal(method, user)}"
            return f"{said}: {refusal('unknown', user)}"
        return said

    def close(self) -> None:
        """Give up a connection that was not made."""
        if self._relay is not None:
            self._relay.close()


class Relay:
    """A connection to a server, and a unix socket in a private directory that leads to it once."""

    def __init__(self, given: Mapping[str, Any], allowed: frozenset[str]) -> None:
        self.refused = ""
        odd = [name for name in _NOT_RELAYED if given.get(name)]
        if odd or "," in f"{given['host']}{given['port']}":
            what = ", ".join(odd) or "more than one host"
            raise ValueError(
                f"with {what}, this host's libpq (older than 16) can't tell whom it sends a"
                " password; set ssl_mode to verify-full and ca_cert, or ssl_mode to require with"
                " connect_params: {channel_binding: require}"
            )
        self.far_name = f'at "{given["host"]}", port {given["port"]}'
        self._filter = AuthenticationFilter(allowed)
        self._timeout_s = float(given.get("connect_timeout") or 0) or None
        self._far = self._connected(given)
        self.directory = tempfile.mkdtemp(prefix="pooled-")
        self.path = f"{self.directory}/.s.PGSQL.{given['port']}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(1)
        self._listener.settimeout(self._timeout_s)
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        """End it; libpq's end of an open connection ends it too."""
        self._listener.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _connected(self, given: Mapping[str, Any]) -> socket.socket:
        """A connection to the server, with TLS where that is asked for and had."""
        far = socket.create_connection((str(given["host"]), int(given["port"])), self._timeout_s)
        try:
            if given.get("sslmode") == "disable":
                return far
            far.sendall(_SSL_REQUEST)
            answer = far.recv(1)
            if answer == b"S":
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                if given.get("sslcert"):
                    context.load_cert_chain(str(given["sslcert"]), given.get("sslkey"))
                return context.wrap_socket(far, server_hostname=str(given["host"]))
            if answer == b"N" and given.get("sslmode") != "require":
                return far
            raise OSError("server does not support SSL, but SSL was required")
        except BaseException:
            far.close()
            raise

    def _run(self) -> None:
        try:
            near, _address = self._listener.accept()
        except OSError:
            self._far.close()
            return
        finally:
            self.close()
        with near, self._far:
            try:
                self._pump(near, self._far)
            except NotAllowed as error:
                self.refused = str(error)
            except OSError:
                return

    def _pump(self, near: socket.socket, far: socket.socket) -> None:
        near.setblocking(False)
        far.setblocking(False)
        waiting: dict[socket.socket, bytearray] = {near: bytearray(), far: bytearray()}
        while True:
            # One of them is read while what it leads to is not full.
            sources = [
                one for one, to in ((near, far), (far, near)) if len(waiting[to]) < _MOST_WAITING
            ]
            decrypted = far in sources and isinstance(far, ssl.SSLSocket) and far.pending()
            readable, writable, _failed = select.select(
                sources, [one for one in waiting if waiting[one]], [], 0 if decrypted else None
            )
            for source in [far] if decrypted and far not in readable else readable:
                try:
                    data = source.recv(_CHUNK)
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    continue
                if not data:
                    _flush(waiting)
                    return
                if source is far:
                    waiting[near] += self._filter.feed(data)
                else:
                    waiting[far] += data
            for target in writable:
                _send(target, waiting[target])


def _send(target: socket.socket, waiting: bytearray) -> None:
    try:
        sent = target.send(bytes(waiting[:_CHUNK]))
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return
    del waiting[:sent]


def _flush(waiting: Mapping[socket.socket, bytearray]) -> None:
    """Send what is left after one side has ended, as far as the other still takes it."""
    for target, rest in waiting.items():
        if rest:
            target.settimeout(1)
            try:
                target.sendall(bytes(rest))
            except OSError:
                continue
