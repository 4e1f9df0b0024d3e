"""Loggers of a run: real files of TensorBoard and CSV; W&B and MLflow as modules that record."""

import csv
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
from lightning_fabric import Fabric

from bayes_pfl.config import BackboneConfig, StageConfig
from bayes_pfl.errors import CheckpointError, ConfigError
from bayes_pfl.train import loggers
from bayes_pfl.train.devices import reading_processes
from bayes_pfl.train.run import TrainingRequest, run_training
from tests.train.test_first_weights import CONFIG, tree  # noqa: F401

STEPS, EPOCHS = 6, 3  # two a step of each epoch


@pytest.fixture
def request_for(tree, clip_dir, tmp_path):  # noqa: F811
    def make(*names):
        backbone = BackboneConfig(f"local-dir:{clip_dir}")
        return TrainingRequest(
            tree, tmp_path / "run", backbone, CONFIG, accelerator="cpu", loggers=names
        )

    return make


def history(state):
    """The last figures of both stages, as the run returns them."""
    return {row["stage"]: row["validation_ap"] for row in state.history}


def test_tensorboard_and_csv_hold_the_figures_of_steps_and_epochs(request_for):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    request = request_for("csv", "tensorboard", "csv")
    best = history(run_training(request))
    (file,) = request.out.glob("csv/*/metrics.csv")
    with file.open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert len(rows) == STEPS + EPOCHS
    assert [int(row["step"]) for row in rows] == [0, 1, 1, 2, 3, 3, 4, 5, 5]
    assert float(rows[-1]["stage2/validation_ap"]) == pytest.approx(best[2])
    events = EventAccumulator(str(request.out / "tensorboard")).Reload()
    losses = events.Scalars("stage1/total")
    assert [event.step for event in losses] == [0, 1, 2, 3]
    assert losses[0].value == pytest.approx(float(rows[0]["stage1/total"]))
    assert events.Scalars("stage2/validation_ap")[-1].value == pytest.approx(best[2])


class Recorder(ModuleType):
    """A package that keeps what is called."""

    def __init__(self, name):
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None, origin="here")
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **options: self.calls.append((name, args, options)) or self

    def named(self, name):
        return [(args, options) for called, args, options in self.calls if called == name]


@pytest.fixture(params=["wandb", "mlflow"])
def recorder(request, monkeypatch):
    monkeypatch.setitem(sys.modules, request.param, made := Recorder(request.param))
    return made


LOGS = {"wandb": "log", "mlflow": "log_metrics"}


def test_wandb_and_mlflow_get_the_settings_and_the_same_figures(recorder, request_for):
    best = history(run_training(request_for(recorder.__name__)))
    sent = recorder.named(LOGS[recorder.__name__])
    steps = [options["step"] for _, options in sent]
    assert len(sent) == STEPS + EPOCHS and steps == sorted(steps)
    assert sent[-1][0][0]["stage2/validation_ap"] == pytest.approx(best[2])
    if recorder.__name__ == "wandb":
        ((_, begun),) = recorder.named("init")
        settings = begun["config"]
        assert (begun["project"], begun["name"]) == ("bayes-pfl", "run")
        assert recorder.named("finish") == [((), {"exit_code": 0})]
    else:
        settings = {k: v for (part,), _ in recorder.named("log_params") for k, v in part.items()}
        assert all(len(part) <= 100 for (part,), _ in recorder.named("log_params"))
        assert recorder.named("end_run") == [(("FINISHED",), {})]
    assert str(settings["train.stage1.epochs"]) == "2"


def test_a_logger_that_fails_is_named_with_a_mend(recorder, request_for, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("no\nlogin")

    monkeypatch.setattr(recorder, {"wandb": "init", "mlflow": "start_run"}[recorder.__name__], fail)
    name = recorder.__name__
    with pytest.raises(CheckpointError, match=rf"logger {name} failed \(no login\); .*--resume"):
        run_training(request_for(name))


def test_a_failed_run_tells_its_own_error(recorder, request_for, monkeypatch, caplog):
    def fail(*args, **options):
        raise RuntimeError("not closed")

    monkeypatch.setattr(recorder, {"wandb": "finish", "mlflow": "end_run"}[recorder.__name__], fail)
    request = request_for(recorder.__name__)
    hot = replace(request.config, lr_other=1e30, stage1=StageConfig(5, 5), steps_per_epoch=9)
    with pytest.raises(CheckpointError, match="loss is not finite"):
        run_training(replace(request, config=hot))
    assert "not closed" in caplog.text


@pytest.mark.parametrize("folder", [False, True])
def test_a_package_that_is_missing_is_one_line(request_for, monkeypatch, tmp_path, folder):
    if folder:  # W&B itself makes one of this name where it is started
        (tmp_path / "wandb").mkdir()
        monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    found = loggers.importlib.util.find_spec
    if not folder:
        monkeypatch.setattr(
            loggers.importlib.util,
            "find_spec",
            lambda name: None if name == "wandb" else found(name),
        )
    with pytest.raises(ConfigError, match=r"pip install 'bayes-pfl\[wandb\]'"):
        run_training(request_for("wandb"))
    with pytest.raises(ConfigError, match="'paper' is not known; give one of tensorboard, csv"):
        run_training(request_for("paper"))


def test_images_are_read_by_the_cores_beside_a_gpu_alone(monkeypatch):
    monkeypatch.setattr("bayes_pfl.train.devices.usable_cores", lambda: 12)
    fabric = Fabric(accelerator="cpu", devices=1)
    assert [reading_processes(given, fabric) for given in (None, 0, 5)] == [0, 0, 5]

    class Gpus:
        class device:
            type = "cuda"

        class strategy:
            num_processes = 4

    assert reading_processes(None, Gpus) == 2 and reading_processes(7, Gpus) == 7
    monkeypatch.setattr("bayes_pfl.train.devices.usable_cores", lambda: 2)
    assert reading_processes(None, Gpus) == 1
