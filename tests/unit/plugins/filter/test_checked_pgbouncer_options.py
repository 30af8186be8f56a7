# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter names the role's variables and lets mistakes pass nowhere."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.filter.checked_pgbouncer_options import (
    FilterModule,
)

MODEL = [{"name": "mydb", "roles": [{"name": "app_user", "kind": "user"}]}]
checked = FilterModule().filters()["checked_pgbouncer_options"]


def test_it_returns_what_the_file_would_hold():
    options = checked({"listen_port": 6433}, "1.18.0", databases=MODEL)
    assert options["listen_port"] == "6433"
    assert options["ignore_startup_parameters"] == "extra_float_digits,jit"
    assert options["auth_user"] == "pgbouncer_auth"


def test_networks_make_pgbouncer_read_rules():
    options = checked({}, "1.18.0", databases=MODEL, client_networks=["10.0.0.0/8"])
    assert options["auth_type"] == "hba"
    assert options["auth_hba_file"] == "/etc/pgbouncer/pooled_hba.conf"


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        (
            {"listen_port": 0},
            {},
            "pgbouncer_listen_port: 0 is not allowed; give a whole number from",
        ),
        ({"x": 0}, {}, "pgbouncer_settings.x: PgBouncer 1.18.0 has no option 'x'"),
        (
            {},
            {"databases": [{"name": "a b"}]},
            "database 'a b': PgBouncer's configuration can't carry",
        ),
        ({}, {"databases": [{"nam": "a"}]}, "pgbouncer_databases[0]: unknown key nam"),
        (
            {},
            {"database_options": {"a": {}}},
            "pgbouncer_database_options: 'a' is not a database of",
        ),
        ({}, {"user_options": {"a": {}}}, "pgbouncer_user_options: 'a' is not a role of"),
        ({}, {"processes": 2}, "pgbouncer_processes: 2 processes need PgBouncer 1.21 or newer"),
        (
            {},
            {"client_networks": ["10.0.0.1/8"]},
            "pgbouncer_client_networks[0]: '10.0.0.1/8' is an address with a prefix, not a network",
        ),
        ({}, {"require_tls": True}, "pgbouncer_client_tls_sslmode: it is 'disable', and clients"),
        (
            {"auth_type": "pam"},
            {"client_networks": ["10.0.0.0/8"]},
            "pgbouncer_auth_type: 'pam' does not go together with rules",
        ),
        ({}, {"processes": 0}, "pgbouncer_processes: 0 is not allowed; give a whole number"),
    ],
)
def test_it_names_the_variable(options, more, message):
    with pytest.raises(AnsibleFilterError) as caught:
        checked(options, "1.18.0", **more)
    assert str(caught.value).startswith(message)


def test_what_an_unmanaged_pgbouncer_has_is_not_lost_unless_told():
    entry = {"host": "127.0.0.1", "dbname": "mydb", "pool_size": "5"}
    unmanaged = {
        "path": "/etc/pgbouncer/pgbouncer.ini",
        "options": {"auth_type": "scram-sha-256", "pool_mode": "transaction"},
        "databases": {"legacydb": {}, "mydb": entry},
        "listed": ["app_user"],
    }
    asked = {"databases": MODEL, "backend_host": "/run/postgresql", "unmanaged": unmanaged}
    with pytest.raises(AnsibleFilterError) as error:
        checked({}, "1.18.0", **asked)
    assert str(error.value).startswith(
        "pgbouncer_takeover: /etc/pgbouncer/pgbouncer.ini is not managed by this collection, and a"
        " run would take away: database legacydb; database mydb: pool_size 5. Nothing was changed."
    )
    assert checked({}, "1.18.0", **asked, takeover=True) == checked({}, "1.18.0", databases=MODEL)
    del unmanaged["databases"]["legacydb"]
    sizes = {"mydb": {"pool_size": 5}}
    assert checked({}, "1.18.0", **asked, database_options=sizes)
