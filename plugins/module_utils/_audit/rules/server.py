# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about the server: memory, connections, durability, upkeep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator

from ansible_collections.pooled.postgres.plugins.module_utils._audit.check import Observation, Rule
from ansible_collections.pooled.postgres.plugins.module_utils._audit.snapshot import (
    NotReadable,
    Snapshot,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.budget import (
    MIB,
    memory_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.settings import (
    setting_memory,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model import keepalives
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import (
    quote_ident,
    quote_literal,
)

SERVER = "server"
_DEFAULT_BUFFERS_BYTES = 128 * MIB
# Below this part of memory, the default is what nobody has thought of.
_LEAST_BUFFERS_PART = 20
_BUFFERS_PART = 4
_BACKEND_BYTES = 5 * MIB
_NEAR_LIMIT = 0.9
# Linux's own two hours are not a protection; half an hour still is.
MOST_KEEPALIVE_S = 1800
_CRITICAL_AGE = 1_500_000_000
_MANY_KEPT_BYTES = 10 * 1024**3
_LOOPBACK = {"localhost", "127.0.0.1", "::1", ""}
_NAMED = 5


@dataclass(frozen=True)
class MemoryPart:
    """A part of the memory that the server may come to use."""

    name: str
    size_bytes: int
    formula: str


def memory_parts(snapshot: Snapshot) -> tuple[MemoryPart, ...]:
    """The most that the server may use, as it is set now: the parts that make up nearly all of it.

    Raises:
        NotReadable: when a setting can't be seen.
    """
    connections = snapshot.number("max_connections")
    buffers = snapshot.size_bytes("shared_buffers")
    work = snapshot.size_bytes("work_mem")
    hashes = float(snapshot.setting("hash_mem_multiplier").value)
    workers = snapshot.number("autovacuum_max_workers")
    own = snapshot.number("autovacuum_work_mem")
    vacuum = own * 1024 if own >= 0 else snapshot.size_bytes("maintenance_work_mem")
    return (
        MemoryPart("shared_buffers", buffers, ""),
        MemoryPart(
            "work_mem",
            int(connections * hashes * work),
            f"{connections} connections x {hashes:g} x {memory_text(work)}",
        ),
        MemoryPart("autovacuum", workers * vacuum, f"{workers} workers x {memory_text(vacuum)}"),
        MemoryPart("backends", connections * _BACKEND_BYTES, f"{connections} connections x 5 MB"),
    )


def listens_beyond(snapshot: Snapshot) -> bool:
    """Whether the server listens on more than loopback."""
    addresses = snapshot.setting("listen_addresses").value.split(",")
    return bool({address.strip() for address in addresses} - _LOOPBACK)


def listed(names: list[str], total: int = 0) -> str:
    """The first few names, and how many more there are."""
    more = (total or len(names)) - len(names[:_NAMED])
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


def _memory_bytes(snapshot: Snapshot) -> int:
    found: int = snapshot.known("memory_bytes")
    return found


def _alter_system(name: str, value: str) -> str:
    return f"ALTER SYSTEM SET {name} = {quote_literal(value).strip()};"


def _shared_buffers(snapshot: Snapshot) -> Iterator[Observation]:
    memory = _memory_bytes(snapshot)
    buffers = snapshot.size_bytes("shared_buffers")
    if buffers <= _DEFAULT_BUFFERS_BYTES and buffers * _LEAST_BUFFERS_PART < memory:
        better = setting_memory(memory // _BUFFERS_PART // (64 * MIB) * 64 * MIB)
        yield Observation(
            SERVER,
            f"shared_buffers is {memory_text(buffers)} of {memory_text(memory)} of memory",
            f"{_alter_system('shared_buffers', better)} -- and restart",
        )


def _memory(snapshot: Snapshot) -> Iterator[Observation]:
    memory = _memory_bytes(snapshot)
    parts = memory_parts(snapshot)
    total = sum(part.size_bytes for part in parts)
    if total > memory:
        sums = " + ".join(f"{part.name} {memory_text(part.size_bytes)}" for part in parts)
        rest = memory - sum(part.size_bytes for part in parts if part.name != "work_mem")
        work = {part.name: part for part in parts}["work_mem"]
        each = snapshot.size_bytes("work_mem") * max(rest, 0) // max(work.size_bytes, 1)
        each = each // 1024 // 64 * 64 * 1024
        fix = (
            _alter_system("work_mem", setting_memory(each))
            if each >= MIB
            else "lower max_connections (PgBouncer makes that possible) or shared_buffers"
        )
        yield Observation(
            SERVER,
            f"{sums} = {memory_text(total)}, {memory_text(total - memory)} more than the"
            f" {memory_text(memory)} there are",
            fix,
        )


def _max_connections(snapshot: Snapshot) -> Iterator[Observation]:
    there = snapshot.number("max_connections")
    if snapshot.budget_problem:
        yield Observation("pools", snapshot.budget_problem, "see the evidence")
    elif snapshot.budget:
        needed = snapshot.budget.needed
        if needed > there:
            yield Observation(
                SERVER,
                f"{needed} connections are needed by the pools, direct clients, monitoring and"
                f" reserve, and max_connections is {there}",
                f"{_alter_system('max_connections', str(needed))} -- and restart,"
                " or connect the direct clients through PgBouncer",
            )
    elif snapshot.pooler:
        sizes = {one.name: one.pool_size + one.reserve for one in snapshot.pooler.databases}
        pools = [
            sizes.get(pool.database, 0)
            for pool in snapshot.pooler.pools
            if pool.database != "pgbouncer"
        ]
        reserved = snapshot.number("superuser_reserved_connections")
        if sum(pools) + reserved > there:
            yield Observation(
                SERVER,
                f"{len(pools)} pools of PgBouncer may open {sum(pools)} connections,"
                f" {reserved} are reserved, and max_connections is {there}",
                f"{_alter_system('max_connections', str(sum(pools) + reserved))} -- and restart,"
                " or lower default_pool_size in pgbouncer.ini",
            )
    else:
        raise NotReadable("neither a model of the clients nor a PgBouncer was given")


def _near_limit(snapshot: Snapshot) -> Iterator[Observation]:
    sessions = snapshot.known("sessions")
    usable = snapshot.number("max_connections") - snapshot.number("superuser_reserved_connections")
    if len(sessions) >= usable * _NEAR_LIMIT:
        yield Observation(
            SERVER,
            f"{len(sessions)} of {usable} connections are in use",
            "connect clients through PgBouncer, or raise max_connections and restart",
        )


def _keepalives(snapshot: Snapshot) -> Iterator[Observation]:
    idle = snapshot.number("tcp_keepalives_idle")
    if listens_beyond(snapshot) and (idle == 0 or idle > MOST_KEEPALIVE_S):
        after = "the system's 2 hours" if idle == 0 else f"{idle} seconds"
        yield Observation(
            SERVER,
            f"tcp_keepalives_idle is {idle}: a client that vanished is noticed after {after}",
            f"ALTER SYSTEM SET tcp_keepalives_idle = {keepalives.IDLE_S};"
            f" ALTER SYSTEM SET tcp_keepalives_interval = {keepalives.INTERVAL_S};"
            f" ALTER SYSTEM SET tcp_keepalives_count = {keepalives.COUNT};"
            " SELECT pg_reload_conf();",
        )


def _pending_restart(snapshot: Snapshot) -> Iterator[Observation]:
    waiting = sorted(name for name, one in snapshot.settings.items() if one.pending_restart)
    if waiting:
        yield Observation(SERVER, f"waiting for a restart: {listed(waiting)}", "restart the server")


def _auto_conf(snapshot: Snapshot) -> Iterator[Observation]:
    files = snapshot.known("files")
    for row in files:
        if not row.automatic:
            continue
        others = [one for one in files if one.name == row.name and not one.automatic]
        if others and others[-1].value != row.value:
            yield Observation(
                row.name,
                f"postgresql.auto.conf sets {row.name} = {row.shown}, over {others[-1].shown} in"
                f" {others[-1].path} line {others[-1].line}",
                f"ALTER SYSTEM RESET {quote_ident(row.name)}; SELECT pg_reload_conf();",
            )


def _durability(snapshot: Snapshot) -> Iterator[Observation]:
    for name in ("fsync", "full_page_writes"):
        if not snapshot.is_on(name):
            yield Observation(
                name,
                f"{name} is off",
                f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();",
            )


def _autovacuum(snapshot: Snapshot) -> Iterator[Observation]:
    for name in ("autovacuum", "track_counts"):
        if not snapshot.is_on(name):
            yield Observation(
                name,
                f"{name} is off",
                f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();",
            )


def _wraparound(snapshot: Snapshot) -> Iterator[Observation]:
    for database in snapshot.known("databases"):
        for what, age, setting in (
            ("transaction", database.age, "autovacuum_freeze_max_age"),
            ("multixact", database.multixact_age, "autovacuum_multixact_freeze_max_age"),
        ):
            least = snapshot.number(setting)
            if age > min(2 * least, _CRITICAL_AGE):
                yield Observation(
                    database.name,
                    f"the oldest {what} of {database.name!r} is {age:,} old, {setting} is"
                    f" {least:,}, and the server stops at about 2,147,000,000",
                    "VACUUM (FREEZE); in that database, and look for what holds it back: old"
                    " transactions, prepared ones, replication slots",
                    "critical" if age >= _CRITICAL_AGE else "",
                )


def _slots(snapshot: Snapshot) -> Iterator[Observation]:
    for slot in snapshot.known("slots"):
        if not slot.active:
            yield Observation(
                slot.name,
                f"nobody uses replication slot {slot.name!r}, which keeps"
                f" {memory_text(slot.kept_bytes)} of WAL",
                f"SELECT pg_drop_replication_slot({quote_literal(slot.name).strip()});",
                "critical" if slot.kept_bytes >= _MANY_KEPT_BYTES else "",
            )


def _invalid_databases(snapshot: Snapshot) -> Iterator[Observation]:
    for name in snapshot.known("invalid_databases"):
        yield Observation(
            name,
            f"database {name!r} is invalid: DROP DATABASE was interrupted, and nobody can enter it",
            f"DROP DATABASE {quote_ident(name)};",
        )


def _invalid_indexes(snapshot: Snapshot) -> Iterator[Observation]:
    for database in snapshot.looked_into():
        for index in database.invalid_indexes:
            yield Observation(
                f"{database.name}: {index}",
                f"index {index} in {database.name!r} is invalid",
                f"REINDEX INDEX CONCURRENTLY {index}; or DROP INDEX {index};",
            )


def _idle_transactions(snapshot: Snapshot) -> Iterator[Observation]:
    for one in snapshot.known("sessions"):
        idle = one.state.startswith("idle in transaction")
        if idle and one.in_state_s >= snapshot.idle_transaction_s:
            program = f" ({one.application})" if one.application else ""
            yield Observation(
                f"{one.role}: {one.application}",
                f"session {one.pid} of {one.role!r}{program} in {one.database!r} is {one.state}"
                f" for {one.in_state_s:.0f} s",
                f"SELECT pg_terminate_backend({one.pid});",
            )


def _checksums(snapshot: Snapshot) -> Iterator[Observation]:
    if not snapshot.is_on("data_checksums"):
        yield Observation(
            SERVER,
            "data_checksums is off",
            "pg_checksums --enable -D <data directory>, while the server is stopped",
        )


def _statistics(snapshot: Snapshot) -> Iterator[Observation]:
    libraries = snapshot.setting("shared_preload_libraries").value
    if "pg_stat_statements" not in libraries:
        yield Observation(
            SERVER,
            f"shared_preload_libraries is {libraries!r}",
            "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'; -- with those that"
            " are there; restart, then CREATE EXTENSION pg_stat_statements;",
        )


def _tls(snapshot: Snapshot) -> Iterator[Observation]:
    if listens_beyond(snapshot) and not snapshot.is_on("ssl"):
        yield Observation(
            SERVER,
            f"listen_addresses is {snapshot.setting('listen_addresses').value!r} and ssl is off",
            "ALTER SYSTEM SET ssl = on; -- with ssl_cert_file and ssl_key_file;"
            " SELECT pg_reload_conf();",
        )


RULES = (
    Rule(
        "shared-buffers-default",
        "warning",
        "shared_buffers is left at its default on a big server",
        "The server's own cache is tiny, so what is used often is read again and again.",
        "nothing: the role postgres sizes it; postgres_memory_share says how much is its",
        _shared_buffers,
    ),
    Rule(
        "memory-overcommitted",
        "critical",
        "The settings allow more memory than there is",
        "When the sessions use what they may, the kernel kills the server.",
        "nothing: the role postgres sizes it; postgres_settings, postgres_max_connections if set",
        _memory,
    ),
    Rule(
        "max-connections-too-low",
        "critical",
        "max_connections is too low for the clients",
        "Under load, clients are refused with 'too many clients already'.",
        "postgres_max_connections: auto, or clients with via: pgbouncer",
        _max_connections,
    ),
    Rule(
        "connections-near-limit",
        "warning",
        "Nearly all connections are in use",
        "The next clients are refused.",
        "postgres_max_connections: auto, or clients with via: pgbouncer",
        _near_limit,
    ),
    Rule(
        "no-keepalives",
        "warning",
        "TCP keepalives are not set",
        "Sessions of machines that vanished keep their connections, locks and transactions.",
        "nothing: the role postgres sets 60/10/6",
        _keepalives,
    ),
    Rule(
        "pending-restart",
        "warning",
        "Settings wait for a restart",
        "The server does not run as its files say, and will behave otherwise after a crash.",
        "postgres_restart: always",
        _pending_restart,
    ),
    Rule(
        "auto-conf-overrides",
        "warning",
        "postgresql.auto.conf overrides the files",
        "Edits of the files have no effect.",
        "postgres_settings: what is set there wins over ALTER SYSTEM",
        _auto_conf,
    ),
    Rule(
        "durability-off",
        "critical",
        "Writes are not crash-safe",
        "A crash of the machine destroys the data beyond repair.",
        "postgres_settings: without fsync and full_page_writes",
        _durability,
    ),
    Rule(
        "autovacuum-off",
        "critical",
        "Autovacuum is off",
        "Tables bloat, statistics age, and in the end the server stops for lack of transactions.",
        "postgres_settings: without autovacuum and track_counts",
        _autovacuum,
    ),
    Rule(
        "wraparound",
        "warning",
        "Transaction ids are running out",
        "Vacuum does not keep up; when the ids run out the server takes no more writes.",
        "postgres_settings: autovacuum_max_workers, autovacuum_vacuum_cost_limit",
        _wraparound,
    ),
    Rule(
        "unused-slot",
        "warning",
        "A replication slot is not used",
        "It keeps WAL until the disk is full, and vacuum from cleaning up.",
        "postgres_settings: {max_slot_wal_keep_size: 10GB} limits it",
        _slots,
    ),
    Rule(
        "invalid-database",
        "warning",
        "A database is partly dropped",
        "It takes space, can't be repaired, and nothing but DROP DATABASE works on it.",
        "none: it is data",
        _invalid_databases,
    ),
    Rule(
        "invalid-index",
        "warning",
        "An index is invalid",
        "It slows down every write and is used by no query; a unique one enforces nothing.",
        "none: it is data",
        _invalid_indexes,
        inside=True,
    ),
    Rule(
        "long-idle-transaction",
        "warning",
        "A transaction is open and idle",
        "It holds locks and a connection of the pool, and holds vacuum back.",
        "settings of the role: {idle_in_transaction_session_timeout: 60s}; pooled.postgres.sessions"
        " with sessions_end=idle_in_transaction ends it now",
        _idle_transactions,
    ),
    Rule(
        "no-checksums",
        "info",
        "Data pages have no checksums",
        "Broken storage is noticed late, or never.",
        "postgres_data_checksums, for a new cluster",
        _checksums,
    ),
    Rule(
        "no-statement-statistics",
        "info",
        "pg_stat_statements is not loaded",
        "Nobody can tell which statements take the time.",
        "postgres_preload_libraries, and extensions of the database",
        _statistics,
    ),
    Rule(
        "listens-without-tls",
        "warning",
        "The server listens on the network without TLS",
        "The data can be read on the network.",
        "postgres_settings: {ssl: true}, or postgres_listen_addresses: localhost",
        _tls,
    ),
)
