"""Files written whole, the error for those that cannot be written, and the stamp of a file."""

from __future__ import annotations

import errno
import os

import pytest

from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.support.file_identity import UNREADABLE, file_stamp, stamp_or_unreadable
from bayes_pfl.support.files import (
    not_written,
    raising_not_written,
    reason_unless_disk_full,
    write_atomically,
    write_picture,
)

FULL = OSError(errno.ENOSPC, "the disk is full")


@pytest.mark.parametrize(("sync", "calls"), [(True, 1), (False, 0)])
def test_only_a_synced_file_waits_for_the_disk(sync, calls, tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write_atomically(tmp_path / "file", b"data", sync=sync)
    assert (tmp_path / "file").read_bytes() == b"data" and len(synced) == calls
    assert os.listdir(tmp_path) == ["file"]


def test_a_picture_that_fails_leaves_the_old_one_and_no_other_file(tmp_path, monkeypatch):
    path = tmp_path / "new" / "folder" / "a.png"
    write_picture(path, b"old")

    def full(*_):
        raise FULL

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="full"):
        write_picture(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(path.parent) == ["a.png"]


def test_the_error_names_the_path_the_reason_and_the_mend(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DataError, match=r"file: cannot be written \(it is a file\); choose"),
        raising_not_written(tmp_path / "file", "choose another", DataError),
    ):
        (tmp_path / "file").mkdir()
    error = not_written("s3://out", TimeoutError(), "try again", ConfigError)
    assert str(error) == "s3://out: cannot be written (TimeoutError); try again"


def test_a_full_disk_is_raised_and_another_reason_is_returned():
    with pytest.raises(OSError, match="full"):
        reason_unless_disk_full(FULL)
    assert reason_unless_disk_full(ValueError("no\nfont")) == "no font"


def test_the_stamp_changes_with_the_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12")
    os.utime(path, ns=(0, 5))
    assert file_stamp(path) == stamp_or_unreadable(path) == (2, 5)
    assert stamp_or_unreadable(tmp_path / "missing") == UNREADABLE
    with pytest.raises(FileNotFoundError):
        file_stamp(tmp_path / "missing")
