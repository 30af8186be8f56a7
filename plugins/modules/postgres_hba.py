#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: pg_hba.conf and pg_ident.conf of a server, from the model."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_hba
short_description: Who may log in to a Postgres server, and from where
version_added: 0.1.0
description:
  - Writes C(pg_hba.conf) and C(pg_ident.conf) from the model, with SCRAM for named roles from named
    networks, and peer for the superuser.
  - The server itself checks the new files before it loads them. When it finds an error, or no
    longer lets this module in after loading them, the old files are put back and the module fails
    with the server's words.
  - On a server whose file is still as the package creates it and which only the model uses, the
    whole file is managed. Elsewhere the rules go into a block at the top of the file, and the lines
    of others stay below it.
options:
  version:
    description: Major version of the server. Needed only to foresee, in check mode, what happens to
      the files of a server that is not installed yet or stopped.
    type: str
    default: ''
  cluster:
    description: Name of the cluster, for the same purpose.
    type: str
    default: main
  client_networks:
    description: Networks in CIDR notation from which the model's roles may log in with SCRAM.
      Loopback and the unix socket are always among them.
    type: list
    elements: str
    default: []
  rules:
    description: Further rules, which come after those of the model, in this order.
    type: list
    elements: dict
    default: []
    suboptions:
      type:
        description: Type of connection.
        type: str
        choices: [local, host, hostssl, hostnossl, hostgssenc, hostnogssenc]
        default: host
      database:
        description:
          - Name of a database, or a list of them; one with commas or quotes in it only in a list. C(all), C(sameuser), C(samerole) and
            C(replication) have their meaning in C(pg_hba.conf), and so has a regular expression
            that starts with a slash.
        type: raw
        required: true
      user:
        description: Name of a role, or a list of them; one with commas or quotes in it only in a list. C(all), C(+group) and a regular expression
          that starts with a slash have their meaning in C(pg_hba.conf).
        type: raw
        required: true
      address:
        description: Network in CIDR notation, name of a host, or C(all), C(samehost) or C(samenet).
          Not for O(rules[].type=local).
        type: str
      method:
        description: Method of authentication.
        type: str
        choices: [scram-sha-256, md5, password, trust, reject, peer, ident, cert, ldap, pam, gss, radius, oauth]
        default: scram-sha-256
      options:
        description: Options of the method, such as C(map).
        type: dict
      insecure:
        description: Must be V(true) for O(rules[].method=trust), which lets everybody in without a
          password, and O(rules[].method=password), which sends passwords in plain text.
        type: bool
        default: false
  pooler_role:
    description: Role that PgBouncer itself logs in as; empty for none.
    type: str
    default: ''
  pooler_networks:
    description: Networks in CIDR notation of PgBouncer on other hosts. From there its own role and
      the model's roles may log in with SCRAM.
    type: list
    elements: str
    default: []
  require_tls:
    description:
      - Whether the model's roles and O(pooler_role) have to use TLS from everywhere but this host. Without it
        they are rejected, also where O(rules) or lines of others would let them in.
      - Fails when the server has C(ssl) turned off. Check mode does not ask that, because a run may turn it on first.
    type: bool
    default: false
  require_tls_on_loopback:
    description: With O(require_tls), whether TLS is needed on loopback addresses too. The unix socket has none.
    type: bool
    default: false
  pooler_os_user:
    description: OS user that runs PgBouncer on the server's own host, where it logs in over the
      unix socket without a password.
    type: str
    default: postgres
  exclusive:
    description:
      - Whether the whole C(pg_hba.conf) is managed, so that lines of others are removed.
      - V(auto) does so when the file is as the package creates it and only the model and the
        superuser have databases and roles on the server, or when the file is wholly managed
        already.
      - When others have added databases and roles to a server whose file is wholly managed already,
        V(auto) keeps their lines below the managed rules, and warns of each. Kept are lines that
        name only databases that the model does not know, and of users only roles that it does not
        know, or C(all) with the method C(scram-sha-256), C(md5) or C(reject). All other lines are
        removed, such as one for all databases.
      - An C(include), C(include_if_exists) or C(include_dir), from Postgres 16 on, is kept like them when all rules of the
        files that it brings meet the same condition. Otherwise V(auto) fails and names these rules, and V(yes) removes the
        line with a warning.
    type: str
    choices: [auto, 'yes', 'no']
    default: auto
  assume_new:
    description: In check mode, when no server is installed yet, foresee what will happen to the
      files that the package creates.
    type: bool
    default: false
  assume_started:
    description:
      - In check mode, do not ask the server, which is stopped and which a run would start first, but
        foresee what will happen from its files in O(config_directory) alone.
      - Outside of check mode it has no effect.
    type: bool
    default: false
  config_directory:
    description: Directory of the files of a server that is stopped or not installed yet. By default
      C(/etc/postgresql/<version>/<cluster>).
    type: path
extends_documentation_fragment:
  - pooled.postgres.attributes
  - pooled.postgres.connection
  - pooled.postgres.model
attributes:
  check_mode:
    support: full
    details: The server checks files only once they are there, so that what only it refuses is not
      foreseen. Of a server that is stopped, databases and roles outside the model are known only as
      far as its C(pg_hba.conf) names them.
  diff_mode:
    support: full
    details: The comments of a file that is still as the package creates it are left out.
  idempotent:
    support: full
notes:
  - Runs on the server's own host, as a user who may write its files.
author:
  - pooled.postgres contributors (@pooled)
"""

EXAMPLES = r"""
- name: Let the model's roles in from the application's network
  pooled.postgres.postgres_hba:
    databases: "{{ pooled_databases | pooled.postgres.without_passwords }}"
    client_networks: [10.20.0.0/16]
    pooler_role: pgbouncer_auth

- name: The same, and only with TLS
  pooled.postgres.postgres_hba:
    databases: "{{ pooled_databases | pooled.postgres.without_passwords }}"
    client_networks: [10.20.0.0/16]
    require_tls: true

- name: Let a backup job in, too
  pooled.postgres.postgres_hba:
    databases: "{{ pooled_databases | pooled.postgres.without_passwords }}"
    rules:
      - {type: hostssl, database: replication, user: backup, address: 10.20.3.7/32}
"""

RETURN = r"""
hba_file:
  description: Path of C(pg_hba.conf).
  returned: always
  type: str
ident_file:
  description: Path of C(pg_ident.conf).
  returned: always
  type: str
exclusive:
  description: Whether the whole file is managed.
  returned: always
  type: bool
rules:
  description: The managed rules, in order.
  returned: always
  type: list
  elements: str
reloaded:
  description: Whether the server loads its files anew, which it also does when they are newer than
    what it has loaded.
  returned: always
  type: bool
"""

import os
import time
from dataclasses import replace
from typing import Any, NoReturn

from ansible_collections.pooled.postgres.plugins.module_utils._host import files as _files
from ansible_collections.pooled.postgres.plugins.module_utils._model.argument_spec import (
    databases_argument_spec,
    given_databases,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    parse_databases,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import IDENT_MAP
from ansible_collections.pooled.postgres.plugins.module_utils._module import PooledModule
from ansible_collections.pooled.postgres.plugins.module_utils._server import hba as _hba
from ansible_collections.pooled.postgres.plugins.module_utils._server.cluster import Refused
from ansible_collections.pooled.postgres.plugins.module_utils._sql import connection as _postgres

RELOAD_TIMEOUT_S = 15
FILE_MODE = 0o640

FILES = """
SELECT current_setting('hba_file') AS hba, current_setting('ident_file') AS ident
"""
RELOAD = "SELECT pg_catalog.pg_reload_conf()"
UNMANAGED_ROLES = """
SELECT rolname AS name FROM pg_catalog.pg_roles WHERE rolcanlogin AND oid <> 10
"""
UNMANAGED_DATABASES = """
SELECT datname AS name FROM pg_catalog.pg_database WHERE NOT datistemplate AND datname <> 'postgres'
"""

HBA_ERRORS = """
SELECT line_number, error FROM pg_catalog.pg_hba_file_rules WHERE error IS NOT NULL
"""
INCLUDED = """
SELECT file_name, line_number, coalesce(type, '') AS type, coalesce(database, '{}') AS databases,
       coalesce(user_name, '{}') AS users, coalesce(auth_method, '') AS method,
       coalesce(error, '') AS error
  FROM pg_catalog.pg_hba_file_rules WHERE file_name <> current_setting('hba_file')
 ORDER BY rule_number, file_name, line_number
"""
INCLUDED_MAPS = """
SELECT file_name, line_number FROM pg_catalog.pg_ident_file_mappings
 WHERE file_name <> current_setting('ident_file') AND map_name = %s
 ORDER BY map_number
"""
IDENT_ERRORS = """
SELECT line_number, error FROM pg_catalog.pg_ident_file_mappings WHERE error IS NOT NULL
"""


def argument_spec() -> dict[str, Any]:
    """The module's options."""
    rule = {
        "type": {"type": "str", "choices": list(_hba.TYPES), "default": "host"},
        "database": {"type": "raw", "required": True},
        "user": {"type": "raw", "required": True},
        "address": {"type": "str"},
        "method": {"type": "str", "choices": list(_hba.METHODS), "default": "scram-sha-256"},
        "options": {"type": "dict"},
        "insecure": {"type": "bool", "default": False},
    }
    return {
        **_postgres.connection_argument_spec(),
        "version": {"type": "str", "default": ""},
        "cluster": {"type": "str", "default": "main"},
        **databases_argument_spec(),
        "client_networks": {"type": "list", "elements": "str", "default": []},
        "rules": {"type": "list", "elements": "dict", "default": [], "options": rule},
        "pooler_role": {"type": "str", "default": ""},
        "pooler_networks": {"type": "list", "elements": "str", "default": []},
        "require_tls": {"type": "bool", "default": False},
        "require_tls_on_loopback": {"type": "bool", "default": False},
        "pooler_os_user": {"type": "str", "default": "postgres"},
        "exclusive": {"type": "str", "choices": ["auto", "yes", "no"], "default": "auto"},
        "assume_new": {"type": "bool", "default": False},
        "assume_started": {"type": "bool", "default": False},
        "config_directory": {"type": "path"},
    }


class LoginServer:
    """A running server, or in check mode one that the run will create or start."""

    def __init__(self, module: PooledModule) -> None:
        self.params = module.params
        self.read_only = module.check_mode
        self.connection: Any = None
        version, cluster = self.params["version"], self.params["cluster"]
        directory = self.params["config_directory"] or f"/etc/postgresql/{version}/{cluster}"
        self.directory = os.path.normpath(directory)
        self.os_user = _files.service_user(directory, self.params["login_os_user"])
        self.exists = _files.exists(directory, _files.Rights(self.os_user))
        foreseen = "assume_started" if self.exists else "assume_new"
        if module.check_mode and self.params[foreseen]:
            self.major = int(version) if version.isdigit() else 0
            self.hba_file = f"{directory}/pg_hba.conf"
            self.ident_file = f"{directory}/pg_ident.conf"
            return
        _postgres.require_psycopg2(module)
        self.connection = self.connect()
        self.major = _postgres.server_major(self.connection)
        self.hba_file, self.ident_file = self.ask(FILES)[0]

    def rights(self, path: str) -> _files.Rights:
        """With whose rights to work on a file that the server names.

        It may name anything. Only a file where the operator has the cluster can be an
        administrator's.
        """
        return _files.Rights(self.os_user, everywhere=os.path.dirname(path) != self.directory)

    def connect(self) -> Any:
        """A connection, in which check mode can't change anything."""
        return _postgres.connect(self.params, autocommit=True, read_only=self.read_only)

    def ask(self, query: str, *values: str) -> list[Any]:
        """Rows of a query.

        Raises:
            Refused: with the server's words, such as when the user may not ask.
        """
        try:
            return _postgres.fetch(self.connection, query, values)
        except _postgres.psycopg2.Error as error:
            raise Refused(_postgres.server_message(error)) from error

    def has_tls(self) -> bool:
        """Whether the server takes TLS connections."""
        return bool(self.ask("SELECT current_setting('ssl')::bool AS enabled")[0].enabled)

    def file(self, path: str, packaged: str) -> _files.ManagedFile:
        """A file as it is, or as the package will create it."""
        if not self.exists and self.connection is None:
            return _files.ManagedFile(path, packaged, "postgres", "postgres", FILE_MODE)
        return _files.read_file(path, self.rights(path))

    def unmanaged(self, databases: Any, query: str, hba: str) -> list[str]:
        """Databases or login roles that are neither the model's nor the superuser's own."""
        if self.connection:
            names = [row.name for row in self.ask(query)]
        else:
            names = list(
                _hba.named_by_unmanaged_lines(hba)[0 if query == UNMANAGED_DATABASES else 1]
            )
        return _hba.unmanaged(
            databases, names, (self.params["pooler_role"], self.params["login_user"])
        )

    def included(self) -> tuple[_hba.IncludedRule, ...]:
        """Rules that pg_hba.conf brings from other files, as far as there is a server to say."""
        if self.connection is None or self.major < _hba.INCLUDES_MAJOR:
            return ()
        return tuple(
            _hba.IncludedRule(
                row.file_name,
                row.line_number,
                row.type,
                tuple(row.databases),
                tuple(row.users),
                row.method,
                row.error,
            )
            for row in self.ask(INCLUDED)
        )

    def keeps(self, file: _files.ManagedFile) -> bool:
        """Whether a file may stay with its owner and group: the server's OS user may read it."""
        owner = self.owner
        return (file.owner == owner.user and bool(file.mode & 0o400)) or (
            file.group == owner.group and bool(file.mode & 0o040)
        )

    @property
    def owner(self) -> _files.Owner:
        """Who the server's files belong to."""
        return _files.owner_of(self.os_user)

    def loaded_at(self) -> float:
        """When the server has loaded its files, as a new session sees it."""
        connection = self.connect()
        try:
            query = "SELECT extract(epoch FROM pg_catalog.pg_conf_load_time())::float8 AS at"
            return float(_postgres.fetch(connection, query)[0].at)
        finally:
            connection.close()

    def has_loaded(self, *paths: str) -> bool:
        """Whether the server has loaded its files since they were last written."""
        if self.connection is None:
            return True
        written = [_files.written_at(path, self.rights(path)) for path in paths]
        return self.loaded_at() >= max(written)

    def errors(self) -> list[str]:
        """What the server finds wrong with the files on disk, before it loads them."""
        queries = {"pg_hba.conf": HBA_ERRORS}
        if self.major >= 15:
            queries["pg_ident.conf"] = IDENT_ERRORS
        return [
            f"{name} line {row.line_number}: {row.error}"
            for name, query in queries.items()
            for row in self.ask(query)
        ]

    def reload(self) -> None:
        """Let the server load its files, and see that it has and that it still lets us in.

        Raises:
            Refused: when it does not.
        """
        before = self.loaded_at()
        self.ask(RELOAD)
        deadline = time.monotonic() + RELOAD_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                if self.loaded_at() > before:
                    return
            except _postgres.ConnectionFailed as error:
                raise Refused(f"with the new rules this module can't log in: {error}") from error
            time.sleep(0.05)
        raise Refused(f"the server did not load the new files within {RELOAD_TIMEOUT_S} s")


def wants_whole_file(server: LoginServer, hba: str, databases: Any) -> bool:
    """Whether pg_hba.conf is ours alone."""
    choice = server.params["exclusive"]
    if choice != "auto":
        return bool(choice == "yes")
    if _hba.is_ours(hba):
        return True
    return _hba.is_as_packaged(hba) and not any(
        server.unmanaged(databases, query, hba) for query in (UNMANAGED_DATABASES, UNMANAGED_ROLES)
    )


def kept_lines(server: LoginServer, hba: str, databases: Any) -> tuple[str, ...]:
    """Lines in a file that is ours which others need for what they have added since."""
    if server.params["exclusive"] != "auto" or not _hba.is_ours(hba):
        return ()
    return _hba.unmanaged_lines(
        hba,
        server.unmanaged(databases, UNMANAGED_DATABASES, hba),
        server.unmanaged(databases, UNMANAGED_ROLES, hba),
    )


def check_included(
    server: LoginServer, hba: str, ident: str, databases: Any, whole: bool
) -> tuple[str, ...]:
    """Refuse what other files say of what the model decides; of a file that is ours alone, name
    the lines that bring them and go.

    Raises:
        ValueError: naming each rule.
    """
    # Of a file that it can't read, the server knows no maps either.
    asked = server.connection is not None and server.major >= _hba.INCLUDES_MAJOR
    if asked and _hba.has_includes(ident):
        maps = server.ask(INCLUDED_MAPS, IDENT_MAP)
        if maps:
            places = ", ".join(f"{row.file_name} line {row.line_number}" for row in maps)
            raise ValueError(
                f"{server.ident_file} includes lines of map {IDENT_MAP!r}, which says who may"
                f" be PgBouncer's role or the superuser: {places}; remove them"
            )
    lines = _hba.include_lines(hba) if whole else ()
    if not lines or server.params["exclusive"] == "yes":
        return lines
    found = _hba.decided_by_the_model(
        server.included(),
        server.unmanaged(databases, UNMANAGED_DATABASES, hba),
        server.unmanaged(databases, UNMANAGED_ROLES, hba),
    )
    if found:
        raise ValueError(
            f"{server.hba_file} is managed, and {', '.join(map(repr, lines))} in it would bring"
            f" rules for what the model decides: {'; '.join(map(str, found))}; name only databases"
            " and roles outside the model there, or move the rules to postgres_hba; with exclusive:"
            " 'yes' the line is removed"
        )
    return ()


def replace_files(
    server: LoginServer,
    pairs: list[tuple[_files.ManagedFile, _files.ManagedFile]],
    good: list[_files.Backup],
) -> None:
    """Write the wanted files, let the server check and load them; or put the old ones back.

    Args:
        good: the last good ones, also of a run that was killed before the server took its files.

    Raises:
        Refused: when the server does not take them.
    """
    try:
        for (actual, wanted), last_good in zip(pairs, good):
            if _files.differs(actual, wanted):
                last_good.keep()
                _files.write_file(wanted, server.rights(wanted.path))
        errors = server.errors()
        if errors:
            raise Refused("; ".join(errors))
        server.reload()
    except (Refused, OSError, _postgres.ConnectionFailed) as error:
        unwritten = isinstance(error, OSError)
        what = "The new files can't be written" if unwritten else "The server refuses the new files"
        back = [last_good.restore() for last_good in good]
        if not any(back):
            raise Refused(f"{what}, and no file was changed: {error}") from error
        try:
            server.reload()
        except (Refused, _postgres.ConnectionFailed) as again:
            raise Refused(
                f"{what}: {error}; the old ones are back, but it does not load them: {again}"
            ) from error
        raise Refused(f"{what}, and the old ones are back: {error}") from error


def fail(module: PooledModule, message: str) -> NoReturn:
    """End with a message."""
    module.fail_json(msg=message)
    raise AssertionError(message)


def main() -> None:
    module = PooledModule(argument_spec())
    params = module.params
    owner = {"superuser": params["login_user"], "superuser_os_user": params["login_os_user"]}
    try:
        databases = parse_databases(given_databases(params["databases"]), "databases")
        checked = _hba.checked(
            params["rules"],
            params["client_networks"],
            params["pooler_networks"],
            rules_variable="rules",
            clients_variable="client_networks",
        )
        server = LoginServer(module)
        if params["require_tls"] and not module.check_mode and not server.has_tls():
            raise ValueError(
                "require_tls: the server has ssl turned off, so nobody could log in from elsewhere;"
                " turn it on, with postgres_settings: {ssl: true, ssl_cert_file: ..., ssl_key_file: ...}"
            )
        hba = server.file(server.hba_file, "".join(f"{line}\n" for line in _hba.PACKAGE_RULES))
        ident = server.file(server.ident_file, "")
        whole = wants_whole_file(server, hba.content or "", databases)
        gone = check_included(server, hba.content or "", ident.content or "", databases, whole)
        kept = kept_lines(server, hba.content or "", databases)
        rules = (
            *_hba.model_rules(
                databases,
                major=server.major,
                client_networks=checked.client_networks,
                pooler_role=params["pooler_role"],
                pooler_networks=checked.pooler_networks,
                require_tls=params["require_tls"],
                require_tls_on_loopback=params["require_tls_on_loopback"],
                **owner,
            ),
            *checked.rules,
        )
        lines = _hba.ident_lines(
            pooler_role=params["pooler_role"], pooler_os_user=params["pooler_os_user"], **owner
        )
        pairs = [
            (hba, wanted_file(server, hba, _hba.hba_text(hba.content or "", rules, whole, kept))),
            (ident, wanted_file(server, ident, _hba.ident_text(ident.content or "", lines))),
        ]
        good = [_files.Backup(actual, server.rights(actual.path)) for actual, _wanted in pairs]
        different = any(_files.differs(actual, wanted) for actual, wanted in pairs)
        # A run that was killed may have left files that the server has not taken.
        unproved = any(last_good.exists for last_good in good)
        reload = different or unproved or not server.has_loaded(server.hba_file, server.ident_file)
    except (ValueError, OSError, _postgres.ConnectionFailed, Refused) as error:
        fail(module, str(error))

    for warning in checked.warnings:
        module.warn(warning)
    for line in gone:
        module.warn(
            f"{server.hba_file}: {line!r} is removed, because exclusive is 'yes', and with it all"
            " rules of other files"
        )
    for line in kept:
        module.warn(
            f"{server.hba_file}: kept a line of others, for what the model does not know: {line}"
            f"{'; it is unsafe' if _hba.unsafe_lines(line) else ''}"
        )
    for warning in () if whole else _hba.unsafe_lines(pairs[0][1].content or ""):
        module.warn(f"{server.hba_file}: {warning}")
    if not module.check_mode:
        try:
            if reload:
                replace_files(server, pairs, good)
            for last_good in good:
                last_good.discard()
        except (Refused, OSError) as error:
            fail(module, str(error))
    module.exit_json(
        changed=reload,
        hba_file=server.hba_file,
        ident_file=server.ident_file,
        exclusive=whole,
        rules=[rule.line() for rule in rules],
        reloaded=reload,
        diff=[
            {
                "before_header": wanted.path,
                "after_header": wanted.path,
                **_hba.shown_change(actual.content or "", wanted.content or ""),
            }
            for actual, wanted in pairs
            if _files.differs(actual, wanted)
        ],
    )


def wanted_file(
    server: LoginServer, actual: _files.ManagedFile, content: str
) -> _files.ManagedFile:
    """The file with the wanted content, where the server can read it and nobody else.

    Raises:
        PermissionError: when it has to change and can't.
    """
    owner, rights = server.owner, server.rights(actual.path)
    wanted = _files.ManagedFile(actual.path, content, owner.user, owner.group, FILE_MODE)
    if actual.content is not None and server.keeps(actual):
        kept = replace(actual, content=content, mode=actual.mode & FILE_MODE)
        # What the server's OS user writes belongs to it.
        if (
            kept == actual
            or owner.user == actual.owner
            or not _files.worker_of(actual.path, rights)
        ):
            wanted = kept
    if _files.differs(actual, wanted) and (server.exists or server.connection):
        _files.check_changeable(actual.path, rights)
    return wanted


if __name__ == "__main__":
    main()
