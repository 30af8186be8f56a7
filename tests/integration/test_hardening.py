# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hardening profiles on real servers: what each major takes, and that it holds."""

from __future__ import annotations

import time
from typing import Any, Iterator

import psycopg
import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._settings.hardening import (
    hardening_for,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.profiles import (
    CIS,
    STANDARD,
)
from tests.integration.certificates import Authority
from tests.integration.clusters import PATIENCE_S
from tests.integration.test_postgres_settings import (  # noqa: F401  # pylint: disable=unused-import # fixtures are among them
    Managed,
    _managed,
    authority,
    managed,
)

SHOWN = (
    "log_statement, log_error_verbosity, logging_collector, log_timezone, log_replication_commands,"
    " ssl, ssl_min_protocol_version, ssl_ciphers, unix_socket_permissions, log_connections,"
    " shared_preload_libraries, auth_delay.milliseconds"
)


def shown(managed: Managed) -> dict[str, str]:  # noqa: F811 - a fixture's value
    """The settings of interest, as an independent client sees them."""
    names = [name.strip() for name in SHOWN.split(",")]
    rows = managed.cluster.sql(
        f"SELECT name, setting FROM pg_settings WHERE name IN ({', '.join(map(repr, names))})"
    )
    return dict(rows)


@pytest.fixture
def cis(managed: Managed, authority: Authority) -> Iterator[dict[str, Any]]:  # noqa: F811
    """Arguments with which the server gets what the profile brings, in the test's own places."""
    cluster = managed.cluster
    found = hardening_for(CIS, cluster.major, packaged=False)
    certificate, key = authority.hand_over("server", cluster.data / "server", cluster.user)
    log = managed.own(cluster.log_path)
    yield {
        "settings": {
            **found.settings,
            "log_directory": str(log.parent),
            "log_filename": log.name,
            "ssl_cert_file": certificate,
            "ssl_key_file": key,
        },
        "preload_libraries": list(found.libraries),
        "restart": "always",
    }


def test_cis_holds_and_standard_takes_it_back(managed, cis):  # noqa: F811
    cluster = managed.cluster
    standard = hardening_for(STANDARD, cluster.major).settings
    # Somebody else's, taken over from postgresql.auto.conf by the first run.
    cluster.sql("ALTER SYSTEM SET shared_preload_libraries = 'auto_explain'")
    managed.predicted_run(standard, preload_libraries=["auth_delay"], restart="always")
    cluster.sql("ALTER SYSTEM RESET ALL")
    before = shown(managed)
    assert before["log_replication_commands"] == "on"
    assert before["logging_collector"] == "off"

    done = managed.predicted_run(**cis)
    assert done["pending_restart"] == []
    after = shown(managed)
    assert after["log_statement"] == "ddl"
    assert after["log_error_verbosity"] == "verbose"
    assert after["logging_collector"] == "on"
    assert after["ssl"] == "on"
    assert after["ssl_min_protocol_version"] == "TLSv1.3"
    assert after["unix_socket_permissions"] == "0770"
    assert after["log_connections"] == before["log_connections"]
    assert managed.predicted_run(**cis)["actions"] == []

    # Whoever logs in with a wrong password waits.
    cluster.sql("CREATE ROLE someone LOGIN")
    cluster.sql(
        "SET password_encryption = 'scram-sha-256'; ALTER ROLE someone PASSWORD 'long-en0ugh'"
    )
    started = time.monotonic()
    assert not cluster.can_log_in("someone", "wrong")
    assert time.monotonic() - started >= 0.5
    assert cluster.can_log_in("someone", "long-en0ugh")
    # A weak password is refused, and who creates what is in the one log that there is.
    assert cluster.refusal("ALTER ROLE someone PASSWORD 'short'") == "22023"
    cluster.sql("CREATE TABLE seen_in_the_log ()")
    deadline = time.monotonic() + PATIENCE_S
    while "statement: CREATE TABLE seen_in_the_log" not in cluster.log():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # TLS 1.2 is too old.
    with pytest.raises(psycopg.OperationalError):
        cluster.connect(
            user="someone", host="127.0.0.1", password="long-en0ugh",
            sslmode="require", ssl_max_protocol_version="TLSv1.2",
        )  # fmt: skip

    back = {
        "preload_libraries": ["auth_delay"],
        "unwanted_libraries": ["auth_delay", "passwordcheck"],
    }
    managed.predicted_run(standard, restart="always", **back)
    assert shown(managed) == before
    assert before["shared_preload_libraries"] == "auto_explain, auth_delay"


def test_the_user_s_settings_win(managed, cis):  # noqa: F811
    settings = {**cis["settings"], "log_statement": "none", "unix_socket_permissions": "0777"}
    managed.predicted_run(**{**cis, "settings": settings})
    assert managed.show("log_statement") == "none"
    assert managed.show("unix_socket_permissions") == "0777"


def test_check_mode_foresees_a_library_that_a_run_installs(managed, cis):  # noqa: F811
    more = {**cis, "preload_libraries": [*cis["preload_libraries"], "pgaudit"]}
    refused = managed.run(check=True, **more)
    assert "library 'pgaudit' is not installed" in refused["msg"]
    foreseen = managed.run(check=True, assume_libraries=["pgaudit"], **more)
    (change,) = (row for row in foreseen["settings"] if row["name"] == "shared_preload_libraries")
    assert "pgaudit" in change["after"]
    # Assumed in check mode only.
    assert managed.run(assume_libraries=["pgaudit"], **more)["failed"]
