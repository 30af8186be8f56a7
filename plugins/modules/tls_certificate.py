#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of an action plugin, which signs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_certificate
author: ["pooled.postgres contributors (@pooled)"]
version_added: 0.1.0
short_description: Keep a service's TLS certificate, from an authority on the controller
description:
  - Makes a key on the host where it is used, which never leaves it, and signs a certificate for it on the controller.
  - The authority is made on the controller when there is none, or is yours. Its key never leaves the controller; its file may be
    encrypted with C(ansible-vault).
  - A certificate is renewed well before it expires, when its names change, and when another authority signs. The key stays.
  - Names come from the inventory alone. A host that was broken into can't get a certificate for another's name.
  - An idle run reads files on the controller only when O(seen) says what is on the host; otherwise it asks the host once.
options:
  service:
    description:
      - What the certificate is for. It is the name of its directory below O(directory), with the files C(server.crt), C(server.key)
        and C(ca.crt).
      - Needed unless O(state=authority).
    type: str
  owner:
    description:
      - OS user of the service, whose key is readable by nobody else.
      - Needed unless O(state=authority).
    type: str
  create_owner:
    description: Whether to create O(owner), as a system user without a login. Say so only when there is none; then it is foretold in check mode too.
    type: bool
    default: false
  certificate:
    description: Whether the service has a certificate. Without one only the authority's is placed, to verify others with.
    type: bool
    default: true
  known_as:
    description: Names and addresses that the inventory has for the host. What can't be in a certificate is left out.
    type: list
    elements: str
    default: []
  names:
    description: Further names and addresses that clients use. One that can't be in a certificate is refused.
    type: list
    elements: str
    default: []
  purposes:
    description: What the certificate may be used as.
    type: list
    elements: str
    choices: [server, client]
    default: [server]
  days:
    description: How many days a certificate lasts, and no longer than its authority.
    type: int
    default: 365
  renew_days:
    description: How many days before it expires it is renewed.
    type: int
    default: 30
  authority:
    description:
      - Which of the two authorities signs.
      - V(clients) is for Postgres and PgBouncer as clients see them. V(members) is for what members of a cluster do among themselves,
        which must not be open to those who have a certificate for PgBouncer.
    type: str
    choices: [clients, members]
    default: clients
  authority_directory:
    description:
      - Directory on the controller with the authority's C(clients.crt) and C(clients.key), or C(members.crt) and C(members.key). What is missing
        is made there, and nothing in it is ever overwritten.
      - The first certificate in the file signs. Further ones are trusted too, which is how an authority is renewed without a gap.
    type: str
    required: true
  authority_days:
    description: For how many days an authority that is made here is valid.
    type: int
    default: 3650
  authority_cert:
    description:
      - An authority of your own in place of the files in O(authority_directory); its certificate, with those above it, as an absolute path on
        the controller or as PEM.
    type: str
    default: ''
  authority_key:
    description: Its key, as an absolute path on the controller, also of a file that C(ansible-vault) has encrypted, or as PEM.
    type: str
    default: ''
  directory:
    description: Where the services' directories are on the host. Only root may write there.
    type: str
    default: /etc/ssl/pooled
  seen:
    description:
      - What is in the service's directory, as RV(pooled.postgres.host_resources_info#module:certificates) has it by service; an empty dictionary is nothing.
      - Without it the host is asked.
    type: dict
  state:
    description:
      - V(present) keeps the certificate.
      - V(checked) only sees that it could be kept, and changes nothing.
      - V(authority) only makes sure that there is an authority, and reaches no host.
    type: str
    choices: [present, checked, authority]
    default: present
extends_documentation_fragment: [pooled.postgres.attributes]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: What is public of the change.
  idempotent:
    support: full
notes:
  - The controller's Python needs C(cryptography), which C(ansible-core) requires itself. The host needs C(openssl), which Debian's packages of
    Postgres and PgBouncer bring.
seealso:
  - module: pooled.postgres.tls_certificate_files
"""

EXAMPLES = r"""
- name: Keep a certificate for a service
  pooled.postgres.tls_certificate:
    service: postgres
    owner: postgres
    known_as: ["{{ inventory_hostname }}", "{{ ansible_host }}"]
    authority_directory: "{{ inventory_dir }}/.pooled_tls"
  become: true

- name: Make a new authority, to renew the old one with
  pooled.postgres.tls_certificate:
    state: authority
    authority_directory: "{{ inventory_dir }}/.pooled_tls_next"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, and why.
  returned: unless O(state=authority)
  type: list
  elements: str
  sample: ["certificate of postgres for db1, 192.0.2.10: it expires in 12 days"]
files:
  description: Paths of the files on the host that were written, or in check mode would be.
  returned: unless O(state=authority)
  type: list
  elements: str
paths:
  description: Paths on the host of the C(certificate), the C(key) and the C(authority).
  returned: unless O(state=authority)
  type: dict
names:
  description: Names and addresses that the certificate is for.
  returned: unless O(state=authority)
  type: list
  elements: str
authority:
  description: The certificates to trust, PEM; empty while check mode foresees that they are made.
  returned: always
  type: str
expires:
  description: Until when the certificate is valid, in UTC.
  returned: when there is one and check mode does not foresee another
  type: str
  sample: '2027-11-27T05:29:00Z'
fingerprint:
  description: Its SHA-256.
  returned: as RV(expires)
  type: str
issuer:
  description: The authority's name.
  returned: as RV(expires)
  type: str
"""
