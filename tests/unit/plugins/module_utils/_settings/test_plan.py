# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done for a server to have the wanted settings."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._host import conf_file
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    known_definition,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.file import (
    DropIn,
    FileRow,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.plan import (
    DropInPlan,
    LiveSetting,
    SettingChange,
    diff_lines,
    new_cluster,
    plan_drop_in,
    running_values,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.values import (
    canonical_setting,
)

DROP_IN = "/etc/postgresql/17/main/conf.d/zz-pooled.conf"
MAIN = "/etc/postgresql/17/main/postgresql.conf"
AUTO = "/var/lib/postgresql/17/main/postgresql.auto.conf"


def test_what_runs_is_what_is_not_the_default():
    work_mem, jit = (known_definition(name, 17) for name in ("work_mem", "jit"))
    live = {
        "work_mem": LiveSetting(work_mem, "8192", "configuration file"),
        "jit": LiveSetting(jit, "on", "default"),
    }
    assert running_values(["Work_Mem", "jit", "not.there"], live) == {"work_mem": "8192"}


def live(**settings: str) -> dict[str, LiveSetting]:
    """A new cluster with these values from its files."""
    found = new_cluster(17)
    for name, setting in settings.items():
        found[name] = replace(found[name], setting=setting, source="configuration file")
    return found


def drop_in(text: str = "") -> DropIn:
    return DropIn(DROP_IN, text, MAIN, 800)


def row(name: str, value: str, path: str = DROP_IN, line: int = 5) -> FileRow:
    return FileRow(path, line, name, value, True)


def test_a_new_cluster_gets_all_and_is_restarted():
    plan = plan_drop_in({"work_mem": "8MB", "shared_buffers": "1GB"}, drop_in(), live(), [])
    assert plan.content == conf_file.HEADER + "shared_buffers = '1GB'\nwork_mem = '8MB'\n"
    assert plan.changes == (
        SettingChange("shared_buffers", "128MB", "1GB", True, "131072"),
        SettingChange("work_mem", "4MB", "8MB", False, "8192"),
    )
    assert (plan.reload, plan.waiting, plan.resets, plan.overrides) == (
        True,
        ("shared_buffers",),
        (),
        (),
    )


def test_nothing_to_do_keeps_the_text_of_equal_values():
    text = conf_file.render({"work_mem": "8MB"})
    plan = plan_drop_in(
        {"work_mem": "8192kB"}, drop_in(text), live(work_mem="8192"), [row("work_mem", "8MB")]
    )
    assert plan == DropInPlan(text, (), (), (), False, ())


def test_what_already_waits_for_a_restart_needs_no_reload():
    text = conf_file.render({"shared_buffers": "1GB"})
    settings = live()
    waiting = replace(settings["shared_buffers"], pending_restart=True)
    plan = plan_drop_in(
        {"shared_buffers": "1GB"},
        drop_in(text),
        {**settings, "shared_buffers": waiting},
        [row("shared_buffers", "1GB")],
    )
    assert (plan.reload, plan.waiting) == (False, ("shared_buffers",))


def test_alter_system_is_reset_for_what_is_managed():
    text = conf_file.render({"work_mem": "8MB"})
    rows = [row("work_mem", "8MB"), row("Work_Mem", "3MB", AUTO), row("port", "1", AUTO)]
    plan = plan_drop_in({"work_mem": "8MB"}, drop_in(text), live(work_mem="3072"), rows)
    assert plan.resets == ("work_mem",)
    assert plan.changes == (SettingChange("work_mem", "3MB", "8MB", False, "8192"),)
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
    plan = plan_drop_in({"work_mem": "8MB"}, drop_in(), live(work_mem="3072"), rows)
    assert plan.overrides == overrides
    assert bool(plan.changes) != bool(overrides)


def test_the_command_line_is_named():
    settings = live()
    settings["work_mem"] = replace(settings["work_mem"], setting="64", source="command line")
    plan = plan_drop_in({"work_mem": "8MB"}, drop_in(), settings, [])
    assert plan.overrides == ("work_mem is overridden by the server's command line",)


def test_what_is_no_longer_given_goes_back_to_the_rest_of_the_files():
    text = conf_file.render({"work_mem": "8MB", "temp_buffers": "9MB", "gone.x": "1"})
    rows = [row("work_mem", "5MB", MAIN, 3), row("work_mem", "8MB"), row("temp_buffers", "9MB")]
    plan = plan_drop_in({}, drop_in(text), live(work_mem="8192", temp_buffers="1152"), rows)
    assert plan.content == conf_file.HEADER
    assert [(change.name, change.before, change.after) for change in plan.changes] == [
        ("temp_buffers", "9MB", "8MB"),
        ("work_mem", "8MB", "5MB"),
    ]


def test_a_value_of_the_session_hides_nothing():
    settings = live()
    settings["work_mem"] = replace(settings["work_mem"], setting="64", source="user")
    text = conf_file.render({"work_mem": "8MB"})
    plan = plan_drop_in({"work_mem": "8MB"}, drop_in(text), settings, [row("work_mem", "8MB")])
    assert plan.changes == ()


def test_a_broken_file_is_written_anew():
    text = conf_file.render({"work_mem": "8MB"})
    plan = plan_drop_in({"work_mem": "8MB"}, drop_in("what?"), live(work_mem="8192"), [])
    assert (plan.content, plan.reload, plan.changes) == (text, True, ())
    assert diff_lines(plan.changes, "what?", plan.content) == (
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
        plan: DropInPlan,
    ) -> tuple[DropIn, dict[str, LiveSetting], list[FileRow]]:
        settings, rows = live(), []
        for name, text in conf_file.parse(plan.content):
            value = canonical_setting(settings[name].definition, text)
            settings[name] = replace(settings[name], setting=value, source="configuration file")
            rows.append(row(name, text))
        return drop_in(plan.content), settings, rows

    state = applied(plan_drop_in(first, drop_in(), live(), []))
    plan = plan_drop_in(second, *state)
    again = plan_drop_in(second, *applied(plan))
    assert again == DropInPlan(plan.content, (), (), (), False, ())
