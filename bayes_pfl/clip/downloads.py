"""CLIP weights and checkpoints from the network: from its caches first, then asked for once."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bayes_pfl.clip.weights import CONFIG_FILE, EMBEDDED_BACKBONE, WEIGHTS_FILES, weights_in
from bayes_pfl.errors import BackboneError, BayesPFLError
from bayes_pfl.support.checksums import check_download
from bayes_pfl.support.error_text import hub_reason
from bayes_pfl.support.parsing import short

_REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9_][\w./-]{0,250}", re.ASCII)
_OPENAI_CACHE = Path("~/.cache/clip")
_CONNECT_SECONDS = 5  # hub clients retry for minutes; one short question comes first


def tagged_weights(name: str, tag: str) -> tuple[Path, dict[str, Any]]:
    """File and settings (mean, std, activation) of open_clip's published weights ``tag``.

    Looks in the hub's cache and in OpenAI's, then asks the network once, briefly.

    Raises:
        BackboneError: unknown tag; weights that are in no cache and cannot be fetched, or damaged.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    settings = get_pretrained_cfg(name, tag)
    if not settings:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise BackboneError(
            f"pretrained = {tag!r}: neither a file nor a tag of {name} (known tags: {tags})"
        )
    path = _tagged_file(f"the weights of {name} {tag!r}", settings)
    check_download(path, BackboneError, settings.get("url", ""))
    return path, settings


def _tagged_file(what: str, settings: dict[str, Any]) -> Path:
    from open_clip.pretrained import download_pretrained

    url: str = settings.get("url", "")
    plain = _OPENAI_CACHE.expanduser() / url.rsplit("/", 1)[-1]
    repository, _, filename = settings.get("hf_hub", "").rpartition("/")
    filenames = (filename,) if filename else WEIGHTS_FILES
    if repository and (cached := cached_hub_file(repository, filenames)):
        return cached
    if plain.is_file():
        return plain
    place = cache_to_copy() if repository else f"or into {plain.parent}"
    return fetch(
        lambda: download_pretrained(settings),
        why_unreachable(None if repository else url),
        what,
        f"{filenames[0]} of {repository}" if repository else plain.name,
        f"put it anywhere and pass it with --pretrained FILE, {place}",
    )


def check_repository(name: str, revision: str | None, kind: type[BayesPFLError]) -> None:
    """Refuse names that would lead elsewhere, before they become part of a path or an address.

    Raises:
        kind: ``name`` is not org/name, or ``revision`` is no branch, tag or commit.
    """
    if not _REPOSITORY.fullmatch(name) or any(mark in name for mark in ("..", "--")):
        raise kind(
            f"repository {short(name)}: give org/name, as on the hub: letters, digits, - _ ."
        )
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise kind(f"revision {short(revision)} of {name}: give a branch, a tag or a commit")


def hub_folder(repository: str) -> Path:
    """Folder with the config and weights of an open_clip model on the Hugging Face hub.

    Raises:
        BackboneError: no name of a repository; not in the cache, and cannot be fetched; or damaged.
    """
    check_repository(repository, None, BackboneError)
    config = cached_hub_file(repository, (CONFIG_FILE,))
    if config and cached_hub_file(repository, WEIGHTS_FILES):
        folder = config.parent
    else:
        folder = fetch(
            lambda: _download_folder(repository),
            why_unreachable(),
            f"the weights of hf-hub:{repository}",
            f"{CONFIG_FILE} and {WEIGHTS_FILES[0]} of {repository}",
            f"put them into a folder and pass it with --backbone local-dir:FOLDER, "
            f"{cache_to_copy()}",
        )
    if weights := weights_in(folder):
        check_download(weights, BackboneError)
    return folder


def _download_folder(repository: str) -> str:
    from huggingface_hub import snapshot_download

    small = [CONFIG_FILE, "*token*", "*.model", "vocab*", "merges*"]
    folder = snapshot_download(repository, allow_patterns=[*small, *WEIGHTS_FILES[:2]])
    if weights_in(Path(folder)) is None:  # older repositories have a pickle alone
        folder = snapshot_download(repository, allow_patterns=[*small, WEIGHTS_FILES[2]])
    return folder


def fetch(
    download: Callable[[], str | Path],
    refused: str | None,
    what: str,
    files: str,
    remedy: str,
    kind: type[BayesPFLError] = BackboneError,
    offline: str = f"--backbone {EMBEDDED_BACKBONE}",
) -> Path:
    """The path that ``download()`` returns; each of its failures becomes one line.

    Args:
        refused: why it must not be tried, such as :func:`why_unreachable`; None to try it.
        what, files: the name of what is wanted, and which files of which repository it is.
        remedy: where to put them by hand.
        offline: what needs no download.

    Raises:
        kind: it was refused, or failed.
    """
    try:
        if refused:
            raise ConnectionError(refused)
        return Path(download())
    except Exception as error:  # network libraries raise many unrelated types
        raise kind(
            f"cannot fetch {what} ({hub_reason(error)}): wanted {files}; {remedy}; offline, "
            f"{offline} needs no download"
        ) from error


def why_unreachable(url: str | None = None) -> str | None:
    """Why the host of ``url``, by default the hub, does not answer a short question; or None."""
    from huggingface_hub import constants

    if url is None and constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        request = urllib.request.Request(url or constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=_CONNECT_SECONDS).close()
    except urllib.error.HTTPError:
        return None  # also an error is an answer
    except (OSError, ValueError) as error:
        return f"{getattr(error, 'reason', error)}"
    return None


def cache_to_copy() -> str:
    """The end of a remedy: the hub's cache, copied from another machine."""
    from huggingface_hub import constants

    return f"or copy the cache {constants.HF_HUB_CACHE} from a machine with a network"


def cached_hub_file(
    repository: str, filenames: tuple[str, ...], revision: str | None = None
) -> Path | None:
    """The first of these files that the hub's cache has of a repository; None without any."""
    from huggingface_hub import try_to_load_from_cache

    for filename in filenames:
        found = try_to_load_from_cache(repository, filename, revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None
