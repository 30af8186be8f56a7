# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a service's certificate, on its host.

All are in a directory that only root may write to, so no service can put a link there. The key is
the service's own and stays on the host.
"""

from __future__ import annotations

import grp
import os
import pwd
import ssl
import stat
from contextlib import suppress
from typing import Any, Callable, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._certificates.plan import (
    AUTHORITY,
    CERTIFICATE,
    KEY,
    KEY_MODE,
)
from ansible_collections.pooled.postgres.plugins.module_utils._host import tls
from ansible_collections.pooled.postgres.plugins.module_utils._host.files import (
    ManagedFile,
    Rights,
    read_file,
    walk,
    write_file,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    os_user,
)

# A new key waits here for its certificate, so that the two that are used always belong together.
_NEXT_KEY, _NEXT_CERTIFICATE = f".{KEY}.next", f".{CERTIFICATE}.next"
_PUBLIC_MODE = 0o644
_NOT_OURS = (
    "{} is not a directory that belongs to root and that nobody else may write to; keys are not"
    " kept in it. Find out who made it, move it away and run again"
)
# Nobody but root can change what is there, or it is left alone.
_RIGHTS = Rights("root")

RunCommand = Callable[[Sequence[str]], "tuple[int, str, str]"]


class CertificateError(Exception):
    """What keeps the files from being as they are to be."""


def look(directory: str) -> dict[str, Any]:
    """What there is: texts of what is public, and of the key only whose it is."""
    key = os.path.join(directory, KEY)
    found: dict[str, Any] = {"certificate": "", "authority": "", "key": {}}
    if _others_decide(directory):
        return found
    for name, file in (("certificate", CERTIFICATE), ("authority", AUTHORITY)):
        with suppress(OSError, ValueError):
            found[name] = read_file(os.path.join(directory, file), _RIGHTS).content or ""
    with suppress(OSError):
        status = os.lstat(key)
        found["key"] = {
            "owner": _user(status.st_uid),
            "mode": f"{stat.S_IMODE(status.st_mode):04o}",
            "usable": _belongs(os.path.join(directory, CERTIFICATE), key),
        }
    return found


def look_all(base: str) -> dict[str, dict[str, Any]]:
    """The same of each service that has a directory."""
    with suppress(OSError):
        names = sorted(os.listdir(base))
        paths = {name: os.path.join(base, name) for name in names}
        return {name: look(path) for name, path in paths.items() if os.path.isdir(path)}
    return {}


def request(run: RunCommand, base: str, service: str, owner: str) -> str:
    """A request for a certificate for the service's key, which is made if it is not there.

    Returns:
        The request, PEM.

    Raises:
        CertificateError: saying what is wrong.
    """
    directory = _prepared(base, service)
    key = os.path.join(directory, KEY)
    text = _request_for(run, key) if os.path.exists(key) else ""
    if text:
        return text
    key = os.path.join(directory, _NEXT_KEY)
    made = _openssl(run, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    write_file(_key_file(key, made, owner), _RIGHTS)
    text = _request_for(run, key)
    if not text:
        raise CertificateError(
            f"openssl can't create a certificate request for the key that it has created, {key}"
        )
    return text


def create_user(run: RunCommand, user: str) -> None:
    """Create the OS user of a service, unless there is one.

    Raises:
        CertificateError: when that fails.
    """
    if os_user.exists(user):
        return
    code, _out, err = run(os_user.command_to_create(user))
    if code != 0:
        raise CertificateError(f"OS user {user} can't be created: {err.strip()}")


def place(base: str, service: str, owner: str, certificate: str, authority: str) -> None:
    """Put the certificate, its key and the authority's certificates where the service reads them.

    Args:
        base: directory of all services.
        service: name of the service.
        owner: its OS user.
        certificate: the new certificate with its chain; empty keeps the one that is there.
        authority: certificates of the authority.

    Raises:
        CertificateError: saying what is wrong.
    """
    directory = _prepared(base, service)
    path = {name: os.path.join(directory, name) for name in (CERTIFICATE, KEY, AUTHORITY)}
    if certificate:
        _place_pair(directory, certificate)
    if os.path.exists(path[KEY]):
        held = read_file(path[KEY], _RIGHTS)
        _write_if_needed(held, _key_file(path[KEY], held.content or "", owner))
    held = read_file(path[AUTHORITY], _RIGHTS)
    _write_if_needed(held, _public_file(path[AUTHORITY], authority))
    for name in (_NEXT_KEY, _NEXT_CERTIFICATE):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))


def _write_if_needed(held: ManagedFile, wanted: ManagedFile) -> None:
    if held != wanted:
        write_file(wanted, _RIGHTS)


def _place_pair(directory: str, certificate: str) -> None:
    key, next_key = os.path.join(directory, KEY), os.path.join(directory, _NEXT_KEY)
    path = os.path.join(directory, CERTIFICATE)
    next_path = os.path.join(directory, _NEXT_CERTIFICATE)
    write_file(_public_file(next_path, certificate), _RIGHTS)
    own = next_key if os.path.exists(next_key) and _belongs(next_path, next_key) else key
    try:
        tls.check_pair(next_path, own, serves=True, reader=None)
    except (tls.TlsError, OSError) as error:
        raise CertificateError(f"the new certificate for {key} {error}") from error
    # The certificate of an old key is of no use any more, and one without a key harms nobody.
    if own == next_key:
        os.rename(next_key, key)
    os.rename(next_path, path)


def _prepared(base: str, service: str) -> str:
    """The service's directory, made if it is not there.

    Raises:
        CertificateError: when somebody else could change what is in it.
    """
    directory = os.path.join(base, service)
    for path in (base, directory):
        if _others_decide(path):
            raise CertificateError(_NOT_OURS.format(path))
        with suppress(FileExistsError):
            os.mkdir(path, 0o755)
            os.chmod(path, 0o755)  # noqa: S103 - whatever the umask is
        status = os.lstat(path)
        others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or others_write:
            raise CertificateError(_NOT_OURS.format(path))
    return directory


def _others_decide(path: str) -> bool:
    """Whether users other than root can change what a path leads to."""
    return os.geteuid() == 0 and bool(walk(path).unsafe)


def _belongs(certificate: str, key: str) -> bool:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, OSError):
        return False
    return True


def _request_for(run: RunCommand, key: str) -> str:
    """The request; empty when the key can't be used."""
    # Names are the controller's to decide: the request has none.
    try:
        return _openssl(run, "req", "-new", "-key", key, "-subj", "/CN=request", "-passin", "pass:")
    except CertificateError:
        return ""


def _openssl(run: RunCommand, *arguments: str) -> str:
    code, out, err = run(["openssl", *arguments])
    if code != 0:
        raise CertificateError(f"openssl {arguments[0]} fails: {err.strip() or f'code {code}'}")
    return out


def _key_file(path: str, content: str, owner: str) -> ManagedFile:
    try:
        pwd.getpwnam(owner)
    except KeyError:
        raise CertificateError(
            f"owner: there is no OS user {owner!r} on this host; install the service first"
        ) from None
    return ManagedFile(path, content, owner, _own_group(), KEY_MODE)


def _public_file(path: str, content: str) -> ManagedFile:
    return ManagedFile(path, content, _user(os.geteuid()), _own_group(), _PUBLIC_MODE)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _own_group() -> str:
    return grp.getgrgid(os.getegid()).gr_name
