# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server's access says of a database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    extension_homes,
    new_cluster,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases

CUBE = {"name": "cube", "schema": "geo"}
OURS = "pg_stat_statements"


# Extensions of the model, where the database has them, and the schemas that come with them.
@pytest.mark.parametrize(
    ("extensions", "there", "homes"),
    [
        ([], {}, ()),
        # Where an extension goes about which nobody says anything, is the server's business.
        (["hstore"], {}, ()),
        (["hstore"], {"hstore": "elsewhere"}, ()),
        ([CUBE], {}, ("geo",)),
        ([CUBE], {"cube": "elsewhere"}, ("geo",)),
        ([CUBE, {"name": "earthdistance", "schema": "geo"}], {}, ("geo",)),
        ([{"name": "cube", "schema": "app"}], {}, ()),
        ([OURS], {}, ("pooled_extensions",)),
        ([OURS], {OURS: "pooled_extensions"}, ("pooled_extensions",)),
        # Somebody has made it there before.
        ([OURS], {OURS: "public"}, ()),
        ([{"name": OURS, "schema": "geo"}], {OURS: "public"}, ("geo",)),
        ([OURS, "hstore", CUBE], {}, ("geo", "pooled_extensions")),
    ],
)
def test_schemas_that_come_with_extensions(
    extensions: list[Any], there: dict[str, str], homes: tuple[str, ...]
) -> None:
    model = [{"name": "mydb", "roles": [], "schemas": ["app"], "extensions": extensions}]
    (database,) = parse_databases(model)
    state = new_cluster(17, "postgres", ("mydb",)).databases["mydb"]
    state = replace(state, extension_schemas={**state.extension_schemas, **there})
    assert tuple(sorted(extension_homes(database, state))) == homes
