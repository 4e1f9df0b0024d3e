"""Which parameters learn in which stage, and at which learning rate."""

from __future__ import annotations

from typing import Any

from torch import nn

from bayes_pfl.config import TrainConfig
from bayes_pfl.model.network import BayesPFLNetwork


def set_stage(model: BayesPFLNetwork, stage: int) -> None:
    """Stage 1 trains all learned parameters; stage 2 only A_c, A_i and the fusion (section 4)."""
    for _, parameter in model.learned_parameters():
        parameter.requires_grad_(stage == 1)
    if stage == 2:
        model.alignment.requires_grad_(True)


def parameter_groups(model: BayesPFLNetwork, config: TrainConfig) -> list[dict[str, Any]]:
    """Parameter groups of the optimizer, each with its learning rate, without frozen parameters."""
    specific, agnostic = model.specific_flow, model.agnostic_flow
    flow: list[nn.Module] = [specific.u, specific.w, specific.b, agnostic.normal, agnostic.abnormal]
    groups: list[dict[str, Any]] = [
        {"params": list(model.prompts.parameters()), "lr": config.lr_prompts},
        {"params": [p for module in flow for p in module.parameters()], "lr": config.lr_flow},
        {"params": [model.log_scale_pixel, model.log_scale_image], "lr": config.lr_temperature},
    ]
    taken = {id(p) for group in groups for p in group["params"]}
    rest = [p for _, p in model.learned_parameters() if id(p) not in taken]
    groups.append({"params": rest, "lr": config.lr_other})
    for group in groups:
        group["params"] = [p for p in group["params"] if p.requires_grad]
    return [group for group in groups if group["params"]]
