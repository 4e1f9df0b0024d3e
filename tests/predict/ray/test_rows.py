"""Prediction on Ray: the scores of one process."""

import json
from collections import defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bayes_pfl.data.wording import ClassNames
from bayes_pfl.errors import ConfigError
from tests.helpers.folders import rows_of as table_of
from tests.helpers.stacks import damage, stack
from tests.predict.ray.runs import Parts, assert_same_rows, interrupt, paint, rows_of


@pytest.mark.parametrize("url", [False, True], ids=["path", "url"])
def test_rows_are_those_of_one_process(alone, run_ray, plain_rows, folder, tmp_path, url):
    out = tmp_path / "out"
    where = [p.as_uri().replace("%20", " ") for p in (folder, out)] if url else (folder, out)
    summary = run_ray(*where, part_images=5)
    found = rows_of(out)
    assert_same_rows(found, plain_rows(folder))
    assert (summary.images, summary.failed) == (14, 2)
    assert [path for path, _ in summary.failures] == ["bad 0.png", "bad 1.png"]
    scores = [row["score"] for row in found if row["score"] is not None]
    assert summary.anomalous == sum(score >= 0.5 for score in scores)
    assert [score for _, score in summary.highest] == sorted(scores, reverse=True)[:5]
    for row in found:
        status = (folder / row["path"]).stat()
        assert (row["size"], row["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
    assert json.loads((out / "summary.json").read_text())["images"] == 14
    sha256 = json.loads((out / "run.json").read_text())["checkpoint_sha256"]
    part = pq.read_schema(next((out / "predictions").iterdir()))
    assert part.metadata[b"checkpoint_sha256"].decode() == sha256
    assert sorted(path.name for path in out.iterdir()) == [
        "predictions",
        "run.json",
        "summary.json",
    ]


def test_names_by_folder_and_mean_prompt(alone, run_ray, plain_rows, folder, tmp_path):
    options = {"class_name": ClassNames(default="screw|bolt"), "samples": 0}
    run_ray(folder, tmp_path / "out", **options)
    assert_same_rows(rows_of(tmp_path / "out"), plain_rows(folder, **options))


def test_a_profile_is_that_of_one_process(alone, run_ray, plain_rows, folder, profile, tmp_path):
    summary = run_ray(folder, tmp_path / "out", profile=profile, threshold=None)
    found = rows_of(tmp_path / "out")
    assert_same_rows(found, plain_rows(folder, profile=profile, threshold=None))
    scored = [row for row in found if row["score"] is not None]
    assert len(scored) == 12 and all(r["memory_score"] > 0 and r["p_value"] > 0 for r in scored)
    assert summary.anomalous == sum(row["label"] for row in scored)


@pytest.mark.parametrize("by", ["profile", "threshold"])
def test_regions_are_those_of_one_process(
    alone, run_ray, plain_rows, folder, profile, tmp_path, by
):
    options = {"map_threshold": 0.5, "min_area": 20}
    options = {"profile": profile, "threshold": None} if by == "profile" else options
    run_ray(folder, tmp_path / "out", **options)
    plain_rows(folder, **options)
    expected = defaultdict(list)
    for row in table_of(tmp_path / "plain", "regions.csv"):
        expected[row["path"]].append(row)
    assert expected
    for row in rows_of(tmp_path / "out"):
        if row["score"] is None:
            assert row["regions"] is row["region_list"] is None
            continue
        assert row["regions"] == len(row["region_list"]) == len(expected[row["path"]])
        for one, other in zip(row["region_list"], expected[row["path"]], strict=True):
            for name, value in one.items():
                known = float(other[name]) if other[name] else None
                assert value == pytest.approx(known, abs=1e-5), name


def test_files_for_other_tools_are_refused_before_ray_starts(run_ray, folder, tmp_path):
    with pytest.raises(ConfigError, match="formats = coco: .* leave --format out"):
        run_ray(folder, tmp_path / "out", map_threshold=0.5, formats=("coco",))


def test_tiles_are_those_of_one_process(alone, run_ray, plain_rows, folder, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)
    Image.fromarray(image).save(folder / "large.png")
    summary = run_ray(folder, tmp_path / "out", tile=96)
    assert_same_rows(rows_of(tmp_path / "out"), plain_rows(folder, tile=96))
    assert (summary.tiled, summary.tile_sides) == (1, [96])


def test_a_region_of_interest_is_that_of_one_process(alone, run_ray, plain_rows, folder, tmp_path):
    mask = np.zeros((60, 80), bool)
    mask[20:50, 10:60] = True
    Image.fromarray(mask).save(tmp_path / "roi.png")
    run_ray(folder, tmp_path / "out", roi=tmp_path / "roi.png", maps="npy")
    assert_same_rows(rows_of(tmp_path / "out"), plain_rows(folder, roi=tmp_path / "roi.png"))
    for path in (tmp_path / "out" / "maps").rglob("*.npy"):
        kept = np.load(path)
        assert kept.max() > 0 and not kept[: len(kept) // 3].any()


def test_a_folder_of_regions_is_refused_before_ray_starts(run_ray, folder, tmp_path):
    with pytest.raises(ConfigError, match="ray takes one region of interest for all pictures"):
        run_ray(folder, tmp_path / "out", roi=folder)


def test_words_of_the_user_reach_the_tokenizer(alone, run_ray, folder, tmp_path, prompted):
    run_ray(folder, tmp_path / "out", class_name="rain drop", samples=1)
    assert prompted == {"rain drop"}


def test_a_device_that_is_not_there_is_refused_before_ray_starts(run_ray, folder, tmp_path):
    with pytest.raises(ConfigError, match="device = 'gpu': there is none here"):
        run_ray(folder, tmp_path / "out", device="gpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["png16", "npy"])
def test_maps_are_those_of_one_process(alone, run_ray, plain_rows, folder, tmp_path, kind):
    run_ray(folder, tmp_path / "out", maps=kind, batch_size=8)
    plain_rows(folder, maps=kind)
    expected = sorted(p for p in (tmp_path / "plain/maps").rglob("*") if p.is_file())
    assert len(expected) == 12
    for path in expected:
        other = tmp_path / "out" / path.relative_to(tmp_path / "plain")
        if kind == "npy":
            np.testing.assert_allclose(np.load(other), np.load(path), atol=1e-5)
        else:
            one, two = (np.asarray(Image.open(p)).astype(int) for p in (other, path))
            assert abs(one - two).max() <= 1


def test_maps_below_the_images_are_not_taken_for_images(alone, run_ray, folder):
    assert run_ray(folder, folder / "out", maps="png16").images == 14
    assert run_ray(folder, folder / "out", maps="png16", overwrite=True).images == 14


def test_pool_of_one_image(alone, run_ray, tmp_path):
    paint(tmp_path / "in/a.png")
    assert run_ray(tmp_path / "in", tmp_path / "out", actors=4).succeeded == 1


@pytest.mark.parametrize("place", ["here", "store"])
def test_pages_are_rows_and_what_is_passed_over_is_said(
    alone, run_ray, plain_rows, tmp_path, place, request
):
    folder, options = tmp_path / "stacks", {"part_images": 3}
    stack(folder / "a.tif", 4)
    damage(stack(folder / "b.tif", 2, first=4), 2)
    paint(folder / "c.png", 9)
    (folder / "d.npy").touch()
    where = folder
    if place == "store":
        url, fs = request.getfixturevalue("bucket")
        fs.put(f"{folder}/", f"{url}/stacks/", recursive=True)
        where, options["storage_options"] = f"{url}/stacks", request.getfixturevalue("s3")
    with pytest.raises(KeyboardInterrupt, match="3 of 7 images are done"):
        run_ray(where, tmp_path / "out", progress=Parts(interrupt), maps="png16", **options)
    summary = run_ray(where, tmp_path / "out", resume=True, maps="png16", **options)
    assert (summary.images, summary.resumed, summary.failed) == (7, 3, 1)
    assert [name for name, _ in summary.failures] == ["b.tif, page 2"]
    passed_over = f"{where}: files of kinds that are not read (.npy): 1, first d.npy"
    pages = f"{where}: files of several pages or frames, each an image of its own (6 in all): 2"
    assert summary.remarks == [passed_over] + [f"{pages}, first a.tif"] * (place == "here")
    keys = [("a.tif", page) for page in range(1, 5)] + [("b.tif", 1), ("b.tif", 2), ("c.png", None)]
    found = sorted(rows_of(tmp_path / "out"), key=lambda row: (row["path"], row["page"] or 0))
    assert [(row["path"], row["page"]) for row in found] == keys
    assert_same_rows(found, plain_rows(folder))
    files = {path.name for path in (tmp_path / "out/maps").iterdir()}
    assert files == {f"a.tif.page{page:05}.png" for page in range(1, 5)} | {
        "b.tif.page00001.png",
        "c.png.png",
    }
