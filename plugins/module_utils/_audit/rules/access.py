# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about access: who connects, as whom, from where, and what they may do."""

from __future__ import annotations

from typing import Iterable, Iterator

from ansible_collections.pooled.postgres.plugins.module_utils._audit.check import Observation, Rule
from ansible_collections.pooled.postgres.plugins.module_utils._audit.rules.server import (
    SERVER,
    listed,
)
from ansible_collections.pooled.postgres.plugins.module_utils._audit.snapshot import (
    MAINTENANCE,
    DatabaseState,
    HbaRule,
    LoginRole,
    NotReadable,
    Snapshot,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import model_roles
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import (
    join_idents,
    quote_ident,
)

# Who has rights on this part of an owner's tables is meant to have them on all of them.
_MOST = 0.5
_WITH_PASSWORD = ("scram-sha-256", "md5", "password", "trust")
_ATTRIBUTES = ("createrole", "createdb", "replication", "bypassrls")


def _superusers(snapshot: Snapshot) -> dict[str, LoginRole]:
    return {name: role for name, role in snapshot.known("roles").items() if role.superuser}


def _application_superuser(snapshot: Snapshot) -> Iterator[Observation]:
    superusers = _superusers(snapshot)
    seen: dict[str, list[str]] = {}
    for role in snapshot.modelled("user", "reader", "migrator", "admin"):
        if role.name in superusers:
            seen.setdefault(role.name, []).append("is a role of the model")
    for pool in snapshot.pooler.pools if snapshot.pooler else ():
        if pool.user in superusers and pool.is_used and pool.database != "pgbouncer":
            seen.setdefault(pool.user, []).append(f"has a pool for {pool.database!r} in PgBouncer")
    for database, owner in _owners(snapshot):
        if owner in superusers and not superusers[owner].bootstrap and superusers[owner].login:
            seen.setdefault(owner, []).append(f"owns tables in {database!r}")
    missing = ""
    try:
        for session in snapshot.known("sessions"):
            if session.role in superusers and not session.by_tool:
                program = session.application or "a program without a name"
                seen.setdefault(session.role, []).append(f"{program} is connected as it")
    except NotReadable as reason:
        missing = str(reason)
    for name, reasons in sorted(seen.items()):
        bootstrap = superusers[name].bootstrap
        yield Observation(
            name,
            f"{name!r} is a superuser, and {listed(list(dict.fromkeys(reasons)))}",
            "connect the application as a role of its own"
            if bootstrap
            else f"ALTER ROLE {quote_ident(name)} NOSUPERUSER; -- and grant what it needs",
        )
    if missing:
        raise NotReadable(missing)


def _owners(snapshot: Snapshot) -> Iterable[tuple[str, str]]:
    """Databases and owners of tables in them."""
    return sorted(
        {
            (database.name, owner)
            for database in snapshot.databases or ()
            for _schema, owner in database.tables
        }
    )


def _attributes(snapshot: Snapshot) -> Iterator[Observation]:
    for role in snapshot.application_roles():
        held = [name for name in _ATTRIBUTES if getattr(role, name)]
        if held:
            words = " ".join(name.upper() for name in held)
            lost = " ".join(f"NO{name.upper()}" for name in held)
            yield Observation(
                role.name,
                f"{role.name!r} has {words}",
                f"ALTER ROLE {quote_ident(role.name)} {lost};",
            )


def _owns_tables(snapshot: Snapshot) -> Iterator[Observation]:
    names = {role.name for role in snapshot.application_roles()}
    for database in snapshot.looked_into():
        counts: dict[str, int] = {}
        for (_schema, owner), number in database.tables.items():
            counts[owner] = counts.get(owner, 0) + number
        for owner, number in sorted(counts.items()):
            if owner in names:
                yield Observation(
                    f"{database.name}: {owner}",
                    f"application role {owner!r} owns {number} tables in {database.name!r}",
                    f"in {database.name!r}: REASSIGN OWNED BY {quote_ident(owner)}"
                    " TO <migrator>; -- and grant what the application needs",
                )


def _timeout(name: str, proposed: str, snapshot: Snapshot) -> Iterator[Observation]:
    """Application roles whose sessions start without a timeout, with their databases."""
    for role in snapshot.application_roles():
        without = [
            database
            for database in _databases_of(snapshot, role.name)
            if snapshot.effective(role, database, name) in ("0", "-1")
        ]
        if without:
            where = "" if without == [""] else f" in {listed(without)}"
            yield Observation(
                role.name,
                f"sessions of {role.name!r}{where} start with {name} = 0",
                f"ALTER ROLE {quote_ident(role.name)} SET {name} = '{proposed}';",
            )


def _databases_of(snapshot: Snapshot, role: str) -> list[str]:
    """The databases that a role works in: the model's; else all, if they have settings."""
    modelled = [
        database.name for database in snapshot.model if role in [one.name for one in database.roles]
    ]
    if modelled:
        return modelled
    return [one.name for one in snapshot.databases or ()] or [""]


def _statement_timeout(snapshot: Snapshot) -> Iterator[Observation]:
    return _timeout("statement_timeout", "30s", snapshot)


def _idle_timeout(snapshot: Snapshot) -> Iterator[Observation]:
    return _timeout("idle_in_transaction_session_timeout", "60s", snapshot)


def _lock_timeout(snapshot: Snapshot) -> Iterator[Observation]:
    return _timeout("lock_timeout", "5s", snapshot)


def _default_privileges(snapshot: Snapshot) -> Iterator[Observation]:
    superusers = _superusers(snapshot)
    for database in snapshot.looked_into():
        seen = set()
        for schema, owner, grantee, number, total in _shared(database):
            if grantee not in superusers and not _has_default(database, owner, schema, grantee):
                seen.add((owner, schema, grantee))
                yield _missing_default(database.name, owner, schema, grantee, number, total)
        for schema, owner, grantee in _modelled_defaults(snapshot, database):
            if (owner, schema, grantee) not in seen:
                yield _missing_default(database.name, owner, schema, grantee, 0, 0)


def _shared(database: DatabaseState) -> Iterator[tuple[str, str, str, int, int]]:
    """Grantees that reach most tables of an owner in a schema."""
    for grant in database.grants:
        total = database.tables.get((grant.schema, grant.owner), 0)
        if grant.grantee and total > 1 and grant.tables >= total * _MOST:
            yield grant.schema, grant.owner, grant.grantee, grant.tables, total


def _modelled_defaults(
    snapshot: Snapshot, database: DatabaseState
) -> Iterator[tuple[str, str, str]]:
    """What the model wants and the database has not."""
    there = snapshot.known("roles")
    for model in snapshot.model:
        if model.name != database.name:
            continue
        for migrator in model.roles:
            for reader in model.roles:
                if (
                    migrator.kind == "migrator"
                    and reader.kind in ("user", "reader")
                    and {migrator.name, reader.name} <= set(there)
                ):
                    for schema in model.schemas:
                        if not _has_default(database, migrator.name, schema, reader.name):
                            yield schema, migrator.name, reader.name


def _has_default(database: DatabaseState, owner: str, schema: str, grantee: str) -> bool:
    return bool({(owner, schema, grantee), (owner, "", grantee)} & database.defaults)


def _missing_default(
    database: str, owner: str, schema: str, grantee: str, number: int, total: int
) -> Observation:
    now = f"; it reads {number} of the {total} there are" if total else ""
    return Observation(
        f"{database}: {owner} to {grantee}",
        f"tables that {owner!r} creates in {database!r}, schema {schema!r}, are out of reach of"
        f" {grantee!r}{now}",
        f"in {database!r}: ALTER DEFAULT PRIVILEGES FOR ROLE {quote_ident(owner)} IN SCHEMA"
        f" {quote_ident(schema)} GRANT SELECT ON TABLES TO {quote_ident(grantee)};",
    )


def _unreachable(snapshot: Snapshot) -> Iterator[Observation]:
    for database in snapshot.looked_into():
        for one in database.unreachable:
            yield Observation(
                f"{database.name}: {one.role}",
                f"{one.role!r} can't read {one.tables} of {one.of} tables in"
                f" {database.name!r}, schema {one.schema!r}: {one.examples}",
                f"in {database.name!r}: GRANT SELECT ON ALL TABLES IN SCHEMA"
                f" {quote_ident(one.schema)} TO {quote_ident(one.role)}; -- and what else it needs",
            )


def _public_create(snapshot: Snapshot) -> Iterator[Observation]:
    for database in snapshot.looked_into():
        if database.public_create:
            yield Observation(
                database.name,
                f"in {database.name!r} PUBLIC may create objects in schema"
                f" {listed(list(database.public_create))}",
                f"in {database.name!r}: REVOKE CREATE ON SCHEMA"
                f" {join_idents(database.public_create)} FROM PUBLIC;",
            )


def _public_connect(snapshot: Snapshot) -> Iterator[Observation]:
    for database in snapshot.known("databases"):
        flags = {"CONNECT": database.public_connect, "TEMPORARY": database.public_temporary}
        held = [right for right, has in flags.items() if has]
        # Tools of everybody log in to postgres by default, and while it is empty they may.
        if held and (database.name != MAINTENANCE or database.tables):
            rights = ", ".join(held)
            yield Observation(
                database.name,
                f"PUBLIC has {rights} on database {database.name!r}",
                f"REVOKE {rights} ON DATABASE {quote_ident(database.name)} FROM PUBLIC;"
                " -- after GRANT CONNECT to those who need it",
            )


def _public_tables(snapshot: Snapshot) -> Iterator[Observation]:
    for database in snapshot.looked_into():
        counts: dict[str, int] = {}
        for grant in database.grants:
            if not grant.grantee:
                counts[grant.schema] = counts.get(grant.schema, 0) + grant.tables
        for schema, number in sorted(counts.items()):
            yield Observation(
                f"{database.name}: {schema}",
                f"PUBLIC has rights on {number} tables in {database.name!r}, schema {schema!r}",
                f"in {database.name!r}: REVOKE ALL ON ALL TABLES IN SCHEMA {quote_ident(schema)}"
                " FROM PUBLIC;",
            )
        for owner, schema, kind in database.public_defaults:
            place = f", schema {schema!r}" if schema else ""
            where = f" IN SCHEMA {quote_ident(schema)}" if schema else ""
            yield Observation(
                f"{database.name}: {kind} of {owner}",
                f"PUBLIC gets rights on all {kind} that {owner!r} creates in"
                f" {database.name!r}{place}",
                f"in {database.name!r}: ALTER DEFAULT PRIVILEGES FOR ROLE"
                f" {quote_ident(owner)}{where} REVOKE ALL ON {kind.upper()} FROM PUBLIC;",
            )


def _hba(snapshot: Snapshot) -> tuple[HbaRule, ...]:
    found: tuple[HbaRule, ...] = snapshot.known("hba")
    return found


def _trust(snapshot: Snapshot) -> Iterator[Observation]:
    for rule in _hba(snapshot):
        if rule.method == "trust":
            yield Observation(
                rule.text,
                f"line {rule.line} of pg_hba.conf: {rule.text}",
                f"in line {rule.line} of pg_hba.conf: {_instead(rule)}; SELECT pg_reload_conf();",
                "critical" if rule.remote else "warning",
            )


def _instead(rule: HbaRule) -> str:
    return "peer (or scram-sha-256)" if rule.kind == "local" else "scram-sha-256"


def _weak_method(snapshot: Snapshot) -> Iterator[Observation]:
    for rule in _hba(snapshot):
        if rule.method in ("md5", "password"):
            yield Observation(
                rule.text,
                f"line {rule.line} of pg_hba.conf: {rule.text}",
                f"in line {rule.line} of pg_hba.conf: scram-sha-256, when no role has an md5"
                " password any more; SELECT pg_reload_conf();",
            )


def _broken_lines(snapshot: Snapshot) -> Iterator[Observation]:
    for rule in _hba(snapshot):
        if rule.error:
            yield Observation(
                f"line {rule.line}",
                f"line {rule.line} of pg_hba.conf: {rule.error}",
                f"fix line {rule.line} of pg_hba.conf; SELECT pg_reload_conf();",
            )


def _md5_passwords(snapshot: Snapshot) -> Iterator[Observation]:
    kinds = snapshot.known("password_kinds")
    names = sorted(name for name, kind in kinds.items() if kind == "md5")
    if names:
        yield Observation(
            SERVER,
            f"md5 passwords are stored for {listed(names)}",
            "SET password_encryption = 'scram-sha-256'; then \\password for each of them in psql",
        )


def _password_encryption(snapshot: Snapshot) -> Iterator[Observation]:
    if snapshot.setting("password_encryption").value == "md5":
        yield Observation(
            SERVER,
            "password_encryption is md5",
            "ALTER SYSTEM SET password_encryption = 'scram-sha-256'; SELECT pg_reload_conf();",
        )


def _superuser_remote(snapshot: Snapshot) -> Iterator[Observation]:
    superusers = {name for name, role in _superusers(snapshot).items() if role.login}
    rules = _hba(snapshot)
    kinds = snapshot.known("password_kinds")
    for rule in rules:
        if not rule.remote or rule.method not in _WITH_PASSWORD:
            continue
        if rule.databases == ("replication",):
            continue
        able = superusers if rule.method == "trust" else superusers & set(kinds)
        let_in = able if "all" in rule.users else able & set(rule.users)
        if let_in:
            yield Observation(
                rule.text,
                f"line {rule.line} of pg_hba.conf lets superuser {listed(sorted(let_in))} in from"
                f" {rule.address}: {rule.text}",
                f"in line {rule.line} of pg_hba.conf name the roles instead of all, or put before"
                f" it: host all {','.join(sorted(let_in))} {rule.address} reject",
            )


def _model_missing(snapshot: Snapshot) -> Iterator[Observation]:
    if not snapshot.model:
        raise NotReadable("no model was given")
    databases = {one.name for one in snapshot.known("databases")}
    for database in snapshot.model:
        if database.name not in databases:
            yield Observation(
                database.name,
                f"database {database.name!r} of the model does not exist",
                f"CREATE DATABASE {quote_ident(database.name)};",
            )
    for role in model_roles(snapshot.model):
        if role.name not in snapshot.known("roles"):
            yield Observation(
                role.name,
                f"role {role.name!r} of the model does not exist",
                f"CREATE ROLE {quote_ident(role.name)} LOGIN;",
            )


RULES = (
    Rule(
        "application-superuser",
        "critical",
        "The application connects as a superuser",
        "One SQL injection then gives access to the whole server, its files and its host.",
        "pooled_databases: a role of kind user for the application",
        _application_superuser,
    ),
    Rule(
        "application-attributes",
        "warning",
        "An application role has attributes it does not need",
        "An application does not need to create roles or to bypass row-level security.",
        "pooled_databases: a role of kind user has none of them",
        _attributes,
    ),
    Rule(
        "application-owns-tables",
        "warning",
        "The application owns its tables",
        "It may drop and alter them, and row-level security does not apply to it.",
        "pooled_databases: a role of kind migrator, and reassign_owned_to for the old one",
        _owns_tables,
        inside=True,
    ),
    Rule(
        "no-statement-timeout",
        "warning",
        "Application roles have no statement_timeout",
        "One runaway query holds a connection of the pool until somebody kills it.",
        "settings of the role: {statement_timeout: 30s}, which the kind user has",
        _statement_timeout,
    ),
    Rule(
        "no-idle-transaction-timeout",
        "warning",
        "Application roles have no idle_in_transaction_session_timeout",
        "A transaction that its client forgot holds locks and a connection for ever.",
        "settings of the role: {idle_in_transaction_session_timeout: 60s}, which the kind user has",
        _idle_timeout,
    ),
    Rule(
        "no-lock-timeout",
        "info",
        "Application roles have no lock_timeout",
        "Sessions that wait for one lock use up the pool.",
        "settings of the role: {lock_timeout: 5s}, which the kind user has",
        _lock_timeout,
    ),
    Rule(
        "default-privileges-missing",
        "warning",
        "Other roles can't read what a role creates",
        "After the next migration the application gets 'permission denied'.",
        "pooled_databases: a role of kind migrator, for which default privileges are set",
        _default_privileges,
        inside=True,
    ),
    Rule(
        "objects-unreachable",
        "warning",
        "A role can't read some tables",
        "A role that can read most tables of a schema was meant to read the others too.",
        "pooled_databases: rights are back-filled on every run",
        _unreachable,
        inside=True,
    ),
    Rule(
        "public-create",
        "warning",
        "PUBLIC may create objects in a schema",
        "Any role can hijack other roles' queries with functions of its own (CVE-2018-1058).",
        "postgres_access_revoke_public: true, and the schema in schemas",
        _public_create,
        inside=True,
    ),
    Rule(
        "public-connect",
        "info",
        "PUBLIC may connect to a database",
        "Every new role can connect, even one that is meant for another database.",
        "postgres_access_revoke_public: true",
        _public_connect,
    ),
    Rule(
        "public-tables",
        "warning",
        "PUBLIC has rights on tables",
        "Rights of single roles mean nothing where PUBLIC has them.",
        "postgres_access_exclusive: true, for what the model's migrators own and create",
        _public_tables,
        inside=True,
    ),
    Rule(
        "hba-trust",
        "critical",
        "pg_hba.conf lets clients in without a password",
        "Anyone who can connect can log in as any role, superusers included.",
        "postgres_hba_exclusive: 'yes', with the rules that are needed in postgres_hba",
        _trust,
    ),
    Rule(
        "hba-weak-method",
        "warning",
        "pg_hba.conf accepts md5 or plain passwords",
        "Anyone who sees an md5 hash can log in with it; plain passwords can be read on the"
        " network.",
        "postgres_client_networks (SCRAM), postgres_hba_exclusive: 'yes'",
        _weak_method,
    ),
    Rule(
        "hba-broken-line",
        "warning",
        "pg_hba.conf has a line that can't be read",
        "The server keeps the old rules, and does not start with the new ones.",
        "postgres_hba_exclusive: 'yes'",
        _broken_lines,
    ),
    Rule(
        "md5-passwords",
        "warning",
        "Passwords are stored as md5",
        "They are weakly hashed, and Postgres will drop them.",
        "password of the role: it is stored for SCRAM",
        _md5_passwords,
    ),
    Rule(
        "password-encryption-md5",
        "warning",
        "New passwords are stored as md5",
        "They are weakly hashed, and Postgres will drop them.",
        "nothing: the role postgres sets password_encryption: scram-sha-256",
        _password_encryption,
    ),
    Rule(
        "superuser-remote",
        "warning",
        "Superusers may log in over the network",
        "Anyone who learns or guesses one password controls the server.",
        "postgres_client_networks names the model's roles only; postgres_hba_exclusive: 'yes'",
        _superuser_remote,
    ),
    Rule(
        "model-missing",
        "warning",
        "Databases or roles of the model do not exist",
        "The application can't log in.",
        "pooled_databases: run pooled.postgres.site",
        _model_missing,
    ),
)
