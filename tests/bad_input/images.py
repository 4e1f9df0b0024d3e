"""Image files of every kind, all scored in one run."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from tests.bad_input.case import Case, World, picture

SVG = '<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'


def grey() -> np.ndarray:
    """The picture in grey, uint8 (30, 40), its brightest pixel 255: the depth is told by it."""
    values = np.asarray(picture("L")).copy()
    values[0, 0] = 255
    return values


def colours() -> np.ndarray:
    """The picture, uint8 (30, 40, 3), its brightest value 255."""
    values = np.asarray(picture()).copy()
    values[0, 0] = 255
    return values


REFERENCES: dict[str, Callable[[], Image.Image]] = {
    "colour": picture,
    "bright colour": lambda: Image.fromarray(colours()),
    "grey": lambda: Image.fromarray(grey()).convert("RGB"),
    "grey picture": lambda: picture("L"),
    "black and white": lambda: picture("1"),
    "turned": lambda: picture().transpose(Image.Transpose.ROTATE_270),
    "white": lambda: Image.new("RGB", (40, 30), "white"),
    "stretched": lambda: Image.fromarray(stretched()),
}


def stretched() -> np.ndarray:
    """What becomes of the floats of `outside`."""
    values = outside().astype(np.float64)
    return np.rint((values - values.min()) * (255 / np.ptp(values))).astype(np.uint8)


def outside() -> np.ndarray:
    """Floats below 0 and above 1."""
    return grey().astype(np.float32) / 100 - 1


def cut(save: Callable[[Path], None]) -> Callable[[Path], None]:
    """Half of the file that `save` writes."""

    def write(path: Path) -> None:
        save(path)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])

    return write


def saved(form: str, mode: str = "RGB", **options: object) -> Callable[[Path], None]:
    """The picture in a mode, as a file of a format."""
    return lambda path: picture(mode).save(path, form, **options)


def array(values: Callable[[], np.ndarray], form: str = "TIFF") -> Callable[[Path], None]:
    """Grey values of any type, as a file."""
    return lambda path: Image.fromarray(values()).save(path, form)


def tiff_of(values: Callable[[], np.ndarray], **options: str) -> Callable[[Path], None]:
    """Values of any type, with tags that Pillow does not write."""
    return lambda path: tifffile.imwrite(path, np.ascontiguousarray(values()), **options)


def animation(form: str) -> Callable[[Path], None]:
    """The picture, then a white frame."""
    pages = [Image.new("RGB", (40, 30), "white")]
    lossless = {"lossless": True} if form == "WEBP" else {}
    return lambda path: picture().save(
        path, form, save_all=True, append_images=pages, duration=40, **lossless
    )


def gif(path: Path) -> None:
    first = picture("1").convert("P")
    first.save(path, "GIF", save_all=True, append_images=[Image.new("P", (40, 30), 1)])


def clear(mode: str) -> Callable[[Path], None]:
    """Everything transparent."""

    def write(path: Path) -> None:
        image = picture(mode)
        image.putalpha(0)
        image.save(path, "PNG")

    return write


def clear_palette(path: Path) -> None:
    image = Image.new("P", (40, 30), 0)
    image.putpalette([10, 20, 30])
    image.save(path, "PNG", transparency=0)


def with_not_a_number(value: float) -> Callable[[], np.ndarray]:
    def values() -> np.ndarray:
        floats = grey().astype(np.float32) / 255
        floats[3, 3] = value
        return floats

    return values


def deep_colour(path: Path) -> None:
    values = colours()[..., ::-1].astype(np.uint16) * 257
    assert cv2.imwrite(str(path.with_suffix(".tif")), values)
    os.replace(path.with_suffix(".tif"), path)


def bomb(path: Path) -> None:
    """A PNG of a few bytes that says it is 60000 pixels wide and high."""
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", _size(60000)) + _chunk(b"IEND", b""))


def text_bomb(path: Path) -> None:
    """A PNG with 20 MB of blanks in a compressed text chunk."""
    text = b"Comment\x00\x00" + zlib.compress(b" " * 20_000_000, 9)
    picture().save(path, "PNG")
    data = path.read_bytes()
    path.write_bytes(data[:33] + _chunk(b"zTXt", text) + data[33:])


def broken_checksum(path: Path) -> None:
    picture().save(path, "PNG")
    data = bytearray(path.read_bytes())
    data[20] ^= 1  # within the size, which its checksum no longer fits
    path.write_bytes(data)


def _chunk(name: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + check


def _size(side: int) -> bytes:
    return struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)


def _turn() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def plain(content: str | bytes) -> Callable[[Path], None]:
    data = content.encode() if isinstance(content, str) else content
    return lambda path: path.write_bytes(data) and None


@dataclass(frozen=True)
class ImageFile:
    """A file, and either what is said of it or what picture it is scored as."""

    kind: str
    name: str
    write: Callable[[Path], object]
    shows: str
    like: str = ""

    def case(self) -> Case:
        return Case(self.kind, self.shows, self.see)

    def see(self, world: World) -> str:
        row = world.rows[self.name]
        if "`" in self.shows:
            assert row["score"] == ""
            return row["error"]
        assert row["error"] == "" and 0 <= float(row["score"]) <= 1
        if self.like:
            wanted = world.rows[f"references/{self.like}.png"]["score"]
            assert abs(float(row["score"]) - float(wanted)) < 1e-5
        return ""


FILES = (
    ImageFile("zero bytes", "zero.png", Path.touch, "`the file is empty (0 bytes)`"),
    ImageFile("truncated JPEG", "cut.jpg", cut(saved("JPEG")), "`damaged or cut short`"),
    ImageFile("truncated PNG", "cut.png", cut(saved("PNG")), "`damaged or cut short`"),
    ImageFile("truncated TIFF", "cut.tif", cut(saved("TIFF")), "`damaged or cut short`"),
    ImageFile("PNG with a wrong checksum", "sum.png", broken_checksum, "`damaged or cut short`"),
    ImageFile(
        "JPEG named .png",
        "is-jpeg.png",
        saved("JPEG", quality=95),
        "scored: the content decides, not the name",
    ),
    ImageFile(
        "text named .png",
        "text.png",
        plain("no picture"),
        "`not an image, or of a kind unknown here`",
    ),
    ImageFile(
        "SVG named .png", "vector.png", plain(SVG), "`not an image, or of a kind unknown here`"
    ),
    ImageFile(
        "PostScript named .png",
        "script.png",
        plain("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "`not an image, or of a kind unknown here`: Ghostscript is never asked",
    ),
    ImageFile(
        "video named .jpg",
        "video.jpg",
        plain(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(500)),
        "`not an image, or of a kind unknown here`",
    ),
    ImageFile(
        "animated GIF named .png",
        "moving-gif.png",
        gif,
        "scored: the first frame",
        "black and white",
    ),
    ImageFile(
        "animated WebP", "moving.webp", animation("WEBP"), "scored: the first frame", "colour"
    ),
    ImageFile("animated PNG", "moving.png", animation("PNG"), "scored: the first frame", "colour"),
    ImageFile("CMYK JPEG", "cmyk.jpg", saved("JPEG", "CMYK"), "scored, as RGB"),
    ImageFile(
        "palette with transparency",
        "palette.png",
        clear_palette,
        "scored: transparent is white",
        "white",
    ),
    ImageFile("RGBA", "rgba.png", clear("RGB"), "scored: transparent is white", "white"),
    ImageFile("grey with alpha", "la.png", clear("L"), "scored: transparent is white", "white"),
    ImageFile("1 bit", "bit.png", saved("PNG", "1"), "scored: black and white", "black and white"),
    ImageFile(
        "16-bit grey",
        "deep.png",
        array(lambda: grey().astype(np.uint16) * 257, "PNG"),
        "scored as its 8-bit picture",
        "grey",
    ),
    ImageFile(
        "16-bit RGB", "deep-colour.tif", deep_colour, "scored as its 8-bit picture", "bright colour"
    ),
    ImageFile(
        "32-bit integers",
        "int.tif",
        array(lambda: grey().astype(np.int32) * 257),
        "scored as its 8-bit picture",
        "grey",
    ),
    ImageFile(
        "16-bit TIFF in which zero is white",
        "white.tif",
        tiff_of(lambda: 65535 - grey().astype(np.uint16) * 257, photometric="miniswhite"),
        "scored as its 8-bit picture",
        "grey",
    ),
    ImageFile(
        "16-bit TIFF, one colour after the other",
        "planar.tif",
        tiff_of(
            lambda: np.moveaxis(colours().astype(np.uint16) * 257, -1, 0),
            photometric="rgb",
            planarconfig="separate",
        ),
        "scored as its 8-bit picture",
        "bright colour",
    ),
    ImageFile(
        "TIFF of 16-bit floats",
        "half.tif",
        tiff_of(lambda: (grey() / 255).astype(np.float16)),
        "`of a kind that is not read; save it with whole numbers`",
    ),
    ImageFile(
        "float TIFF within 0 and 1",
        "float.tif",
        array(lambda: grey().astype(np.float32) / 255),
        "scored as its 8-bit picture",
        "grey",
    ),
    ImageFile(
        "float TIFF outside 0 and 1",
        "outside.tif",
        array(outside),
        "scored, stretched from its lowest to its highest value",
        "stretched",
    ),
    ImageFile(
        "NaN in a float TIFF",
        "nan.tif",
        array(with_not_a_number(np.nan)),
        "`pixel values are NaN or infinite; replace them by finite numbers`",
    ),
    ImageFile(
        "infinity in a float TIFF",
        "inf.tif",
        array(with_not_a_number(np.inf)),
        "`pixel values are NaN or infinite; replace them by finite numbers`",
    ),
    ImageFile(
        "1×1 pixel", "one.png", lambda path: Image.new("RGB", (1, 1), "red").save(path), "scored"
    ),
    ImageFile(
        "1×20000 pixels",
        "tall.png",
        lambda path: Image.new("RGB", (1, 20000), "red").save(path),
        "scored",
    ),
    ImageFile(
        "20000×1 pixels",
        "wide.png",
        lambda path: Image.new("RGB", (20000, 1), "red").save(path),
        "scored",
    ),
    ImageFile(
        "decompression bomb: a PNG that declares 60000×60000",
        "bomb.png",
        bomb,
        "`too many pixels to decode safely; reduce it`",
    ),
    ImageFile(
        "decompression bomb: 20 MB of text in a PNG",
        "text-bomb.png",
        text_bomb,
        "`Decompressed data too large`",
    ),
    ImageFile(
        "turned by EXIF", "turned.jpg", saved("PNG", exif=_turn()), "scored upright", "turned"
    ),
    ImageFile(
        "TIFF stored on its side",
        "side.tif",
        saved("TIFF", exif=_turn()),
        "scored upright",
        "turned",
    ),
    ImageFile(
        "broken EXIF",
        "exif.jpg",
        saved("PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        "scored as it lies",
        "colour",
    ),
    ImageFile(
        "broken colour profile",
        "icc.png",
        saved("PNG", icc_profile=b"no profile"),
        "scored; profiles are not used",
        "colour",
    ),
)


def write_all(folder: Path) -> None:
    """All the files, and the pictures they are compared with."""
    for name, make in REFERENCES.items():
        path = folder / "references" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        make().save(path)
    for file in FILES:
        file.write(folder / file.name)


CASES = tuple(file.case() for file in FILES)


__all__ = ["CASES", "FILES", "write_all"]
