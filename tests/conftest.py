"""What tests share: a tiny random CLIP on disk, a model around it, and its checkpoint."""

from __future__ import annotations

import json
import pickle

import pytest
import torch

from bayes_pfl import BayesPFL
from bayes_pfl.checkpoints.load import build_model
from bayes_pfl.clip.text_tower import TextTower
from bayes_pfl.config import BackboneConfig, ModelConfig, ScoringConfig
from bayes_pfl.train import spawning
from tests.helpers.commands import command

TINY_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 48,
        "patch_size": 8,
        "layers": 4,
        "width": 64,
        "head_width": 32,
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 2,
    },
}


# Files whose single tests take long. They come first, so that none is left over at the end, when
# the other processes have nothing more to do.
LONG_FILES = {
    *(
        "test_demo.py",
        "test_embedded.py",
        "test_kill.py",
        "test_parallel.py",
        "test_pretraining.py",
    ),
    *("test_run.py", "test_signals.py", "test_trainer.py", "test_tuning_state.py", "test_wheel.py"),
}


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run tests marked slow")


def pytest_collection_modifyitems(config, items):
    reasons = {}
    if not config.getoption("--slow"):
        reasons["slow"] = "runs with --slow"
    if not torch.cuda.is_available():
        reasons["gpu"] = "needs a CUDA device"
    for item in items:
        for mark, reason in reasons.items():
            if mark in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
    items.sort(key=lambda item: item.path.name not in LONG_FILES)


@pytest.fixture(scope="session")
def clip_dir(tmp_path_factory):
    """Folder of a tiny random CLIP (image 48, patch 8, D = T = 32), as open_clip writes them."""
    import open_clip
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("tiny-clip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = open_clip.CLIP(**TINY_CLIP)
    state = {name: value.contiguous() for name, value in clip.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    config = {"model_cfg": TINY_CLIP, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_config(clip_dir):
    """ModelConfig of `tiny_model`."""
    backbone = BackboneConfig(name=f"local-dir:{clip_dir}")
    return ModelConfig(backbone=backbone, scoring=ScoringConfig(samples=3))


@pytest.fixture(scope="session")
def tiny_model(tiny_config) -> BayesPFL:
    """A model on the tiny CLIP, on the CPU. Shared by all tests: copy it to change it."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return build_model(tiny_config, model_class=BayesPFL).eval()


@pytest.fixture(scope="session")
def checkpoint_dir(tiny_model, tmp_path_factory):
    """`tiny_model`, saved; its backbone is found beside it."""
    return tiny_model.save_pretrained(tmp_path_factory.mktemp("tiny-checkpoint"))


@pytest.fixture
def prompted(monkeypatch):
    """The class names that reach the tokenizer in this process, a set that fills."""
    names: set[str] = set()
    tokenize = TextTower.tokenize

    def recording(tower, class_names, vectors):
        names.update(class_names)
        return tokenize(tower, class_names, vectors)

    monkeypatch.setattr(TextTower, "tokenize", recording)
    return names


@pytest.fixture
def forked(monkeypatch):
    """What `spawn` starts are forks: all is imported there, which takes new processes seconds."""
    start = spawning.multiprocessing.start_processes

    def fork(enter, arguments, *, start_method, **options):
        *others, work = arguments
        work = pickle.loads(pickle.dumps(work))  # as a new process would get it
        return start(enter, (*others, work), start_method="fork", **options)

    monkeypatch.setattr(spawning.multiprocessing, "start_processes", fork)


@pytest.fixture
def run(capsys):
    """Run a command; gives exit code, standard output and standard error."""

    def call(*arguments):
        code = command(*arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
