"""Regions of interest: their readers, and their pixels in pictures of any size."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bayes_pfl.data.decoding import decode
from bayes_pfl.data.pages import Picture
from bayes_pfl.data.roi import PictureRoi, Roi
from bayes_pfl.data.roi_files import RoiFolder, read_roi, roi_of
from bayes_pfl.data.tiles import Tiling
from bayes_pfl.detect.inputs import load_pixels
from bayes_pfl.errors import DataError


def blob(height, width, seed=0):
    """A mask with a ragged region that touches no edge."""
    mask = np.zeros((height, width), bool)
    part = np.random.default_rng(seed).random((height - 6, width - 8)) > 0.7
    mask[2:-4, 3:-5] = part
    return mask


def touched(mask, size, box, shape):
    """By the definition: whether any pixel of the mask overlaps a part of the picture."""
    found = np.zeros(shape, bool)
    for row, column in np.ndindex(*shape):
        spans = []
        for axis, at in ((1, row), (0, column)):
            begin, end, whole = box[axis], box[axis + 2], size[axis]
            step = (end - begin) / shape[1 - axis]
            scale = mask.shape[1 - axis] / whole
            low, high = (begin + at * step) * scale, (begin + (at + 1) * step) * scale
            spans.append(slice(int(low + 1e-9), int(np.ceil(high - 1e-9))))
        found[row, column] = mask[tuple(spans)].any()
    return found


@pytest.mark.parametrize("size", [(31, 23), (62, 46), (15, 11), (40, 70)])
@pytest.mark.parametrize("shape", [(12, 12), (9, 20), (1, 1)])
def test_a_pixel_that_the_region_touches_is_inside(size, shape):
    mask = blob(23, 31)
    roi = Roi(mask)
    spot = PictureRoi.of(roi, size)
    np.testing.assert_array_equal(spot.inside(shape), touched(mask, size, spot.box, shape))
    whole = spot.whole(size)
    rows, columns = np.flatnonzero(whole.any(1)), np.flatnonzero(whole.any(0))
    assert spot.box == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    left, top, right, bottom = spot.box
    np.testing.assert_array_equal(spot.rows(0, bottom - top), whole[top:bottom, left:right])


def test_it_travels_between_processes():
    mask = np.zeros((3000, 4000), bool)
    mask[1:7] = True
    sent = pickle.dumps(Roi(mask, "a.png"))
    found = pickle.loads(sent)
    assert found == Roi(mask) and found.source == "a.png" and len(sent) < 20_000
    np.testing.assert_array_equal(found.mask, mask)


def test_at_its_own_size_it_is_the_mask():
    mask = blob(23, 31)
    np.testing.assert_array_equal(PictureRoi.of(Roi(mask), (31, 23)).whole((31, 23)), mask)


@pytest.mark.parametrize("size", [(31, 23), (300, 40), (40, 300)])
def test_tiles_share_the_region_and_mirror_it_as_they_do_the_picture(size):
    spot = PictureRoi.of(Roi(blob(23, 31)), size)
    tiling = Tiling(64, 0.25) if max(size) > 64 else Tiling(32, 0.25)
    tiles = tiling.tiles(spot.crop_size)
    seen = np.zeros((spot.crop_size[1] + 64, spot.crop_size[0] + 64), bool)
    for tile in tiles:
        part = spot.of_tile(tile, tile.side)
        assert part.any() == spot.touches(tile)
        area = seen[tile.top : tile.top + tile.side, tile.left : tile.left + tile.side]
        area |= part
        high = min(tile.side, spot.crop_size[1] - tile.top)
        if high < tile.side:
            beyond = min(high, tile.side - high)
            mirrored = part[:high][::-1][:beyond]
            np.testing.assert_array_equal(part[high : high + beyond], mirrored)
    if tiles:
        inner = seen[: spot.crop_size[1], : spot.crop_size[0]]
        np.testing.assert_array_equal(inner, spot.rows(0, spot.crop_size[1]))


def write_json(path, data):
    path.write_text(json.dumps(data))
    return path


SQUARE = [[10, 20], [40, 20], [40, 50], [10, 50]]


def labelme(points, kind="polygon", width=100, height=80):
    shape = {"label": "part", "points": points, "shape_type": kind, "group_id": None}
    return {"shapes": [shape], "imageWidth": width, "imageHeight": height, "imageData": None}


@pytest.mark.parametrize(
    "data",
    [
        {"size": [100, 80], "polygons": [SQUARE]},
        labelme(SQUARE),
        labelme([[40, 50], [10, 20]], "rectangle"),
        {"size": [1, 1], "polygons": [[[x / 100, y / 80] for x, y in SQUARE]]},
    ],
)
def test_polygons_lie_where_they_were_drawn(tmp_path, data):
    roi = read_roi(write_json(tmp_path / "roi.json", data))
    box = roi.box((1000, 800))
    assert np.abs(np.subtract(box, (100, 200, 400, 500))).max() <= 1
    whole = PictureRoi.of(roi, (100, 80)).whole((100, 80))
    assert whole[20:50, 10:40].all()
    assert whole.sum() <= 32 * 32  # pixels that the outline touches are inside as well


def test_polygons_together_and_a_concave_one(tmp_path):
    corner = [[0, 0], [60, 0], [60, 20], [20, 20], [20, 60], [0, 60]]
    other = [[80, 70], [100, 70], [90, 80]]
    data = {"size": [100, 80], "polygons": [corner, other, SQUARE]}
    whole = PictureRoi.of(read_roi(write_json(tmp_path / "a.json", data)), (100, 80)).whole(
        (100, 80)
    )
    picture = Image.new("1", (100, 80))
    for points in data["polygons"]:
        ImageDraw.Draw(picture).polygon([tuple(point) for point in points], fill=1)
    assert (whole != np.asarray(picture)).mean() < 0.03
    assert whole[5, 50] and whole[55, 5] and not whole[60, 50] and whole[75, 90]


def test_the_own_regions_in_labelme_s_format_come_back(tmp_path):
    from bayes_pfl.detect.regions import RegionRule, find_regions
    from bayes_pfl.predict.formats.labelme import labelme_file

    values = np.zeros((1500, 2100), np.float32)
    values[300:700, 500:900] = 0.9
    found = find_regions(values, RegionRule(0.5))
    (tmp_path / "a.json").write_bytes(labelme_file(found, tmp_path / "a.png", tmp_path / "a.json"))
    roi = read_roi(tmp_path / "a.json")
    assert np.abs(np.subtract(roi.box((2100, 1500)), (500, 300, 900, 700))).max() <= 1


@pytest.mark.parametrize(
    "data, why",
    [
        ([], "no object"),
        ({"size": [100, 80]}, "no polygons"),
        ({"size": [100], "polygons": [SQUARE]}, "two whole numbers"),
        ({"size": [100, 2**40], "polygons": [SQUARE]}, "two whole numbers"),
        ({"size": [100, 80], "polygons": [SQUARE[:2]]}, "a list of 3 at least"),
        ({"size": [100, 80], "polygons": [[[1, 2], [3, float("nan")], [4, 5]]]}, "two numbers"),
        ({"size": [100, 80], "polygons": [[[1, 2], [3, True], [4, 5]]]}, "two numbers"),
        ({"size": [30, 80], "polygons": [SQUARE]}, r"\[40.0, 20.0\] lies outside"),
        (labelme(SQUARE, "circle"), "polygon or rectangle"),
        (labelme(SQUARE[:1], "rectangle"), "a list of 2 at least"),
        ({"shapes": ["x"], "imageWidth": 5, "imageHeight": 5}, "no object"),
    ],
)
def test_files_that_are_no_polygons(tmp_path, data, why):
    with pytest.raises(DataError, match=why) as caught:
        read_roi(write_json(tmp_path / "roi.json", data))
    assert "\n" not in str(caught.value)


def test_masks_that_cannot_be_used(tmp_path):
    Image.new("L", (9, 9)).save(tmp_path / "empty.png")
    with pytest.raises(DataError, match="no pixel is inside"):
        read_roi(tmp_path / "empty.png")
    with pytest.raises(DataError, match="no such file or folder; give a mask picture"):
        read_roi(tmp_path / "missing.png")
    with pytest.raises(DataError, match="roi is int"):
        read_roi(3)


def test_a_folder_gives_each_picture_its_own(tmp_path):
    (tmp_path / "roi" / "left").mkdir(parents=True)
    names = ["a.png", "left/a.png", "b.jpg.png", "b.png"]
    for at, name in enumerate(names):
        Image.fromarray(blob(20, 30, at)).save(tmp_path / "roi" / name)
    write_json(tmp_path / "roi" / "c.json", {"size": [100, 80], "polygons": [SQUARE]})
    regions = RoiFolder(tmp_path / "roi", tmp_path / "in")
    for picture, at in (("a.jpg", 0), ("left/a.tif", 1), ("b.jpg", 2), ("b.bmp", 3)):
        np.testing.assert_array_equal(regions.of(tmp_path / "in" / picture).mask, blob(20, 30, at))
    assert regions.of(tmp_path / "in" / "c.png").box((100, 80))[0] in (9, 10)
    with pytest.raises(DataError, match="no region of interest left/b.png"):
        regions.of(tmp_path / "in" / "left" / "b.png")
    Image.fromarray(blob(20, 30)).save(tmp_path / "roi" / "a.bmp")
    with pytest.raises(DataError, match="2 regions of interest .*a.png, a.bmp; leave one"):
        regions.of(tmp_path / "in" / "a.jpg")
    by_name = read_roi(tmp_path / "roi")
    assert by_name.of(tmp_path / "anywhere" / "c.png").mask.any()
    with pytest.raises(DataError, match="from memory"):
        roi_of(by_name, None, (9, 9))


@pytest.mark.parametrize(
    ("size", "drawn", "own_exif"),
    [
        ((40, 30), "stored", False),  # the proportions tell
        ((40, 30), "upright", False),
        ((30, 30), "stored", False),  # they do not: it lies as the file of its picture does
        ((30, 30), "stored", True),
        ((20, 15), "upright", False),  # smaller than the picture
    ],
)
def test_a_mask_of_a_folder_is_turned_like_its_picture(tmp_path, size, drawn, own_exif):
    turn, tag = Image.Transpose.ROTATE_270, 6
    stored = Image.fromarray(blob(size[1], size[0]))
    upright = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = tag
    for folder in ("in", "roi"):
        (tmp_path / folder).mkdir()
    stored.convert("RGB").resize((60, 60 * size[1] // size[0])).save(
        tmp_path / "in" / "a.png", exif=exif
    )
    mask = stored if drawn == "stored" else upright
    mask.save(tmp_path / "roi" / "a.png", **({"exif": exif} if own_exif else {}))
    regions = RoiFolder(tmp_path / "roi", tmp_path / "in")
    ((item,),) = decode([Picture(tmp_path / "in" / "a.png")], 32, roi=regions)
    np.testing.assert_array_equal(item.roi.roi.mask, np.asarray(upright))
    loaded = load_pixels(tmp_path / "in" / "a.png", 0, 32, roi=RoiFolder(tmp_path / "roi"))
    assert loaded.roi == item.roi


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "roi").mkdir()
    Image.fromarray(blob(20, 30)).save(tmp_path / "outside.png")
    (tmp_path / "roi" / "a.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(DataError, match="leaves"):
        RoiFolder(tmp_path / "roi").of(tmp_path / "a.jpg")
