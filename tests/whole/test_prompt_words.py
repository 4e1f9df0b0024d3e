"""The words that reach the tokenizer: of the card or the user, never a category or a folder."""

from __future__ import annotations

import shutil

import pytest

from bayes_pfl.rendering import TRAIN_CATEGORIES, write_mvtec_tree

WORDS = ("violin", "rain drop")
CARD = """\
name: mine
layouts: [mvtec]
categories:
  {0}: {{word: violin}}
  {1}: {{word: rain drop}}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two categories in a tree, and a card whose words have nothing to do with them."""
    root = tmp_path_factory.mktemp("words")
    tree = write_mvtec_tree(root / "data", TRAIN_CATEGORIES[:2], normals=1, anomalies=1, size=64)
    card = root / "mine.yaml"
    card.write_text(CARD.format(*TRAIN_CATEGORIES[:2]))
    return tree, card


@pytest.mark.parametrize("protocol", ["deploy", "authors"])
def test_evaluation(data, prompted, run, checkpoint_dir, tmp_path, protocol):
    tree, card = data
    code, _, error = run(
        *("evaluate", "--dataset", card, "--data", tree, "--checkpoint", checkpoint_dir),
        *("--out", tmp_path / "out", "--samples", 1, "--protocol", protocol, "--no-report"),
    )
    assert code == 0, error
    assert prompted == set(WORDS)


def test_training_and_its_validation(data, prompted, run, clip_dir, tmp_path):
    tree, card = data
    code, _, error = run(
        *("train", "--dataset", card, "--data", tree, "--out", tmp_path / "out"),
        *("--backbone", f"local-dir:{clip_dir}", "--accelerator", "cpu", "--held-out", 0.5),
        *("--epochs", 1, "--epochs2", 0, "--batch-size", 2, "--steps-per-epoch", 1),
    )
    assert code == 0, error
    assert prompted == set(WORDS)


def test_scoreboard(data, prompted, run, checkpoint_dir, tmp_path):
    tree, card = data
    code, _, error = run(
        *("scoreboard", card, "--data", tree, "--checkpoint", checkpoint_dir),
        *("--out", tmp_path / "out", "--resamples", 2),
    )
    assert code == 0, error
    assert prompted >= set(WORDS) and not prompted & {
        c.replace("_", " ") for c in TRAIN_CATEGORIES[:2]
    }


def test_prediction(data, prompted, run, checkpoint_dir, tmp_path):
    tree, _ = data
    folder = tree / TRAIN_CATEGORIES[0] / "test"
    first, second = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    table = tmp_path / "words.csv"
    table.write_text(f"path,class_name\n{first},violin\n{second},rain drop\n")
    code, _, error = run(
        *("predict", folder, "--class-name-from", table, "--checkpoint", checkpoint_dir),
        *("--out", tmp_path / "out", "--samples", 1, "--maps", "none", "--no-report"),
    )
    assert code == 0, error
    assert prompted == set(WORDS)


def test_prediction_by_folder(data, prompted, run, checkpoint_dir, tmp_path):
    picture = next(data[0].rglob("*.png"))
    for folder in ("metal_nut", "pcb3"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        shutil.copy(picture, tmp_path / "photos" / folder)
    code, _, error = run(
        *("predict", tmp_path / "photos", "--class-name-from", "folder", "--no-report"),
        *("--checkpoint", checkpoint_dir, "--out", tmp_path / "out", "--samples", 1),
    )
    assert code == 0, error
    assert prompted == {"metal nut", "printed circuit board"}
