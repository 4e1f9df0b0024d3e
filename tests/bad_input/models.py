"""Checkpoints, their configs, and weights."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.clip.load import load_backbone
from bayes_pfl.config import BackboneConfig
from bayes_pfl.support.resources import resource_dir
from tests.bad_input.case import Case, World, message_of, one_image, write_json

See = Callable[[World], str]
WEIGHTS, CONFIG = "model.safetensors", "config.json"


class Touch:
    """A pickle that makes a file when it is read by an unsafe reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def refuses(change: Callable[[Path], object]) -> See:
    """A checkpoint, changed, given to predict: the line it refuses with."""

    def see(world: World) -> str:
        folder = world.folder / "checkpoint"
        shutil.copytree(world.checkpoint, folder)
        change(folder)
        message = message_of(lambda: load_checkpoint(folder, device="cpu"))
        images = one_image(world.folder / "images")
        line = world.predict(images, "--checkpoint", folder, code=2)
        assert " ".join(message.split())[:80] in line
        return line

    return see


def shipped(**changes: Any) -> See:
    """The embedded checkpoint with entries of its config replaced, as `config` does."""

    def see(world: World) -> str:
        embedded = resource_dir("checkpoints") / "bayes-pfl-tiny"
        return config(**changes)(replace(world, checkpoint=embedded))

    return see


def config(**changes: Any) -> See:
    """Entries of the model's config replaced, by dotted names with __."""

    def change(folder: Path) -> None:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        for name, value in changes.items():
            *places, last = name.split("__")
            part = content["model"]
            for place in places:
                part = part[place]
            part[last] = value
        write_json(folder / CONFIG, content)

    return refuses(change)


def text(content: str) -> See:
    return refuses(lambda folder: (folder / CONFIG).write_text(content, encoding="utf-8"))


def tensors(edit: Callable[[dict[str, torch.Tensor]], object]) -> See:
    """The weights, edited."""

    def change(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        edit(state)
        save_file({k: v.contiguous() for k, v in state.items()}, folder / WEIGHTS)

    return refuses(change)


def weights(content: Callable[[bytes], bytes]) -> See:
    """The bytes of the weights, changed."""

    def change(folder: Path) -> None:
        (folder / WEIGHTS).write_bytes(content((folder / WEIGHTS).read_bytes()))

    return refuses(change)


def first(state: dict[str, torch.Tensor]) -> str:
    return "prompts.context" if "prompts.context" in state else next(iter(state))


def wrong_shape(state: dict[str, torch.Tensor]) -> None:
    state[first(state)] = state[first(state)][:, :2].clone()


def with_value(value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda state: state[first(state)].view(-1)[:1].fill_(value)


def whole_numbers(state: dict[str, torch.Tensor]) -> None:
    state[first(state)] = state[first(state)].to(torch.int64)


def other_backbone(folder: Path) -> None:
    """A checkpoint of a CLIP of twice the width."""
    state = {k: torch.cat([v, v], -1) for k, v in load_file(folder / WEIGHTS).items() if v.ndim > 1}
    save_file(state, folder / WEIGHTS)


def other_weights(world: World) -> str:
    clip = shutil.copytree(world.clip, world.folder / "clip")
    state = load_file(clip / "open_clip_model.safetensors")
    state["logit_scale"] += 1
    save_file(state, clip / "open_clip_model.safetensors")
    return message_of(lambda: load_checkpoint(world.checkpoint, pretrained=str(clip)))


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def folder_for_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


def converted(write: Callable[[Path], object], name: str = "authors.pth") -> See:
    """A file given to convert; whatever is in it, nothing is made by it."""

    def see(world: World) -> str:
        path = world.folder / name
        write(path)
        options = ("--out", world.folder / "out", "--backbone", f"local-dir:{world.clip}")
        line = world.refused("convert", path, *options, "--image-size", 48)
        assert not (world.folder / "hacked").exists() and not (world.folder / "out").exists()
        return line

    return see


def code(path: Path) -> None:
    torch.save({"MyModel": Touch(path.parent / "hacked")}, path)


def cut_pickle(path: Path) -> None:
    torch.save({"MyModel": {"a": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:700])


def endless_tensor(path: Path) -> None:
    torch.save({"MyModel": {"a": torch.zeros(1).expand(10**12)}}, path)


def pickle_for_backbone(world: World) -> str:
    path = world.folder / "clip.pt"
    torch.save({"state_dict": Touch(world.folder / "hacked")}, path)
    message = message_of(lambda: load_backbone(BackboneConfig(name=str(path))))
    assert not (world.folder / "hacked").exists()
    return message


def given(path: Callable[[World], object]) -> See:
    """What is given as --checkpoint."""

    def see(world: World) -> str:
        images = one_image(world.folder / "images")
        return world.predict(images, "--checkpoint", path(world), code=2)

    return see


def pickle_file(world: World) -> Path:
    code(world.folder / "model.pth")
    return world.folder / "model.pth"


def embedded_damage(world: World) -> str:
    """One byte of the embedded weights changed, in a copy of the folder."""
    import bayes_pfl.checkpoints.load
    import bayes_pfl.support.checksums

    real = bayes_pfl.checkpoints.load.resource_dir("checkpoints")
    copy = shutil.copytree(real, world.folder / "checkpoints")
    path = copy / "bayes-pfl-tiny" / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with world.patch() as patch:
        for module in (bayes_pfl.checkpoints.load, bayes_pfl.support.checksums):
            patch.setattr(module, "resource_dir", lambda kind: copy)
        return message_of(lambda: load_checkpoint("bayes-pfl-tiny"))


def train_config(content: Any) -> See:
    """A file given to train as --config."""

    def see(world: World) -> str:
        path = write_json(world.folder / "train.json", content)
        data = one_image(world.folder / "data")
        least = ("--out", world.folder / "out", "--config", path)
        return world.refused("train", "--data", data, *least)

    return see


def long_header(data: bytes) -> bytes:
    return struct.pack("<Q", 2**62) + data[8:]


def clip_with(**changes: Any) -> See:
    """An open_clip folder whose architecture is changed, by dotted names with __."""

    def see(world: World) -> str:
        clip = shutil.copytree(world.clip, world.folder / "clip")
        content = json.loads((clip / "open_clip_config.json").read_text(encoding="utf-8"))
        for name, value in changes.items():
            part, last = name.split("__")
            content["model_cfg"][part][last] = value
        write_json(clip / "open_clip_config.json", content)
        return message_of(lambda: load_backbone(BackboneConfig(name=f"local-dir:{clip}")))

    return see


CONFIGS = (
    Case(
        "config.json with unknown keys",
        "`unknown entry 'colour' (known: backbone`",
        config(colour=1),
    ),
    Case(
        "config.json with wrong types",
        "`expected int, found 'three'`",
        config(prompts__pairs="three"),
    ),
    Case(
        "NaN in config.json",
        "`nan is not a finite number`",
        config(scoring__smoothing=float("nan")),
    ),
    Case(
        "number beyond floats in config.json",
        "`is not a finite number`",
        text('{"format_version": 1, "model": {"scoring": {"smoothing": 1' + "0" * 320 + "}}}"),
    ),
    Case(
        "negative number in config.json",
        "`prompts.pairs = -3: must be at least 1`",
        config(prompts__pairs=-3),
    ),
    Case(
        "size that would fill the memory in config.json",
        "`prompts.pairs = 1000000000: must be at most 1000`",
        config(prompts__pairs=10**9),
    ),
    Case(
        "token grid that would fill the memory",
        "`scoring an image would take about...GiB of memory, at most...most of it is for "
        "backbone.grid = 1024`",
        shipped(backbone__grid=1024),
    ),
    Case(
        "samples that would fill the memory",
        "`most of it is for samples = 10000 with prompts.pairs = 3: lower it`",
        shipped(scoring__samples=10_000),
    ),
    Case(
        "prompts that would fill the memory",
        "`other shape: prompts.context`; nothing is allocated for them",
        config(prompts__pairs=1000, prompts__context_tokens=1000),
    ),
    Case(
        "random weights that would fill the memory",
        "`random weights would take about...GiB of memory...backbone.name = 'ViT-bigG-14'`",
        shipped(backbone__name="ViT-bigG-14", backbone__random_weights=True),
    ),
    Case(
        "config.json with a repository that leads elsewhere",
        "`repository '../../x': give org/name`",
        config(backbone__name="hf-hub:../../x"),
    ),
    Case("config.json that is not JSON", "`not a checkpoint config of this package`", text("{")),
    Case("config.json nested 100,000 deep", "`nested too deeply`", text("[" * 100_000)),
    Case(
        "key twice in config.json",
        "`the key 'model' is given twice`",
        text('{"model": {}, "model": {}}'),
    ),
    Case(
        "config.json of a later format",
        "`this version reads 1; upgrade bayes-pfl`",
        text('{"format_version": 2, "model": {}}'),
    ),
    Case(
        "train --config with unknown keys", "`unknown entry 'colour'`", train_config({"colour": 1})
    ),
    Case(
        "train --config with a negative rate",
        "`lr_prompts = -1.0: must be at least 0`",
        train_config({"stage1": {"epochs": 1, "patience": 1}, "lr_prompts": -1}),
    ),
)

CHECKPOINTS = (
    Case("checkpoint of another backbone", "`does not fit backbone`", refuses(other_backbone)),
    Case("tensor of another shape", "`other shape: prompts.context`", tensors(wrong_shape)),
    Case(
        "tensor missing",
        "`missing prompts.context`",
        tensors(lambda state: state.pop(first(state))),
    ),
    Case(
        "tensor too many",
        "`unknown extra`",
        tensors(lambda state: state.update(extra=torch.zeros(2))),
    ),
    Case(
        "NaN in the weights",
        "`prompts.context holds NaN or infinity`",
        tensors(with_value(float("nan"))),
    ),
    Case(
        "whole numbers for weights",
        "`prompts.context holds int64; floating-point weights are wanted`",
        tensors(whole_numbers),
    ),
    Case(
        "model.safetensors cut short",
        "`truncated or not safetensors`",
        weights(lambda data: data[:-9]),
    ),
    Case(
        "model.safetensors whose header lies about its length",
        "`truncated or not safetensors`",
        weights(long_header),
    ),
    Case(
        "model.safetensors of zero bytes",
        "`truncated or not safetensors`",
        weights(lambda data: b""),
    ),
    Case(
        "a Git LFS pointer for model.safetensors",
        "`truncated or not safetensors`",
        weights(lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    ),
    Case(
        "folder called model.safetensors", "`not found: give a folder`", refuses(folder_for_weights)
    ),
    Case(
        "config.json missing",
        "`not found: give a folder with config.json and model.safetensors`",
        refuses(remove(CONFIG)),
    ),
    Case(
        "model.safetensors missing",
        "`not found: give a folder with config.json and model.safetensors`",
        refuses(remove(WEIGHTS)),
    ),
    Case("backbone weights changed since training", "`SHA-256 is`", other_weights),
    Case("embedded weights damaged", "`it was shipped as`", embedded_damage),
    Case(
        "pickle given as a checkpoint",
        "`a pickle, not a checkpoint of this package`; it is not opened",
        given(pickle_file),
    ),
    Case("checkpoint name of 5,000 characters", "`is no path`", given(lambda world: "x" * 5000)),
    Case(
        "repository that leads elsewhere",
        "`repository 'org/..': give org/name`; nothing is looked for",
        given(lambda world: "org/.."),
    ),
    Case(
        "empty checkpoint folder",
        "`not found: give a folder`",
        given(lambda world: one_image(world.folder / "empty")),
    ),
    Case(
        "pickle with code, to convert",
        "`refused, it is a pickle that would run posix.mkdir`; it is not run",
        converted(code),
    ),
    Case(
        "pickle with code, as a backbone",
        "`a pickle that would run posix.mkdir`; it is not run",
        pickle_for_backbone,
    ),
    Case(".pth cut short", "`not readable as a PyTorch checkpoint`", converted(cut_pickle)),
    Case(
        "folder in place of a .pth", "`not readable as a PyTorch checkpoint`", converted(Path.mkdir)
    ),
    Case(
        "text called .pth",
        "`not readable as a PyTorch checkpoint`",
        converted(lambda path: path.write_text("no")),
    ),
    Case(
        "tensor that claims 4 TB",
        "`claims more values than the file holds`",
        converted(endless_tensor),
    ),
    Case(
        "other tensors in a .pth",
        '`no tensors under "MyModel"`',
        converted(lambda path: torch.save({"a": torch.zeros(2)}, path)),
    ),
    Case(
        "open_clip folder whose tokenizer brings code",
        "`tokenizer_kwargs has 'trust_remote_code', which is refused`",
        clip_with(
            text_cfg__hf_tokenizer_name="x", text_cfg__tokenizer_kwargs={"trust_remote_code": True}
        ),
    ),
    Case(
        "open_clip folder whose tower comes from a network",
        "`is no name of timm's own`",
        clip_with(vision_cfg__timm_model_name="hf_hub:org/name"),
    ),
    Case(
        "open_clip folder whose architecture would fill the memory",
        "`layers = 1000000000 in open_clip_config.json does not fit its weights`",
        clip_with(text_cfg__layers=10**9),
    ),
)
