"""Checkpoints on the Hugging Face hub: fetched at a pinned revision, and verified."""

from __future__ import annotations

import re
from pathlib import Path

from bayes_pfl.checkpoints.format import CHECKSUM, CONFIG_NAME, WEIGHTS_NAME, read_raw_config
from bayes_pfl.clip.downloads import (
    cache_to_copy,
    cached_hub_file,
    check_repository,
    fetch,
    why_unreachable,
)
from bayes_pfl.errors import CheckpointError
from bayes_pfl.support.checksums import check_download, check_sha256

_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch_checkpoint(
    name: str, revision: str | None = None, local_files_only: bool = False, token: str | None = None
) -> Path:
    """Folder in the hub's cache with both files of one commit, their checksum verified.

    The hub is asked whether the revision has moved; where it does not answer, or must not be
    asked, the cache's files are used. A commit's own hash never moves, so the hub is not asked.

    Args:
        name: ``org/name`` or ``org/name@revision``.
        revision: branch, tag or whole commit hash; None for the main branch.
        local_files_only: use the cache or fail, without a request to the network.
        token: None for the one of `hf auth login` or HF_TOKEN, if there is one.

    Raises:
        CheckpointError: no name of a repository; they cannot be fetched, or the weights are not
            those that were pushed.
    """
    repository, pinned = split_revision(name, revision)
    check_repository(repository, pinned, CheckpointError)
    cached = [cached_hub_file(repository, (x,), pinned) for x in (CONFIG_NAME, WEIGHTS_NAME)]
    folder = cached[0].parent if cached[0] and all(cached) else None
    if folder is None or not _COMMIT.fullmatch(pinned or ""):
        only = "not in the cache, and local_files_only is set"
        refused = only if local_files_only else why_unreachable()
        if folder is None or refused is None:
            full = f"{repository}@{pinned}" if pinned else repository
            folder = fetch(
                lambda: _download(repository, pinned, token),
                refused,
                f"checkpoint {full}",
                f"{CONFIG_NAME} and {WEIGHTS_NAME} of {full}",
                f"put them into a folder and give that folder, {cache_to_copy()}",
                CheckpointError,
                "the embedded checkpoint bayes-pfl-tiny",
            )
    # The checksums of the hub and of who pushed the weights, where given.
    weights = folder / WEIGHTS_NAME
    check_download(weights, CheckpointError)
    if (wanted := read_raw_config(folder).get(CHECKSUM)) is not None:
        mend = "damaged or changed on its way; delete this file and load again"
        check_sha256(weights, str(wanted), f", config.json of {name} says", mend, CheckpointError)
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


def _download(repository: str, revision: str | None, token: str | None) -> Path:
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=constants.ENDPOINT, token=token, library_name="bayes-pfl")
    config = Path(api.hf_hub_download(repository, CONFIG_NAME, revision=revision))
    # Of the commit that the first file came from, not of a later one.
    api.hf_hub_download(repository, WEIGHTS_NAME, revision=config.parent.name)
    return config.parent
