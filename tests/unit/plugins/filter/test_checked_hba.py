# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access rules and networks, checked on the controller."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.filter.checked_hba import FilterModule, checked_hba


def test_result() -> None:
    rule = {"type": "local", "database": "x", "user": "y", "method": "peer"}
    checked = checked_hba([rule], ["10.0.0.1"], ["10.9.0.0/16"])
    assert [" ".join(line.split()) for line in checked.pop("rules")] == ["local x y peer"]
    assert checked == {
        "client_networks": ["10.0.0.1/32"],
        "pooler_networks": ["10.9.0.0/16"],
        "warnings": [],
    }


def test_error() -> None:
    with pytest.raises(AnsibleFilterError) as error:
        checked_hba([], ["10.0.0.1/8"])
    assert "postgres_client_networks[0]: '10.0.0.1/8' is an address with a prefix" in str(
        error.value
    )


def test_error_in_the_poolers_networks_names_what_people_write() -> None:
    with pytest.raises(AnsibleFilterError) as error:
        checked_hba([], [], ["10.0.0.1/8"])
    assert str(error.value).startswith("postgres_pooler_networks[0]: '10.0.0.1/8' is an address")


def test_name() -> None:
    assert FilterModule().filters() == {"checked_hba": checked_hba}
