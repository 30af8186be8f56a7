# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run about settings says."""

from __future__ import annotations

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._server.cluster import Cluster
from ansible_collections.pooled.postgres.plugins.module_utils._server.settings_report import (
    waiting_text,
)

CLUSTER = Cluster(None, 17, "/etc/postgresql/17/main", "", "postgres", "postgresql@17-main", "")


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("never", "restart=never leaves it to you"),
        ("fresh", "restart=fresh restarts only a server that nobody uses yet"),
        ("always", "somebody changed them while this run went on"),
    ],
)
def test_what_waits_for_a_restart_says_why_and_what_to_do(policy: str, reason: str) -> None:
    lines = ["max_connections is 100, wanted is 200", "wal_level is replica, wanted is logical"]
    assert waiting_text(CLUSTER, policy, lines) == (
        "postgresql@17-main runs on with older values until it is restarted: max_connections is"
        " 100, wanted is 200; wal_level is replica, wanted is logical. It was not restarted,"
        f" because {reason}. To apply them when its connections may be cut: run again with"
        " restart=always (postgres_restart=always for the role), or systemctl restart"
        " postgresql@17-main"
    )
