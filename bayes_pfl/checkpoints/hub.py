"""Checkpoints on the Hugging Face hub: fetched at a pinned revision and checked; pushed."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

from bayes_pfl.checkpoints.card import CARD_NAME, card_of
from bayes_pfl.checkpoints.load import CONFIG_NAME, WEIGHTS_NAME, read_config, read_weights
from bayes_pfl.clip.weights import hub_answers, hub_files
from bayes_pfl.errors import CheckpointError
from bayes_pfl.support.checksums import check_download, file_sha256
from bayes_pfl.support.files import write_atomically
from bayes_pfl.support.hub_errors import hub_reason
from bayes_pfl.support.parsing import MAX_CONFIG, read_json

logger = logging.getLogger(__name__)

CHECKSUM = "weights_sha256"  # entry of config.json on the hub


def fetch_checkpoint(
    name: str,
    revision: str | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Path:
    """Folder in the hub's cache with config.json and model.safetensors, checksum verified.

    Args:
        name: ``org/name`` or ``org/name@revision``.
        revision, local_files_only, token: as in :func:`bayes_pfl.clip.weights.hub_files`.

    Raises:
        CheckpointError: not to be had, or the weights are not those that were pushed.
    """
    repository, pinned = split_revision(name, revision)
    folder = hub_files(
        repository,
        (CONFIG_NAME, WEIGHTS_NAME),
        revision=pinned,
        local_files_only=local_files_only,
        token=token,
    )
    _verify(folder, name)
    return folder


def split_revision(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """Repository and revision of ``org/name@revision``.

    >>> split_revision("org/name@v1")
    ('org/name', 'v1')
    """
    repository, _, written = name.partition("@")
    if written and revision and written != revision:
        raise CheckpointError(f"{name}: revision = {revision!r} beside it; give one of the two")
    return repository, revision or written or None


def _verify(folder: Path, name: str) -> None:
    """Compare the weights with the checksums of the hub and of who pushed them, if there are."""
    check_download(folder / WEIGHTS_NAME, CheckpointError)
    wanted, found = _raw_config(folder).get(CHECKSUM), file_sha256(folder / WEIGHTS_NAME)
    if wanted is not None and wanted != found:
        raise CheckpointError(
            f"{folder / WEIGHTS_NAME}: SHA-256 is {found[:12]}..., config.json of {name} says "
            f"{str(wanted)[:12]}...: damaged or changed on its way; delete this file and load again"
        )


def _raw_config(folder: Path) -> dict[str, Any]:
    read_config(folder)  # tells what is wrong with it
    return read_json(folder / CONFIG_NAME, MAX_CONFIG)


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

    The repository, and the branch, are made if they are not there. A model card that is there
    already is left as it is. The backbone's weights are not uploaded, they are named.

    Args:
        checkpoint: what :func:`bayes_pfl.checkpoints.load.find_checkpoint` finds.
        repository: ``org/name``.
        private: whether a new repository is; None for the account's default.
        token: with the right to write; None for the one of `hf auth login` or HF_TOKEN.
        revision: branch; None for the main one.
        commit_message: None for "Bayes-PFL checkpoint".
        license: for the card, such as "apache-2.0"; None for "unknown".

    Returns:
        ``org/name@commit``, for :meth:`bayes_pfl.BayesPFL.from_pretrained`: just these weights.

    Raises:
        CheckpointError: nothing to push, a damaged file, no way to the hub, or it refused.
    """
    from bayes_pfl.checkpoints.load import find_checkpoint

    folder = find_checkpoint(checkpoint)
    _check_name(repository)
    hub_answers(f"cannot push to {repository}", CheckpointError)
    with tempfile.TemporaryDirectory() as staging:
        _stage(folder, Path(staging), repository, license)
        try:
            commit = _upload(
                Path(staging),
                repository,
                private,
                token,
                revision,
                commit_message or "Bayes-PFL checkpoint",
            )
        except Exception as error:  # network libraries raise many unrelated types
            raise CheckpointError(f"cannot push to {repository}: {hub_reason(error)}") from error
    return f"{repository}@{commit}"


def _check_name(repository: str) -> None:
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except ValueError as error:
        raise CheckpointError(f"repository {repository!r}: {hub_reason(error)}") from error
    if repository.count("/") != 1:
        raise CheckpointError(f"repository {repository!r}: give org/name, with one slash")


def _stage(folder: Path, staging: Path, repository: str, license: str | None) -> None:
    """What is to be uploaded: weights that can be read, config with their checksum, card."""
    config, raw = read_config(folder), _raw_config(folder)
    parameters = sum(tensor.numel() for tensor in read_weights(folder / WEIGHTS_NAME).values())
    backbone = config.backbone.name
    if backbone.startswith("local-dir:") or Path(backbone).is_file():
        logger.warning(
            "backbone %s lies on this machine and is not pushed: others need its weights, and "
            "--pretrained",
            backbone,
        )
    weights = (folder / WEIGHTS_NAME).read_bytes()
    write_atomically(staging / WEIGHTS_NAME, weights)
    digest = file_sha256(staging / WEIGHTS_NAME)
    text = json.dumps(raw | {CHECKSUM: digest}, indent=2) + "\n"
    write_atomically(staging / CONFIG_NAME, text)
    card = card_of(config, repository, folder / CARD_NAME, parameters, digest, license)
    write_atomically(staging / CARD_NAME, card)


def _upload(
    staging: Path,
    repository: str,
    private: bool | None,
    token: str | None,
    revision: str | None,
    message: str,
) -> str:
    """One commit; its hash."""
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=constants.ENDPOINT, token=token, library_name="bayes-pfl")
    api.create_repo(repository, private=private, exist_ok=True)
    if revision is not None:
        api.create_branch(repository, branch=revision, exist_ok=True)
    kept = api.file_exists(repository, CARD_NAME, revision=revision)
    commit = api.upload_folder(
        repo_id=repository,
        folder_path=staging,
        revision=revision,
        commit_message=message,
        ignore_patterns=[CARD_NAME] if kept else None,
    )
    return str(commit.oid)
