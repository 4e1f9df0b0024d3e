"""Checkpoints of the authors' research code -> checkpoints of this package."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bayes_pfl.checkpoints.load import build_model, load_learned
from bayes_pfl.clip.torchscript import check_archive
from bayes_pfl.clip.weights import checked_tensors, load_reason
from bayes_pfl.config import (
    BackboneConfig,
    FlowConfig,
    ModelConfig,
    PromptConfig,
    ScoringConfig,
    TrainingRecord,
)
from bayes_pfl.data.cards import load_card
from bayes_pfl.errors import CheckpointError, ConfigError
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.checksums import file_sha256

logger = logging.getLogger(__name__)

AUTHORS_HEADS = 4  # fixed in the published code, no trace of it in the weights
AUTHORS_VALIDATION = {
    "mvtec": ("bottle", "hazelnut", "wood", "zipper", "leather"),
    "visa": ("chewinggum", "cashew", "pipe_fryum", "capsules", "candle"),
}
"""The categories of each benchmark on which the published runs on the other one are validated."""

# SHA-256 of a file that the authors released: the benchmark it was trained on, and the other one.
_RELEASED = {
    "b3d89b6a6018679e44f413ce4cb0931626bedbd480829d6fba94f2176f270fc3": ("visa", "mvtec"),
}
# (pattern of the authors' name, ours)
_NAMES = (
    (r"prompt_(context|state_normal|state_abnormal)", r"prompts.\1"),
    (r"context_encoder\.weight_mean\.module\.(.+)", r"specific_flow.base.mean.\1"),
    (r"context_encoder\.weight_log_variance\.module\.(.+)", r"specific_flow.base.log_variance.\1"),
    (r"state_encoder\.weight_mean\.module\.(.+)", r"agnostic_flow.base.mean.\1"),
    (r"state_encoder\.weight_log_variance\.module\.(.+)", r"agnostic_flow.base.log_variance.\1"),
    (r"PFL_context\.amor_([uwb])\.(.+)", r"specific_flow.\1.\2"),
    (r"PFL_(normal|abnormal)\.amor_([uwb])", r"agnostic_flow.\1.\2"),
    (r"PFL_(normal|abnormal)\.state", r"agnostic_flow.\1.vector"),
    (r"RCA\.q_proj_pre\.(.+)", r"attention.query.\1"),
    (r"RCA\.linear_proj\.(.+)", r"attention.patch_maps.\1"),
    (r"class_mapping\.(.+)", r"alignment.text_map.\1"),
    (r"image_mapping\.(.+)", r"alignment.image_map.\1"),
    (r"fuse\.fuse_modules\.(.+)", r"alignment.fusion.compress.\1"),
    (r"fuse\.compress\.(.+)", r"alignment.fusion.weigh.\1"),
    (r"fuse\.post_process\.(.+)", r"alignment.fusion.expand.\1"),
    (r"temperature_(image|pixel)", r"log_scale_\1"),
)
# Modules that the published code creates and never uses.
_UNUSED = re.compile(
    r"(context|state)_decoder\.|PFL_(context|normal|abnormal)\.(encoder|decoder|p_mu)\."
)


def our_name(name: str) -> str | None:
    """Our name of an authors' tensor or parameter; None for those that no output depends on."""
    for pattern, ours in _NAMES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, ours, name)
    if not _UNUSED.match(name):
        logger.warning("authors' checkpoint: %s is unknown and left out", name)
    return None


def convert_state_dict(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Authors' tensors in float32, under our names and without axes of length one."""
    named = {our_name(name.removeprefix("module.")): value for name, value in state.items()}
    return {ours: _reshape(ours, x.float()) for ours, x in named.items() if ours is not None}


def _reshape(name: str, value: Tensor) -> Tensor:
    if name.startswith("agnostic_flow.") and re.search(r"\.(u|w)$", name):
        return value.reshape(value.shape[1:2] + (-1,))  # (1, K, D, 1) and (1, K, 1, D)
    if re.search(r"(normal|abnormal)\.(b|vector)$", name):
        return value.reshape(-1)
    if name == "attention.query.weight":
        return value.squeeze(-1)  # a convolution of length one
    return value


def authors_config(state: dict[str, Tensor], backbone: BackboneConfig, stage: int) -> ModelConfig:
    """The config that the shapes of converted tensors imply. Their flows are not constrained.

    Raises:
        CheckpointError: a tensor that fixes a size is missing, or has another number of axes.
    """
    try:
        pairs, context_tokens, _ = state["prompts.context"].shape
        _, state_tokens, _ = state["prompts.state_normal"].shape
        (length,) = state["specific_flow.b.bias"].shape
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"tensor {error} is missing or misshapen: not a Bayes-PFL checkpoint of the authors' "
            "code"
        ) from error
    return ModelConfig(
        backbone=backbone,
        prompts=PromptConfig(pairs, context_tokens, state_tokens),
        flow=FlowConfig(length, constrained=False),
        scoring=ScoringConfig(stage=2 if stage == 2 else 1),
        attention_heads=AUTHORS_HEADS,
    )


def read_authors_file(path: Path) -> dict[str, Tensor]:
    """Tensors under "MyModel" of an authors' .pth; nothing in the file is executed.

    Raises:
        CheckpointError: not found, a pickle that carries code, or another format.
    """
    try:
        check_archive(path)
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # archive readers and unpicklers raise many unrelated types
        reason = load_reason(error)
        if "would run" in reason:
            mend = "more than tensors; get the checkpoint from its authors again"
            raise CheckpointError(f"{path}: refused, it is {reason}: {mend}") from error
        raise CheckpointError(
            f"{path}: not readable as a PyTorch checkpoint ({reason}); fetch it again"
        ) from error
    state = data.get("MyModel") if isinstance(data, dict) else None
    otherwise = 'no tensors under "MyModel": not the authors\' format'
    return checked_tensors(state, path, otherwise, CheckpointError)


def stage_of(path: Path, stage: int | None) -> int:
    """The training stage that an authors' file comes from: its name says so, or the user.

    Raises:
        ConfigError: they disagree.
    """
    named = re.fullmatch(r"epoch_post_\d+_([12])\.pth", path.name)
    if named and stage not in (None, int(named[1])):
        raise ConfigError(
            f"stage = {stage}, but {path.name} is of stage {named[1]} by its name; leave --stage "
            "out, or rename the file"
        )
    return int(named[1]) if named else stage or 2


def _training_record(path: Path) -> TrainingRecord | None:
    """What a released file was trained on; None for others, whose weights do not say it."""
    if (released := _RELEASED.get(file_sha256(path))) is None:
        return None
    trained, other = released
    return TrainingRecord(
        split="test",
        trained=tuple(f"{trained}/{name}" for name in load_card(trained).categories),
        validated=tuple(f"{other}/{name}" for name in AUTHORS_VALIDATION[other]),
    )


def convert_authors_checkpoint(
    path: Path, backbone: BackboneConfig, stage: int | None = None
) -> BayesPFLNetwork:
    """A model with the weights of an authors' file, in eval mode.

    Args:
        path: their .pth.
        backbone: the CLIP it was trained on. ``activation="auto"`` becomes plain GELU, as their
            code ran OpenAI's weights with it.
        stage: 1 for a checkpoint of their first training stage, 2 for one of the second; None to
            read it from a name as epoch_post_12_1.pth, else 2.

    Raises:
        ConfigError: the name says another stage.
        CheckpointError: not the authors' format, or made for another backbone.
        BackboneError: the backbone cannot be loaded.
    """
    state = convert_state_dict(read_authors_file(path))
    if backbone.activation == "auto":
        backbone = replace(backbone, activation="gelu")
    config = authors_config(state, backbone, stage_of(path, stage))
    model = build_model(replace(config, training=_training_record(path)))
    load_learned(model, state, path)
    return model.eval()
