# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the catalogs say of the settings of each major."""

from __future__ import annotations

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    catalog_of,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.values import (
    canonical_setting,
)

MAJORS = range(13, 19)


@pytest.mark.parametrize("major", MAJORS)
def test_every_default_of_the_catalog_is_valid(major):
    catalog = catalog_of(major)
    assert len(catalog) > 300
    for definition in catalog.values():
        if definition.vartype != "string":
            assert canonical_setting(definition, definition.default) == definition.default


# (setting, text, canonical, display), values from facts that were seen on real servers
