# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._certificates.pooled_tls import is_on


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((word, True) for word in (True, "true", "Yes", " On ", "on", "1", 1, "y", "t")),
        *((word, False) for word in (False, None, "", "false", "no", "off", 0, "2", "tls")),
    ],
)
def test_words_for_yes_are_ansible_s(value: object, expected: bool) -> None:
    assert is_on(value) is expected
