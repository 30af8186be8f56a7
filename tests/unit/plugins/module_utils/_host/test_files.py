# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files are replaced whole, and the last good one is never lost."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host import files

OWN = files.Rights("nobody")


@pytest.fixture
def managed(tmp_path: Path) -> files.ManagedFile:
    """A file of this process's own user, that does not exist yet."""
    uid, gid = str(os.geteuid()), str(os.getegid())
    return files.ManagedFile(str(tmp_path / "a.conf"), "one\n", uid, gid, 0o640)


def names(managed: files.ManagedFile) -> list[str]:
    return sorted(os.listdir(os.path.dirname(managed.path)))


def test_a_missing_file_has_no_content(managed):
    assert files.read_file(managed.path, OWN).content is None


def test_what_is_written_is_read_back(managed):
    files.write_file(managed, OWN)
    found = files.read_file(managed.path, OWN)
    assert (found.content, found.mode) == ("one\n", 0o640)
    assert names(managed) == ["a.conf"]


def test_a_file_without_content_is_removed(managed):
    files.write_file(managed, OWN)
    for _time in range(2):
        files.write_file(replace(managed, content=None), OWN)
        assert names(managed) == []


def test_a_file_that_is_no_text_is_refused(managed):
    Path(managed.path).write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"a\.conf is not UTF-8 text"):
        files.read_file(managed.path, OWN)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(managed, monkeypatch):
    files.write_file(managed, OWN)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            files.write_file(replace(managed, content="two\n"), OWN)
    assert files.read_file(managed.path, OWN).content == "one\n"
    assert names(managed) == ["a.conf"]


def test_what_a_killed_run_left_does_not_stay(managed):
    left = Path(managed.path).with_name(".a.conf.new")
    left.write_text("half")
    left.chmod(0o777)
    files.write_file(managed, OWN)
    assert names(managed) == ["a.conf"]
    assert stat.S_IMODE(os.stat(managed.path).st_mode) == 0o640


def test_a_link_in_the_way_is_not_followed(managed, tmp_path):
    other = tmp_path / "other"
    other.write_text("other")
    Path(managed.path).with_name(".a.conf.new").symlink_to(other)
    files.write_file(managed, OWN)
    assert other.read_text() == "other"


# (what is otherwise, whether that is a difference)
DIFFERENCES = [
    ({}, False),
    ({"content": "two\n"}, True),
    ({"mode": 0o600}, True),
    ({"owner": "nobody"}, True),
    ({"content": None}, True),
]


@pytest.mark.parametrize(("otherwise", "expected"), DIFFERENCES)
def test_differs(managed, otherwise, expected):
    assert files.differs(managed, replace(managed, **otherwise)) is expected


def test_no_file_is_as_good_as_any_other_no_file(managed):
    absent = files.read_file(managed.path, OWN)
    assert not files.differs(absent, replace(managed, content=None))


def test_the_last_good_file_comes_back(managed):
    files.write_file(managed, OWN)
    good = files.Backup(managed, OWN)
    good.keep()
    files.write_file(replace(managed, content="two\n"), OWN)
    assert names(managed) == [".a.conf.last-good", "a.conf"]
    good.restore()
    assert files.read_file(managed.path, OWN).content == "one\n"
    assert names(managed) == ["a.conf"]


def test_where_there_was_no_file_none_comes_back(managed):
    good = files.Backup(files.read_file(managed.path, OWN), OWN)
    good.keep()
    files.write_file(managed, OWN)
    good.restore()
    assert names(managed) == []


def test_a_killed_run_that_found_no_file_is_taken_back_to_none(managed):
    files.Backup(files.read_file(managed.path, OWN), OWN).keep()
    files.write_file(managed, OWN)
    # The run is killed here.
    assert files.Backup(managed, OWN).restore()
    assert names(managed) == []


def test_with_nothing_kept_the_managed_file_stays(managed):
    files.write_file(managed, OWN)
    assert not files.Backup(managed, OWN).restore()
    assert files.read_file(managed.path, OWN).content == "one\n"


def test_a_disk_too_full_to_keep_anything_loses_nothing(managed, monkeypatch):
    files.write_file(managed, OWN)
    good = files.Backup(managed, OWN)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            good.keep()
        assert not good.restore()
    assert files.read_file(managed.path, OWN).content == "one\n"
    assert names(managed) == ["a.conf"]


def test_the_last_good_file_outlives_a_killed_run(managed):
    files.write_file(managed, OWN)
    files.Backup(managed, OWN).keep()
    bad = replace(managed, content="two\n")
    files.write_file(bad, OWN)
    # The run is killed here; the next one keeps nothing over it.
    good = files.Backup(bad, OWN)
    good.keep()
    files.write_file(replace(managed, content="three\n"), OWN)
    good.restore()
    assert files.read_file(managed.path, OWN).content == "one\n"


def test_a_good_file_makes_the_last_one_superfluous(managed):
    files.write_file(managed, OWN)
    good = files.Backup(managed, OWN)
    good.keep()
    good.discard()
    assert names(managed) == ["a.conf"]


def test_going_back_needs_no_space(managed, monkeypatch):
    files.write_file(managed, OWN)
    good = files.Backup(files.read_file(managed.path, OWN), OWN)
    good.keep()
    files.write_file(replace(managed, content="two\n"), OWN)

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        patch.setattr(os, "fsync", full)
        assert good.restore()
    assert files.read_file(managed.path, OWN).content == "one\n"
    assert names(managed) == ["a.conf"]


def test_a_file_that_was_empty_comes_back_empty(managed):
    empty = replace(managed, content="")
    files.write_file(empty, OWN)
    good = files.Backup(files.read_file(managed.path, OWN), OWN)
    good.keep()
    files.write_file(managed, OWN)
    assert good.restore()
    assert files.read_file(managed.path, OWN).content == ""


def test_going_back_to_what_is_there_is_no_change(managed):
    files.write_file(managed, OWN)
    good = files.Backup(files.read_file(managed.path, OWN), OWN)
    good.keep()
    assert not good.restore()
    assert names(managed) == ["a.conf"]


def test_another_file_can_be_kept_instead(managed):
    files.write_file(managed, OWN)
    good = files.Backup(files.read_file(managed.path, OWN), OWN)
    good.keep()
    newer = replace(managed, content="two\n")
    files.write_file(newer, OWN)
    good.keep_instead(replace(newer, content="half\n"))
    assert good.content == "half\n"
    assert files.Backup(newer, OWN).restore()
    assert files.read_file(managed.path, OWN).content == "half\n"


def test_forgetting_removes_what_killed_runs_left(managed):
    files.write_file(managed, OWN)
    for left in (".a.conf.new", ".a.conf.last-good", "..a.conf.last-good.new"):
        Path(managed.path).with_name(left).write_text("half")
    files.Backup(managed, OWN).discard()
    assert names(managed) == ["a.conf"]


def test_a_write_that_takes_only_a_part_goes_on(managed, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:2]))
    files.write_file(managed, OWN)
    assert files.read_file(managed.path, OWN).content == "one\n"
