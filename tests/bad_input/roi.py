"""Regions of interest, and pictures that have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.bad_input.case import Case, World, one_image, write_json
from tests.bad_input.data import tree
from tests.bad_input.profiles import evaluated, fitted, sound
from tests.bad_input.profiles import used as with_profile


def mask(path: Path, left: int = 4) -> Path:
    """A mask of the columns from one on."""
    values = np.zeros((30, 40), bool)
    values[:, left:] = True
    Image.fromarray(values).save(path)
    return path


def predicted(world: World, roi: Path, code: int = 2) -> str:
    return world.predict(one_image(world.folder / "in"), "--roi", roi, code=code)


def missing(world: World) -> str:
    return predicted(world, world.folder / "none.png")


def empty(world: World) -> str:
    path = world.folder / "roi.png"
    Image.new("L", (40, 30)).save(path)
    return predicted(world, path)


def no_mask(world: World) -> str:
    path = world.folder / "roi.png"
    path.write_text("no image")
    return predicted(world, path)


def polygons(world: World, content: Any) -> str:
    return predicted(world, write_json(world.folder / "roi.json", content))


def no_json(world: World) -> str:
    path = world.folder / "roi.json"
    path.write_text('{"size": [40,')
    return predicted(world, path)


def no_polygons(world: World) -> str:
    return polygons(world, {"version": "5.5.0", "flags": {}})


def a_circle(world: World) -> str:
    shape = {"shape_type": "circle", "points": [[5, 5], [9, 9]]}
    return polygons(world, {"shapes": [shape], "imageWidth": 40, "imageHeight": 30})


def beyond(world: World) -> str:
    return polygons(world, {"size": [40, 30], "polygons": [[[5, 5], [50, 5], [5, 20]]]})


def without(world: World) -> str:
    folder = one_image(one_image(world.folder / "in"), "b.png").parent / "in"
    (world.folder / "roi").mkdir()
    mask(world.folder / "roi" / "a.png")
    said = world.predict(folder, "--roi", world.folder / "roi", code=1)
    table = (world.folder / "out" / "predictions.csv").read_text()
    assert said.count("1 images scored, 1 failed") == 1
    return table


def two_for_one(world: World) -> str:
    (world.folder / "roi").mkdir()
    for name in ("a.png", "a.bmp"):
        mask(world.folder / "roi" / name)
    predicted(world, world.folder / "roi", code=1)
    return (world.folder / "out" / "predictions.csv").read_text()


def left_out_of_a_fit(world: World) -> str:
    (world.folder / "roi").mkdir()
    for at in range(3):
        mask(world.folder / "roi" / f"{at}.png")
    return fitted(world, sound(world), "--roi", world.folder / "roi", code=1)


def another_than_the_profile_s(world: World) -> str:
    fitted(world, sound(world), "--roi", mask(world.folder / "roi.png"))
    other = mask(world.folder / "other.png", 9)
    return with_profile(world, "--class-name", "nut", "--roi", other)


def a_profile_of_regions_by_name(world: World) -> str:
    (world.folder / "roi").mkdir()
    for at in range(4):
        mask(world.folder / "roi" / f"{at}.png", at)
    fitted(world, sound(world), "--roi", world.folder / "roi")
    return with_profile(world, "--class-name", "nut")


def a_profile_s_mask_changed(world: World) -> str:
    fitted(world, sound(world), "--roi", mask(world.folder / "roi.png"))
    (kept,) = (world.folder / "part").glob("roi.*.png")
    mask(kept, 9)
    return with_profile(world, "--class-name", "nut")


def a_profile_in_evaluate(world: World) -> str:
    tree(world.folder / "data")
    fitted(world, sound(world), "--roi", mask(world.folder / "roi.png"))
    return evaluated(world, "--profile", world.folder / "part", code=2)


CASES = (
    Case("file of a region that does not exist", "`no such file or folder`", missing),
    Case("mask without a pixel inside", "`no pixel is inside`", empty),
    Case("text called roi.png", "`roi.png: not an image`", no_mask),
    Case("file of polygons cut short", "`not a file of polygons (`", no_json),
    Case("JSON file of something else", '`give {"size": [W, H], "polygons": `', no_polygons),
    Case("circle of labelme", "`shape_type 'circle': polygon or rectangle`", a_circle),
    Case(
        "polygon that leaves the picture",
        "`the point [50.0, 5.0] lies outside the picture of 40x30 pixels`",
        beyond,
    ),
    Case(
        "picture without a region in the folder of regions",
        "a row with `no region of interest b.png (or another suffix)`, exit 1",
        without,
    ),
    Case(
        "two regions for a picture",
        "a row with `2 regions of interest...a.png, a.bmp; leave one`, exit 1",
        two_for_one,
    ),
    Case(
        "normal picture without a region",
        "left out: `3.png: no region of interest`, exit 1",
        left_out_of_a_fit,
    ),
    Case(
        "another region than the profile's",
        "`roi = ..., but it was made with ...`",
        another_than_the_profile_s,
    ),
    Case(
        "profile of regions by name, without any for the pictures",
        "`give the regions of these pictures with --roi FOLDER`",
        a_profile_of_regions_by_name,
    ),
    Case(
        "region in a profile, changed by hand",
        "`has changed since the profile was made`",
        a_profile_s_mask_changed,
    ),
    Case("evaluate with a profile of a region", "`roi = None, but`", a_profile_in_evaluate),
)
