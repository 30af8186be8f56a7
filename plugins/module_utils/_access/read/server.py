# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a server's catalogs for the access it gives: once per cluster, once per database."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Callable, Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    ADMIN_OPTION_MAJOR,
    ATTRIBUTES,
    UTF8,
    Actual,
    ActualDatabase,
    ActualRole,
    Login,
    Membership,
    RoleSetting,
    created_database,
    extension_homes,
    pristine,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.memberships import (
    unmanaged_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.operations import (
    LIST_SETTINGS,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.roles import (
    wanted_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.read.database import (
    read_database,
    read_schemas,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.read.dropped_roles import (
    read_belongings,
    read_roles_to_drop,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.read.outside import (
    read_role_graph,
    read_unmanaged_rights,
    read_unmanaged_schemas,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import absent_roles
from ansible_collections.pooled.postgres.plugins.module_utils._secrets import (
    holds_secret,
    is_secret_name,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.profiles import CIS
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import (
    Grant,
    parse_acl,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.available_extensions import (
    read_available,
    read_surroundings,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    Connection,
    fetch,
    server_major,
    server_message,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.extensions import Surroundings
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import quote_ident
from ansible_collections.pooled.postgres.plugins.module_utils._sql.unlogged import keep_from_logs

TEMPLATE = "template1"
# How long somebody may be in the template that databases are made from, as long as the server
# itself waits.
TEMPLATE_PATIENCE_S = 5.0
TEMPLATE_POLL_S = 0.2
# From this major on a database remembers the version of its collations.
_COLLATIONS_MAJOR = 15
# What the server leaves of a database when DROP DATABASE was interrupted.
_INVALID = -2
MAINTENANCE = ("postgres", TEMPLATE)
# Settings that a session can't try out without becoming somebody else.
_IDENTITY_SETTINGS = frozenset({"role", "session_authorization"})
# What a server says of a setting that a session can't change though a role can carry it.
_CANT_CHANGE_RUNTIME = "55P02"
_PERMISSION_DENIED = "42501"
_SESSION_CONTEXTS = ("backend", "superuser-backend")

_SERVER = """
SELECT current_user AS login_user,
       me.rolsuper AS login_is_superuser,
       me.rolbypassrls AS login_bypasses_rls,
       has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT') AS reads_passwords,
       (SELECT rolname FROM pg_roles WHERE oid = 10) AS bootstrap_superuser,
       (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = %(template)s)
         AS template_encoding,
       (SELECT datctype FROM pg_database WHERE datname = 'template0') AS pristine_locale,
       coalesce(current_setting('scram_iterations', true), '4096')::int AS scram_iterations,
       pg_is_in_recovery() AS is_standby
  FROM pg_roles me
 WHERE me.rolname = current_user
"""
_LOGIN = """
SELECT ARRAY(SELECT word FROM unnest(ARRAY['INHERIT', 'CREATEROLE', 'CREATEDB', 'REPLICATION',
                                           'BYPASSRLS']) WITH ORDINALITY AS known(word, place)
              WHERE (ARRAY[me.rolinherit, me.rolcreaterole, me.rolcreatedb, me.rolreplication,
                           me.rolbypassrls])[place]) AS attributes,
       ARRAY(SELECT rolname::text FROM pg_roles WHERE pg_has_role(oid, 'USAGE')) AS holds,
       ARRAY(SELECT rolname::text FROM pg_roles WHERE pg_has_role(oid, %(become)s)) AS becomes,
       ARRAY(SELECT rolname::text FROM pg_roles
              WHERE NOT rolsuper
                AND (pg_has_role(oid, 'MEMBER WITH ADMIN OPTION')
                     OR %(createrole_reaches_all)s AND me.rolcreaterole)) AS administers,
       ARRAY(SELECT g.rolname::text FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid
              WHERE a.member = me.oid AND a.grantor = me.oid) AS granted_to_itself,
       coalesce(current_setting('createrole_self_grant', true), '') LIKE '%%inherit%%'
         AS holds_created_roles
  FROM pg_roles me
 WHERE me.rolname = current_user
"""
_ROLES = """
SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
       rolbypassrls, rolconnlimit,
       CASE WHEN rolvaliduntil = '-infinity' THEN '-infinity'
            WHEN rolvaliduntil <> 'infinity'
            THEN (rolvaliduntil AT TIME ZONE 'UTC')::text || ' UTC' END AS valid_until
  FROM pg_roles
 WHERE rolname = ANY(%(names)s)
"""
_PASSWORDS = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY(%(names)s)"
_SETTINGS = """
SELECT r.rolname, coalesce(d.datname, '') AS datname,
       split_part(item, '=', 1) AS name, substr(item, strpos(item, '=') + 1) AS value
  FROM pg_db_role_setting s
  JOIN pg_roles r ON r.oid = s.setrole
  LEFT JOIN pg_database d ON d.oid = s.setdatabase
 CROSS JOIN LATERAL unnest(s.setconfig) AS item
 WHERE r.rolname = ANY(%(names)s)
 ORDER BY 1, 2, 3
"""
_MEMBERSHIPS = """
SELECT m.rolname AS member, g.rolname AS granted, by.rolname AS grantor, a.admin_option,
       coalesce((to_jsonb(a) ->> 'inherit_option')::boolean, true) AS inherits
  FROM pg_auth_members a
  JOIN pg_roles g ON g.oid = a.roleid
  JOIN pg_roles m ON m.oid = a.member
  LEFT JOIN pg_roles by ON by.oid = a.grantor
 WHERE m.rolname = ANY(%(names)s)
 ORDER BY 1, 2, 3
"""
_POOLER_MEMBERS = """
SELECT m.rolname AS member, coalesce(by.rolname, '') AS grantor
  FROM pg_auth_members a
  JOIN pg_roles g ON g.oid = a.roleid
  JOIN pg_roles m ON m.oid = a.member
  LEFT JOIN pg_roles by ON by.oid = a.grantor
 WHERE g.rolname = %(pooler)s
 ORDER BY 1, 2
"""
_DATABASES = """
SELECT datname, pg_get_userbyid(datdba) AS owner,
       coalesce(datacl, acldefault('d', datdba))::text[] AS acl,
       datallowconn, datconnlimit
  FROM pg_database
 WHERE datname = ANY(%(databases)s)
"""
_OLD_COLLATIONS = """
SELECT datname, datcollversion AS recorded,
       coalesce(pg_database_collation_actual_version(oid), '') AS provided
  FROM pg_database
 WHERE (datname = ANY(%(databases)s) OR datname = %(template)s)
   AND datcollversion IS NOT NULL
   AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)
"""
# The server itself sends autovacuum away.
_TEMPLATE_USERS = """
SELECT format('pid %%s', pid) AS who, usename, application_name
  FROM pg_stat_activity
 WHERE datname = %(template)s AND backend_type <> 'autovacuum worker'
 UNION ALL
SELECT format('prepared transaction %%L', gid), owner, ''
  FROM pg_prepared_xacts
 WHERE database = %(template)s
 ORDER BY 1
"""
_SUPERUSER_LIMIT = "SELECT rolconnlimit FROM pg_roles WHERE oid = 10"
_AVAILABLE = "SELECT name FROM pg_available_extensions"

_TRY_SETTING = """
SELECT set_config(%(name)s, %(value)s, true) AS canonical,
       set_config(%(name)s, %(before)s, true)
"""
_SESSION_SETTINGS = "SELECT name, context FROM pg_settings WHERE lower(name) = ANY(%(names)s)"


def read_server(wanted: Wanted, connect: Callable[[str], Any], connection: Connection) -> Actual:
    """The access that a server gives, as far as the model is concerned.

    Args:
        wanted: the model; what it does not name is not read.
        connect: makes a connection to a database, closed here after reading.
        connection: one to any database, for what belongs to the whole cluster.

    Raises:
        ValueError: when the server can't be managed at all.
    """
    names = [role.name for role in wanted_roles(wanted)]
    absent = [role.name for role in absent_roles(wanted.databases)]
    extensions = [name for database in wanted.databases for name in database.extensions]
    values: dict[str, Any] = {
        "names": names,
        "databases": [database.name for database in wanted.databases],
        "template": TEMPLATE,
        "pooler": wanted.pooler_role,
    }
    (server,) = fetch(connection, _SERVER, values)
    if server.is_standby:
        raise ValueError("the server is a standby, which accepts no changes; use its primary")
    stored = fetch(connection, _SETTINGS, values)
    canonical, errors, denied = _try_settings(wanted, stored, connection)
    server_roles, links = read_role_graph(connection, names)
    roles_to_drop = read_roles_to_drop(connection, absent, values["databases"])
    unmanaged_rights, unmanaged_databases = read_unmanaged_rights(
        connection, names, values["databases"]
    )
    dropped = [role.name for role in absent_roles(wanted.databases) if role.reassign_owned_to]
    actual = Actual(
        major=server_major(connection),
        login_user=server.login_user,
        login_is_superuser=server.login_is_superuser,
        login_bypasses_rls=server.login_bypasses_rls,
        reads_passwords=server.reads_passwords,
        bootstrap_superuser=server.bootstrap_superuser,
        template_encoding=server.template_encoding,
        pristine_locale=server.pristine_locale or "C",
        role_names=frozenset(server_roles),
        roles=_read_roles(connection, values, stored, server.reads_passwords),
        databases={},
        scram_iterations=server.scram_iterations,
        server_roles=server_roles,
        links=links,
        unmanaged_roles=unmanaged_roles(wanted, server_roles, links, dropped),
        available_extensions=frozenset(row.name for row in fetch(connection, _AVAILABLE)),
        canonical=canonical,
        setting_errors=errors,
        settings_denied=denied,
        roles_to_drop=roles_to_drop,
        unmanaged_rights=unmanaged_rights,
        unmanaged_databases=unmanaged_databases,
        pooler_members=tuple(
            (row.member, row.grantor) for row in fetch(connection, _POOLER_MEMBERS, values)
        ),
        login=None if server.login_is_superuser else _read_login(connection),
        extensions=read_available(connection, extensions),
        superuser_limit=fetch(connection, _SUPERUSER_LIMIT)[0].rolconnlimit,
    )
    present = {row.datname: row for row in fetch(connection, _DATABASES, values)}
    collations = _old_collations(connection, values) if actual.major >= _COLLATIONS_MAJOR else {}
    connection.rollback()
    databases: dict[str, ActualDatabase] = {}
    for database in wanted.databases:
        row = present.get(database.name)
        _check_usable(row)
        if not row and actual.template_encoding != UTF8:
            template = pristine(actual.major, actual.bootstrap_superuser)
            template = replace(template, surroundings=Surroundings(template.extension_schemas))
            created = created_database(database.name, actual.login_user, template)
            databases[database.name] = created
            continue
        other = connect(database.name if row else TEMPLATE)
        try:
            state = read_database(other, database, names)
            if set(database.extensions) - state.extensions:
                state = replace(state, surroundings=read_surroundings(other))
            if row:
                migrators = [role.name for role in database.roles if role.kind == "migrator"]
                rest = [name for name in names if name not in migrators]
                homes = extension_homes(database, state)
                outside = read_unmanaged_schemas(other, database.schemas, homes, migrators, rest)
                state = replace(state, belongings=read_belongings(other, roles_to_drop), **outside)
        finally:
            other.close()
        databases[database.name] = (
            replace(
                state,
                name=database.name,
                owner=row.owner,
                grants=_acl(row.acl),
                connection_limit=row.datconnlimit,
                collations=collations.get(database.name, ()),
            )
            if row
            else created_database(database.name, actual.login_user, state)
        )
    maintenance = _maintenance(wanted, connect, connection)
    if actual.template_encoding == UTF8 and len(present) < len(wanted.databases):
        actual = replace(
            actual,
            template_users=_template_users(connection, values),
            template_collations=collations.get(TEMPLATE, ()),
        )
    return replace(actual, databases=databases, maintenance=maintenance)


def _check_usable(row: Any) -> None:
    """Check that one can look into a database.

    Raises:
        ValueError: saying what keeps everybody out, and what to do.
    """
    if row is None:
        return
    if row.datconnlimit == _INVALID:
        raise ValueError(
            f"database {row.datname!r} is invalid: it is what an interrupted DROP DATABASE has"
            f" left; run DROP DATABASE {quote_ident(row.datname)}, and a new one is created"
        )
    if not row.datallowconn:
        raise ValueError(
            f"database {row.datname!r} does not accept connections, so nobody can look into it or"
            f" work with it; run ALTER DATABASE {quote_ident(row.datname)} ALLOW_CONNECTIONS true,"
            " or take it out of the model"
        )


def _old_collations(
    connection: Connection, values: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    rows = fetch(connection, _OLD_COLLATIONS, values)
    return {row.datname: (row.recorded, row.provided) for row in rows}


def _template_users(connection: Connection, values: Mapping[str, Any]) -> tuple[str, ...]:
    """Who is in the template, in words, for so long that the server would not make a copy."""
    deadline = time.monotonic() + TEMPLATE_PATIENCE_S
    while True:
        rows = fetch(connection, _TEMPLATE_USERS, values)
        connection.rollback()
        if not rows or time.monotonic() > deadline:
            return tuple(_template_user(row) for row in rows)
        time.sleep(TEMPLATE_POLL_S)


def _template_user(row: Any) -> str:
    application = f", application {row.application_name!r}" if row.application_name else ""
    return f"{row.who} (role {row.usename!r}{application})"


def _maintenance(
    wanted: Wanted, connect: Callable[[str], Any], connection: Connection
) -> dict[str, ActualDatabase]:
    """The databases that every server has and the model has not, for a profile that closes them."""
    if wanted.hardening != CIS:
        return {}
    names = {*MAINTENANCE} - {database.name for database in wanted.databases}
    found = {}
    rows = fetch(connection, _DATABASES, {"databases": sorted(names)})
    connection.rollback()
    for row in rows:
        other = connect(row.datname)
        try:
            schemas = read_schemas(other, ("public",))
        finally:
            other.close()
        found[row.datname] = ActualDatabase(row.datname, True, row.owner, _acl(row.acl), schemas)
    return dict(sorted(found.items()))


def _read_login(connection: Connection) -> Login:
    before = server_major(connection) < ADMIN_OPTION_MAJOR
    values = {"become": "MEMBER" if before else "SET", "createrole_reaches_all": before}
    (row,) = fetch(connection, _LOGIN, values)
    return Login(
        attributes=frozenset(row.attributes),
        holds=frozenset(row.holds),
        becomes=frozenset(row.becomes),
        administers=frozenset(row.administers),
        granted_to_itself=frozenset(row.granted_to_itself),
        holds_created_roles=row.holds_created_roles,
    )


def _read_roles(
    connection: Connection, values: Mapping[str, Any], stored: Iterable[Any], reads_passwords: bool
) -> dict[str, ActualRole]:
    passwords = (
        {row.rolname: row.rolpassword for row in fetch(connection, _PASSWORDS, values)}
        if reads_passwords
        else {}
    )
    settings: dict[str, list[RoleSetting]] = {}
    for row in stored:
        item = RoleSetting(row.datname, row.name, row.value)
        settings.setdefault(row.rolname, []).append(item)
    memberships: dict[str, list[Membership]] = {}
    for row in fetch(connection, _MEMBERSHIPS, values):
        membership = Membership(row.granted, row.admin_option, row.grantor or "", row.inherits)
        memberships.setdefault(row.member, []).append(membership)
    roles: dict[str, ActualRole] = {}
    for row in fetch(connection, _ROLES, values):
        flags = (
            row.rolsuper,
            row.rolinherit,
            row.rolcreaterole,
            row.rolcreatedb,
            row.rolcanlogin,
            row.rolreplication,
            row.rolbypassrls,
        )
        roles[row.rolname] = ActualRole(
            name=row.rolname,
            attributes=frozenset(word for word, flag in zip(ATTRIBUTES, flags) if flag),
            connection_limit=row.rolconnlimit,
            password=passwords.get(row.rolname),
            settings=tuple(settings.get(row.rolname, ())),
            memberships=tuple(memberships.get(row.rolname, ())),
            valid_until=row.valid_until or "",
        )
    return roles


def _try_settings(
    wanted: Wanted, stored: Iterable[Any], connection: Connection
) -> tuple[dict[tuple[str, str], str], dict[tuple[str, str], str], frozenset[tuple[str, str]]]:
    """What the server makes of each value, what it says of those that it refuses, and which of
    them only because of who asks.

    Each value is tried and taken back within one statement, so that a timeout tried out never
    takes effect.
    """
    pairs = {pair for role in wanted_roles(wanted) for pair in role.settings}
    pairs |= {(row.name.lower(), row.value) for row in stored}
    contexts = {
        row.name.lower(): row.context
        for row in fetch(connection, _SESSION_SETTINGS, {"names": [name for name, _value in pairs]})
    }
    canonical: dict[tuple[str, str], str] = {}
    errors: dict[tuple[str, str], str] = {}
    denied: set[tuple[str, str]] = set()
    if any(is_secret_name(name) or holds_secret(value) for name, value in pairs):
        keep_from_logs(connection)
    for name, value in sorted(pairs):
        if name in _IDENTITY_SETTINGS or contexts.get(name) in _SESSION_CONTEXTS:
            continue
        (before,) = fetch(connection, "SELECT current_setting(%s, true) AS value", (name,))
        values = {"name": name, "value": value, "before": before.value or ""}
        with connection.cursor() as cursor:
            cursor.execute("SAVEPOINT setting")
            try:
                (row,) = fetch(connection, _TRY_SETTING, values)
                if name not in LIST_SETTINGS:
                    canonical[name, value] = row.canonical
            except connection.Error as error:
                errors[name, value] = server_message(error)
                if error.pgcode == _PERMISSION_DENIED:
                    denied.add((name, value))
            cursor.execute("ROLLBACK TO SAVEPOINT setting")
    return canonical, errors, frozenset(denied)


def _acl(items: Iterable[str]) -> tuple[Grant, ...]:
    return parse_acl(tuple(items))
