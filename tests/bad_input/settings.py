"""Values on the command line and in Python, and files that settings come from."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from bayes_pfl import BayesPFL
from bayes_pfl.config import StageConfig, TrainConfig
from bayes_pfl.train.feature_cache import FeatureCache
from tests.bad_input.case import Case, World, message_of, one_image

See = Callable[[World], str]


def given(*options: object) -> See:
    """Options of predict: the line it refuses with."""

    def see(world: World) -> str:
        return world.predict(one_image(world.folder / "images"), *options, code=2)

    return see


def no_device(name: str) -> See:
    """Every command that loads a model says the same, and so does Python."""

    def see(world: World) -> str:
        images, out = one_image(world.folder / "images"), world.folder / "out"
        named = ("--class-name", "nut", "--device", name)
        model = ("--checkpoint", world.checkpoint)
        lines = [
            world.refused("predict", images, "--out", out, *named, *model),
            world.refused("calibrate", images, "--out", out, *named, *model),
            world.refused("class-names", images, *named, *model),
            world.refused("benchmark", "inference", "--device", name, *model),
        ]
        weights = world.checkpoint / "model.safetensors"
        with world.patch() as patch:  # before the weights are read
            patch.setattr("bayes_pfl.checkpoints.load.read_weights", pytest.fail)
            said = message_of(lambda: BayesPFL.from_pretrained(weights, device=name))
        assert lines == [f"error: {said}"] * len(lines)
        assert not out.exists()
        return said

    return see


def empty(world: World) -> str:
    """Whatever it is given for, an empty value never means the working folder."""
    images, out = one_image(world.folder / "images"), world.folder / "out"
    for arguments in (
        ("predict", images, "--out", "", "--class-name", "nut"),
        ("predict", images, "--out", out, "--class-name", "nut", "--checkpoint="),
        ("calibrate", "", "--class-name", "nut", "--out", out),
        ("evaluate", "--data", "", "--out", out),
        ("report", ""),
    ):
        assert "an empty value after" in world.refused(*arguments)
    return world.refused("predict", "", "--out", out, "--class-name", "nut")


def other_weights(world: World) -> str:
    weights = world.clip / "open_clip_model.safetensors"
    train = ("train", "--data", world.folder, "--out", world.folder / "out")
    line = world.refused(*train, "--backbone", f"local-dir:{world.clip}", "--pretrained", weights)
    assert "brings its weights" in line
    images = one_image(world.folder / "images")
    embedded = ("--checkpoint", "bayes-pfl-tiny", "--pretrained", weights)
    return world.predict(images, *embedded, code=2)


def pipe(world: World) -> str:
    os.mkfifo(world.folder / "calibration.json")
    images = one_image(world.folder / "images")
    return world.predict(images, "--calibration", world.folder / "calibration.json", code=2)


def too_large_a_batch(world: World) -> str:
    images = one_image(world.folder / "images")
    with world.patch() as patch:
        patch.setattr("bayes_pfl.detect.scorer.available_memory", lambda: 2**20)
        return world.predict(images, "--samples", 10_000, code=2)


def tampered(world: World) -> str:
    """Whatever summary.json holds: a page, or one line."""
    images, out = one_image(world.folder / "images"), world.folder / "out"
    world.predict(images)
    good = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    depth = 100_000
    for text in (
        "[" * depth + "]" * depth,
        json.dumps(good | {"folder": json.loads("[" * 900 + "]" * 900)}),
        json.dumps(good | {"calibration": 3}),
        json.dumps(good | {"settings": {"threshold": 10**400}}),
        json.dumps(good | {"settings": {"threshold": float("inf")}}),
    ):
        (out / "summary.json").write_text(text, encoding="utf-8")
        line = world.refused("report", out)
    return line


def full_disk(world: World) -> str:
    """The space of a feature cache is taken before a map of it is written to."""
    backbone = SimpleNamespace(image_size=64, grid=(8, 8), embed_dim=32, vision_widths=(64, 64))
    FeatureCache(world.folder / "whole", 3, 2, backbone)
    for path in (world.folder / "whole").iterdir():
        assert path.stat().st_blocks * 512 >= path.stat().st_size

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with world.patch() as patch:
        patch.setattr(os, "posix_fallocate", no_room)
        message = message_of(lambda: FeatureCache(world.folder / "full", 3, 2, backbone))
    assert not any((world.folder / "full").iterdir())
    return message


def two_faults(world: World) -> str:
    """Of one object or of two, in JSON or in Python."""
    message = message_of(lambda: TrainConfig(seed=-1, batch_size=3, accumulate=2))
    assert "seed = -1" in message and "accumulate = 2: must divide" in message
    assert "patience = -1" in message_of(lambda: StageConfig(epochs=-1, patience=-1))
    stages = {"stage1": {"epochs": -1, "patience": 1}, "stage2": {"epochs": -2, "patience": 1}}
    path = world.folder / "train.json"
    path.write_text(json.dumps({**stages, "batch_size": 3, "accumulate": 2}), encoding="utf-8")
    data = one_image(world.folder / "data")
    line = world.refused("train", "--data", data, "--out", world.folder / "out", "--config", path)
    assert "accumulate = 2: must divide" in line
    return line


def trained(*options: object) -> See:
    """Options of train: the line it refuses with, before it makes a folder."""

    def see(world: World) -> str:
        data, out = one_image(world.folder / "data"), world.folder / "out"
        begin = ("--init", world.checkpoint) if "--init" not in options else ()
        line = world.refused("train", "--data", data, "--out", out, *begin, *options)
        assert not out.exists()
        return line

    return see


def no_package(world: World) -> str:
    with world.patch() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        return trained("--logger", "wandb")(world)


CASES = (
    Case(
        "train --init of a head on another backbone",
        "`--backbone: ViT-B-32 here, but...was trained with local-dir:...; leave it out`",
        trained("--backbone", "ViT-B-32"),
    ),
    Case(
        "train --init of a head with other layers",
        "`--layers: (1,) here, but...was trained with (`",
        trained("--layers", "1"),
    ),
    Case(
        "train --init with a checkpoint that is not there",
        "`checkpoint 'nothing' not found`",
        trained("--init", "nothing"),
    ),
    Case(
        "train --logger whose package is missing",
        "`--logger wandb: wandb is not installed; pip install 'bayes-pfl[wandb]'`",
        no_package,
    ),
    Case(
        "device that is not there",
        "`device = 'cuda:77': there is none here; use...cpu`",
        no_device("cuda:77"),
    ),
    Case(
        "device of no kind",
        "`device = 'gpu': there is none here; use...cpu`",
        no_device("gpu"),
    ),
    Case("threshold that is NaN", "`threshold = nan: give a number`", given("--threshold", "nan")),
    Case(
        "pixel threshold that is NaN",
        "`map_threshold = nan: give a number`",
        given("--map-threshold", "nan"),
    ),
    Case(
        "`--format` or `--min-area` without a pixel threshold",
        "`formats = coco: there are no regions, because no pixel threshold is known`",
        given("--format", "coco"),
    ),
    Case(
        "unknown `--format`",
        "`formats = 'yolo': use coco, labelme, masks`",
        given("--format", "yolo"),
    ),
    Case("infinite threshold", "`threshold = inf: give a number`", given("--threshold", "inf")),
    Case(
        "empty path",
        "`an empty value after predict: give one`; it is not the working folder",
        empty,
    ),
    Case(
        "seed of more than 64 bits",
        "`seed = 18446744073709551616: must be a whole number, 0 at least, 1844`",
        given("--seed", 2**64),
    ),
    Case(
        "100,000,000 samples",
        "`samples = 100000000: must be a whole number, 0 at least, 10000 at most`",
        given("--samples", 10**8),
    ),
    Case(
        "samples of a batch that would fill the memory",
        "`cpu has no memory for a batch of 1 with 10000 samples; use a smaller batch`",
        too_large_a_batch,
    ),
    Case(
        "5,000 workers",
        "`workers = 5000: must be a whole number, 0 at least, 1000 at most`",
        given("--workers", 5000),
    ),
    Case(
        "weights for a backbone that brings its own",
        "`backbone bayes-pfl-clip-tiny brings its weights; leave it out`",
        other_weights,
    ),
    Case("named pipe for a calibration", "`not a regular file`; it is not opened", pipe),
    Case("summary.json changed by hand", "`its tables cannot be read`", tampered),
    Case(
        "full disk under --cache-features",
        "`feature cache of 0.00 GiB cannot be used (No space left on device)`: `with room`",
        full_disk,
    ),
    Case(
        "several faults in one config",
        "`stage1.epochs = -1: must be at least 0; ...stage2.epochs = -2: must be`: all are named",
        two_faults,
    ),
    Case(
        "app for other computers without a token",
        "`host '0.0.0.0' is open to other computers: give a token that requests must bring`",
        lambda world: world.refused("app", "--no-browser", "--host", "0.0.0.0"),
    ),
    Case(
        "a token that can be guessed",
        "`token of 6 characters: give 16 at least, ASCII without blanks`",
        lambda world: world.refused("app", "--no-browser", "--token", "secret"),
    ),
)
