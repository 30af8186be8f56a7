# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that PgBouncer reads beside its own, above all those for TLS, on this host.

They are read with the rights of PgBouncer's OS user alone: it needs them, and what root may read
beyond that does not belong in a check, a digest or a message.
"""

from __future__ import annotations

import hashlib
import os
from typing import Collection, ContextManager, Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._host import (
    identity,
    tls,
)
from ansible_collections.pooled.postgres.plugins.module_utils._host.process import RunCommand
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import defaults
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.os_user import may

# Warned of as long as there is time left to renew a certificate.
EXPIRES_SOON_DAYS = 14


def missing_files(
    os_user: str, options: Mapping[str, str], assumed: Collection[str] = ()
) -> list[str]:
    """Each option that names a file which is not there and is not assumed, with the file."""
    with _as_service(os_user):
        return [
            f"{name}: {path} does not exist"
            for name, path in _named_files(options)
            if path not in assumed and _is_missing(path)
        ]


def without_missing_files(
    os_user: str, options: Mapping[str, str], assumed: Collection[str]
) -> Mapping[str, str]:
    """The options for a trial, without TLS on a side whose files are only assumed to be there."""
    with _as_service(os_user):
        sides = {
            name.split("_tls_")[0]
            for name, path in _named_files(options)
            if path in assumed and _is_missing(path)
        }
    prefixes = tuple(f"{side}_tls_" for side in sides)
    return {name: value for name, value in options.items() if not name.startswith(prefixes)}


def check_files(
    run: RunCommand, os_user: str, options: Mapping[str, str], assumed: Collection[str] = ()
) -> list[str]:
    """Check that the service's user can read the files and that those for TLS work together.

    Args:
        run: runs a program.
        os_user: the service's user.
        options: those of [pgbouncer].
        assumed: files that are taken for good.

    Returns:
        Warnings.

    Raises:
        ValueError: naming the option and the file.
    """
    for missing in missing_files(os_user, options, assumed):
        raise ValueError(missing)
    for name, path in _named_files(options):
        if path not in assumed and not may(run, os_user, "-r", path):
            raise ValueError(
                f"{name}: {path} can't be read by {os_user}, as whom PgBouncer runs; give that user"
                " or one of its groups the right to read it, and to enter its directory (create a"
                " user that does not exist yet first), or say in pgbouncer_os_user as which user"
                " PgBouncer is to run"
            )
    warnings = []
    reader = identity.entry_of(os_user)
    for side in ("client", "server"):
        certificate = options.get(f"{side}_tls_cert_file", "")
        authority = options.get(f"{side}_tls_ca_file", "")
        name, path = f"{side}_tls_ca_file", authority
        try:
            if authority and authority not in assumed:
                tls.check_authority(authority, reader)
            key = options.get(f"{side}_tls_key_file", "")
            if certificate and not {certificate, key} & set(assumed):
                name, path = f"{side}_tls_cert_file", certificate
                # PgBouncer is the server of its clients, and a client of Postgres.
                left = tls.check_pair(certificate, key, serves=side == "client", reader=reader)
                if left < EXPIRES_SOON_DAYS:
                    warnings.append(f"{name}: {path} expires in {left:.0f} days; renew it")
        except tls.TlsError as error:
            raise ValueError(f"{name}: {path} {error}") from error
    return warnings


def check_servers(
    os_user: str, options: Mapping[str, str], entries: Iterable[Mapping[str, str]]
) -> None:
    """Check that the servers behind PgBouncer offer the TLS that it will ask them for.

    Raises:
        ValueError: naming the server and what is wrong with its TLS.
    """
    mode = options.get("server_tls_sslmode", "")
    if mode not in ("require", "verify-ca", "verify-full"):
        return
    servers = {
        (host.strip(), int(entry["port"])) for entry in entries for host in entry["host"].split(",")
    }
    files = (options.get(f"server_tls_{name}", "") for name in defaults.TLS_FILES)
    authority, certificate, key = files
    reader = identity.entry_of(os_user)
    context = tls.client_context(mode, authority, certificate, key, reader)
    for host, port in sorted(servers):
        if host.startswith("/"):
            continue  # nobody is in between
        try:
            tls.check_server(host, port, context, shows=bool(certificate))
        except tls.TlsError as error:
            raise ValueError(
                f"server_tls_sslmode: {mode!r} would cut the pools off, because Postgres at {host}"
                f" port {port} {error}"
            ) from error


def wanted_certificate(
    os_user: str, options: Mapping[str, str], assumed: Collection[str] = ()
) -> str:
    """Digest of the certificate to show to clients; empty when they get none, or it is assumed.

    Raises:
        OSError: when it can't be read.
    """
    if options.get("client_tls_sslmode", "disable") == "disable":
        return ""
    if options["client_tls_cert_file"] in assumed:
        return ""
    with _as_service(os_user), open(options["client_tls_cert_file"], "rb") as handle:
        text = handle.read()
    return tls.digest(text.decode("utf-8", "replace"))


def served_certificate(listening: Iterable[tuple[str, int]]) -> str:
    """Digest of the certificate that a server shows on its addresses; empty for none.

    Args:
        listening: address and port of its TCP sockets.
    """
    for address, port in sorted(listening):
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104
        found = tls.served_digest(host, port)
        if found:
            return found
    return ""


def read_files(
    os_user: str, options: Mapping[str, str], assumed: Collection[str] = ()
) -> list[str]:
    """What to remember about the files as they are now, or are assumed to become, a line each.

    Raises:
        OSError: when one can't be read.
    """
    notes = []
    for name in defaults.READ_FILES:
        if not options.get(name):
            continue
        if options[name] in assumed:
            notes.append(f"{name} assumed")
            continue
        with _as_service(os_user), open(options[name], "rb") as handle:
            content = handle.read()
        notes.append(f"{name} {hashlib.sha256(content).hexdigest()}")
    return notes


def _named_files(options: Mapping[str, str]) -> list[tuple[str, str]]:
    names = {*defaults.READ_FILES, "client_tls_key_file", "server_tls_key_file"}
    return [(name, options[name]) for name in sorted(names) if options.get(name)]


def _as_service(os_user: str) -> ContextManager[None]:
    """The rights of PgBouncer's OS user; this process's own where there is no such user yet."""
    return identity.acting_as(identity.entry_of(os_user))


def _is_missing(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
