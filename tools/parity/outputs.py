"""Agreement with the published implementation, output by output, on a fixture folder.

The folder's format is described in docs/parity.md: config.json, weights.safetensors,
outputs.safetensors and the input images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from bayes_pfl.checkpoints.authors import authors_config, convert_state_dict, our_name
from bayes_pfl.checkpoints.load import load_learned
from bayes_pfl.clip.architecture import model_cfg_of, without_marks
from bayes_pfl.clip.build import build_clip, set_activation
from bayes_pfl.clip.frozen_clip import FrozenCLIP, ImageFeatures
from bayes_pfl.config import BackboneConfig
from bayes_pfl.data.wording import PUBLISHED_WORDS
from bayes_pfl.errors import CheckpointError
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.objective import TrainingBatch, training_losses
from bayes_pfl.model.sampling import PromptNoise

TOLERANCE = 1e-4
SMALL_GRADIENT = 1e-4  # smaller norms are rounding errors of terms that cancel
LOSSES = {
    "classification": "classification",
    "focal": "focal",
    "dice": "dice",
    "orthogonal": "orthogonal",
    "kl_specific_x0_01": "flow_specific",
    "kl_agnostic_normal_x0_01": "flow_normal",
    "kl_agnostic_abnormal_x0_01": "flow_abnormal",
    "total": "total",
}


@dataclass(frozen=True)
class Difference:
    """Largest error of one output; relative for gradient norms, absolute for all else."""

    name: str
    error: float

    @property
    def passed(self) -> bool:
        """At most the tolerance; NaN fails."""
        return self.error <= TOLERANCE


def published_word(category: str) -> str:
    """Category -> words of the prompt, by the published rule alone: a closing number stays."""
    if category in ("macaroni1", "macaroni2"):
        return "macaroni"
    return PUBLISHED_WORDS.get(category, category.replace("_", " "))


class Fixture:
    """A fixture folder, and the model rebuilt from its weights."""

    def __init__(self, folder: Path) -> None:
        try:
            self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())
            weights = load_file(folder / "weights.safetensors")
            self.outputs = load_file(folder / "outputs.safetensors")
        except Exception as error:  # safetensors and json raise unrelated types
            raise CheckpointError(f"{folder}: not a parity fixture ({error})") from error
        self.folder = folder
        try:
            self.classes = [published_word(name) for name in self.config["classes"]]
            self.model = self._model(weights)
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{folder}: not a parity fixture ({error} is missing)") from error

    def _model(self, weights: dict[str, Tensor]) -> BayesPFLNetwork:
        vision, text = self.config["vision"], self.config["text"]
        clip_state = without_marks(self._clip_weights(weights))
        cfg = model_cfg_of(clip_state)
        if heads := vision.get("heads"):
            cfg["vision_cfg"]["head_width"] = cfg["vision_cfg"]["width"] // heads
        cfg["text_cfg"]["heads"] = text.get("heads") or cfg["text_cfg"]["heads"]
        size, layers = self.config["image_size"], self.config["feature_layers_1based"]
        clip = build_clip(cfg, clip_state, size, "this architecture")
        set_activation(clip, vision["activation"])
        tokenizer = open_clip.get_tokenizer("ViT-B-32")
        backbone = FrozenCLIP(clip, tokenizer, image_size=size, layers=layers)
        set_activation(backbone.text, text.get("activation", vision["activation"]))
        state = convert_state_dict(
            {k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")}
        )
        config = authors_config(state, BackboneConfig(str(self.folder)), stage=1)
        model = BayesPFLNetwork(config, backbone)
        load_learned(model, state, self.folder / "weights.safetensors")
        return model

    def _clip_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        clip = {
            k.removeprefix("clip."): v.float() for k, v in weights.items() if k.startswith("clip.")
        }
        ids, rows = clip.pop("token_ids").long(), clip.pop("token_rows")
        table = torch.zeros(self.config["text"]["vocab_size"], rows.shape[1])
        clip["token_embedding.weight"] = table.index_copy(0, ids, rows)
        return clip

    def images(self) -> list[Image.Image]:
        """The input images, RGB, in the order of the classes."""
        paths = [self.folder / f"image_{i}.png" for i in range(len(self.classes))]
        return [Image.open(path).convert("RGB") for path in paths]


def verify(folder: Path) -> list[Difference]:
    """Largest error of every output that the fixture lists.

    Raises:
        CheckpointError: the folder is not a fixture.
    """
    try:
        differences = list(_differences(Fixture(folder)))
    except (KeyError, OSError) as error:
        raise CheckpointError(f"{folder}: not a whole parity fixture ({error})") from error
    if not differences:
        raise CheckpointError(f"{folder}: outputs.safetensors lists no output to compare")
    return differences


def _differences(fixture: Fixture) -> Iterator[Difference]:
    computed: dict[str, Tensor] = {}
    with torch.no_grad():
        computed["preprocessed"] = _preprocessed(fixture)
        features = fixture.model.backbone.encode_image(fixture.outputs["preprocessed"])
        computed |= _image_outputs(fixture, features)
        for index in range(len(fixture.classes)):
            computed |= _test_outputs(fixture, features, index)
    computed |= _training_outputs(fixture, features)
    yield from _compare(fixture.outputs, computed)


def _compare(expected: dict[str, Tensor], computed: dict[str, Tensor]) -> Iterator[Difference]:
    for name, value in expected.items():
        given = (".eps_", "train.mask", "train.label", "train.prompt_index")
        if any(mark in name for mark in given) or name.endswith("reconstruction_unused"):
            continue  # inputs, and a term that no total contains
        ours = computed.get(name)
        if ours is None or ours.squeeze().shape != value.squeeze().shape:
            yield Difference(name, float("nan"))
            continue
        error = (ours.squeeze().double() - value.squeeze().double()).abs().max()
        if "grad_norm" in name:
            error = error / value.abs().clamp_min(SMALL_GRADIENT)
        yield Difference(name, float(error))


def _preprocessed(fixture: Fixture) -> Tensor:
    """Our images, but the fixture's where they differ by one grey level: Pillow's releases do."""
    ours = torch.stack([fixture.model.transform(image) for image in fixture.images()])
    given = fixture.outputs["preprocessed"]
    level = 1 / 255 / torch.tensor(fixture.model.backbone.std).view(3, 1, 1)
    if ours.shape != given.shape:
        return ours
    return torch.where((ours - given).abs() <= 1.01 * level, given, ours)


def _image_outputs(fixture: Fixture, features: ImageFeatures) -> dict[str, Tensor]:
    visual: Any = fixture.model.backbone.visual
    outputs = {
        "tokens": _padded_tokens(fixture),
        "image_features": features.pooled,
    }
    for layer, tokens in zip(fixture.model.backbone.layers, features.tokens, strict=True):
        outputs[f"patch_tokens.{layer}"] = tokens
        outputs[f"projected_patch_tokens.{layer}"] = visual.ln_post(tokens) @ visual.proj
    return outputs


def _padded_tokens(fixture: Fixture) -> Tensor:
    """Ids of "X {name}" as the published code feeds them: one placeholder, zeros to the end."""
    names = fixture.model.backbone.text.tokenize(fixture.classes, vectors=1)
    placeholder = fixture.model.backbone.text.tokenizer(["X"])[0, 1]
    middle = placeholder.expand(len(fixture.classes), 1)
    ids = torch.cat([names.prefix, middle, names.suffix], dim=1)
    return F.pad(ids, (0, fixture.config["text"]["context_length"] - ids.shape[1]))


def _test_outputs(fixture: Fixture, features: ImageFeatures, index: int) -> dict[str, Tensor]:
    model, given = fixture.model, fixture.outputs
    noise = PromptNoise(
        given[f"test.{index}.eps_specific"],
        given["test.eps_agnostic_normal"],
        given["test.eps_agnostic_abnormal"],
    )
    samples = model.samples_from(noise)
    one = slice(index, index + 1)
    single = ImageFeatures(
        features.pooled[one], tuple(x[one] for x in features.tokens), features.grid
    )
    specific = model.specific_sample(single.pooled, samples)
    text = model.text_embeddings(specific, samples, fixture.classes[one])
    outputs = {f"test.{index}.text_embeddings": text.flatten(1, 2)}
    for stage in (1, 2):
        scores = model.score_features(single, text, stage)
        outputs[f"test.{index}.stage{stage}.image_score"] = scores.text_score[0]
        outputs[f"test.{index}.stage{stage}.anomaly_map"] = scores.map[0]
    return outputs


def _with_samples(noise: Tensor, batch: int) -> Tensor:
    """Training noise, one draw per image (B, D), as (B, 1, D)."""
    return noise.reshape(batch, -1, noise.shape[-1])


def _training_outputs(fixture: Fixture, features: ImageFeatures) -> dict[str, Tensor]:
    model, given = fixture.model, fixture.outputs
    noise = PromptNoise(
        _with_samples(given["train.eps_specific"], len(fixture.classes)),
        given["train.eps_agnostic_normal"],
        given["train.eps_agnostic_abnormal"],
    )
    masks = given["train.mask"]
    batch = TrainingBatch(
        features,
        fixture.classes,
        masks.reshape(-1, *masks.shape[-2:]).float(),
        given["train.label"].flatten().long(),
        noise,
        int(given["train.prompt_index"]),
    )
    losses = training_losses(model, batch)
    losses["total"].backward()
    with torch.no_grad():
        samples = model.samples_from(noise)
        specific = model.specific_sample(features.pooled, samples)
        text = model.text_embeddings(specific, samples, fixture.classes)
    outputs = {f"train.loss.{theirs}": losses[ours].detach() for theirs, ours in LOSSES.items()}
    outputs["train.text_embeddings"] = text.flatten(1, 2)
    parameters = dict(model.learned_parameters())
    for name in given:
        ours = our_name(name.removeprefix("train.grad_norm.")) if "grad_norm" in name else None
        if ours in parameters and parameters[ours].grad is not None:
            outputs[name] = parameters[ours].grad.norm()  # type: ignore[union-attr]
    return outputs
