# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What values mean: their canonical form and the one that is displayed."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    catalog_of,
    known_definition,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.values import (
    canonical_setting,
    display,
)

VALUES = [
    ("shared_buffers", "4GB", "524288", "4GB"),
    ("work_mem", "1.5MB", "1536", "1536kB"),
    ("effective_cache_size", "0.1GB", "13056", "102MB"),
    ("effective_cache_size", "1048576kB", "131072", "1GB"),
    ("statement_timeout", "1.5s", "1500", "1500ms"),
    ("statement_timeout", "30000", "30000", "30s"),
    ("statement_timeout", "1d", "86400000", "1d"),
    ("tcp_keepalives_idle", "60", "60", "1min"),
    ("random_page_cost", "1.10", "1.1", "1.1"),
    ("vacuum_cost_delay", "1500us", "1.5", "1500us"),
    ("autovacuum_work_mem", "-1", "-1", "-1"),
    ("log_temp_files", "0", "0", "0"),
    ("max_connections", "0x10", "16", "16"),
    ("unix_socket_permissions", "0770", "504", "0770"),
    ("jit", "OFF", "off", "off"),
    ("jit", "tr", "on", "on"),
    ("huge_pages", "true", "on", "on"),
    ("wal_level", "Replica", "replica", "replica"),
    ("wal_level", "hot_standby", "replica", "replica"),
    ("log_line_prefix", "%m ", "%m ", "%m "),
]


@pytest.mark.parametrize(("name", "text", "canonical", "displayed"), VALUES)
def test_canonical_and_display(name, text, canonical, displayed):
    definition = known_definition(name, 17)
    assert canonical_setting(definition, text) == canonical
    assert display(definition, canonical) == displayed


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("huge_pages", "hot_standby"),
        # Words of other enums: those that were booleans once, and those with levels of messages.
        ("wal_level", "true"),
        ("default_transaction_isolation", "0"),
        ("huge_pages", "debug"),
    ],
)
def test_a_word_of_another_enum_is_refused(name, word):
    definition = known_definition(name, 17)
    with pytest.raises(ValueError) as caught:
        canonical_setting(definition, word)
    assert str(caught.value) == f"is not allowed; choose one of {', '.join(definition.values)}"


def test_no_digit_is_lost_in_display():
    assert display(known_definition("work_mem", 17), "2147483647") == "2147483647kB"
    assert display(known_definition("statement_timeout", 17), "1") == "1ms"


NUMERIC = [
    definition
    for definition in catalog_of(17).values()
    if definition.vartype == "integer" and definition.most and int(definition.most) > 100
]


@given(st.sampled_from(NUMERIC), st.data())
def test_what_is_displayed_means_the_same(definition, data):
    value = data.draw(st.integers(max(int(definition.least), -(2**31)), int(definition.most)))
    shown = display(definition, str(value))
    assert canonical_setting(definition, shown) == str(value)
