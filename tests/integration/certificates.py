# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates for tests, from authorities of their own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Authority:
    """A certificate authority in a directory."""

    directory: Path

    def __post_init__(self) -> None:
        self.directory.mkdir()
        self.openssl("req", "-x509", *self.new_key("ca"), "-days", "30", "-subj", "/CN=test",
                     "-out", "ca.crt")  # fmt: skip

    @property
    def certificate(self) -> str:
        return str(self.directory / "ca.crt")

    def new_key(self, name: str) -> tuple[str, ...]:
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                f"{name}.key")  # fmt: skip

    def openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)

    def issue(self, name: str, days: int = 30, subject: str = "localhost") -> None:
        """Make NAME.crt and NAME.key."""
        (self.directory / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self.openssl("req", *self.new_key(name), "-subj", f"/CN={subject}", "-out", "request")
        self.openssl("x509", "-req", "-in", "request", "-CA", "ca.crt", "-CAkey", "ca.key",
                     "-CAcreateserial", "-days", str(days), "-extfile", "names",
                     "-out", f"{name}.crt")  # fmt: skip

    def hand_over(self, name: str, to: Path, user: Any) -> tuple[str, str]:
        """Copy a certificate and its key to where a service reads them, as mv would."""
        for kind in ("crt", "key"):
            new = to.parent / f".new.{kind}"
            new.write_bytes((self.directory / f"{name}.{kind}").read_bytes())
            new.chmod(0o600)
            if user:
                os.chown(new, user.pw_uid, user.pw_gid)
            new.rename(to.with_suffix(f".{kind}"))
        return str(to.with_suffix(".crt")), str(to.with_suffix(".key"))
