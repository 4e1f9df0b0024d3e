"""The targets: bytes in; nothing comes out, or one clear line. Anything else is a finding."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import struct
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from bayes_pfl.app.question import JOIN, read_body
from bayes_pfl.checkpoints.format import read_config, read_weights
from bayes_pfl.clip.architecture import read_clip_config
from bayes_pfl.clip.load import load_backbone
from bayes_pfl.clip.weights import read_state_dict
from bayes_pfl.config import BackboneConfig, TrainConfig
from bayes_pfl.data.cards import load_card
from bayes_pfl.data.image_files import find_images
from bayes_pfl.data.images import read_image, read_mask
from bayes_pfl.data.layouts import fits, read_layout
from bayes_pfl.data.meta import read_meta
from bayes_pfl.data.samples import load_mask
from bayes_pfl.data.sources import read_source
from bayes_pfl.errors import BayesPFLError
from bayes_pfl.support.asgi import Refused
from bayes_pfl.support.parsing import short
from bayes_pfl.support.typed_json import load_json
from tests.fuzz.command_line import run_line

MAX_SECONDS = 10.0
MAX_MESSAGE = 8000
_PIXELS = 2_000_000

Target = Callable[[Path, bytes], None]


def _png(size: tuple[int, int], value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, value).save(buffer, "PNG")
    return buffer.getvalue()


def card(folder: Path, data: bytes) -> None:
    """A dataset card, and its patterns over a small folder."""
    path = folder / "card.yaml"
    path.write_bytes(data)
    found = load_card(path)
    root = folder / "data"
    if not root.exists():
        (root / "ok").mkdir(parents=True)
        (root / "ok" / f"{'a' * 60}.png").touch()
        (root / "list.csv").write_text("image,label\nok/a.png,1\n../b.png,0\n", encoding="utf-8")
    for layout in found.layouts:
        for split in ("test", "train"):
            if fits(found, layout, root):
                read_layout(found, layout, root, split)


def meta(folder: Path, data: bytes) -> None:
    """A meta.json."""
    path = folder / "meta.json"
    path.write_bytes(data)
    for split in ("test", "train"):
        for sample in read_meta(path, split):
            if not sample.path.resolve().is_relative_to(folder.resolve()):
                raise AssertionError(f"{sample.path} leaves the folder")


def config(folder: Path, data: bytes) -> None:
    """The config of a checkpoint, of a training, of an open_clip folder."""
    for name in ("config.json", "open_clip_config.json"):
        (folder / name).write_bytes(data)
    errors = []
    for read in (
        lambda: read_config(folder),
        lambda: load_json(TrainConfig, folder / "config.json"),
        lambda: read_clip_config(folder),
    ):
        try:
            read()
        except BayesPFLError as error:
            errors.append(error)
    if errors:
        raise max(errors, key=lambda error: len(str(error)))


def image(folder: Path, data: bytes) -> None:
    """An image and a mask."""
    path = folder / "image.png"
    path.write_bytes(data)
    rgb = read_image(path, max_pixels=_PIXELS)
    if rgb.mode != "RGB" or rgb.width * rgb.height > _PIXELS:
        raise AssertionError(f"{rgb.mode} {rgb.size}")
    read_mask(path, max_pixels=_PIXELS)


def safetensors(folder: Path, data: bytes) -> None:
    """The weights of a checkpoint; where the first byte is odd, a header of the right length."""
    path = folder / "model.safetensors"
    odd = bool(data) and data[0] % 2
    path.write_bytes(struct.pack("<Q", len(data) - 1) + data[1:] + bytes(32) if odd else data)
    read_weights(path)


def pickle(folder: Path, data: bytes) -> None:
    """The pickle in a weights file: of torch.save; where the first byte is odd, of torch.jit."""
    files = {"a/data.pkl": data[1:], "a/version": b"3\n", "a/byteorder": b"little"}
    files |= {f"a/data/{key}": bytes(64) for key in range(2)}
    if data[:1] and data[0] % 2:
        files["a/constants.pkl"] = b"\x80\x02)."
    path = folder / "weights.pt"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    path.write_bytes(buffer.getvalue())
    read_state_dict(path)


def backbone(folder: Path, data: bytes) -> None:
    """A weights file given as a backbone, whatever is in it."""
    path = folder / "clip.pt"
    path.write_bytes(data)
    load_backbone(BackboneConfig(name=str(path)))


def question(folder: Path, data: bytes) -> None:
    """A body that asks the app for an inspection; one file was uploaded."""

    def accept(path: str) -> Path:
        if path != "/uploads/a.png":
            raise Refused(403, f"{short(path)}: not uploaded")
        return Path(path)

    files, *values = json.loads(read_body(JOIN, data, accept, 4))["data"]
    entry = {"path": "/uploads/a.png", "meta": {"_type": "gradio.FileData"}}
    if any(file != entry for file in files or ()) or any(
        isinstance(v, list | dict) for v in values
    ):
        raise AssertionError(f"passed on: {files!r} {values!r}")


def tree(folder: Path, data: bytes) -> None:
    """Names of files and folders, one in a line; what their first byte says is written into them.

    The tree is read as data to evaluate on or to train with, and listed as a folder to predict on.
    """
    root = folder / "tree"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for line in data[:4000].split(b"\n")[:40]:
        _write(root, line)
    listed = find_images(root)
    if len(set(listed)) < len(listed):
        raise AssertionError("an image is listed twice")
    for sample in read_source(root):
        inside = sample.path.relative_to(root)
        if any(part.startswith(".") or part == "__MACOSX" for part in inside.parts):
            raise AssertionError(f"a leftover is an image: {inside}")
        if sample.mask is not None and not sample.mask.is_relative_to(root):
            raise AssertionError(f"{sample.mask} leaves the folder")
        if sample.label and sample.mask:
            load_mask(sample, read_image(sample.path))


_CONTENTS = (b"", _png((6, 6), 0), _png((6, 6), 255), _png((4, 6), 17), b"text")


def _write(root: Path, line: bytes) -> None:
    name = os.fsdecode(line[1:].replace(b"\0", b""))
    path = root / name.lstrip("/")
    if not line or not name or ".." in path.parts:
        return
    with contextlib.suppress(OSError):  # a name of a folder and of a file, or too long
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_CONTENTS[line[0] % len(_CONTENTS)])


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        *(card, meta, config, image, safetensors, pickle, backbone, question, tree),
        run_line,
    )
}


def examine(target: Target, data: bytes, folder: Path | None = None) -> str:
    """Feed a target; gives the line it refused with, or an empty string.

    Raises:
        AssertionError: it took too long, or its message is no line.
        Exception: whatever else the target let through: a finding.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as made:
            return examine(target, data, Path(made))
    started, message = time.process_time(), ""
    try:
        target(folder, data)
    except BayesPFLError as error:
        message = str(error)
    seconds = time.process_time() - started
    if seconds > MAX_SECONDS:
        raise AssertionError(f"{seconds:.1f} s for {len(data)} bytes")
    if "\n" in message or len(message) > MAX_MESSAGE:
        raise AssertionError(f"no line: {message[:500]!r}")
    return message
