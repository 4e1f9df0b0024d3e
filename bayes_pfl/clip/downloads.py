"""CLIP weights and checkpoints from the network: from its caches first, then asked for once."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bayes_pfl.clip.weights import CONFIG_FILE, EMBEDDED_BACKBONE, WEIGHTS_FILES, weights_in
from bayes_pfl.errors import BackboneError, BayesPFLError, CheckpointError
from bayes_pfl.support.checksums import check_download
from bayes_pfl.support.hub_errors import hub_reason

_OPENAI_CACHE = Path("~/.cache/clip")
_COMMIT = re.compile(r"[0-9a-f]{40}")
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
    path = _cached(settings) or _download(name, tag, settings)
    check_download(path, BackboneError, settings.get("url", ""))
    return path, settings


def hub_folder(repository: str) -> Path:
    """Folder with the config and weights of an open_clip model on the Hugging Face hub.

    Raises:
        BackboneError: not in the cache, and cannot be fetched; or damaged.
    """
    folder = _hub_folder(repository)
    if weights := weights_in(folder):
        check_download(weights, BackboneError)
    return folder


def _hub_folder(repository: str) -> Path:
    config = _cached_hub_file(repository, (CONFIG_FILE,))
    if config and _cached_hub_file(repository, WEIGHTS_FILES):
        return config.parent
    wanted = _Wanted(
        f"the weights of hf-hub:{repository}",
        f"{CONFIG_FILE} and {WEIGHTS_FILES[0]} of {repository}",
        f"put them into a folder and pass it with --backbone local-dir:FOLDER, {_copy_cache()}",
    )
    wanted.ask(repository)
    return wanted.fetch(lambda: _download_hub_folder(repository))


def hub_files(
    repository: str,
    filenames: tuple[str, ...],
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Path:
    """Folder with these files of one commit of a Hugging Face repository.

    The hub is asked whether the revision has moved; where it does not answer, or must not be
    asked, the cache's files are used. A commit's own hash never moves, so the hub is not asked.

    Args:
        revision: branch, tag or whole commit hash; None for the main branch.
        local_files_only: use the cache or fail, without a request to the network.
        token: None for the one of `hf auth login` or HF_TOKEN, if there is one.

    Raises:
        CheckpointError: not in the cache, and cannot be fetched.
    """
    cached = [_cached_hub_file(repository, (name,), revision) for name in filenames]
    found = cached[0].parent if cached[0] and all(cached) else None
    if found and (local_files_only or _COMMIT.fullmatch(revision or "")):
        return found
    name = f"{repository}@{revision}" if revision else repository
    wanted = _Wanted(
        f"checkpoint {name}",
        f"{' and '.join(filenames)} of {name}",
        f"put them into a folder and give that folder, {_copy_cache()}",
        CheckpointError,
    )
    if local_files_only:
        raise wanted.unfetched("not in the cache, and local_files_only is set")
    try:
        wanted.ask(repository)
    except CheckpointError:
        if found:
            return found
        raise
    return wanted.fetch(lambda: _download_hub_files(repository, filenames, revision, token))


@dataclass(frozen=True)
class _Wanted:
    """Something to be fetched, and the parts of the error if it cannot be.

    Attributes:
        what: its name.
        files: which files of which repository.
        remedy: where to put them by hand.
        error: the class to raise.
    """

    what: str
    files: str
    remedy: str
    error: type[BayesPFLError] = BackboneError

    def ask(self, repository: str, url: str | None = None) -> None:
        """Raise unless the host answers one short question: hub clients retry for minutes."""
        if reason := _why_unreachable(None if repository else str(url)):
            raise self.unfetched(reason)

    def fetch(self, download: Callable[[], str | Path]) -> Path:
        """What ``download()`` returns; each of its failures becomes one line."""
        try:
            return Path(download())
        except Exception as error:  # network libraries raise many unrelated types
            raise self.unfetched(hub_reason(error)) from error

    def unfetched(self, reason: object) -> BayesPFLError:
        """The error to raise."""
        first_line = next(iter(str(reason).strip().splitlines()), "no answer")
        return self.error(
            f"cannot fetch {self.what} ({first_line[:200]}): wanted {self.files}; {self.remedy}; "
            f"offline, {_offline_option(self.error)} needs no download"
        )


def hub_answers(refusal: str, kind: type[BayesPFLError]) -> None:
    """Raise ``kind`` with ``refusal`` and the reason if the hub cannot or must not be reached."""
    if reason := _why_unreachable(None):
        raise kind(f"{refusal}: {reason}")


def _why_unreachable(url: str | None) -> str | None:
    """Why the host of ``url``, or the hub, does not answer; None if it does."""
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


def _copy_cache() -> str:
    from huggingface_hub import constants

    return f"or copy the cache {constants.HF_HUB_CACHE} from a machine with a network"


def _offline_option(error: type[BayesPFLError]) -> str:
    if error is CheckpointError:
        return "the embedded checkpoint bayes-pfl-tiny"
    return f"--backbone {EMBEDDED_BACKBONE}"


def _download_hub_folder(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    small = [CONFIG_FILE, "*token*", "*.model", "vocab*", "merges*"]
    folder = snapshot_download(repository, allow_patterns=[*small, *WEIGHTS_FILES[:2]])
    if weights_in(Path(folder)) is None:  # older repositories have a pickle alone
        folder = snapshot_download(repository, allow_patterns=[*small, WEIGHTS_FILES[2]])
    return Path(folder)


def _download_hub_files(
    repository: str, filenames: tuple[str, ...], revision: str | None, token: str | None
) -> Path:
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=constants.ENDPOINT, token=token, library_name="bayes-pfl")
    first = Path(api.hf_hub_download(repository, filenames[0], revision=revision))
    for name in filenames[1:]:  # of the commit that the first came from, not a later one
        api.hf_hub_download(repository, name, revision=first.parent.name)
    return first.parent


def _cached(settings: dict[str, Any]) -> Path | None:
    repository, filename = _hub_source(settings)
    if repository and (found := _cached_hub_file(repository, filename)):
        return found
    if url := settings.get("url"):
        path = _OPENAI_CACHE.expanduser() / url.rsplit("/", 1)[-1]
        return path if path.is_file() else None
    return None


def _hub_source(settings: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    repository, _, filename = settings.get("hf_hub", "").rpartition("/")
    return repository, (filename,) if filename else WEIGHTS_FILES


def _cached_hub_file(
    repository: str, filenames: tuple[str, ...], revision: str | None = None
) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for filename in filenames:
        found = try_to_load_from_cache(repository, filename, revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None


def _download(name: str, tag: str, settings: dict[str, Any]) -> Path:
    from open_clip.pretrained import download_pretrained

    repository, filenames = _hub_source(settings)
    file = filenames[0] if repository else settings["url"].rsplit("/", 1)[-1]
    place = _copy_cache() if repository else f"or into {_OPENAI_CACHE.expanduser()}"
    wanted = _Wanted(
        f"the weights of {name} {tag!r}",
        f"{file} of {repository}" if repository else file,
        f"put it anywhere and pass it with --pretrained FILE, {place}",
    )
    wanted.ask(repository, settings.get("url"))
    return wanted.fetch(lambda: download_pretrained(settings))
