"""Stops that are no kill: signals, full disks, vanished folders; and what going on refuses."""

from __future__ import annotations

import errno
import gc
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from bayes_pfl.class_names import ClassNames
from bayes_pfl.errors import BayesPFLError, ConfigError, DataError
from bayes_pfl.evaluation import EvaluationSettings
from bayes_pfl.evaluation_data import read_trees
from bayes_pfl.evaluation_run import EvaluationRequest, run_benchmark
from bayes_pfl.journal import Journal, is_end
from bayes_pfl.prediction import predict_folder
from bayes_pfl.progress import Bars
from bayes_pfl.report.pictures import picture_name

from .commands import command
from .killing import ended, files_of, killed_after, seconds_of, started
from .layout_trees import BUILDERS, Painter

JOURNAL = "predictions.journal.jsonl"


def save(folder, count, side=24):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        values = np.random.default_rng(index).integers(0, 255, (side, side, 3), np.uint8)
        Image.fromarray(values).save(folder / f"{index:02d}.png")
    return folder


class Stop:
    """Progress that acts when so many images are done; by default as Ctrl-C does."""

    def __init__(self, count, act=None):
        self.left, self.act = count, act

    def start(self, title, steps):
        pass

    def advance(self, done, values):
        self.left -= done
        if self.left == 0:
            if self.act is None:
                raise KeyboardInterrupt
            self.act()


@pytest.fixture
def counted(tiny_model, monkeypatch):
    """The sizes of the batches that the model scores."""
    sizes = []
    score = type(tiny_model).score_features

    def counting(self, features, text):
        sizes.append(len(features.pooled))
        return score(self, features, text)

    monkeypatch.setattr(type(tiny_model), "score_features", counting)
    return sizes


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "in", 10)


@pytest.fixture
def predict(tiny_model, folder, tmp_path):
    """A plain run of `folder` in batches of two."""

    def run(out="out", **options):
        plain = {"class_name": "nut", "maps": "none", "overlays": False, "report": False}
        plain |= {"batch_size": 2}
        return predict_folder(tiny_model, folder, tmp_path / out, **plain | options)

    return run


@pytest.fixture
def stopped(predict, tmp_path):
    """The output folder of a run that was stopped after four of ten images."""
    with pytest.raises(KeyboardInterrupt, match="4 of 10 images are done"):
        predict(progress=Stop(4))
    return tmp_path / "out"


@contextmanager
def other_weights(model):
    """Within, one weight of the model is another."""
    weight = model.log_scale_image
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1e-3)
        try:
            yield
        finally:
            weight.copy_(kept)


def entries(out):
    lines = [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()]
    return [line for line in lines if "path" in line]


# Going on -----------------------------------------------------------------------------------------


def test_done_images_are_not_scored_again(predict, stopped, counted, tmp_path):
    whole = predict("whole")
    counted.clear()
    summary = predict(resume=True)
    assert counted == [2, 2, 2]
    assert (summary.resumed, summary.images, summary.succeeded) == (4, 10, 10)
    tables = [(tmp_path / out / "predictions.csv").read_bytes() for out in ("whole", "out")]
    assert tables[0] == tables[1] and summary.highest == whole.highest
    before = files_of(stopped)
    again = predict(resume=True)
    assert again.resumed == 10 and counted == [2, 2, 2]
    assert files_of(stopped) == before


def test_a_stopped_run_is_neither_whole_nor_lost(predict, stopped):
    assert not (stopped / "predictions.csv").exists()
    with pytest.raises(ConfigError, match="stopped after 4 images; add --resume.*--overwrite"):
        predict()
    assert len(entries(stopped)) == 4
    with pytest.raises(ConfigError, match="exclude each other"):
        predict(resume=True, overwrite=True)
    assert predict(overwrite=True).resumed == 0
    assert len(entries(stopped)) == 10
    assert predict().resumed == 0  # a finished run is replaced, as ever


def test_resume_begins_where_nothing_was_begun(predict):
    assert predict(resume=True).resumed == 0


def test_a_run_that_replaces_another_takes_its_table_away_first(predict, tmp_path):
    predict()
    with pytest.raises(KeyboardInterrupt):
        predict(progress=Stop(2))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [JOURNAL]


def test_new_images_are_added_and_removed_ones_left_out(predict, stopped, folder, counted):
    save(folder, 12)
    for index, path in enumerate(sorted(folder.iterdir())):
        os.utime(path, ns=(index, index))
    predict(overwrite=True)
    (folder / "03.png").unlink()
    shutil.copy(folder / "00.png", folder / "0 new.png")
    counted.clear()
    summary = predict(resume=True)
    assert counted == [1]
    assert (summary.images, summary.resumed, summary.dropped) == (12, 11, 1)
    paths = [line.split(",")[0] for line in summary.predictions.read_text().splitlines()[1:]]
    assert paths == sorted(paths) and '"03.png"' not in paths and '"0 new.png"' in paths


def test_failures_are_tried_again(predict, folder, counted):
    whole = (folder / "04.png").read_bytes()
    (folder / "04.png").write_bytes(whole[:30])
    assert predict().failed == 1
    (folder / "04.png").write_bytes(whole)
    counted.clear()
    summary = predict(resume=True)
    assert counted == [1] and (summary.resumed, summary.failed) == (9, 0)


def test_an_image_without_its_pictures_is_done_again(predict, tmp_path, counted):
    predict(maps="npy", report=True)
    (tmp_path / "out/maps/02.png.npy").write_bytes(b"")
    (tmp_path / "out/report/pictures" / picture_name("07.png")).unlink()
    counted.clear()
    predict(maps="npy", report=True, resume=True)
    assert sum(counted) == 2
    assert all(path.stat().st_size for path in (tmp_path / "out").rglob("*.*"))


def test_the_batch_size_may_change(predict, stopped):
    assert predict(resume=True, batch_size=3, workers=1).resumed == 4


def test_other_runs_are_refused(predict, stopped, folder, tiny_model, tmp_path):
    for options, told in (
        ({"samples": 2}, "samples = 2 where it was begun with 3"),
        ({"seed": 1, "maps": "npy"}, "seed = 1 .*; maps = 'npy' where"),
        ({"class_name": "bolt"}, "class_name = 'bolt'"),
        ({"threshold": 0.5}, "threshold = 0.5 where it was begun with None"),
        ({"class_name": ClassNames(default="nut")}, "class_name = 'by subfolder'"),
    ):
        with pytest.raises(ConfigError, match=told):
            predict(resume=True, **options)
    with other_weights(tiny_model), pytest.raises(ConfigError, match="checkpoint_sha256 = "):
        predict(resume=True)
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match="folder = .*moved' where it was begun with .*in'"):
        predict_folder(tiny_model, moved, stopped, class_name="nut", maps="none", overlays=False,
                       report=False, resume=True)  # fmt: skip
    assert len(entries(stopped)) == 4


def test_changed_images_and_names_are_refused(predict, stopped, folder, tmp_path):
    os.utime(folder / "01.png", ns=(1, 1))
    with pytest.raises(ConfigError, match="1 images have changed since .* such as '01.png'"):
        predict(resume=True)
    table = tmp_path / "names.csv"
    table.write_text("path,class_name\n00.png,bolt\n")
    names = ClassNames(table, "nut")
    with pytest.raises(KeyboardInterrupt):
        predict("named", class_name=names, progress=Stop(4))
    table.write_text("path,class_name\n00.png,screw\n")
    with pytest.raises(ConfigError, match="another class name .* such as '00.png'"):
        predict("named", class_name=names, resume=True)


# The journal --------------------------------------------------------------------------------------


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
    with pytest.raises(ConfigError, match="line 3 is damaged; begin anew with --overwrite"):
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


# Signals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_cleanly(
    checkpoint_dir, folder, predict, tmp_path, capfd, number, code
):
    arguments = ("predict", folder, "--out", tmp_path / "out", "--class-name", "nut")
    arguments += ("--checkpoint", checkpoint_dir, "--device", "cpu", "--batch-size", 1)

    def work(*more):
        sys.exit(command(*arguments, *more))

    whole = seconds_of(work)
    ended(started(lambda: work("--workers", 1)))
    expected = (tmp_path / "out/predictions.csv").read_bytes()
    codes = []
    for part in (0.5, 0.8):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        capfd.readouterr()
        codes.append(killed_after(part * whole, lambda: work("--workers", 1), number))
        told = capfd.readouterr().err
        assert "Traceback" not in told
        if codes[-1] != code:
            continue
        assert "stopped; " in told and "go on with --resume" in told
        assert not [name for name in files_of(tmp_path / "out") if "/." in f"/{name}"]
        table = tmp_path / "out/predictions.csv"
        assert not table.exists() or table.read_bytes() == expected
        assert ended(started(lambda: work("--resume"))) == 0
        assert table.read_bytes() == expected
    assert set(codes) <= {code, 0}


@pytest.mark.parametrize("name", ["predict", "evaluate", "train"])
def test_every_long_command_stops_at_sigterm(
    name, checkpoint_dir, clip_dir, folder, tmp_path, capfd
):
    out, data = tmp_path / "out", tmp_path / "data"
    model = ("--checkpoint", checkpoint_dir, "--device", "cpu", "--batch-size", 1)
    arguments = {
        "predict": (folder, "--class-name", "nut", *model),
        "evaluate": ("--data", data, *model),
        "train": ("--data", data, "--backbone", f"local-dir:{clip_dir}", "--batch-size", 1,
                  "--steps-per-epoch", 3, "--accelerator", "cpu", "--held-out", 0.5),
    }[name]  # fmt: skip
    BUILDERS["mvtec"](Painter(data))

    def work():
        before, left = set(multiprocessing.active_children()), [3]

        def terminate(self, done, values):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Bars, "advance", terminate)
            code = command(name, "--out", out, "--workers", 2, *arguments)
        gc.collect()
        sys.exit(99 if set(multiprocessing.active_children()) - before else code)

    assert ended(started(work)) == 143
    told = capfd.readouterr().err
    assert told.strip().splitlines()[-1].startswith("stopped; ") and "Traceback" not in told
    assert told.strip().endswith("; go on with --resume")
    assert not [path for path in files_of(out) if "/." in f"/{path}"]


# Disks and folders --------------------------------------------------------------------------------


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
    from bayes_pfl import prediction_files

    calls = []
    write = prediction_files.write_whole

    def full(path, data):
        calls.append(path)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, data)

    monkeypatch.setattr(prediction_files, "write_whole", full)
    with pytest.raises(ConfigError, match="No space left on device.*on a disk with room"):
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
    with pytest.raises(ConfigError, match="has vanished while the run went on"):
        predict(progress=Stop(2, lambda: shutil.rmtree(tmp_path / "out")))


def test_a_removed_file_is_a_row(predict, folder):
    summary = predict(progress=Stop(2, lambda: (folder / "09.png").unlink()), batch_size=1)
    assert summary.failed == 1 and summary.succeeded == 9
    assert predict(resume=True, batch_size=1).dropped == 1


# Evaluation ---------------------------------------------------------------------------------------


@pytest.fixture
def evaluate(tiny_model, tmp_path):
    """An evaluation of a small tree, with what happens after each batch."""
    BUILDERS["mvtec"](Painter(tmp_path / "data"))

    def run(then=None, **changes):
        out = tmp_path / "out"
        settings = EvaluationSettings(batch_size=1, skip_unreadable=True)
        request = EvaluationRequest(
            **{
                "checkpoints": ("tiny",),
                "data": tuple(read_trees([tmp_path / "data"])),
                "out": out,
                "settings": settings,
                "cache": out / "cache",
                **changes,
            }
        )
        return run_benchmark(request, then, load=lambda _: tiny_model)

    return run


def results_of(out):
    return files_of(out, "cache", "evaluation.journal.jsonl", "environment.json")


def test_an_evaluation_goes_on_after_every_image(evaluate, counted, tmp_path, monkeypatch):
    evaluate()
    expected = results_of(tmp_path / "out")
    total = sum(counted)
    for stop in range(1, total):
        shutil.rmtree(tmp_path / "out")
        with monkeypatch.context() as patch:  # as after a kill: nothing is written at the end
            patch.setattr("bayes_pfl.evaluation_cache.DatasetCache.keep", lambda *_, **__: None)
            with pytest.raises(KeyboardInterrupt):
                evaluate(Stop(stop))
        counted.clear()
        evaluate(resume=True)
        assert sum(counted) == total - stop
        assert results_of(tmp_path / "out") == expected


def test_a_resumed_evaluation_refuses_what_has_changed(evaluate, tiny_model, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        evaluate(Stop(2))
    with pytest.raises(ConfigError, match=r"seeds = \[1\] where it was begun with \[0\].*--resume"):
        evaluate(resume=True, seeds=(1,))
    with pytest.raises(ConfigError, match="leave --no-cache out"):
        evaluate(resume=True, cache=None)
    with other_weights(tiny_model), pytest.raises(ConfigError, match="tiny has other weights"):
        evaluate(resume=True)
    first = read_trees([tmp_path / "data"])[0].samples[0].path
    os.utime(first, ns=(1, 1))
    with pytest.raises(DataError, match=f"{first.name}: has changed or gone since it was scored"):
        evaluate(resume=True)
    evaluate()  # without it, the category is scored anew
    assert json.loads((tmp_path / "out/metrics.json").read_text())["skipped"] == []


def test_torn_and_damaged_logs_cost_their_batches_alone(evaluate, counted, tmp_path, monkeypatch):
    evaluate()
    expected, total = results_of(tmp_path / "out"), sum(counted)
    shutil.rmtree(tmp_path / "out")
    keep = "bayes_pfl.evaluation_cache.DatasetCache.keep"
    with monkeypatch.context() as patch:
        patch.setattr(keep, lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            evaluate(Stop(2))
        log = next((tmp_path / "out").rglob("*.log"))
        log.write_bytes(log.read_bytes()[:-7])
        counted.clear()
        with pytest.raises(KeyboardInterrupt):
            evaluate(Stop(2))
        assert sum(counted) == 1  # one was kept, one is scored again
    counted.clear()
    evaluate(resume=True)
    assert sum(counted) == total - 2 and results_of(tmp_path / "out") == expected


def test_vanished_data_and_full_disks_stop_an_evaluation(evaluate, tmp_path, monkeypatch):
    data, gone = tmp_path / "data", tmp_path / "elsewhere"
    with pytest.raises(DataError, match="has vanished while the run went on"):
        evaluate(Stop(1, lambda: data.rename(gone)))
    gone.rename(data)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("bayes_pfl.evaluation_log._write", full)
        with pytest.raises(DataError, match="No space left on device.*make room"):
            evaluate()
    evaluate(resume=True)
    assert json.loads((tmp_path / "out/metrics.json").read_text())["skipped"] == []


def test_messages_are_one_line(predict, stopped):
    with pytest.raises(BayesPFLError) as told:
        predict(resume=True, samples=1)
    assert "\n" not in str(told.value)
