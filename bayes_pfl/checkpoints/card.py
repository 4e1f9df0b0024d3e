"""Model card of a checkpoint on the hub: a README.md with metadata for the hub's search."""

from __future__ import annotations

from pathlib import Path

from bayes_pfl.config import ModelConfig

CARD_NAME = "README.md"
TAGS = ["bayes-pfl", "anomaly-detection", "anomaly-segmentation", "zero-shot", "clip"]

_BODY = """\
# {repository}

A checkpoint of [Bayes-PFL](https://arxiv.org/abs/2503.10080) (zero-shot anomaly detection by
Bayesian prompt flow learning) for the Python package `bayes-pfl`.

```python
from bayes_pfl import BayesPFL

model = BayesPFL.from_pretrained("{repository}")
result = model.predict("part.png", class_name="metal nut")
```

```sh
bayes-pfl predict FOLDER --checkpoint {repository} --class-name "metal nut" --out DIR
```

| | |
|---|---|
| backbone, not part of this repository | {backbone} |
| SHA-256 of its weights | {backbone_sha256} |
| image side, tapped layers | {config.backbone.image_size} px, {layers} |
| prompt pairs, context and state tokens | {config.prompts.pairs}, {tokens} |
| flow | {config.flow.length} planar steps, {constrained} |
| Monte Carlo samples | {config.scoring.samples} |
| parameters | {parameters:,} |
| SHA-256 of model.safetensors | `{digest}` |

Its training data, accuracy and limits were not stated by whoever pushed it.
"""


def card_of(
    config: ModelConfig,
    repository: str,
    own: Path,
    parameters: int,
    digest: str,
    license: str | None = None,
) -> str:
    """The model card: the checkpoint's own README.md if it has one, else the facts of its config.

    Args:
        config: of the model.
        repository: ``org/name``.
        own: README.md in the checkpoint's folder; may be absent. Metadata in it are kept.
        parameters: number of learnt weights.
        digest: SHA-256 of the weights.
        license: an identifier of the hub; None for "unknown".
    """
    text = own.read_text(encoding="utf-8") if own.is_file() else None
    if text is not None and text.startswith("---\n"):
        return text
    if text is None:
        text = _body(config, repository, parameters, digest)
    return f"---\n{_metadata(config, license)}\n---\n\n{text}"


def _metadata(config: ModelConfig, license: str | None) -> str:
    from huggingface_hub import ModelCardData

    prefix, _, base = config.backbone.name.partition("hf-hub:")
    return ModelCardData(
        license=license or "unknown",
        library_name="bayes-pfl",
        tags=TAGS,
        base_model=base if base and not prefix else None,
    ).to_yaml()


def _body(config: ModelConfig, repository: str, parameters: int, digest: str) -> str:
    backbone = config.backbone
    weights = f" with the weights `{backbone.pretrained}`" if backbone.pretrained else ""
    return _BODY.format(
        repository=repository,
        backbone=f"`{backbone.name}`{weights}",
        backbone_sha256=f"`{backbone.sha256}`" if backbone.sha256 else "not known",
        config=config,
        tokens=f"{config.prompts.context_tokens} and {config.prompts.state_tokens}",
        layers=", ".join(str(layer) for layer in backbone.layers or ()) or "the backbone's own",
        constrained="invertible" if config.flow.constrained else "not constrained",
        parameters=parameters,
        digest=digest,
    )
