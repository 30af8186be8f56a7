# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter passes settings on, and turns refusals into Ansible's errors."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.filter.checked_settings import (
    FilterModule,
    checked_settings,
)


def test_settings_pass():
    assert checked_settings({"Work_Mem": 4096, "port": None}, "17") == {"work_mem": "4096"}


def test_nulls_stay_when_asked_to():
    settings = {"Work_Mem": 4096, "PORT": None}
    assert checked_settings(settings, 17, keep_null=True) == {"work_mem": "4096", "port": None}


def test_a_refusal_names_the_variable():
    with pytest.raises(AnsibleFilterError, match=r"mine\.work_mem: '4gb' has no valid unit"):
        checked_settings({"work_mem": "4gb"}, 17, "mine")


def test_filter_is_there():
    assert FilterModule().filters() == {"checked_settings": checked_settings}
