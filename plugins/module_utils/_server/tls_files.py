# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files for TLS that a server's settings name, on its host."""

from __future__ import annotations

import os
import pwd
import ssl
import stat
import time
from typing import Collection, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._host import (
    files,
    identity,
    tls,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.cluster import Cluster
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    catalog_of,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.values import (
    canonical_setting,
)

# Warned of as long as there is time left to renew a certificate.
EXPIRES_SOON_DAYS = 14
_POLL_S = 0.1
_PROTOCOL_RANGE = ("ssl_min_protocol_version", "ssl_max_protocol_version")
_OPTIONS = {"ssl_ciphers", "ssl_ecdh_curve", *_PROTOCOL_RANGE}
_FILES = ("ssl_ca_file", "ssl_cert_file", "ssl_crl_file", "ssl_key_file")


def check_tls_files(
    cluster: Cluster,
    wanted: Mapping[str, str],
    running: Mapping[str, str],
    foreseen: Collection[str] = (),
) -> list[str]:
    """Check that the server can read the files for TLS that are asked for, and that they match.

    A server takes the name of a file that it can't read, logs that, and goes on with the old one
    until its next start, which then fails.

    Args:
        cluster: whose files they are.
        wanted: the settings that are asked for.
        running: the values that settings have which are not asked for.
        foreseen: files that a run would have written by now, which are taken for good.

    Returns:
        Warnings.

    Raises:
        ValueError: naming the setting and the file.
    """
    values = {**running, **wanted}
    if not _is_on(values.get("ssl", "off")):
        return []
    paths = {
        name: os.path.join(cluster.data_directory, values[name])
        for name in _FILES
        if values.get(name)
    }
    check_tls_options({name: values[name] for name in _OPTIONS & set(wanted)}, values)
    asked = [name for name in paths if name in wanted and paths[name] not in foreseen]
    for name in asked:
        _check_readable(cluster, name, paths[name])
    if not {"ssl_cert_file", "ssl_key_file"} & set(asked) or values.get("ssl_passphrase_command"):
        return []
    certificate, key = paths["ssl_cert_file"], paths["ssl_key_file"]
    if {certificate, key} & set(foreseen):
        return []
    try:
        reader = identity.entry_of(cluster.os_user)
        left = tls.check_pair(certificate, key, serves=True, reader=reader)
    except tls.TlsError as error:
        raise ValueError(f"settings.ssl_cert_file: {certificate} {error}") from error
    if left < EXPIRES_SOON_DAYS:
        return [f"settings.ssl_cert_file: {certificate} expires in {left:.0f} days; renew it"]
    return []


def check_tls_options(asked: Mapping[str, str], values: Mapping[str, str]) -> None:
    """Refuse what OpenSSL refuses.

    A server takes such values, says only in its log that it goes on with the old ones, and does
    not start any more.

    Args:
        asked: the settings of these that are asked for.
        values: all settings.

    Raises:
        ValueError: naming the setting, the value and the reason.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    attempts = {"ssl_ciphers": context.set_ciphers, "ssl_ecdh_curve": context.set_ecdh_curve}
    for name, attempt in attempts.items():
        try:
            if name in asked:
                attempt(asked[name])
        except (ssl.SSLError, ValueError) as error:
            raise ValueError(
                f"settings.{name}: OpenSSL does not accept {asked[name]!r}: {error.args[-1]}"
            ) from error
    least, most = (values.get(name, "") for name in _PROTOCOL_RANGE)
    if set(_PROTOCOL_RANGE) & set(asked) and least and most and least.lower() > most.lower():
        raise ValueError(
            f"settings.ssl_min_protocol_version: {least} is newer than ssl_max_protocol_version ="
            f" {most}; with these the server does not start"
        )


def renewed_certificate(
    cluster: Cluster,
    wanted: Mapping[str, str],
    running: Mapping[str, str],
    foreseen: Collection[str] = (),
    timeout_s: float = 0,
) -> str:
    """Path of the server's certificate when it shows another one than is in that file.

    Args:
        cluster: whose certificate it is.
        wanted: the settings that are asked for.
        running: the values that settings have now.
        foreseen: files that a run would have written by now.
        timeout_s: how long to wait until it shows the one in the file.

    Returns:
        The path; empty when it shows that one, or when that can't be asked: without TLS, without
        TCP, and for a certificate that the wanted settings don't name.
    """
    name = wanted.get("ssl_cert_file", "")
    listening = running.get("listen_addresses", "")
    place = cluster.running_at()
    if not name or not _is_on(running.get("ssl", "off")) or not listening or place is None:
        return ""
    path = os.path.join(cluster.data_directory, name)
    if running.get("ssl_cert_file") != name:
        return ""  # it comes with the settings
    if path in foreseen:
        return path
    code, text, _words = cluster.as_server("cat", path)
    try:
        digest = tls.digest(text) if code == 0 else ""
    except tls.TlsError:
        digest = ""
    deadline = time.monotonic() + timeout_s
    while digest:
        shown = tls.served_digest(_reached_at(listening), place[1])
        if shown in ("", digest):
            break
        if time.monotonic() >= deadline:
            return path
        time.sleep(_POLL_S)
    return ""


def _reached_at(listening: str) -> str:
    """An address of this host at which a server answers, of those that it listens on."""
    first = listening.split(",", maxsplit=1)[0].strip()
    return {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(first, first)  # noqa: S104


def _check_readable(cluster: Cluster, name: str, path: str) -> None:
    if cluster.as_server("test", "-r", path)[0] != 0:
        there = files.exists(path, cluster.rights_for_reported)
        missing = "can't be read" if there else "does not exist"
        raise ValueError(
            f"settings.{name}: {path} {missing} for {cluster.os_user}, as whom the server runs; put"
            " it there first, with the right to read it and to enter its directory"
        )
    if name != "ssl_key_file":
        return
    with files.reached(path, cluster.rights_for_reported) as place:
        status = os.stat(place.path)
    mode = stat.S_IMODE(status.st_mode)
    forbidden = 0o037 if status.st_uid == 0 else 0o077
    if status.st_uid not in (0, pwd.getpwnam(cluster.os_user).pw_uid) or mode & forbidden:
        raise ValueError(
            f"settings.{name}: the server refuses {path} of {_owner(status.st_uid)} with mode"
            f" {mode:04o}; the key must belong to {cluster.os_user} with mode 0600, or to root with"
            f" mode 0640 and a group of {cluster.os_user}"
        )


def _is_on(text: str) -> bool:
    return canonical_setting(catalog_of(13)["ssl"], text) == "on"


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
