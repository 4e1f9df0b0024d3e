"""The folder of a profile: config.json, profile.safetensors, README.md and pictures/.

Nothing in it is executed. config.json is written last and names the hash of the tensors, which are
kept under their former name until then: a stop at any moment leaves the profile of before, or the
new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from bayes_pfl.data.images import read_image, read_mask
from bayes_pfl.data.roi import Roi
from bayes_pfl.data.roi_files import FOLDER
from bayes_pfl.detect.name_sensitivity import NEUTRAL, NameEffect
from bayes_pfl.detect.references import picture_digest
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit.calibration import CalibratedCheckpoint, CalibratedSettings, Calibration
from bayes_pfl.fit.profile import Profile, ProfileLike, ReferencePicture
from bayes_pfl.fit.profile_page import page_of
from bayes_pfl.fit.profile_tensors import Memory, packed, scores_of, unpacked
from bayes_pfl.fit.references import ReferenceOptions
from bayes_pfl.support.error_text import one_line
from bayes_pfl.support.files import raising_not_written, remove_leftovers, write_atomically
from bayes_pfl.support.parsing import Malformed, read_json
from bayes_pfl.support.typed_json import from_dict
from bayes_pfl.support.version import __version__

FORMAT, VERSION = "bayes-pfl profile", 1
CONFIG, TENSORS, BEFORE = "config.json", "profile.safetensors", "profile.before.safetensors"
PAGE, PICTURES = "README.md", "pictures"

Settings = TypeVar("Settings", bound=ScoringSettings)

_MAX_CONFIG, _MAX_TENSORS = 64 * 2**20, 2**30
_MEND = "make it with bayes-pfl fit"
_LARGE = ".large.webp"  # how the names of copies of large pictures end


@dataclass(frozen=True)
class _Record:
    """What config.json holds."""

    checkpoint: CalibratedCheckpoint
    settings: CalibratedSettings
    options: ReferenceOptions
    fpr: float
    pixel_fpr: float
    pictures: tuple[ReferencePicture, ...]
    memory: Memory | None
    calibration: Calibration | None
    name_effect: NameEffect | None = None


def is_profile(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds the config of a profile."""
    try:
        data = read_json(Path(folder) / CONFIG, _MAX_CONFIG)
    except (OSError, Malformed):
        return False
    return isinstance(data, dict) and data.get("format") == FORMAT


def save_profile(profile: Profile, folder: str | os.PathLike[str]) -> Path:
    """Write a profile into a folder, in place of one that is there.

    Raises:
        ConfigError: the folder cannot be written, or holds other things than a profile.
    """
    folder = Path(folder)
    mend = "choose another folder, on a disk with room"
    with raising_not_written(folder, mend, ConfigError):
        if folder.exists() and not (is_profile(folder) or _is_begun(folder)):
            raise ConfigError(
                f"{folder}: holds other files than those of a profile; choose another folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, below=True)
        tensors = packed(profile.references) if profile.references else None
        _write_pictures(profile, folder / PICTURES)
        _write_roi(profile, folder)
        if (folder / TENSORS).is_file() and not _still_named(folder / BEFORE):
            os.replace(folder / TENSORS, folder / BEFORE)
        if tensors is not None:
            write_atomically(folder / TENSORS, tensors)
        config = json.dumps(_config(profile, tensors), indent=2) + "\n"
        write_atomically(folder / CONFIG, config)
        write_atomically(folder / PAGE, page_of(profile))
        (folder / BEFORE).unlink(missing_ok=True)
        _remove_others(profile, folder / PICTURES)
        for path in folder.glob("roi.*.png"):
            if _is_roi(path.name) and path != _roi_file(folder, profile.settings.roi):
                path.unlink()
    return folder


def _is_begun(folder: Path) -> bool:
    """Whether a folder is empty, or holds what first saves that were stopped have written."""
    names = (path.name for path in folder.iterdir())
    left = {name for name in names if not re.fullmatch(r"\..+\.[0-9a-f]{32}", name)}
    pictures = folder / PICTURES
    own = all(map(_is_own, pictures.iterdir())) if pictures.is_dir() else True
    left = {name for name in left if not _is_roi(name)}
    return left <= {TENSORS, BEFORE, PICTURES} and own


def _is_roi(name: str) -> bool:
    return bool(re.fullmatch(r"roi\.[0-9a-f]{32}\.png", name))


def _roi_file(folder: Path, key: str | None) -> Path:
    """Where the region of interest with this hash lies."""
    return folder / f"roi.{key}.png"


def _write_roi(profile: Profile, folder: Path) -> None:
    if profile.roi is not None:
        buffer = io.BytesIO()
        Image.fromarray(profile.roi.mask).save(buffer, "PNG")
        write_atomically(_roi_file(folder, profile.roi.key), buffer.getvalue())


def _read_roi(folder: Path, key: str | None) -> Roi | None:
    if key is None or key == FOLDER:
        return None
    name = f"roi.{key}.png"
    path = folder / name if _is_roi(name) else folder / "roi.png"
    try:
        found = Roi(read_mask(path), str(path))
    except DataError as error:
        raise ConfigError(f"{error}; {_MEND} again") from error
    if found.key != key:
        raise ConfigError(f"{path}: has changed since the profile was made; {_MEND} again")
    return found


def _is_own(path: Path) -> bool:
    """Whether this is the name of a picture of a profile, perhaps half-written."""
    return bool(re.fullmatch(r"\.?[0-9a-f]{32}(\.large)?\.webp(\.[0-9a-f]{32})?", path.name))


def _still_named(before: Path) -> bool:
    """Whether config.json names these tensors: a save stopped before it wrote its own config."""
    try:
        digest = hashlib.sha256(before.read_bytes()).hexdigest()
        memory = _read_record(before.parent).memory
    except (OSError, ConfigError):
        return False
    return memory is not None and memory.tensors_sha256 == digest


def load_profile(folder: str | os.PathLike[str]) -> Profile:
    """Read and check the folder of a profile.

    Raises:
        ConfigError: no profile, a damaged one, one changed by hand, or of a later version.
    """
    folder = Path(folder)
    record = _read_record(folder)
    references = None
    if record.memory is not None:
        tensors = _read_tensors(folder, record.memory.tensors_sha256)
        try:
            references = unpacked(record.memory, record.settings, record.pictures, tensors)
        except (KeyError, ValueError, RuntimeError) as error:
            reason = one_line(error)
            raise ConfigError(
                f"{folder / TENSORS}: not the tensors of a profile ({reason}); {_MEND} again"
            ) from error
    tiled = references is not None and references.tiles is not None

    return Profile(
        record.checkpoint,
        record.settings,
        record.options,
        record.fpr,
        record.pixel_fpr,
        record.pictures,
        references,
        record.calibration,
        partial(_pixels, folder, record.pictures) if references else None,
        partial(_large, folder, record.pictures) if tiled else None,
        str(folder),
        record.name_effect,
        _read_roi(folder, record.settings.roi),
    )


def _pixels(folder: Path, pictures: Sequence[ReferencePicture], number: int) -> np.ndarray:
    return read_picture(folder, pictures[number])


def _large(folder: Path, pictures: Sequence[ReferencePicture], number: int) -> bytes:
    path = folder / PICTURES / f"{pictures[number].digest}{_LARGE}"
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: not readable ({error.strerror}); {_MEND} again") from error


def known_profile(profile: ProfileLike | None) -> tuple[Profile | None, str]:
    """A profile, read if it is a folder, and its class name; "object" without a profile.

    Raises:
        ConfigError: as :func:`load_profile`.
    """
    if not isinstance(profile, Profile | str | os.PathLike | None):
        raise ConfigError(f"profile is {type(profile).__name__}: give a profile, or its folder")
    found = profile if profile is None or isinstance(profile, Profile) else load_profile(profile)
    return found, found.class_name if found else NEUTRAL


def with_settings_of(profile: ProfileLike | None, settings: Settings) -> Settings:
    """The settings with the samples of a profile where they give none, and with its tiles where
    they do not say how many pixels a tile has.

    Raises:
        ConfigError: as :func:`load_profile`.
    """
    found, _ = known_profile(profile)
    if found is None:
        return settings
    known = found.settings
    if settings.samples is None:
        settings = replace(settings, samples=known.samples)
    if isinstance(settings.tile, int):
        return settings
    return replace(settings, tile=known.tile, overlap=known.overlap)


def with_roi_of(profile: ProfileLike | None, settings: Settings) -> Settings:
    """The settings with the region of interest of a profile, where they have none.

    Raises:
        ConfigError: as :func:`load_profile`; a profile of pictures that have one each.
    """
    found, _ = known_profile(profile)
    if found is None or settings.roi is not None or found.settings.roi is None:
        return settings
    if found.roi is None:
        raise ConfigError(
            f"{found.folder or 'the profile'}: made with a folder of regions of interest; give the "
            "regions of these pictures with --roi FOLDER (roi)"
        )
    return replace(settings, roi=found.roi)


def read_picture(folder: Path, picture: ReferencePicture) -> np.ndarray:
    """A reference picture as the model sees it, uint8 (S, S, 3).

    Raises:
        ConfigError: it is missing, or not what it was.
    """
    path = folder / PICTURES / f"{picture.digest}.webp"
    try:
        pixels = np.asarray(read_image(path))
    except DataError as error:
        raise ConfigError(f"{error}; {_MEND} again") from error
    if picture_digest(pixels) != picture.digest:
        raise ConfigError(f"{path}: has changed since the profile was made; {_MEND} again")
    return pixels


def _config(profile: Profile, tensors: bytes | None) -> dict[str, Any]:
    memory = None
    if profile.references is not None and tensors is not None:
        tiles = profile.references.tiles
        memory = Memory(
            profile.references.settings,
            scores_of(profile.references),
            hashlib.sha256(tensors).hexdigest(),
            scores_of(tiles) if tiles else None,
            tiles.settings if tiles else None,
        )
    record = _Record(
        profile.checkpoint,
        profile.settings,
        profile.options,
        profile.fpr,
        profile.pixel_fpr,
        profile.pictures,
        memory,
        profile.calibration,
        profile.name_effect,
    )
    head = {"format": FORMAT, "version": VERSION, "bayes_pfl_version": __version__}
    return head | asdict(record)


def _write_pictures(profile: Profile, folder: Path) -> None:
    if profile.pixels is None:
        return
    folder.mkdir(exist_ok=True)
    for number, picture in enumerate(profile.pictures):
        path = folder / f"{picture.digest}.webp"
        if not path.is_file():
            buffer = io.BytesIO()
            Image.fromarray(profile.pixels(number)).save(buffer, "WEBP", lossless=True, quality=50)
            write_atomically(path, buffer.getvalue(), sync=False)
        large = path.with_name(f"{picture.digest}{_LARGE}")
        if profile.large is not None and not large.is_file():
            write_atomically(large, profile.large(number), sync=False)


def _remove_others(profile: Profile, folder: Path) -> None:
    """Remove the pictures of a profile that was here before."""
    known = {f"{picture.digest}.webp" for picture in profile.pictures if profile.pixels}
    known |= {f"{picture.digest}{_LARGE}" for picture in profile.pictures if profile.large}
    for path in folder.glob("*.webp") if folder.is_dir() else ():
        if path.name not in known and _is_own(path):
            path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _read_record(folder: Path) -> _Record:
    path = folder / CONFIG
    try:
        data = read_json(path, _MAX_CONFIG)
    except OSError as error:
        raise ConfigError(f"{path}: not readable ({error.strerror}); {_MEND}") from error
    except Malformed as error:
        raise ConfigError(f"{path}: not a profile ({error}); {_MEND}") from error
    if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
        raise ConfigError(f"{path}: not a profile; {_MEND}")
    if (version := data.pop("version", None)) != VERSION:
        raise ConfigError(f"{path}: format {version!r}, this version reads {VERSION}; upgrade")
    data.pop("bayes_pfl_version", None)
    try:
        record = from_dict(_Record, data, str(path))
    except (ConfigError, OverflowError) as error:
        raise ConfigError(f"{error}; {_MEND} again") from error
    names = [picture.digest for picture in record.pictures]
    if any(not name.isalnum() for name in names if record.memory) or not record.pictures:
        raise ConfigError(f"{path}: pictures without a hash of theirs; {_MEND} again")
    return record


def _read_tensors(folder: Path, sha256: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    for name in (TENSORS, BEFORE):
        try:
            path = folder / name
            if not path.is_file() or path.stat().st_size > _MAX_TENSORS:
                continue
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                return load(data)
        except (OSError, SafetensorError, ValueError):
            continue
    raise ConfigError(
        f"{folder / TENSORS}: missing, truncated, or not the one that config.json was written "
        f"with; copy the whole folder, or {_MEND} again"
    )
