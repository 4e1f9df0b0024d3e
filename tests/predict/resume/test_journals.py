"""Journals: what is torn or damaged, who may write, and what comes back."""

from __future__ import annotations

import pytest

from bayes_pfl.errors import ConfigError
from bayes_pfl.support.journal import Journal, is_end
from tests.helpers.killing import ended, started
from tests.predict.resume.stops import JOURNAL, entries


def test_what_was_not_written_whole_is_dropped(predict, stopped, tmp_path):
    predict("whole")
    kept = (stopped / JOURNAL).read_bytes()
    lines = kept.splitlines(keepends=True)
    for cut in (1, len(lines[0]) - 1, len(lines[0]), len(lines[0]) + 9, len(kept) - 1):
        (stopped / JOURNAL).write_bytes(kept[:cut])
        summary = predict(resume=True)
        assert summary.resumed in (0, 2)
        same = [(tmp_path / out / "predictions.csv").read_bytes() for out in ("whole", "out")]
        assert same[0] == same[1] and len(entries(stopped)) == 10
    (stopped / JOURNAL).write_bytes(kept + bytes(500))  # what some file systems leave
    assert predict(resume=True).resumed == 4


@pytest.mark.parametrize("damage", [b"\0" * 20 + b"\n", b'{"path": 3,\n', b"[1]\n"])
def test_a_damaged_line_in_the_middle_is_told(predict, stopped, damage):
    lines = (stopped / JOURNAL).read_bytes().splitlines(keepends=True)
    (stopped / JOURNAL).write_bytes(b"".join([*lines[:2], damage, *lines[2:]]))
    with pytest.raises(ConfigError, match="line 3 is damaged; start again with --overwrite"):
        predict(resume=True)


def test_a_file_that_is_no_journal_is_left_alone(predict, tmp_path):
    (tmp_path / "out").mkdir()
    for content in (b"mine", b'{"my": 1}\n'):
        (tmp_path / "out" / JOURNAL).write_bytes(content)
        for options in ({}, {"overwrite": True}, {"resume": True}):
            with pytest.raises(ConfigError, match="no journal of a prediction"):
                predict(**options)
        assert (tmp_path / "out" / JOURNAL).read_bytes() == content


def test_a_journal_of_a_later_version_is_refused(predict, stopped):
    text = (stopped / JOURNAL).read_text().replace('"format":1', '"format":2')
    (stopped / JOURNAL).write_text(text)
    with pytest.raises(ConfigError, match="format 2, this version reads 1"):
        predict(resume=True)


def test_two_runs_do_not_write_to_one_folder(predict, tmp_path):
    with Journal(tmp_path / "out" / JOURNAL, "prediction", "") as journal:
        journal.begin({})

        def second():
            with pytest.raises(ConfigError, match="another run is writing there"):
                predict(overwrite=True)

        assert ended(started(second)) == 0


def test_blocks_come_back_as_they_were_added(tmp_path):
    with Journal(tmp_path / "j", "test", "") as journal:
        journal.begin({"a": 1})
        places = journal.append([{"n": 1}, {"n": 2}]) + journal.append([{"n": 3}])
        assert [e["n"] for e in journal.entries_at(places[::-1])] == [3, 2, 1]
        journal.end()
    with Journal(tmp_path / "j", "test", "") as journal:
        blocks = list(journal.blocks())
        assert [[entry for _, entry in block] for block in blocks[:2]] == [
            [{"n": 1}, {"n": 2}],
            [{"n": 3}],
        ]
        assert [place for block in blocks[:2] for place, _ in block] == places
        assert is_end(blocks[2][0][1])
