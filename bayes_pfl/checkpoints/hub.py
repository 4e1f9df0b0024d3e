"""Checkpoints on the Hugging Face hub: fetched at a pinned revision, and verified."""

from __future__ import annotations

from pathlib import Path

from bayes_pfl.checkpoints.format import CHECKSUM, CONFIG_NAME, WEIGHTS_NAME, read_raw_config
from bayes_pfl.clip.downloads import hub_files
from bayes_pfl.errors import CheckpointError
from bayes_pfl.support.checksums import check_download, file_sha256


def fetch_checkpoint(
    name: str,
    revision: str | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Path:
    """Folder in the hub's cache with config.json and model.safetensors, checksum verified.

    Args:
        name: ``org/name`` or ``org/name@revision``.
        revision, local_files_only, token: as in :func:`bayes_pfl.clip.downloads.hub_files`.

    Raises:
        CheckpointError: they cannot be fetched, or the weights are not those that were pushed.
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
        raise CheckpointError(
            f"{name}: revision = {revision!r} is another one; give one of the two"
        )
    return repository, revision or written or None


def _verify(folder: Path, name: str) -> None:
    """Compare the weights with the checksums of the hub and of who pushed them, where given."""
    weights = folder / WEIGHTS_NAME
    check_download(weights, CheckpointError)
    wanted, found = read_raw_config(folder).get(CHECKSUM), file_sha256(weights)
    if wanted is not None and wanted != found:
        raise CheckpointError(
            f"{weights}: SHA-256 is {found[:12]}..., config.json of {name} says "
            f"{str(wanted)[:12]}...: damaged or changed on its way; delete this file and load again"
        )
