# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which settings are refused, and with which words."""

from __future__ import annotations

import re

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._settings.check import (
    check_role_settings,
    check_settings,
)

# (settings, major, result)
CHECKED = [
    ({}, 17, {}),
    ({"work_mem": "16MB"}, 17, {"work_mem": "16MB"}),
    ({"WORK_MEM": 4096, "timezone": "UTC"}, 17, {"work_mem": "4096", "TimeZone": "UTC"}),
    ({"jit": False, "log_lock_waits": True}, 17, {"jit": "off", "log_lock_waits": "on"}),
    ({"work_mem": None}, 17, {}),
    ({"random_page_cost": 1.1}, 17, {"random_page_cost": "1.1"}),
    ({"auto_explain.log_min_duration": "1s"}, 17, {"auto_explain.log_min_duration": "1s"}),
    ({"search_path": ["a", "B c"]}, 17, {"search_path": 'a, "B c"'}),
    ({"wal_compression": True}, 17, {"wal_compression": "on"}),
    ({"wal_compression": "lz4"}, 15, {"wal_compression": "lz4"}),
    ({"log_connections": "authorization"}, 18, {"log_connections": "authorization"}),
    ({"Auto_Explain.Log_Format": "JSON"}, 13, {"auto_explain.log_format": "JSON"}),
    ({"pgaudit.log": ["ddl", "role"]}, 17, {"pgaudit.log": "ddl, role"}),
    ({"log_min_messages": "debug", "wal_level": "archive"}, 17, None),
]


@pytest.mark.parametrize(("settings", "major", "expected"), CHECKED)
def test_check_settings(settings, major, expected):
    assert check_settings(settings, major) == (settings if expected is None else expected)


# (settings, major, message)
REFUSED = [
    (["work_mem"], 17, "postgres_settings: give a dictionary, not list"),
    ({}, 12, "postgres_version: Postgres 12 is not supported; supported are majors 13 to 18"),
    (
        {"wrok_mem": 1},
        17,
        "postgres_settings.wrok_mem: Postgres 17 has no such setting; did you mean work_mem?",
    ),
    ({"qqqq": 1}, 17, "postgres_settings.qqqq: Postgres 17 has no such setting"),
    (
        {"auto_explain.log_min_duration": "5x"},
        17,
        "postgres_settings.auto_explain.log_min_duration: '5x' has no valid unit; valid"
        " are us, ms, s, min, h, d (capitals matter)",
    ),
    (
        {"pg_stat_statements.track": "some"},
        13,
        "postgres_settings.pg_stat_statements.track: 'some' is not allowed; choose one of none,"
        " top, all",
    ),
    (
        {"pg_stat_statements.trak": "all"},
        17,
        "postgres_settings.pg_stat_statements.trak: pg_stat_statements of Postgres 17 has no such"
        " setting; did you mean pg_stat_statements.track?",
    ),
    (
        {"isn.weak": True},
        17,
        "postgres_settings.isn.weak: exists since Postgres 18, and this server is Postgres 17;"
        " leave it out",
    ),
    ({"a b": 1}, 17, "postgres_settings: 'a b' is not a valid name of a setting"),
    (
        {"work_mem\nport": 1},
        17,
        "postgres_settings: 'work_mem\\nport' is not a valid name of a setting",
    ),
    ({5: 1}, 17, "postgres_settings: 5 is not a valid name of a setting"),
    (
        {"transaction_timeout": "1s"},
        15,
        "postgres_settings.transaction_timeout: exists since Postgres 17, and this server is"
        " Postgres 15; leave it out",
    ),
    (
        {"stats_temp_directory": "/tmp"},
        17,
        "postgres_settings.stats_temp_directory: is gone since 15, and this server is"
        " Postgres 17; leave it out",
    ),
    (
        {"data_directory": "/srv"},
        17,
        "postgres_settings.data_directory: belongs to the cluster itself and is set in"
        " postgresql.conf",
    ),
    (
        {"work_mem": 1, "Work_Mem": 2},
        17,
        "postgres_settings.work_mem: '1' is outside the range 64 (64kB) .. 2147483647"
        " (2147483647kB)",
    ),
    (
        {"work_mem": 64, "Work_Mem": 64},
        17,
        "postgres_settings.Work_Mem: is given twice; names are not case-sensitive",
    ),
    (
        {"work_mem": "4gb"},
        17,
        "postgres_settings.work_mem: '4gb' has no valid unit; valid are B, kB, MB, GB, TB"
        " (capitals matter)",
    ),
    (
        {"work_mem": "4s"},
        17,
        "postgres_settings.work_mem: '4s' has no valid unit; valid are B, kB, MB, GB, TB"
        " (capitals matter)",
    ),
    (
        {"lock_timeout": "5 sec"},
        17,
        "postgres_settings.lock_timeout: '5 sec' has no valid unit; valid are us, ms, s, min, h, d"
        " (capitals matter)",
    ),
    (
        {"max_connections": "100MB"},
        17,
        "postgres_settings.max_connections: '100MB' is not a valid number; this setting takes no"
        " unit",
    ),
    ({"work_mem": "lots"}, 17, "postgres_settings.work_mem: 'lots' is not a valid number"),
    (
        {"shared_buffers": "100kB"},
        17,
        "postgres_settings.shared_buffers: '100kB' is outside the range 16 (128kB) .. 1073741823"
        " (8589934584kB)",
    ),
    (
        {"checkpoint_completion_target": 1.5},
        17,
        "postgres_settings.checkpoint_completion_target: '1.5' is outside the range 0 .. 1",
    ),
    ({"jit": "o"}, 17, "postgres_settings.jit: 'o' is not a valid boolean; use on or off"),
    (
        {"wal_level": "hot"},
        17,
        "postgres_settings.wal_level: 'hot' is not allowed; choose one of minimal, replica,"
        " logical",
    ),
    (
        {"work_mem": {}},
        17,
        "postgres_settings.work_mem: {} is not a valid value for a setting: give text, a number or"
        " a"
        " boolean",
    ),
    (
        {"log_line_prefix": "a\nb"},
        17,
        "postgres_settings.log_line_prefix: 'a\\nb' contains control characters",
    ),
    (
        {"primary_conninfo": "host=a password=secret"},
        17,
        "postgres_settings.primary_conninfo: holds a password; put it in a password file and name"
        " that with passfile=…",
    ),
    (
        {"primary_conninfo": "postgresql://u:secret@h/d"},
        17,
        "postgres_settings.primary_conninfo: holds a password; put it in a password file and name"
        " that with passfile=…",
    ),
]


@pytest.mark.parametrize(("settings", "major", "message"), REFUSED)
def test_check_settings_refuses(settings, major, message):
    with pytest.raises(ValueError) as caught:
        check_settings(settings, major)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("settings", "major", "message"),
    [
        (
            {"statement_timeout": "30 lightyears"},
            15,
            "role.statement_timeout: '30 lightyears' has no valid unit; valid are"
            " us, ms, s, min, h, d",
        ),
        ({"work_memory": "1MB"}, 15, "did you mean work_mem?"),
        ({"transaction_timeout": "5s"}, 15, "role.transaction_timeout: exists since Postgres 17"),
        (
            {"shared_buffers": "1GB"},
            17,
            "role.shared_buffers: belongs to the whole server, not to a role; set it in"
            " postgres_settings",
        ),
        ({"log_checkpoints": "on"}, 17, "role.log_checkpoints: belongs to the whole server"),
    ],
)
def test_check_role_settings_refuses(settings, major, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_role_settings(settings, major, "role")


def test_check_role_settings_takes_what_a_role_can_hold():
    check_role_settings(
        {
            "role": "app_owner",
            "search_path": "app, public",
            "app.tenant": "x",
            "jit": "off",
            "transaction_timeout": "5s",
        },
        17,
        "role",
    )
