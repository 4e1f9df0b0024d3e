"""Large pictures and their tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from tests.bad_input.case import Case, World
from tests.bad_input.profiles import fitted, used
from tests.helpers.folders import rows_of


def photographs(world: World, *sizes: tuple[int, int], name: str = "sound") -> Path:
    """A folder of pictures of grey noise."""
    folder = world.folder / name
    folder.mkdir()
    for seed, (width, height) in enumerate(sizes):
        noise = np.random.default_rng(seed).normal(128, 12, (height, width)).clip(0, 255)
        Image.fromarray(noise.astype(np.uint8)).save(folder / f"{seed}.png")
    return folder


def tile_too_small(world: World) -> str:
    return world.predict(photographs(world, (90, 80)), "--tile", 8, code=2)


def tile_no_number(world: World) -> str:
    return world.predict(photographs(world, (90, 80)), "--tile", "large", code=2)


def overlap_too_large(world: World) -> str:
    return world.predict(photographs(world, (90, 80)), "--tile", 64, "--overlap", 0.9, code=2)


def overlap_alone(world: World) -> str:
    return world.predict(photographs(world, (90, 80)), "--overlap", 0.5, code=2)


def all_smaller(world: World) -> str:
    return fitted(world, photographs(world, (90, 80), (60, 60)), "--tile", 96, code=2)


def aligned(world: World) -> str:
    return fitted(world, photographs(world, (150, 80)), "--tile", 96, "--aligned", code=2)


def mutual(world: World) -> str:
    small = photographs(world, *[(90, 80)] * 8)
    return world.predict(small, "--tile", 96, "--mutual", code=2)


def other_tile(world: World) -> str:
    fitted(world, photographs(world, (150, 80), (140, 90)), "--tile", 96)
    return used(world, "--tile", 64)


def update(world: World) -> str:
    fitted(world, photographs(world, (150, 80), (140, 90)), "--tile", 96)
    more = photographs(world, (130, 110), name="more")
    options = ("--update", world.folder / "part", "--checkpoint", world.checkpoint)
    return world.refused("fit", more, *options)


def one_row_of_pixels(world: World) -> str:
    world.predict(photographs(world, (700, 1)), "--tile", 96)
    (row,) = rows_of(world.folder / "out")
    assert row["tile"] == "96" and 0 < float(row["score"]) < 1
    return ""


def none_larger(world: World) -> str:
    return world.predict(photographs(world, (90, 80)), "--tile", 96)


def _huge(world: World, dtype: type[np.generic] = np.uint8) -> Path:
    """A TIFF that declares 400 megapixels in strips of one row, and holds few of them."""
    folder = world.folder / "huge"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", np.zeros((64, 64), dtype), rowsperstrip=1)
    with tifffile.TiffFile(folder / "a.tif", mode="r+b") as file:
        file.pages[0].tags["ImageLength"].overwrite(20_000)
        file.pages[0].tags["ImageWidth"].overwrite(20_000)
    return folder


def huge_without_tiles(world: World) -> str:
    return world.predict(_huge(world), code=1) and _error(world)


def huge_cut_short(world: World) -> str:
    return world.predict(_huge(world), "--tile", "auto", code=1) and _error(world)


def huge_cut_short_among_normal_ones(world: World) -> str:
    folder = photographs(world, (150, 80), (140, 90))
    (_huge(world) / "a.tif").rename(folder / "a.tif")
    said = fitted(world, folder, "--tile", 96, code=1)  # a file was left out
    assert "tifffile" not in said
    return said.replace(str(folder.resolve()), "")


def huge_of_signed_numbers(world: World) -> str:
    return world.predict(_huge(world, np.int8), "--tile", "auto", code=1) and _error(world)


def _error(world: World) -> str:
    (row,) = rows_of(world.folder / "out")
    assert str(world.folder) not in row["error"], "the column path has it"
    return row["error"]


CASES = (
    Case("--tile 8", "`auto, or a number of pixels from 32 to 8192`", tile_too_small),
    Case("--tile large", "`give auto, or a number of pixels`", tile_no_number),
    Case("--overlap 0.9", "`a share of the tile from 0 to 0.75`", overlap_too_large),
    Case("--overlap without --tile", "`give both, or neither`", overlap_alone),
    Case(
        "fit with a tile that no normal picture is larger than",
        "`no picture is larger than that, the largest side is 90 pixels`",
        all_smaller,
    ),
    Case("fit --tile --aligned", "`a tile has no place of its own`", aligned),
    Case(
        "predict --mutual with a tile that no picture is larger than",
        "`no picture is larger than that, the largest side is 90 pixels; give a smaller tile`",
        mutual,
    ),
    Case("another --tile than the profile's", "`tile = 64, but it was made with 96`", other_tile),
    Case("fit --update of a profile with tiles", "`with a folder of all the pictures`", update),
    Case("picture of 700 x 1 pixels with --tile 96", "scored, in tiles alone", one_row_of_pixels),
    Case(
        "predict with a tile that no picture is larger than",
        "scored as wholes, and says `no image was scored in tiles: none is larger than one`",
        none_larger,
    ),
    Case(
        "TIFF of 400 megapixels without --tile",
        "its row says `too many pixels to decode safely`",
        huge_without_tiles,
    ),
    Case("the same with --tile, cut short", "its row says `damaged or cut short`", huge_cut_short),
    Case(
        "fit --tile with it among the normal pictures",
        "fits the others, and says `a.tif: damaged or cut short`",
        huge_cut_short_among_normal_ones,
    ),
    Case(
        "the same of numbers that are not read a part at a time",
        "its row says `this one is minisblack of int8; convert it`",
        huge_of_signed_numbers,
    ),
)
