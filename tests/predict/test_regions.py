"""The regions of a folder run: its tables, and its files for other tools."""

import csv
import json
import os
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from bayes_pfl.detect.regions import RegionRule, find_regions
from bayes_pfl.errors import ConfigError
from bayes_pfl.predict import rows as rows_module
from bayes_pfl.predict.formats.coco import runs_of, write_coco
from bayes_pfl.predict.formats.labelme import labelme_file
from bayes_pfl.predict.rows import Row, entry_of, row_of
from bayes_pfl.predict.settings import FolderSettings
from tests.helpers.folders import Counting, rows_of, run, save
from tests.helpers.killing import files_of

NAMES = ["a.png", "line b/ä 漢.png", "line b/=1+1.png", "odd \udcff.png", "z.png"]
FORMATS = ("coco", "labelme", "masks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("regions") / "in"
    save(place, NAMES, (70, 50))
    (place / "bad.png").write_text("no image")
    return place


@pytest.fixture(scope="module")
def results(tiny_model, folder):
    """Of each picture by its path, with a threshold that cuts all maps into several regions."""
    found = {name: tiny_model.predict(folder / name, "metal nut") for name in NAMES}
    limit = float(np.median([one.anomaly_map for one in found.values()]))
    return limit, found


@pytest.fixture(scope="module")
def out(tiny_model, folder, results, tmp_path_factory):
    place = tmp_path_factory.mktemp("out")
    run(tiny_model, folder, place, map_threshold=results[0], min_area=9, formats=FORMATS)
    return place


def regions_of(out):
    found = defaultdict(list)
    with (out / "regions.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        for row in csv.DictReader(file):
            found[row["path"]].append(row)
    return found


def mask_of(result, limit):
    """The pixels of the regions of nine pixels or more."""
    labels, _ = ndimage.label(result.anomaly_map >= limit, np.ones((3, 3)))
    return (np.bincount(labels.ravel()) >= 9)[labels] & (labels > 0)


def test_tables_list_what_python_finds(out, results):
    limit, found = results
    listed, counted = regions_of(out), {row["path"]: row["regions"] for row in rows_of(out)}
    assert counted.pop("bad.png") == "" and set(counted) == set(NAMES)
    assert max(map(int, counted.values())) > 1
    for path, result in found.items():
        rule = RegionRule(limit, 9)
        expected = find_regions(result.anomaly_map, rule).regions
        assert len(expected) == len(listed[path]) == int(counted[path])
        for number, (one, row) in enumerate(zip(expected, listed[path], strict=True), start=1):
            assert int(row["number"]) == number and int(row["area"]) == one.area
            assert tuple(int(row[side]) for side in one.box._fields) == one.box
            assert (int(row["peak_x"]), int(row["peak_y"])) == (one.peak_x, one.peak_y)
            assert float(row["peak"]) == pytest.approx(one.peak, abs=2e-6)
            assert float(row["mean"]) == pytest.approx(one.mean, abs=2e-6) and row["p_value"] == ""


def test_masks_show_the_same_pixels(out, results):
    for path, result in results[1].items():
        stored = Image.open(out / "region_masks" / f"{path}.png")
        assert stored.mode == "L"
        np.testing.assert_array_equal(np.asarray(stored), 255 * mask_of(result, results[0]))
    assert not (out / "region_masks" / "bad.png.png").exists()


def test_coco_is_what_its_own_loader_reads(out, results, monkeypatch):
    coco = pytest.importorskip("pycocotools.coco")
    monkeypatch.setattr("builtins.print", lambda *_: None)
    loaded = coco.COCO(str(out / "coco.json"))
    assert [kind["name"] for kind in loaded.loadCats(loaded.getCatIds())] == ["anomaly"]
    images = loaded.loadImgs(loaded.getImgIds())
    assert {image["file_name"] for image in images} == set(NAMES)
    for image in images:
        whole = np.zeros((image["height"], image["width"]), np.uint8)
        for one in loaded.loadAnns(loaded.getAnnIds(imgIds=image["id"])):
            part = loaded.annToMask(one)
            assert one["area"] == part.sum() and one["iscrowd"] == 0
            assert one["bbox"] == list(coco.maskUtils.toBbox(loaded.annToRLE(one)))
            whole += part
        expected = mask_of(results[1][image["file_name"]], results[0])
        np.testing.assert_array_equal(whole, expected)  # and no pixel is in two regions
    detections = [
        {key: one[key] for key in ("image_id", "category_id", "bbox", "score", "segmentation")}
        for one in loaded.dataset["annotations"]
    ]
    assert len(loaded.loadRes(detections).anns) == len(detections)  # results with scores, as well


def hollow():
    """A ring, a bar over the whole height, a line, a point, and a corner-to-corner pair."""
    values = np.zeros((12, 30), np.float32)
    values[2:9, 2:9] = 0.9
    values[4:7, 4:7] = 0
    values[:, 12:15] = 0.8
    values[3, 18:24] = 0.7
    values[8, 20] = 0.6
    values[9, 26] = values[10, 27] = 0.5
    return find_regions(values, RegionRule(0.5))


def pixels_of(found, number):
    whole = np.zeros(found.shape, np.uint8)
    left, top, right, bottom = found.regions[number].box
    whole[top:bottom, left:right] = found.part(number)
    return whole


def test_runs_go_column_by_column_over_the_whole_map():
    found = hollow()
    for number in range(len(found.regions)):
        runs = runs_of(found, number)
        values = np.repeat(np.arange(len(runs)) % 2, runs)
        values = np.pad(values, (0, 360 - len(values))).reshape(30, 12).T
        np.testing.assert_array_equal(values, pixels_of(found, number))
        assert all(runs[1:])
    assert len(runs_of(found, 1)) == 3  # the bar is one run: columns follow each other


def test_labelme_polygons_cover_their_regions(tmp_path):
    found = hollow()
    picture = tmp_path / "in" / "a b.png"
    content = json.loads(labelme_file(found, picture, tmp_path / "out" / "x" / "a b.png.json"))
    assert content["imagePath"] == "../../in/a b.png" and content["imageData"] is None
    for number, shape in enumerate(content["shapes"]):
        drawn = Image.new("1", (30, 12))
        ImageDraw.Draw(drawn).polygon([tuple(xy) for xy in shape["points"]], fill=1, outline=1)
        filled = ndimage.binary_fill_holes(pixels_of(found, number))
        if found.regions[number].area > 6:
            np.testing.assert_array_equal(np.asarray(drawn), filled)
        else:
            assert (np.asarray(drawn) >= filled).all()  # too thin for a polygon: their boxes


def test_labelme_files_have_what_labelme_asks_for(out, folder, results):
    """The checks of labelme 5 and 6 when they open a file, written again."""
    for path, rows in regions_of(out).items():
        file = out / "labelme" / f"{path}.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        with Image.open(os.fsencode(file.parent / content["imagePath"])) as image:
            assert image.size == (content["imageWidth"], content["imageHeight"])
        assert os.path.samefile(file.parent / content["imagePath"], folder / path)
        assert content["flags"] == {} and isinstance(content["version"], str)
        assert len(content["shapes"]) == len(rows)
        for shape, row in zip(content["shapes"], rows, strict=True):
            assert shape["label"] == "anomaly" and shape["shape_type"] == "polygon"
            assert shape["flags"] == {} and shape["group_id"] is None
            assert isinstance(shape["description"], str)
            points = np.array(shape["points"])
            assert points.shape[1:] == (2,) and len(points) >= 3
            assert shape["score"] == pytest.approx(float(row["peak"]), abs=2e-6)


def test_a_stopped_run_ends_with_the_same_files(tiny_model, folder, results, out, tmp_path):
    options = {"map_threshold": results[0], "min_area": 9, "formats": FORMATS, "batch_size": 2}
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, folder, tmp_path / "out", progress=Counting(stop=3), **options)
    assert not (tmp_path / "out" / "regions.csv").exists()
    run(tiny_model, folder, tmp_path / "out", resume=True, **options)
    whole = run(tiny_model, folder, tmp_path / "whole", **options)
    assert whole.failed == 1
    names = ("regions.csv", "coco.json", "predictions.csv")
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for kind in ("labelme", "region_masks"):
        assert len(files_of(tmp_path / "out" / kind)) == len(NAMES)
    (tmp_path / "out" / "coco.json").unlink()
    (tmp_path / "out" / "labelme" / "a.png.json").unlink()
    again = run(tiny_model, folder, tmp_path / "out", resume=True, **options)
    assert again.resumed == len(NAMES) - 1
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_a_run_wrote_below_its_folder_is_not_read(tiny_model, results, tmp_path):
    save(tmp_path, ["a.png", "b.png"])
    options = {"map_threshold": results[0], "formats": FORMATS}
    run(tiny_model, tmp_path, tmp_path, **options)
    again = run(tiny_model, tmp_path, tmp_path, **options)
    assert (again.images, again.remarks) == (2, [])


def test_of_many_regions_the_strongest_are_listed_and_all_are_counted(monkeypatch):
    monkeypatch.setattr(rows_module, "MOST_REGIONS", 2)
    found = hollow()
    row = Row("a.png", "nut").with_regions(found)
    assert (row.regions, row.listed) == (5, found.regions[:2])
    entry = json.loads(json.dumps(entry_of(row, (1, 2))))
    assert row_of(entry) == row


def test_coco_holds_one_row_at_a_time(tmp_path):
    found, alive = hollow(), []

    class Counted(Row):
        def __del__(self):
            alive.remove(id(self))

    def rows():
        for number in range(50):
            row = Counted(f"{number}.png", "nut", 0.5, width=30, height=12)
            alive.append(id(row))
            assert len(alive) <= 3
            object.__setattr__(row, "regions", 1)
            object.__setattr__(row, "listed", found.regions[:1])
            object.__setattr__(row, "runs", (runs_of(found, 0),))
            yield row

    write_coco(tmp_path / "coco.json", rows)
    content = json.loads((tmp_path / "coco.json").read_text())
    assert [one["image_id"] for one in content["annotations"]] == list(range(1, 51))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ("coco",)}, "formats = coco: there are no regions.*--map-threshold"),
        ({"min_area": 5}, "min_area = 5: there are no regions"),
    ],
)
def test_options_for_regions_need_a_threshold(tiny_model, folder, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        run(tiny_model, folder, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_unknown_formats_are_refused():
    with pytest.raises(ConfigError, match="formats = 'yolo': use coco, labelme, masks"):
        FolderSettings(formats=("yolo",))
    with pytest.raises(ConfigError, match="min_area = 0"):
        FolderSettings(min_area=0)
