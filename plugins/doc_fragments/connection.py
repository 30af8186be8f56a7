# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How modules reach a Postgres server; the names are those of community.postgresql."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  login_user:
    description: Database user to connect as.
    type: str
    default: postgres
    aliases: [login]
  login_password:
    description: Password of O(login_user). Not needed where the server trusts the OS user (peer).
    type: str
  login_host:
    description:
      - Host of the server.
      - Empty connects over the unix socket in O(login_unix_socket).
    type: str
    default: ''
    aliases: [host]
  login_unix_socket:
    description: Directory of the server's unix socket.
    type: str
    default: /var/run/postgresql
    aliases: [unix_socket]
  login_port:
    description: Port of the server; also part of the socket's file name.
    type: int
    default: 5432
    aliases: [port]
  login_db:
    description: Database for the first connection.
    type: str
    default: postgres
  login_os_user:
    description:
      - OS user whose identity the connection over the unix socket carries when the module runs as root, for C(peer) rules in C(pg_hba.conf).
      - Empty keeps the identity the module runs with.
      - Modules that work on the server's files do that with the rights of this user where users other than root can change what a path leads to,
        unless the configuration's directory says itself whose they are; C(postgres) when this is empty or C(root).
    type: str
    default: postgres
  ssl_mode:
    description: How TLS is negotiated over TCP, as libpq's C(sslmode).
    type: str
    default: prefer
    choices: [allow, disable, prefer, require, verify-ca, verify-full]
  ca_cert:
    description: File with the certificate authorities that may have signed the server's certificate.
    type: path
    aliases: [ssl_rootcert]
  ssl_cert:
    description: File with the client's certificate.
    type: path
  ssl_key:
    description: File with the client certificate's private key.
    type: path
  connect_params:
    description:
      - Further libpq connection parameters.
      - Over TCP, with a password and without a certificate that is verified, only a server that asks with SCRAM gets an
        answer. C(require_auth) allows others, such as V(scram-sha-256,md5), also where libpq is older than 16. The password
        that a C(passfile) or C(service) has is never sent in clear text or as an MD5 hash either; where libpq is older than
        16, such a connection is refused.
      - In C(options), C(search_path) and the other settings on which the module depends have no effect.
    type: dict
    default: {}
requirements:
  - psycopg2 2.8 or newer (Debian's C(python3-psycopg2)) on the host that runs the module
"""
