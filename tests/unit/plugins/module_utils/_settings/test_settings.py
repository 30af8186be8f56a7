# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings: what is refused, what a value means, what files mean, what is planned."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._host import conf_file
from ansible_collections.pooled.postgres.plugins.module_utils._settings import (
    settings as guc,
)

MAJORS = range(13, 19)
DROP_IN = "/etc/postgresql/17/main/conf.d/zz-pooled.conf"
MAIN = "/etc/postgresql/17/main/postgresql.conf"
AUTO = "/var/lib/postgresql/17/main/postgresql.auto.conf"


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
    assert guc.check_settings(settings, major) == (settings if expected is None else expected)


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
        guc.check_settings(settings, major)
    assert str(caught.value) == message


@pytest.mark.parametrize("major", MAJORS)
def test_every_default_of_the_catalog_is_valid(major):
    catalog = guc.catalog_of(major)
    assert len(catalog) > 300
    for definition in catalog.values():
        if definition.vartype != "string":
            assert guc.canonical(definition, definition.default) == definition.default


# (setting, text, canonical, display), values from facts that were seen on real servers
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


@pytest.mark.parametrize(("name", "text", "canonical", "display"), VALUES)
def test_canonical_and_display(name, text, canonical, display):
    definition = guc.known_definition(name, 17)
    assert guc.canonical(definition, text) == canonical
    assert guc.display(definition, canonical) == display


def test_old_words_of_wal_level_are_no_words_of_others():
    with pytest.raises(ValueError, match="is not allowed; choose one of"):
        guc.canonical(guc.known_definition("huge_pages", 17), "hot_standby")


def test_what_runs_is_what_is_not_the_default():
    work_mem, jit = (guc.known_definition(name, 17) for name in ("work_mem", "jit"))
    live = {
        "work_mem": guc.Live(work_mem, "8192", "configuration file"),
        "jit": guc.Live(jit, "on", "default"),
    }
    assert guc.running(["Work_Mem", "jit", "not.there"], live) == {"work_mem": "8192"}


def test_libraries_that_stay_in_the_managed_file():
    rows = [
        guc.FileRow("/d/own.conf", 1, "shared_preload_libraries", "old, kept", True),
        guc.FileRow("/d/theirs.conf", 1, "shared_preload_libraries", "old", True),
    ]
    assert guc.with_libraries(["new"], rows, "/d/own.conf", ["old"]) == "kept, old, new"


def test_no_digit_is_lost_in_display():
    assert guc.display(guc.known_definition("work_mem", 17), "2147483647") == "2147483647kB"
    assert guc.display(guc.known_definition("statement_timeout", 17), "1") == "1ms"


NUMERIC = [
    definition
    for definition in guc.catalog_of(17).values()
    if definition.vartype == "integer" and definition.most and int(definition.most) > 100
]


@given(st.sampled_from(NUMERIC), st.data())
def test_what_is_displayed_means_the_same(definition, data):
    value = data.draw(st.integers(max(int(definition.least), -(2**31)), int(definition.most)))
    shown = guc.display(definition, str(value))
    assert guc.canonical(definition, shown) == str(value)


SETTINGS = st.dictionaries(
    st.from_regex(r"[a-z_][a-z0-9_$]{0,9}(\.[a-z_][a-z0-9_$]{0,9})?", fullmatch=True),
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40),
)


@given(SETTINGS)
def test_a_file_says_what_it_was_made_of(settings):
    text = conf_file.render(settings)
    assert dict(conf_file.parse(text)) == settings
    assert list(dict(conf_file.parse(text))) == sorted(settings)


# (text, entries)
FILES = [
    ("", []),
    ("# nothing\n\n  \n", []),
    ("work_mem = 4MB", [("work_mem", "4MB")]),
    ("Work_Mem 4MB # comment", [("work_mem", "4MB")]),
    ("work_mem='4MB'# comment\na.b = 'x'", [("work_mem", "4MB"), ("a.b", "x")]),
    ("a = 'it''s \\'so\\' \\\\ \\101 \\t#'", [("a", "it's 'so' \\ A \t#")]),
    ("a = -1\na = 2", [("a", "-1"), ("a", "2")]),
    ("a = ''", [("a", "")]),
]


@pytest.mark.parametrize(("text", "entries"), FILES)
def test_parse_file(text, entries):
    assert conf_file.parse(text) == entries


@pytest.mark.parametrize("line", ["what is this?", "a = 'b", "a = b c", "= 1", "a ="])
def test_parse_file_names_the_line(line):
    with pytest.raises(ValueError, match="line 2 is not a valid setting") as caught:
        conf_file.parse(f"work_mem = 1\n{line}\n")
    assert repr(line.strip()) in str(caught.value)


def test_without_settings_keeps_all_other_lines():
    text = "# do not edit\nwork_mem = '3MB'\nWORK_MEM = 4\nport = 5\n"
    assert conf_file.without(text, ["work_mem"]) == "# do not edit\nport = 5\n"


# (text of postgresql.conf, result, line that includes the managed file)
INCLUDES = [
    ("port = 1\n", "port = 1\n", 0),
    (
        "port = 1\ninclude_dir = 'conf.d' # all\nx = 2\n",
        "port = 1\ninclude '/etc/postgresql/17/main/conf.d/10.conf'\n"
        "include '/etc/postgresql/17/main/conf.d/9.conf'\ninclude '/fd/3'\n"
        "include '/etc/postgresql/17/main/conf.d/zzz.conf'\nx = 2\n",
        2,
    ),
    ("INCLUDE_DIR '/etc/postgresql/17/main/conf.d/'\n", None, 1),
    ("include_if_exists 'a.conf'\n", "include_if_exists '/etc/postgresql/17/main/a.conf'\n", 0),
    ("include '/b''c'\n", "include '/b''c'\n", 0),
    ("include conf.d/zz-pooled.conf\n", "include '/fd/3'\n", 1),
    ("include_dir = 'other'\n", "", 0),
    ("#include_dir = 'conf.d'\n", "#include_dir = 'conf.d'\n", 0),
]


@pytest.mark.parametrize(("text", "result", "line"), INCLUDES)
def test_with_candidate(text, result, line):
    def files_in(directory: str) -> list[str]:
        names = ["9.conf", "zzz.conf", ".hidden.conf", "README", "10.conf"]
        return names if directory == "/etc/postgresql/17/main/conf.d" else []

    written, included_at = guc.with_candidate(text, MAIN, DROP_IN, "/fd/3", files_in)
    assert included_at == line
    assert result is None or written.strip() == result.strip()


def test_libraries_of_others_stay_and_come_first():
    rows = [
        guc.FileRow(MAIN, 1, "shared_preload_libraries", 'timescaledb, "Odd one"', True),
        guc.FileRow(DROP_IN, 1, "Shared_Preload_Libraries", "timescaledb,other", True),
        guc.FileRow(MAIN, 2, "work_mem", "nothing", True),
    ]
    value = guc.with_libraries(["pg_stat_statements", "other"], rows)
    assert value == 'timescaledb, "Odd one", other, pg_stat_statements'
    assert guc.names_of_libraries(value) == [
        "timescaledb",
        "Odd one",
        "other",
        "pg_stat_statements",
    ]


def live(**settings: str) -> dict[str, guc.Live]:
    """A new cluster with these values from its files."""
    found = guc.new_cluster(17)
    for name, setting in settings.items():
        found[name] = replace(found[name], setting=setting, source="configuration file")
    return found


def drop_in(text: str = "") -> guc.DropIn:
    return guc.DropIn(DROP_IN, text, MAIN, 800)


def row(name: str, value: str, path: str = DROP_IN, line: int = 5) -> guc.FileRow:
    return guc.FileRow(path, line, name, value, True)


def test_a_new_cluster_gets_all_and_is_restarted():
    plan = guc.plan({"work_mem": "8MB", "shared_buffers": "1GB"}, drop_in(), live(), [])
    assert plan.content == conf_file.HEADER + "shared_buffers = '1GB'\nwork_mem = '8MB'\n"
    assert plan.changes == (
        guc.Change("shared_buffers", "128MB", "1GB", True, "131072"),
        guc.Change("work_mem", "4MB", "8MB", False, "8192"),
    )
    assert (plan.reload, plan.waiting, plan.resets, plan.overrides) == (
        True,
        ("shared_buffers",),
        (),
        (),
    )


def test_nothing_to_do_keeps_the_text_of_equal_values():
    text = conf_file.render({"work_mem": "8MB"})
    plan = guc.plan(
        {"work_mem": "8192kB"}, drop_in(text), live(work_mem="8192"), [row("work_mem", "8MB")]
    )
    assert plan == guc.Plan(text, (), (), (), False, ())


def test_what_already_waits_for_a_restart_needs_no_reload():
    text = conf_file.render({"shared_buffers": "1GB"})
    settings = live()
    waiting = replace(settings["shared_buffers"], pending_restart=True)
    plan = guc.plan(
        {"shared_buffers": "1GB"},
        drop_in(text),
        {**settings, "shared_buffers": waiting},
        [row("shared_buffers", "1GB")],
    )
    assert (plan.reload, plan.waiting) == (False, ("shared_buffers",))


def test_alter_system_is_reset_for_what_is_managed():
    text = conf_file.render({"work_mem": "8MB"})
    rows = [row("work_mem", "8MB"), row("Work_Mem", "3MB", AUTO), row("port", "1", AUTO)]
    plan = guc.plan({"work_mem": "8MB"}, drop_in(text), live(work_mem="3072"), rows)
    assert plan.resets == ("work_mem",)
    assert plan.changes == (guc.Change("work_mem", "3MB", "8MB", False, "8192"),)
    assert plan.reload


# (rows of the files, what is said)
OVERRIDES = [
    ([row("work_mem", "3MB", MAIN, 700)], ()),
    ([row("work_mem", "3MB", MAIN, 801)], (f"work_mem is overridden by {MAIN}:801",)),
    ([row("work_mem", "3MB", f"{DROP_IN[:-15]}/aa.conf")], ()),
    (
        [row("work_mem", "3MB", f"{DROP_IN[:-15]}/zzz.conf", 2)],
        (f"work_mem is overridden by {DROP_IN[:-15]}/zzz.conf:2",),
    ),
    (
        [row("work_mem", "8MB"), row("work_mem", "3MB", "/srv/more.conf", 9)],
        ("work_mem is overridden by /srv/more.conf:9",),
    ),
    ([row("work_mem", "3MB", "/srv/more.conf", 9), row("work_mem", "8MB")], ()),
]


@pytest.mark.parametrize(("rows", "overrides"), OVERRIDES)
def test_what_is_read_later_is_named(rows, overrides):
    plan = guc.plan({"work_mem": "8MB"}, drop_in(), live(work_mem="3072"), rows)
    assert plan.overrides == overrides
    assert bool(plan.changes) != bool(overrides)


def test_the_command_line_is_named():
    settings = live()
    settings["work_mem"] = replace(settings["work_mem"], setting="64", source="command line")
    plan = guc.plan({"work_mem": "8MB"}, drop_in(), settings, [])
    assert plan.overrides == ("work_mem is overridden by the server's command line",)


def test_what_is_no_longer_given_goes_back_to_the_rest_of_the_files():
    text = conf_file.render({"work_mem": "8MB", "temp_buffers": "9MB", "gone.x": "1"})
    rows = [row("work_mem", "5MB", MAIN, 3), row("work_mem", "8MB"), row("temp_buffers", "9MB")]
    plan = guc.plan({}, drop_in(text), live(work_mem="8192", temp_buffers="1152"), rows)
    assert plan.content == conf_file.HEADER
    assert [(change.name, change.before, change.after) for change in plan.changes] == [
        ("temp_buffers", "9MB", "8MB"),
        ("work_mem", "8MB", "5MB"),
    ]


def test_a_value_of_the_session_hides_nothing():
    settings = live()
    settings["work_mem"] = replace(settings["work_mem"], setting="64", source="user")
    text = conf_file.render({"work_mem": "8MB"})
    plan = guc.plan({"work_mem": "8MB"}, drop_in(text), settings, [row("work_mem", "8MB")])
    assert plan.changes == ()


def test_a_broken_file_is_written_anew():
    text = conf_file.render({"work_mem": "8MB"})
    plan = guc.plan({"work_mem": "8MB"}, drop_in("what?"), live(work_mem="8192"), [])
    assert (plan.content, plan.reload, plan.changes) == (text, True, ())
    assert guc.diff_lines(plan.changes, "what?", plan.content) == (
        ["in the file only: (unreadable) = line 1 is not a valid setting: 'what?'"],
        ["in the file only: work_mem = 8MB"],
    )


VALID = {
    "work_mem": st.integers(64, 2**20).map(lambda size: f"{size}kB"),
    "shared_buffers": st.integers(16, 2**20).map(str),
    "statement_timeout": st.integers(0, 10**6).map(lambda time: f"{time}s"),
    "random_page_cost": st.floats(0, 100).map(lambda cost: f"{cost:.3g}"),
    "jit": st.sampled_from(["on", "off", "yes"]),
}


@given(st.fixed_dictionaries({}, optional=VALID), st.fixed_dictionaries({}, optional=VALID))
def test_after_a_plan_there_is_nothing_to_do(first, second):
    def applied(
        plan: guc.Plan,
    ) -> tuple[guc.DropIn, dict[str, guc.Live], list[guc.FileRow]]:
        settings, rows = live(), []
        for name, text in conf_file.parse(plan.content):
            value = guc.canonical(settings[name].definition, text)
            settings[name] = replace(settings[name], setting=value, source="configuration file")
            rows.append(row(name, text))
        return drop_in(plan.content), settings, rows

    state = applied(guc.plan(first, drop_in(), live(), []))
    plan = guc.plan(second, *state)
    again = guc.plan(second, *applied(plan))
    assert again == guc.Plan(plan.content, (), (), (), False, ())


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
        guc.check_role_settings(settings, major, "role")


def test_check_role_settings_takes_what_a_role_can_hold():
    guc.check_role_settings(
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


# (the file it last started with, what waits, the file it runs with)
LAST_GOOD = [
    ("a = '0'\nb = '0'\n", ["B"], {"a": "1", "b": "0"}),
    ("a = '0'\n", ["b"], {"a": "1"}),
    ("gone = '0'\n", ["gone"], {"a": "1", "b": "1", "gone": "0"}),
    ("what is this?", ["b"], {"a": "1"}),
    ("", [], {"a": "1", "b": "1"}),
]


@pytest.mark.parametrize(("before", "waiting", "expected"), LAST_GOOD)
def test_last_good(before, waiting, expected):
    wanted = "a = '1'\nb = '1'\n"
    assert guc.last_good(wanted, before, waiting) == conf_file.render(expected)


# (a file, another one, whether it sets nothing that the other does not set likewise)
PARTS = [
    ("", "a = 1\n", True),
    ("a = 1\n", "b = 2\na = 1\n", True),
    ("a = 2\n", "a = 1\n", False),
    ("what is this?", "a = 1\n", False),
]


@pytest.mark.parametrize(("text", "whole", "expected"), PARTS)
def test_is_part_of(text, whole, expected):
    assert conf_file.is_part_of(text, whole) is expected
