"""Disks that are full, folders and files that vanish."""

from __future__ import annotations

import errno
import resource
import shutil

import pytest

from bayes_pfl.errors import ConfigError, DataError
from tests.helpers.killing import ended, started
from tests.predict.resume.stops import JOURNAL, Stop, entries


def test_a_full_disk_is_one_line_and_the_journal_intact(predict, folder, tmp_path):
    """The limit of a process on the size of its files meets the journal first."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
        with pytest.raises(ConfigError, match="cannot be written .*go on with --resume"):
            predict()

    assert ended(started(limited)) == 0
    kept = (tmp_path / "out" / JOURNAL).read_bytes()
    assert kept.endswith(b"\n") and b'"last":true' in kept.splitlines()[-1]
    summary = predict(resume=True)
    assert 0 < summary.resumed < 10 and summary.succeeded == 10


def test_a_disk_without_room_for_pictures_stops_the_run(predict, monkeypatch, tmp_path):
    from bayes_pfl.predict import output

    calls = []
    write = output.write_picture

    def full(path, data):
        calls.append(path)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "the disk is full", str(path))
        write(path, data)

    monkeypatch.setattr(output, "write_picture", full)
    with pytest.raises(ConfigError, match="the disk is full.*on a disk with room"):
        predict(maps="npy")
    assert len(entries(tmp_path / "out")) in (2, 4)
    monkeypatch.undo()
    assert predict(maps="npy", resume=True).succeeded == 10
    assert len(entries(tmp_path / "out")) == 10


def test_a_vanished_input_folder_stops_the_run(predict, folder, tmp_path):
    gone = tmp_path / "elsewhere"
    with pytest.raises(DataError, match="has vanished .*bring it back.*--resume"):
        predict(progress=Stop(2, lambda: folder.rename(gone)), batch_size=1)
    assert len(entries(tmp_path / "out")) < 10
    with pytest.raises(DataError, match="does not exist"):
        predict(resume=True, batch_size=1)
    gone.rename(folder)
    assert predict(resume=True, batch_size=1).failed == 0


def test_a_vanished_output_folder_stops_the_run(predict, tmp_path):
    with pytest.raises(ConfigError, match="has vanished during the run"):
        predict(progress=Stop(2, lambda: shutil.rmtree(tmp_path / "out")))


def test_a_removed_file_is_a_row(predict, folder):
    summary = predict(progress=Stop(2, lambda: (folder / "09.png").unlink()), batch_size=1)
    assert summary.failed == 1 and summary.succeeded == 9
    assert predict(resume=True, batch_size=1).dropped == 1
