# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small model, and a PgBouncer that runs what is desired for it, for the tests of this room."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.pooled.postgres.plugins.module_utils._host.files import Rights
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    defaults,
    entries,
    options,
    running,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.differences import Desired
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.interruption import (
    Interruption,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.read import Installation
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.request import (
    Request,
    parsed_request,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.service import Service

OLD, NEW = (1, 18, 0), (1, 24, 1)


def model(*names: str, settings: dict[str, str | None] | None = None):
    roles = [{"name": "app_user", "kind": "user", "settings": settings or {}}]
    return parse_databases([{"name": name, "roles": roles} for name in names or ["mydb"]])


def effective(version=NEW, given=None, databases=None, auth="query", **more):
    return defaults.effective_options(
        given or {},
        version,
        model() if databases is None else databases,
        auth=auth,
        auth_role="pgbouncer_auth",
        **more,
    )


def parsed(**more):
    roles = [{"name": "app_user", "kind": "user"}, {"name": "Größe", "kind": "reader"}]
    return parse_databases([{"name": "mydb", "roles": roles, **more}])


ALIASES = [
    {"name": "mydb_session", "pool_mode": "session", "pool_size": 4},
    {"name": "mydb_ro", "host": ["r1", "r2"], "port": 5433},
]


def with_pools(name, **pools):
    roles = [{"name": name, "kind": "user", "pools": pools}]
    return parse_databases([{"name": "mydb", "roles": roles}])


def desired(version=NEW, given=None, overrides=None, user_overrides=None, descriptors=16384):
    databases = model()
    described = entries.database_entries(
        databases, version, host="/run/pg", port=5432, overrides=overrides or {}
    )
    users = entries.user_entries(databases, user_overrides or {}, version)
    return Desired(effective(version, given), described, users, descriptors)


def running_as(wanted, version=NEW, **rows):
    """The PgBouncer that runs exactly what is wanted, as its console shows it."""
    package = running.package_state(version, wanted.descriptors)
    assert package.config is not None
    config = {
        name: replace(
            setting,
            value=options.canonical_option(name, wanted.options.get(name, setting.default)),
        )
        for name, setting in package.config.items()
    }
    row = {
        "host": "/run/pg", "port": 5432, "database": "mydb", "force_user": None, "pool_size": 25,
        "min_pool_size": 0, "reserve_pool_size": 5, "pool_mode": None, "max_connections": 0,
        **rows,
    }  # fmt: skip
    user = {
        "pool_size": "", "reserve_pool_size": "", "pool_mode": None,
        "max_user_connections": 0, "max_user_client_connections": 0,
    }  # fmt: skip
    shown = {"name": "app_user", **{key: user[key] for key in user if version > OLD}}
    return replace(
        package,
        config=config,
        databases={"mydb": row, "pgbouncer": {"name": "x"}},
        users={"app_user": {**shown, "pool_mode": None}, "pgbouncer": {"name": "pgbouncer"}},
    )


ARGUMENTS = {
    "databases": [{"name": "mydb", "roles": [{"name": "app_user", "kind": "user"}]}],
    "passwords": {},
    "options": {},
    "database_options": {},
    "user_options": {},
    "auth": "query",
    "auth_role": "pgbouncer_auth",
    "auth_password": None,
    "client_networks": [],
    "require_tls": False,
    "backend_host": "",
    "backend_port": 5432,
    "backend_socket_dir": "/run/pg",
    "limit_nofile": "auto",
    "processes": 1,
    "runtime_directory": "/run",
    "reconnect": False,
    "restart": "always",
    "takeover": False,
    "config_file": "/etc/pgbouncer/pgbouncer.ini",
    "binary": "/usr/sbin/pgbouncer",
    "service": "pgbouncer",
    "unit_directory": "/etc/systemd/system",
    "os_user": "auto",
    "sandbox": "full",
    "logrotate_directory": "/etc/logrotate.d",
    "assume_new": False,
    "assume_version": None,
    "assume_user": False,
    "assume_files": [],
}


def asked(check_mode: bool = False, **more) -> Request:
    """What the module is asked for."""
    return parsed_request({**ARGUMENTS, **more}, check_mode)


def installed(version=NEW, os_user="pgbouncer", **more) -> Installation:
    """A PgBouncer that an earlier run has configured, and that runs."""
    service = Service(
        exists=True,
        active=True,
        pid=7,
        reload_needed=False,
        descriptors=16384,
        default_descriptors=1024,
        os_user=os_user,
        unit_user=os_user,
    )
    given = {
        "version": version,
        "service": service,
        "rights": Rights(os_user),
        "interruption": Interruption(),
        "as_packaged": False,
        "drop_in": f"[Service]\nUser={os_user}\n",
        **more,
    }
    return Installation(**given)
