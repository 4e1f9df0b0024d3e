"""Signals end every long command cleanly."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import signal
import sys

import pytest

from bayes_pfl.support.progress import Lines
from tests.helpers.commands import command
from tests.helpers.killing import ended, files_of, killed_after, seconds_of, started
from tests.helpers.layout_trees import BUILDERS, Painter


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_cleanly(
    checkpoint_dir, folder, predict, tmp_path, capfd, number, code
):
    arguments = ("predict", folder, "--out", tmp_path / "out", "--class-name", "nut")
    arguments += ("--checkpoint", checkpoint_dir, "--device", "cpu", "--batch-size", 1)

    def work(*more):
        sys.exit(command(*arguments, *more))

    whole = seconds_of(lambda: work("--workers", 1))
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
            patch.setattr(Lines, "advance", terminate)
            code = command(name, "--out", out, "--workers", 2, *arguments)
        gc.collect()
        sys.exit(99 if set(multiprocessing.active_children()) - before else code)

    assert ended(started(work)) == 143
    told = capfd.readouterr().err
    assert told.strip().splitlines()[-1].startswith("stopped; ") and "Traceback" not in told
    assert told.strip().endswith("; go on with --resume")
    assert not [path for path in files_of(out) if "/." in f"/{path}"]
