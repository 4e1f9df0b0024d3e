"""The tool that makes the embedded model again: what it runs, and that it goes on after a stop."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.main import get_command

from bayes_pfl.cli.main import app
from bayes_pfl.config import TrainConfig
from bayes_pfl.support.typed_json import load_json
from pretraining import PretrainConfig
from tests.helpers.commands import load_script
from tests.helpers.paths import ROOT

RECIPES = ROOT / "tools" / "pretraining" / "recipes"


@pytest.fixture
def tool():
    return load_script("tools/pretrained.py")


@pytest.fixture
def ran(tool, monkeypatch):
    """Commands that were run; each makes the folder of its result."""
    commands = []

    def run(command, check):
        commands.append(command)
        folder = Path(command[command.index("--out") + 1])
        folder.mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(tool.subprocess, "run", run)
    return commands


def test_every_command_exists_with_its_options(tool, ran, tmp_path):
    assert tool.main(["--out", str(tmp_path), "--seeds", "0", "4"]) == 0
    known = get_command(app).commands
    own = [c[3:] for c in ran if c[1] == "-m"]
    assert [c[0] for c in own] == [
        *["synthesize"] * 3, "train", "resize", "train", "resize", "scoreboard"
    ]  # fmt: skip
    for name, *words in own:
        options = {option for p in known[name].params for option in p.opts}
        assert {word for word in words if word.startswith("--")} <= options
    assert own[-1].count("--checkpoint") == 2


def test_one_head_is_made_unless_told_otherwise(tool, ran, tmp_path):
    assert tool.main(["--out", str(tmp_path)]) == 0
    trainings = [c for c in ran if c[3] == "train"]
    assert [c[c.index("--seed") + 1] for c in trainings] == ["0"]


def test_what_is_done_is_not_done_again(tool, ran, tmp_path):
    tool.main(["--out", str(tmp_path), "--seeds", "0"])
    first = len(ran)
    assert tool.main(["--out", str(tmp_path), "--seeds", "0"]) == 0 and len(ran) == first
    tool.main(["--out", str(tmp_path), "--seeds", "0", "1"])
    assert [c[3] for c in ran[first:]] == ["train", "resize"]


def test_a_training_that_was_stopped_is_resumed(tool, ran, tmp_path):
    state = tmp_path / "head-0" / "last" / "state.pt"
    state.parent.mkdir(parents=True)
    state.touch()
    tool.main(["--out", str(tmp_path), "--seeds", "0", "1"])
    trainings = [c for c in ran if c[3] == "train"]
    assert ["--resume" in c for c in trainings] == [True, False]


def test_features_are_kept_unless_told_otherwise(tool, ran, tmp_path):
    tool.main(["--out", str(tmp_path / "a"), "--seeds", "0"])
    tool.main(["--out", str(tmp_path / "b"), "--seeds", "0", "--no-cache"])
    assert ["--cache-features" in c for c in ran if c[3] == "train"] == [True, False]


def test_a_failed_step_ends_it(tool, monkeypatch, tmp_path):
    monkeypatch.setattr(tool.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=3))
    assert tool.main(["--out", str(tmp_path)]) == 3
    assert not list(tmp_path.rglob("README.md"))


def test_recipes_of_both_trainings_are_handed_on(tool, ran, tmp_path):
    words = ["--clip-recipe", "clip.json", "--recipe", "head.json", "--device", "cuda"]
    tool.main(["--out", str(tmp_path), "--seeds", "0", *words])
    found = {c[3] if c[1] == "-m" else "pretrain": c for c in ran}
    for step, recipe in (("pretrain", "clip.json"), ("train", "head.json")):
        assert found[step][found[step].index("--config") + 1] == recipe
        assert "cuda" in found[step]


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.json")), ids=str)
def test_recipes_can_be_read(recipe):
    kind = PretrainConfig if recipe.name.startswith("clip") else TrainConfig
    load_json(kind, recipe)
