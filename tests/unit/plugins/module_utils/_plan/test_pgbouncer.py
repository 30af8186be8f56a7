# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that is wrong with PgBouncer's variables, in one message."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._plan.pgbouncer import (
    pgbouncer_options,
)

MODEL = [{"name": "mydb", "roles": [{"name": "app_user", "kind": "user"}]}]


def refused(options: dict[str, Any], **more: Any) -> list[str]:
    """The lines of the refusal, each up to what it is about."""
    with pytest.raises(ValueError) as error:
        pgbouncer_options(options, "1.18.0", **{"databases": MODEL, **more})
    return [line.split(": ")[0] for line in str(error.value).splitlines()]


def test_what_is_right_is_the_file() -> None:
    options = pgbouncer_options({"query_timeout": 5}, "1.18.0", databases=MODEL)
    assert options["query_timeout"] == "5"
    assert options["pool_mode"] == "transaction"


def test_all_that_is_wrong_is_named() -> None:
    assert refused(
        {"query_timeout": "soon", "no_such_option": 1, "pool_mode": "transaction"},
        database_options={"mydb": {"pool_size": "many"}, "elsewhere": {}},
        user_options={"app_user": {"pool_mode": "never"}},
        client_networks=["10.0.0.0/8", "anywhere"],
        processes=0,
    ) == [
        "pgbouncer_settings.query_timeout",
        "pgbouncer_settings.no_such_option",
        "pgbouncer_client_networks[1]",
        "pgbouncer_processes",
        "pgbouncer_database_options.mydb.pool_size",
        "pgbouncer_database_options",
        "pgbouncer_user_options.app_user.pool_mode",
    ]


def test_options_that_need_each_other_are_not_wrong_by_themselves() -> None:
    tls = {
        "client_tls_sslmode": "require",
        "client_tls_cert_file": "/etc/a.crt",
        "client_tls_key_file": "/etc/a.key",
    }
    assert pgbouncer_options(tls, "1.18.0", databases=MODEL)
    assert refused({**tls, "query_timeout": "soon"}) == ["pgbouncer_settings.query_timeout"]
    assert len(refused({"client_tls_sslmode": "require"})) == 1


def test_a_model_that_is_wrong_hides_no_option() -> None:
    found = refused({"query_timeout": "soon"}, databases=[{"roles": []}])
    assert len(found) == 2
    assert found[1] == "pgbouncer_settings.query_timeout"
