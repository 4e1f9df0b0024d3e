"""A device that is not there: one line and exit code 2, from every command that has --device."""

from __future__ import annotations

import pytest
import torch
import typer

from bayes_pfl.cli.main import app
from tests.helpers.layout_trees import BUILDERS, Painter

pytestmark = pytest.mark.skipif(
    torch.accelerator.is_available(), reason="here are devices besides the CPU"
)


def commands_with(option):
    """Every command of the command line that has this option, as words."""

    def walk(command, words):
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, (*words, name))
        if words and any(option in parameter.opts for parameter in command.params):
            yield " ".join(words)

    return sorted(walk(typer.main.get_command(app), ()))


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """What else each command needs."""
    root = tmp_path_factory.mktemp("devices")
    BUILDERS["mvtec"](Painter(root / "tree"))
    pictures, out = root / "tree" / "bottle" / "test" / "good", root / "out"
    return {
        "app": ("--no-browser",),
        "calibrate": (pictures, "--class-name", "nut", "--out", out),
        "class-names": (pictures, "--class-name", "nut"),
        "evaluate": ("--data", root / "tree", "--out", out),
        "fit": (pictures, "--out", out),
        "predict": (pictures, "--out", out),
        "resize": ("bayes-pfl-tiny", "--image-size", 64, "--out", out),
        "serve": ("bayes-pfl-tiny", "--port", 0),
        "scoreboard": (root / "tree", "--out", out),
    }


@pytest.fixture(autouse=True)
def without_gradio(monkeypatch):
    """The page needs an extra; what is done before it is served does not."""
    monkeypatch.setattr("bayes_pfl.app.server.check_installed", lambda: None)


def refused(result):
    code, said, complained = result
    (line,) = [line for line in complained.splitlines() if not line.startswith("note: ")]
    assert code == 2 and said == ""
    return line


@pytest.mark.parametrize("device", ["cuda", "gpu", "mps", "cuda:7", "nonsense", "meta"])
@pytest.mark.parametrize("name", commands_with("--device"))
def test_every_command_names_the_device_and_what_there_is(run, given, name, device):
    line = refused(run(*name.split(), *given[name], "--device", device))
    assert line == (
        f"error: device = {device!r}: there is none here; use cpu, or leave it out for the best of "
        "them"
    )


@pytest.mark.parametrize("pool", [(), ("--gpus-per-actor", 1)])
@pytest.mark.parametrize("device", ["gpu", "mps", "nonsense"])
def test_ray_refuses_before_it_starts_a_worker(run, given, monkeypatch, device, pool):
    monkeypatch.setattr("bayes_pfl.predict.ray.engine.connected", pytest.fail)
    options = ("--engine", "ray", "--device", device, *pool)
    assert f"device = {device!r}: there is none here" in refused(
        run("predict", *given["predict"], *options)
    )


def test_a_device_that_would_not_be_used_is_refused(run, given):
    line = refused(run("predict", *given["predict"], "--runtime", "openvino", "--device", "cuda"))
    assert "--device cuda: --runtime openvino computes on the CPU; leave it out" in line
