"""Where CLIP weights come from: a file, a cache, the network; and what to say when they do not."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from bayes_pfl.clip.torchscript import check_archive, is_torchscript, read_torchscript
from bayes_pfl.errors import BackboneError, BayesPFLError, CheckpointError
from bayes_pfl.support.checksums import check_download
from bayes_pfl.support.hub_errors import hub_reason
from bayes_pfl.support.parsing import short

EMBEDDED_BACKBONE = "bayes-pfl-clip-tiny"
_OPENAI_CACHE = Path("~/.cache/clip")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CONNECT_SECONDS = 5  # hub clients retry for minutes; one short question first is kinder
HUB_CONFIG = "open_clip_config.json"
_HUB_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)


def is_file(name: str) -> bool:
    """Whether a name from a config is a file; not an error for what cannot be a path."""
    try:
        return Path(name).is_file()
    except OSError:  # too long
        return False


def weights_in(folder: Path) -> Path | None:
    """The weights file of an open_clip folder, safetensors before pickles; or None."""
    named = [folder / name for name in _HUB_WEIGHTS]
    others = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.bin"))
    return next((path for path in [*named, *others] if path.is_file()), None)


def tagged_weights(name: str, tag: str) -> tuple[Path, dict[str, Any]]:
    """File and settings (mean, std, activation) of open_clip's published weights ``tag``.

    Looks in the hub's cache and in OpenAI's, then asks the network once, briefly.

    Raises:
        BackboneError: unknown tag; weights that are not here and cannot be fetched, or damaged.
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
        BackboneError: not in the cache, and not to be fetched; or damaged.
    """
    folder = _hub_folder(repository)
    if weights := weights_in(folder):
        check_download(weights, BackboneError)
    return folder


def _hub_folder(repository: str) -> Path:
    config = _cached_hub_file(repository, (HUB_CONFIG,))
    if config and _cached_hub_file(repository, _HUB_WEIGHTS):
        return config.parent
    wanted = _Wanted(
        f"the weights of hf-hub:{repository}",
        f"{HUB_CONFIG} and {_HUB_WEIGHTS[0]} of {repository}",
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
    asked, what the cache holds is taken. A commit's own hash never moves and is not asked for.

    Args:
        revision: branch, tag or whole commit hash; None for the main branch.
        local_files_only: take the cache or fail, without a word to the network.
        token: None for the one of `hf auth login` or HF_TOKEN, if there is one.

    Raises:
        CheckpointError: not in the cache, and not to be fetched.
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
    """Something that may have to be fetched, and what to say if it cannot be."""

    what: str
    files: str
    mend: str
    error: type[BayesPFLError] = BackboneError

    def ask(self, repository: str, url: str | None = None) -> None:
        """One short question whether the host answers, as hub clients retry for minutes."""
        if reason := _silence(None if repository else str(url)):
            raise self.unfetched(reason)

    def fetch(self, download: Callable[[], str | Path]) -> Path:
        """``download()``, its failures told in one line."""
        try:
            return Path(download())
        except Exception as error:  # network libraries raise many unrelated types
            raise self.unfetched(hub_reason(error)) from error

    def unfetched(self, reason: object) -> BayesPFLError:
        """The error to raise."""
        first_line = next(iter(str(reason).strip().splitlines()), "no answer")
        return self.error(
            f"cannot fetch {self.what} ({first_line[:200]}): wanted {self.files}; {self.mend}; "
            f"offline, {_offline_option(self.error)} needs no download"
        )


def hub_answers(refusal: str, kind: type[BayesPFLError]) -> None:
    """Fail at once, with ``refusal`` and why, where the hub cannot or must not be reached."""
    if reason := _silence(None):
        raise kind(f"{refusal}: {reason}")


def _silence(url: str | None) -> object:
    """Why the host of ``url``, or the hub, does not answer; None if it does."""
    from huggingface_hub import constants

    if url is None and constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        request = urllib.request.Request(url or constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=_CONNECT_SECONDS).close()
    except urllib.error.HTTPError:
        return None  # an answer, if an unfriendly one: the host is there
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

    small = [HUB_CONFIG, "*token*", "*.model", "vocab*", "merges*"]
    folder = snapshot_download(repository, allow_patterns=[*small, *_HUB_WEIGHTS[:2]])
    if weights_in(Path(folder)) is None:  # older repositories have a pickle alone
        folder = snapshot_download(repository, allow_patterns=[*small, _HUB_WEIGHTS[2]])
    return Path(folder)


def _download_hub_files(
    repository: str, filenames: tuple[str, ...], revision: str | None, token: str | None
) -> Path:
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=constants.ENDPOINT, token=token, library_name="bayes-pfl")
    first = Path(api.hf_hub_download(repository, filenames[0], revision=revision))
    for name in filenames[1:]:  # of the commit that the first came from, not of a later one
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
    return repository, (filename,) if filename else _HUB_WEIGHTS


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


def load_reason(error: Exception) -> str:
    """Why a file did not load, in one line, without torch's advice to load it unsafely."""
    text = str(error).rpartition("WeightsUnpickler error:")[2]
    if forbidden := re.search(r"GLOBAL (\S+)", text):
        return f"a pickle that would run {forbidden[1]}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:160] if lines else type(error).__name__


def is_state_dict(state: object) -> TypeGuard[dict[str, Tensor]]:
    """Whether ``state`` maps names to tensors, and nothing else."""
    return isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    )


def larger_than_stored(state: dict[str, Tensor]) -> str | None:
    """The first tensor that repeats its stored values by its strides: a few bytes can claim any
    size so, and would fill the memory when they are copied."""
    for name, value in state.items():
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            return name
    return None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a weights file: safetensors, a plain state dict, or OpenAI's TorchScript archive.

    Nothing in the file is run: pickles are read with ``weights_only``, TorchScript archives by
    :mod:`bayes_pfl.clip.torchscript`.

    Raises:
        BackboneError: the file is damaged, or a pickle that carries code.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        check_archive(path)
        if is_torchscript(path):
            return read_torchscript(path)
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpicklers and archive readers raise many unrelated types
        raise BackboneError(
            f"{path}: not a usable weights file ({load_reason(error)}); fetch it again, and see "
            "that it is safetensors, a plain state dict, or OpenAI's TorchScript archive"
        ) from error
    state = data.get("state_dict", data) if isinstance(data, dict) else None
    if not is_state_dict(state):
        raise BackboneError(f"{path}: holds no state dict of tensors; save the weights alone")
    if name := larger_than_stored(state):
        raise BackboneError(f"{path}: tensor {short(name)} claims more values than the file holds")
    return {key.removeprefix("module."): value for key, value in state.items()}
