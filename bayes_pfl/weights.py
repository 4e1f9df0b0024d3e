"""Where CLIP weights come from: a file, a cache, the network; and what to say when they do not."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bayes_pfl.errors import BackboneError

EMBEDDED_BACKBONE = "bayes-pfl-clip-tiny"
_OPENAI_CACHE = Path("~/.cache/clip")
_CONNECT_SECONDS = 5  # hub clients retry for minutes; one short question first is kinder
_HUB_CONFIG = "open_clip_config.json"
_HUB_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
# What OpenAI's files hold beside the weights; open_clip's own files have none of these.
_OPENAI_MARKS = ("input_resolution", "context_length", "vocab_size")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def weights_in(folder: Path) -> Path | None:
    """The weights file of an open_clip folder, safetensors before pickles; or None."""
    named = [folder / name for name in _HUB_WEIGHTS]
    others = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.bin"))
    return next((path for path in [*named, *others] if path.is_file()), None)


def tagged_weights(name: str, tag: str) -> tuple[Path, dict[str, Any]]:
    """File and settings (mean, std, activation) of open_clip's published weights ``tag``.

    Looks in the hub's cache and in OpenAI's, then asks the network once, briefly.

    Raises:
        BackboneError: unknown tag, or weights that are not here and cannot be fetched.
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
    return path, settings


def hub_folder(repository: str) -> Path:
    """Folder with the config and weights of an open_clip model on the Hugging Face hub."""
    config = _cached_hub_file(repository, (_HUB_CONFIG,))
    if not (config and _cached_hub_file(repository, _HUB_WEIGHTS)):
        _require_network(f"hf-hub:{repository}", _HUB_WEIGHTS[0], repository)
        config = _fetch_hub_folder(repository)
    return config.parent


def _fetch_hub_folder(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        patterns = [_HUB_CONFIG, *_HUB_WEIGHTS[:2], "*token*", "*.model", "vocab*", "merges*"]
        return Path(snapshot_download(repository, allow_patterns=patterns)) / _HUB_CONFIG
    except Exception as error:  # the hub's clients raise many unrelated types
        raise _unfetched(f"hf-hub:{repository}", _HUB_WEIGHTS[0], repository, error) from error


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


def _cached_hub_file(repository: str, filenames: tuple[str, ...]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for filename in filenames:
        found = try_to_load_from_cache(repository, filename)
        if isinstance(found, str):
            return Path(found)
    return None


def _download(name: str, tag: str, settings: dict[str, Any]) -> Path:
    from open_clip.pretrained import download_pretrained

    repository, filenames = _hub_source(settings)
    wanted = filenames[0] if repository else settings["url"].rsplit("/", 1)[-1]
    _require_network(f"{name} {tag!r}", wanted, repository, settings.get("url"))
    try:
        return Path(download_pretrained(settings))
    except Exception as error:  # network libraries raise many unrelated types
        raise _unfetched(f"{name} {tag!r}", wanted, repository, error) from error


def _require_network(what: str, wanted: str, repository: str, url: str | None = None) -> None:
    from huggingface_hub import constants

    if repository and constants.HF_HUB_OFFLINE:
        raise _unfetched(what, wanted, repository, "HF_HUB_OFFLINE is set")
    target = constants.ENDPOINT if repository else str(url)
    try:
        request = urllib.request.Request(target, method="HEAD")
        urllib.request.urlopen(request, timeout=_CONNECT_SECONDS).close()
    except urllib.error.HTTPError:
        return  # an answer, if an unfriendly one: the host is there
    except (OSError, ValueError) as error:
        raise _unfetched(what, wanted, repository, getattr(error, "reason", error)) from error


def _unfetched(what: str, wanted: str, repository: str, reason: object) -> BackboneError:
    from huggingface_hub import constants

    source = f" of {repository}" if repository else ""
    place = constants.HF_HUB_CACHE if repository else _OPENAI_CACHE.expanduser()
    first_line = str(reason).strip().splitlines()[0] if str(reason).strip() else "no answer"
    return BackboneError(
        f"cannot fetch the weights of {what} ({first_line}): wanted {wanted}{source}; "
        f"put it anywhere and pass it with --pretrained FILE, or copy the cache {place} from a "
        f"machine with a network; offline, --backbone {EMBEDDED_BACKBONE} needs no download"
    )


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a weights file: safetensors, a plain state dict, or OpenAI's TorchScript archive.

    Nothing in the file is run: pickles are read with ``weights_only``, and of a TorchScript archive
    only the tensors are taken.

    Raises:
        BackboneError: the file is damaged, or a pickle that carries code.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if _is_torchscript(path):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                return dict(torch.jit.load(str(path), map_location="cpu").state_dict())
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpicklers and archive readers raise many unrelated types
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else "unreadable"
        raise BackboneError(
            f"{path}: not a usable weights file ({reason}); fetch it again, and see that it is "
            "safetensors, a plain state dict, or OpenAI's TorchScript archive"
        ) from error
    state = data.get("state_dict", data) if isinstance(data, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise BackboneError(f"{path}: holds no state dict of tensors; save the weights alone")
    return {key.removeprefix("module."): value for key, value in state.items()}


def is_openai_format(state: dict[str, Tensor]) -> bool:
    """Whether the tensors are named as in OpenAI's files, with their three extra entries."""
    return "visual.conv1.weight" in state and any(mark in state for mark in _OPENAI_MARKS)


def without_openai_marks(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights alone, in float32."""
    return {key: value.float() for key, value in state.items() if key not in _OPENAI_MARKS}


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())
