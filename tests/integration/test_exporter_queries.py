# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporter's queries of tables and indexes against the views that give the metrics names."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.unit.test_exporters import queries

from .clusters import PATIENCE_S, Cluster

MADE = """
    CREATE SCHEMA "Odd one";
    CREATE TABLE public.full_of (id int PRIMARY KEY, words text);
    CREATE TABLE "Odd one"."Empty" (id int);
    CREATE INDEX by_words ON public.full_of (left(words, 9));
    ALTER TABLE public.full_of ALTER words SET STORAGE EXTERNAL;
    INSERT INTO public.full_of SELECT n, repeat('x', CASE n % 10 WHEN 0 THEN 9000 ELSE 20 END)
    FROM generate_series(1, 2000) AS n;
    DELETE FROM public.full_of WHERE id < 500;
    CREATE MATERIALIZED VIEW public.counted AS SELECT count(*) FROM public.full_of;
    SELECT words FROM public.full_of WHERE id = 700;
"""
# What the exporter's columns are called in the view, where they differ.
IN_THE_VIEW = {"_blocks_": "_blks_", "_total": ""}
TABLES = ("pg_stat_user_tables", "pg_statio_user_tables")
INDEXES = ("pg_stat_user_indexes", "pg_statio_user_indexes")


@pytest.fixture
def made(clean_server: Cluster) -> Cluster:
    clean_server.sql("CREATE DATABASE mydb")
    clean_server.sql(MADE, "mydb")
    # VACUUM runs in no transaction.
    clean_server.sql("VACUUM ANALYZE", "mydb")
    # Statistics arrive some time after the statements that they are about.
    arrived = (
        "SELECT 1 FROM pg_stat_user_tables WHERE relname = 'full_of' AND n_tup_ins = 2000"
        " AND n_tup_del = 499 AND vacuum_count = 1 AND analyze_count = 1"
    )
    deadline = time.monotonic() + PATIENCE_S
    while not clean_server.sql(arrived, "mydb"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return clean_server


def rows(cluster: Cluster, statement: str, **options: str) -> list[dict[str, Any]]:
    with cluster.connect("mydb", **options) as connection:
        found: list[dict[str, Any]] = (
            connection.cursor(row_factory=dict_row).execute(statement.encode()).fetchall()
        )
    return found


def answered(cluster: Cluster, name: str, **options: str) -> list[dict[str, Any]]:
    return rows(cluster, queries(cluster.major)[name]["query"], **options)


def key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["schemaname"], row["relname"], row.get("indexrelname", "")


@pytest.mark.parametrize("view", [*TABLES, *INDEXES])
def test_they_say_what_the_view_says(made: Cluster, view: str) -> None:
    # In one transaction the same statistics are shown twice.
    with made.connect("mydb") as connection, connection.transaction():
        cursor = connection.cursor(row_factory=dict_row)
        said, views = (
            {key(row): row for row in cursor.execute(statement.encode()).fetchall()}
            for statement in (queries(made.major)[view]["query"], f"SELECT * FROM {view}")
        )
    assert set(said) == set(views)
    assert len(said) == (3 if view in TABLES else 2)
    for one, row in said.items():
        assert row.pop("datname") == "mydb"
        for column, value in row.items():
            assert value is not None
            if column.endswith("size_bytes"):
                continue
            named = column
            for ours, theirs in IN_THE_VIEW.items():
                named = named.replace(ours, theirs)
            wanted = views[one][named]
            if hasattr(wanted, "timestamp"):
                assert value == pytest.approx(wanted.timestamp(), abs=0.01)
            else:
                assert value == (wanted or 0), (one, column)
    if view == "pg_stat_user_tables":
        row = said["public", "full_of", ""]
        assert row["n_tup_del"] == 499
        assert row["last_vacuum"] > 0 == row["last_autovacuum"]


def test_sizes_are_those_of_the_files(made: Cluster) -> None:
    for row in answered(made, "pg_stat_user_tables"):
        (sizes,) = rows(
            made,
            "SELECT pg_table_size(oid) AS own, pg_indexes_size(oid) AS indexes FROM pg_class"
            f" WHERE relname = '{row['relname']}'",
        )
        assert row["size_bytes"] == row["table_size_bytes"] + row["index_size_bytes"]
        assert row["index_size_bytes"] == sizes["indexes"]
        # Without the maps of free space and of visibility.
        assert 0 <= sizes["own"] - row["table_size_bytes"] <= 2 * 4 * 8192
    (toasted,) = [
        row for row in answered(made, "pg_stat_user_tables") if row["relname"] == "full_of"
    ]
    assert toasted["table_size_bytes"] > 1_500_000


def test_nothing_waits_for_a_table_that_a_migration_holds(made: Cluster) -> None:
    hasty = {"options": "-c statement_timeout=3s -c lock_timeout=1s"}
    with made.connect("mydb") as migration:
        migration.execute("BEGIN; ALTER TABLE public.full_of ADD more int")
        for name, query in queries(made.major).items():
            if "master" not in query:
                assert answered(made, name, **hasty), name
        # What the exporter's own collectors do.
        with pytest.raises(psycopg.errors.LockNotAvailable):
            rows(made, "SELECT pg_total_relation_size('public.full_of')", **hasty)


def test_the_largest_come_first(made: Cluster) -> None:
    two = queries(made.major, postgres_exporter_tables=2)
    for view in TABLES:
        found = {row["relname"] for row in rows(made, two[view]["query"])}
        assert "full_of" in found
        assert len(found) == 2
    for view in (*INDEXES, "pooled_index"):
        (first, second) = rows(made, two[view]["query"])
        assert {first["indexrelname"], second["indexrelname"]} == {"by_words", "full_of_pkey"}
