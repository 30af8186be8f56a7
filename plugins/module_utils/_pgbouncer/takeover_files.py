# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An unmanaged PgBouncer's files on this host, and copies of those that are replaced."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Iterable

from ansible_collections.pooled.postgres.plugins.module_utils._host import files
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    hba,
    ini,
    secrets,
    takeover,
)


def unmanaged(
    config_file: str, rights: files.Rights, auth_file: str = "", as_packaged: bool = False
) -> takeover.Unmanaged | None:
    """The unmanaged configuration that PgBouncer has read; none where it is this collection's.

    Args:
        config_file: PgBouncer's configuration file.
        rights: with whose rights to work on the files.
        auth_file: the auth file to come; empty where that is not known.
        as_packaged: whether the configuration file is as its package has installed it, so that
            nobody has put anything there.
    """

    def read(path: str) -> str | None:
        try:
            if path == auth_file:
                return last_read(path, rights).content or ""
            # Whoever could write its name there must not have more read than they may read. A name
            # without a directory is one in that of the service, which systemd starts in /.
            other = replace(rights, everywhere=True)
            return files.read_file(os.path.join("/", path), other).content or ""
        except (OSError, ValueError):
            return None

    text = "" if as_packaged else last_read(config_file, rights).content or ""
    return takeover.found(config_file, text, read, auth_file)


def last_read(path: str, rights: files.Rights) -> files.ManagedFile:
    """The file that PgBouncer has read, also when a run was killed after it wrote a new one."""
    return files.Backup(files.read_file(path, rights), rights).good


def missing_copies(paths: Iterable[str], rights: files.Rights) -> list[files.ManagedFile]:
    """Copies of files to be made, each under a name that is free; those that exist are left out."""
    missing = []
    for path in paths:
        file = last_read(path, rights)
        if not file.content:
            continue
        for name in takeover.copy_names(path):
            copy = files.read_file(name, rights)
            if copy.content == file.content:
                break
            if copy.content is None:
                missing.append(replace(file, path=name))
                break
        else:
            raise ValueError(f"{path}: there are too many copies of it; remove those not needed")
    return missing


def copies(
    found: takeover.Unmanaged | None,
    config_file: str,
    access: hba.Access,
    rights: files.Rights,
    as_packaged: bool,
) -> list[files.ManagedFile]:
    """Copies to be made of files that somebody else wrote and that are replaced.

    Args:
        found: the configuration, if this collection did not write it.
        config_file: PgBouncer's configuration file.
        access: the rules for logins to come.
        rights: with whose rights to work on the files.
        as_packaged: whether the configuration file is as its package has installed it.
    """
    paths = []
    if found is not None and not found.is_bare:
        config = last_read(config_file, rights)
        if not as_packaged and not ini.is_managed(config.content or ""):
            paths.append(config_file)
        listed = last_read(access.options["auth_file"], rights).content or ""
        if not secrets.is_ours(ini.secrets_in(listed)):
            paths.append(access.options["auth_file"])
    rules = hba.path_beside(config_file)
    if access.text and not hba.is_ours(last_read(rules, rights).content or ""):
        paths.append(rules)
    return missing_copies(paths, rights)
