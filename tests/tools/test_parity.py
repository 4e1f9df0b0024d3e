"""Agreement with the published implementation, and with a slow one for other sizes and names."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from bayes_pfl.errors import CheckpointError
from parity.outputs import Difference, published_word, verify
from tests.helpers.paths import PARITY
from tests.helpers.reference import Sizes, write_fixture

COPIED = ["config.json", "weights.safetensors", "outputs.safetensors"]


@pytest.fixture
def folder(tmp_path):
    """A copy of the published fixture, to be damaged."""
    for path in [*(PARITY / name for name in COPIED), *PARITY.glob("image_*.png")]:
        shutil.copy(path, tmp_path)
    return tmp_path


def change(path, **tensors):
    """Replace (None: drop) tensors of a safetensors file; keys have / for the dots."""
    state = load_file(path)
    for name, value in tensors.items():
        name = name.replace("/", ".")
        state.pop(name)
        if value is not None:
            state[name] = value
    save_file(state, path)


def test_every_published_output_is_met():
    differences = verify(PARITY)
    assert [x for x in differences if not x.error <= 1e-4] == []
    names = {x.name for x in differences}
    listed = load_file(PARITY / "outputs.safetensors")
    given = {n for n in listed if ".eps_" in n}
    given |= {"train.mask", "train.label", "train.prompt_index"}
    assert names == set(listed) - given - {"train.loss.reconstruction_unused"}
    assert len([n for n in names if "grad_norm" in n]) > 40


@pytest.mark.parametrize(
    ("weight", "touched"),
    [
        ("model/prompt_context", "test.0.text_embeddings"),
        ("model/RCA/linear_proj/2/weight", "test.1.stage1.anomaly_map"),
        ("model/fuse/post_process/bias", "test.2.stage2.image_score"),
        ("model/PFL_abnormal/amor_w", "train.loss.kl_agnostic_abnormal_x0_01"),
        ("clip/visual/conv1/weight", "patch_tokens.3"),
    ],
)
def test_a_perturbed_weight_is_noticed(weight, touched, folder):
    path = folder / "weights.safetensors"
    value = load_file(path)[weight.replace("/", ".")].float()
    change(path, **{weight: value + 0.02 * torch.sign(value)})
    failed = {x.name for x in verify(folder) if not x.passed}
    assert touched in failed


def test_an_output_that_is_not_computed_fails(folder):
    path = folder / "outputs.safetensors"
    save_file(load_file(path) | {"test.0.novelty": torch.zeros(2)}, path)
    failed = [x for x in verify(folder) if not x.passed]
    assert [x.name for x in failed] == ["test.0.novelty"] and math.isnan(failed[0].error)


def test_outputs_that_are_not_numbers_fail(folder):
    value = torch.tensor(float("nan"))
    change(folder / "outputs.safetensors", **{"train/loss/dice": value})
    assert [x.name for x in verify(folder) if not x.passed] == ["train.loss.dice"]


def test_scalars_may_be_stored_with_an_axis_of_length_one(folder):
    path = folder / "outputs.safetensors"
    outputs = load_file(path)
    outputs = {k: v.reshape(1) if v.ndim == 0 else v for k, v in outputs.items()}
    save_file(outputs, path)
    assert all(x.passed for x in verify(folder))


def test_tolerance_is_inclusive_and_refuses_nan():
    assert Difference("x", 1e-4).passed and not Difference("x", 1.01e-4).passed
    assert not Difference("x", float("nan")).passed


@pytest.mark.parametrize(
    ("category", "words"),
    [
        ("metal_nut", "metal nut"),
        ("pipe_fryum", "pipe fryum"),
        ("macaroni2", "macaroni"),
        ("pcb3", "printed circuit board"),
        ("chewinggum", "chewing gum"),
        ("metal1", "metal1"),
        ("Blotchy_099", "Blotchy 099"),
    ],
)
def test_words_of_a_fixture_are_the_published_ones(category, words):
    assert published_word(category) == words


OTHERS = {
    "other names": (
        Sizes(classes=("macaroni2", "pcb4", "chewinggum"), labels=(0, 1, 1)),
        ["macaroni", "printed circuit board", "chewing gum"],
    ),
    "unseen words that split": (
        Sizes(classes=("zwiebelringschneider", "x-ray_tube", "metal1"), labels=(1, 1, 0)),
        ["zwiebelringschneider", "x-ray tube", "metal1"],
    ),
    "one of everything": (
        Sizes(flows=1, P=1, Q=1, M=1, R=1, pair=0, taps=(5,), classes=("wood",), labels=(1,)),
        ["wood"],
    ),
    "quick gelu, other heads": (
        Sizes(width=64, heads=4, text_width=48, text_heads=3, activation="quick_gelu"),
        ["bottle", "pipe fryum"],
    ),
    "many": (
        Sizes(flows=7, P=6, Q=5, M=4, R=3, pair=3, taps=(1, 2, 3, 4, 5), patch=4, native=16),
        ["bottle", "pipe fryum"],
    ),
    "no anomaly in the batch": (Sizes(labels=(0, 0)), ["bottle", "pipe fryum"]),
    "anomalous without a mask": (
        Sizes(labels=(1, 1), shaped_mask="none"),
        ["bottle", "pipe fryum"],
    ),
    "shorter text, smaller image than native": (
        Sizes(context=32, native=48, size=32),
        ["bottle", "pipe fryum"],
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_fixtures_are_met(name, tmp_path):
    sizes, words = OTHERS[name]
    differences = verify(write_fixture(tmp_path, sizes, words, seed=len(name)))
    assert [x for x in differences if not x.passed] == []
    assert len(differences) > 50


# What is no fixture ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*COPIED, "image_1.png"])
def test_missing_files_are_told(name, folder):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match="not a (whole )?parity fixture") as error:
        verify(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("entry", ["classes", "vision", "text", "image_size"])
def test_missing_entries_are_told(entry, folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config[entry]
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"not a parity fixture.*{entry}"):
        verify(folder)


def test_missing_draws_are_told(folder):
    change(folder / "outputs.safetensors", **{"train/eps_specific": None})
    with pytest.raises(CheckpointError, match=r"not a whole parity fixture.*train\.eps_specific"):
        verify(folder)


def test_missing_weights_are_told(folder):
    change(folder / "weights.safetensors", **{"model/class_mapping/bias": None})
    with pytest.raises(CheckpointError, match=r"missing alignment\.text_map\.bias"):
        verify(folder)
