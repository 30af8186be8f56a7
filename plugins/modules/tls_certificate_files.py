#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: the host's part of tls_certificate: the key, the request, and the files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_certificate_files
author: ["pooled.postgres contributors (@pooled)"]
version_added: 0.1.0
short_description: Keep the files of a service's TLS certificate on its host
description:
  - The host's part of M(pooled.postgres.tls_certificate), which calls it and should be used instead.
  - Makes the key where it is used, and never tells it to anybody. Signs nothing.
options:
  step:
    description:
      - V(look) tells what there is.
      - V(request) makes the key if there is none that can be used, and a request for a certificate.
      - V(place) puts the certificate, its key and the authority's certificates where the service reads them.
    type: str
    choices: [look, request, place]
    default: look
  service:
    description: Name of the service and of its directory.
    type: str
    required: true
  owner:
    description: OS user of the service.
    type: str
    required: true
  create_owner:
    description: Whether to create the OS user, as a system user without a login, when there is none.
    type: bool
    default: false
  certificate:
    description: The new certificate with its chain, PEM; empty keeps the one that is there.
    type: str
    default: ''
  authority:
    description: The certificates of the authority, PEM.
    type: str
    default: ''
  directory:
    description: Where the services' directories are. Only root may write there.
    type: path
    default: /etc/ssl/pooled
extends_documentation_fragment: [pooled.postgres.attributes]
attributes:
  check_mode:
    support: full
    details: Only looks.
  diff_mode:
    support: none
    details: M(pooled.postgres.tls_certificate) has it.
  idempotent:
    support: full
seealso:
  - module: pooled.postgres.tls_certificate
"""

EXAMPLES = r"""
- name: See what there is
  pooled.postgres.tls_certificate_files:
    service: postgres
    owner: postgres
"""

RETURN = r"""
files:
  description:
    - C(certificate) and C(authority) are PEM, empty where there is none.
    - C(key) has C(owner), C(mode), and whether it belongs to the certificate (C(usable)); empty where there is none.
  returned: always
  type: dict
request:
  description: A request for a certificate, PEM.
  returned: with O(step=request)
  type: str
"""

import os
from typing import Any

from ansible_collections.pooled.postgres.plugins.module_utils._certificates import (
    files,
    plan,
)
from ansible_collections.pooled.postgres.plugins.module_utils._module import PooledModule


def main() -> None:
    """Entry point."""
    module = PooledModule(
        {
            "step": {"type": "str", "choices": ["look", "request", "place"], "default": "look"},
            "service": {"type": "str", "required": True},
            "owner": {"type": "str", "required": True},
            "create_owner": {"type": "bool", "default": False},
            "certificate": {"type": "str", "default": ""},
            "authority": {"type": "str", "default": ""},
            "directory": {"type": "path", "default": plan.DIRECTORY},
        }
    )
    params = module.params
    base, step, owner = params["directory"], params["step"], params["owner"]

    def run(command: Any) -> tuple[int, str, str]:
        # A key that is made goes through this pipe and nowhere else.
        rc, out, err = module.run_command(list(command), handle_exceptions=False)
        return rc, out, err

    try:
        service = plan.checked_service(params["service"])
        directory = os.path.join(base, service)
        before = files.look(directory)
        result: dict[str, Any] = {}
        if module.check_mode or step == "look":
            module.exit_json(changed=False, files=before)
        if params["create_owner"]:
            files.create_user(run, owner)
        if step == "request":
            result["request"] = files.request(run, base, service, owner)
        else:
            files.place(base, service, owner, params["certificate"], params["authority"])
        after = files.look(directory)
        module.exit_json(changed=before != after, files=after, **result)
    except FileNotFoundError as error:
        missing = "openssl is not installed" if error.filename == "openssl" else str(error)
        module.fail_json(msg=f"the host can't keep a certificate: {missing}")
    except (files.CertificateError, ValueError, OSError) as error:
        module.fail_json(msg=f"the host can't keep a certificate: {error}")


if __name__ == "__main__":
    main()
