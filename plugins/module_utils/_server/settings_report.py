# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run about settings does, did and leaves undone, in words."""

from __future__ import annotations

from typing import Any, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host.files import (
    Backup,
    ManagedFile,
    differs,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.cluster import Cluster
from ansible_collections.pooled.postgres.plugins.module_utils._settings.plan import (
    DropInPlan,
    diff_lines,
)


def actions_of(
    cluster: Cluster,
    plan: DropInPlan,
    write: bool,
    restart: bool,
    runs: bool = True,
    logins: Sequence[Backup] = (),
    pausing: Sequence[str] = (),
    resuming: Sequence[str] = (),
) -> list[str]:
    """The plan as lines to read, in the order in which it is carried out.

    C(pausing) and C(resuming) are those about PgBouncer's pools, around a restart.
    """
    actions = [f"put back {login.path}, which a run that was killed replaced" for login in logins]
    actions += [f"write {cluster.drop_in}"] if write else []
    actions += [f"reset {name} in postgresql.auto.conf" for name in plan.resets]
    if not runs:
        return [*actions, f"start {cluster.service}"]
    if plan.reload:
        actions.append("reload")
    if restart:
        actions += pausing
        actions.append(f"restart {cluster.service}")
        actions += resuming
    return actions


def report(
    plan: DropInPlan,
    before: ManagedFile,
    after: ManagedFile,
    actions: list[str],
    pending: list[str],
) -> dict[str, Any]:
    """The module's result."""
    changes = [
        {
            "name": change.name,
            "before": change.before,
            "after": change.after,
            "restart": change.restart,
        }
        for change in plan.changes
    ]
    lines = diff_lines(plan.changes, before.content or "", plan.content) if actions else ([], [])
    for side, managed in zip(lines, (before, after)):
        if actions and differs(before, after) and managed.content is not None:
            side.append(f"{managed.path}: {managed.owner}:{managed.group} {managed.mode:04o}")
    return {
        "changed": bool(actions),
        "actions": actions,
        "settings": changes,
        "pending_restart": pending,
        "diff": {
            "before": "".join(line + "\n" for line in lines[0]),
            "after": "".join(line + "\n" for line in lines[1]),
        },
    }


def waiting_text(cluster: Cluster, policy: str, lines: list[str]) -> str:
    """What to say of settings that wait: what runs, what is wanted, why, and what to do."""
    reason = {
        "never": "restart=never leaves it to you",
        "fresh": "restart=fresh restarts only a server that nobody uses yet",
        "always": "somebody changed them while this run went on",
    }[policy]
    return (
        f"{cluster.service} runs on with older values until it is restarted: {'; '.join(lines)}."
        f" It was not restarted, because {reason}. To apply them when its connections may be cut:"
        f" run again with restart=always (postgres_restart=always for the role), or"
        f" systemctl restart {cluster.service}"
    )
