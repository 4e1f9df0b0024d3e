"""Checkpoints and configs: round trips, damage told in one line, files whole or not at all."""

import copy
import errno
import json
import os
import shutil
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from bayes_pfl import BayesPFL
from bayes_pfl.checkpoints import load as checkpoints
from bayes_pfl.checkpoints.format import read_config, save_checkpoint
from bayes_pfl.checkpoints.load import find_checkpoint, load_checkpoint
from bayes_pfl.config import (
    BackboneConfig,
    FlowConfig,
    ModelConfig,
    PromptConfig,
    ScoringConfig,
    TrainConfig,
)
from bayes_pfl.errors import BackboneError, CheckpointError, ConfigError
from bayes_pfl.support.files import write_atomically
from bayes_pfl.support.typed_json import from_dict, load_json

NAMES = ["metal nut", "wood"]


@pytest.fixture
def folder(checkpoint_dir, tmp_path):
    """A copy of a checkpoint, to be damaged."""
    return shutil.copytree(checkpoint_dir, tmp_path / "checkpoint")


def scores(model):
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    return model.score_batch(images, NAMES, model.draw(3, seed=2))


def one_line(error):
    message = str(error.value)
    assert "\n" not in message and len(message) < 700
    return message


# Round trips -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["folder", "text", "file"])
def test_a_saved_model_scores_as_before(form, tiny_model, folder):
    source = {"folder": folder, "text": str(folder), "file": folder / "model.safetensors"}[form]
    loaded = BayesPFL.from_pretrained(source, device="cpu")
    assert not loaded.training and loaded.config == tiny_model.config
    before, after = scores(tiny_model), scores(loaded)
    for field in ("text_score", "text_spread", "map", "map_spread"):
        difference = (getattr(before, field) - getattr(after, field)).abs().max()
        assert float(difference) <= 1e-6


def test_saving_what_was_loaded_gives_the_same_files(folder, tmp_path):
    again = BayesPFL.from_pretrained(folder, device="cpu").save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_saved_folder_holds_no_weights_of_the_backbone(tiny_model, folder):
    state = load_file(folder / "model.safetensors")
    assert set(state) == {name for name, _ in tiny_model.learned_parameters()}
    backbone = read_config(folder).backbone
    assert len(backbone.sha256) == 64 and backbone.layers == (1, 2, 3, 4)


def test_changed_weights_are_what_is_saved(tiny_model, tmp_path):
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        model.log_scale_pixel.fill_(1.25)
    loaded = BayesPFL.from_pretrained(model.save_pretrained(tmp_path / "new"), device="cpu")
    assert loaded.log_scale_pixel.item() == 1.25


@pytest.mark.parametrize("part", ["best", "checkpoints/best", "last", "checkpoints/last"])
def test_run_folders_give_their_checkpoint(part, folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder, run / part)
    (run / "config.json").write_text("{}")  # the run's own config is no model config
    assert find_checkpoint(run) == run / part


def test_best_is_taken_before_last(folder, tmp_path):
    for part in ("last", "best"):
        shutil.copytree(folder, tmp_path / "run" / part)
    assert find_checkpoint(tmp_path / "run") == tmp_path / "run" / "best"


def test_embedded_checkpoints_are_found_by_name(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "embedded" / "some-model")
    monkeypatch.setattr(checkpoints, "resource_dir", lambda kind: tmp_path / "embedded")
    assert find_checkpoint("some-model") == tmp_path / "embedded" / "some-model"
    with pytest.raises(CheckpointError, match=r"'other-model' not found.*some-model"):
        find_checkpoint("other-model")


def test_backbone_that_moved_is_found_where_the_caller_says(folder, clip_dir, tmp_path):
    moved = shutil.copytree(clip_dir, tmp_path / "moved")
    data = json.loads((folder / "config.json").read_text())
    data["model"]["backbone"]["name"] = "local-dir:/nowhere/clip"
    (folder / "config.json").write_text(json.dumps(data))
    with pytest.raises(BackboneError, match="/nowhere/clip"):
        load_checkpoint(folder, device="cpu")
    model = load_checkpoint(folder, device="cpu", pretrained=str(moved))
    assert model.config.backbone.name == f"local-dir:{moved}"


# Damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 5, 100, -1000])
def test_truncated_weights_are_told(kept, folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: truncated or not") as error:
        load_checkpoint(folder, device="cpu")
    one_line(error)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_files_are_told(name, folder):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match="not found: give a folder with config.json and"):
        load_checkpoint(folder, device="cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_told(value, folder):
    path = folder / "model.safetensors"
    state = load_file(path)
    state["attention.query.weight"][0, 0] = value
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"attention\.query\.weight holds NaN or infinity"):
        load_checkpoint(folder, device="cpu")


def test_checkpoint_of_other_sizes_is_told(tiny_config, tmp_path, folder):
    other = replace(tiny_config, prompts=PromptConfig(pairs=5), flow=FlowConfig(2))
    save_checkpoint(checkpoints.build_model(other), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    with pytest.raises(CheckpointError, match=r"does not fit.*other shape:") as error:
        load_checkpoint(folder, device="cpu")
    one_line(error)


def test_missing_and_unknown_tensors_are_told_together(folder):
    path = folder / "model.safetensors"
    state = load_file(path)
    state["surplus"] = state.pop("log_scale_pixel")
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"missing log_scale_pixel; unknown surplus"):
        load_checkpoint(folder, device="cpu")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format_version": 1}', "null"])
def test_config_that_is_none_is_told(content, folder):
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match="not a checkpoint config of this package") as error:
        load_checkpoint(folder, device="cpu")
    one_line(error)


def test_config_of_a_later_format_asks_for_an_upgrade(folder):
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(data | {"format_version": 99}))
    with pytest.raises(CheckpointError, match=r"format 99, this version reads 1; upgrade"):
        load_checkpoint(folder, device="cpu")


def test_all_faults_of_a_config_are_told_together(folder):
    data = json.loads((folder / "config.json").read_text())
    data["model"]["heads"] = 4
    data["model"]["flow"]["length"] = "ten"
    data["model"]["backbone"]["activation"] = "relu"
    data["model"]["scoring"]["stage"] = 3
    (folder / "config.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError) as error:
        load_checkpoint(folder, device="cpu")
    message = one_line(error)
    for part in ("unknown entry 'heads'", "flow.length", "'relu' is not one of", "scoring.stage"):
        assert part in message
    assert str(folder) in message


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
def test_a_pickle_asks_to_be_converted(suffix, tmp_path):
    path = tmp_path / f"authors{suffix}"
    path.write_bytes(b"anything")
    with pytest.raises(CheckpointError, match=r"bayes-pfl convert authors.* --out FOLDER"):
        load_checkpoint(path, device="cpu")


def test_other_files_and_unknown_names_are_refused(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        find_checkpoint(tmp_path / "picture.png")
    for name in ("no-such-name", str(tmp_path), str(tmp_path / "absent"), "../x", "."):
        with pytest.raises(CheckpointError, match="not found"):
            find_checkpoint(name)


# Files whole or not at all ---------------------------------------------------------------------


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_failed_saving_leaves_the_old_checkpoint_as_it_was(call, tiny_model, folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_):
        raise OSError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(CheckpointError, match=r"cannot be written \(the disk is full\)"):
        tiny_model.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_interrupted_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file.txt", "text")
    assert list(tmp_path.iterdir()) == []


def test_written_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_text("")
    written = write_atomically(tmp_path / "written", "täxt")
    assert written.read_text(encoding="utf-8") == "täxt"
    assert written.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_folder_that_cannot_be_made_is_told(tiny_model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="below: cannot be written .*choose a folder"):
        tiny_model.save_pretrained(tmp_path / "file" / "below")
    with pytest.raises(CheckpointError, match=r"file: cannot be written \(it is a file\)"):
        tiny_model.save_pretrained(tmp_path / "file")


# Configs ---------------------------------------------------------------------------------------

model_configs = st.builds(
    ModelConfig,
    backbone=st.builds(
        BackboneConfig,
        name=st.text(max_size=20),
        pretrained=st.none() | st.text(max_size=5),
        image_size=st.none() | st.integers(1, 2000),
        layers=st.none() | st.lists(st.integers(1, 40), min_size=1, max_size=5).map(tuple),
        activation=st.sampled_from(["auto", "gelu", "quick_gelu"]),
    ),
    prompts=st.builds(PromptConfig, st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    flow=st.builds(FlowConfig, st.integers(0, 20), st.booleans()),
    scoring=st.builds(
        ScoringConfig, st.integers(1, 99), st.sampled_from([1, 2]), st.floats(0, 1, width=32)
    ),
)


@settings(max_examples=50, deadline=None)
@given(model_configs)
def test_config_survives_json(config):
    assert from_dict(ModelConfig, json.loads(json.dumps(asdict(config)))) == config


def test_train_config_survives_a_file(tmp_path):
    config = TrainConfig(betas=(0.1, 0.2), steps_per_epoch=7)
    (tmp_path / "train.json").write_text(json.dumps(asdict(config)))
    assert load_json(TrainConfig, tmp_path / "train.json") == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_heads": True}, "expected int, found True"),
        ({"attention_heads": 2.0}, "expected int, found 2.0"),
        ({"attention_heads": 0}, "attention_heads = 0: must be at least 1"),
        ({"scoring": {"stage": 2.0}}, "2.0 is not one of 1, 2"),
        ({"scoring": {"stage": True}}, "True is not one of 1, 2"),
        ({"scoring": {"smoothing": -0.1}}, r"scoring\.smoothing = -0\.1: must be at least 0"),
        ({"scoring": {"map_range": [0.7, 0.2]}}, r"map_range = \[0\.7, 0\.2\]: must rise"),
        ({"scoring": {"smoothing": float("nan")}}, "not a finite number"),
        ({"scoring": {"samples": None}}, "expected int, found None"),
        ({"backbone": {"layers": 3}}, "expected a list"),
        ({"backbone": {"layers": ["a"]}}, "expected int, found 'a'"),
        ({"backbone": {"layers": []}}, r"layers = \[\]"),
        ({"backbone": {"image_size": 0}}, "image_size = 0: must be at least 1"),
        ({"backbone": []}, "expected an object, found list"),
        ({"promts": {}}, "unknown entry 'promts'"),
    ],
)
def test_unusable_config_values_are_refused(change, message):
    data = asdict(ModelConfig())
    for key, value in change.items():
        data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
    with pytest.raises(ConfigError, match=message) as error:
        from_dict(ModelConfig, data, "here")
    assert "here" in str(error.value)


def test_faults_of_all_parts_of_a_config_are_reported_together():
    stages = {"stage1": {"epochs": -1, "patience": 3}, "stage2": {"epochs": -2, "patience": "x"}}
    data = asdict(TrainConfig()) | stages | {"batch_size": 0, "betas": [0.5, 2.0]}
    with pytest.raises(ConfigError) as error:
        from_dict(TrainConfig, data, "here")
    assert str(error.value).split("; ") == [
        "here.stage1.epochs = -1: must be at least 0",
        "here.stage2.patience: expected int, found 'x'",
        "here.stage2.epochs = -2: must be at least 0",
        "here.batch_size = 0: must be at least 1",
        "here.betas = 2.0: must be at most 1",
    ]


def test_tuples_of_fixed_length_are_counted():
    data = asdict(TrainConfig()) | {"betas": [0.5]}
    with pytest.raises(ConfigError, match=r"betas: expected 2 values, found \[0\.5\]"):
        from_dict(TrainConfig, data)


def test_missing_entries_without_a_default_are_named():
    data = asdict(TrainConfig()) | {"stage1": {"epochs": 3}}
    with pytest.raises(ConfigError, match="stage1: missing entry 'patience'"):
        from_dict(TrainConfig, data)
