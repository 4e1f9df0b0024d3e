"""A checkpoint is pushed to the Hugging Face hub, with a model card, in one commit."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

from bayes_pfl.checkpoints.format import (
    CHECKSUM,
    CONFIG_NAME,
    WEIGHTS_NAME,
    read_config,
    read_raw_config,
    read_weights,
)
from bayes_pfl.checkpoints.load import find_checkpoint
from bayes_pfl.clip.downloads import check_repository, why_unreachable
from bayes_pfl.config import ModelConfig
from bayes_pfl.errors import CheckpointError
from bayes_pfl.support.checksums import file_sha256
from bayes_pfl.support.error_text import hub_reason
from bayes_pfl.support.files import write_atomically

logger = logging.getLogger(__name__)

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
| began with | {began_with} |
| SHA-256 of model.safetensors | `{digest}` |

Its training data, accuracy and limits were not stated by whoever pushed it.
"""


def push_checkpoint(
    checkpoint: str | Path,
    repository: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    license: str | None = None,
) -> str:
    """Upload a checkpoint folder in one commit: config.json, model.safetensors and README.md.

    The repository, and the branch, are created where they do not exist. An existing model card is
    kept. The backbone's weights are not uploaded, the card names them.

    Args:
        checkpoint: what :func:`bayes_pfl.checkpoints.load.find_checkpoint` finds.
        repository: ``org/name``.
        private: whether a new repository is; None for the account's default.
        token: with the right to write; None for the one of `hf auth login` or HF_TOKEN.
        revision: branch; None for the main one.
        commit_message: None for "Bayes-PFL checkpoint".
        license: for the card, such as "apache-2.0"; None for "unknown".

    Returns:
        ``org/name@commit``, which :meth:`bayes_pfl.BayesPFL.from_pretrained` resolves to these
        very weights.

    Raises:
        CheckpointError: no such checkpoint, a damaged file, no connection, or the hub refused.
    """
    from huggingface_hub import HfApi, constants

    folder = find_checkpoint(checkpoint)
    check_repository(repository, revision, CheckpointError)
    if reason := why_unreachable():
        raise CheckpointError(f"cannot push to {repository}: {reason}")
    api = HfApi(endpoint=constants.ENDPOINT, token=token, library_name="bayes-pfl")
    with tempfile.TemporaryDirectory() as staging:
        _stage(folder, Path(staging), repository, license)
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(repository, branch=revision, exist_ok=True)
            kept = api.file_exists(repository, CARD_NAME, revision=revision)
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=staging,
                revision=revision,
                commit_message=commit_message or "Bayes-PFL checkpoint",
                ignore_patterns=[CARD_NAME] if kept else None,
            )
        except Exception as error:  # network libraries raise many unrelated types
            raise CheckpointError(f"cannot push to {repository}: {hub_reason(error)}") from error
    return f"{repository}@{commit.oid}"


def _stage(folder: Path, staging: Path, repository: str, license: str | None) -> None:
    """Copy what is uploaded: weights that can be read, config with their checksum, card."""
    config, raw = read_config(folder), read_raw_config(folder)
    parameters = sum(tensor.numel() for tensor in read_weights(folder / WEIGHTS_NAME).values())
    backbone = config.backbone.name
    if backbone.startswith("local-dir:") or Path(backbone).is_file():
        logger.warning(
            "backbone %s is a local file and is not pushed: others need its weights, and "
            "--pretrained",
            backbone,
        )
    write_atomically(staging / WEIGHTS_NAME, (folder / WEIGHTS_NAME).read_bytes())
    digest = file_sha256(staging / WEIGHTS_NAME)
    text = json.dumps(raw | {CHECKSUM: digest}, indent=2) + "\n"
    write_atomically(staging / CONFIG_NAME, text)
    card = card_of(config, repository, folder / CARD_NAME, parameters, digest, license)
    write_atomically(staging / CARD_NAME, card)


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
        began_with=_first_weights(config),
        digest=digest,
    )


def _first_weights(config: ModelConfig) -> str:
    """What the weights of a head were before it was trained, in words."""
    if config.training is None:
        return "not known"
    known = config.training.began_with
    return f"`{known.checkpoint}`, SHA-256 `{known.sha256}`" if known else "new weights"
