"""Prediction on Ray: from any store to any store."""

import time

import pytest

from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.predict.ray import engine
from bayes_pfl.predict.ray.listing import _nanoseconds, list_images
from bayes_pfl.predict.ray.storage import Place
from bayes_pfl.predict.ray.worker import PartScorer
from tests.predict.ray.runs import Parts, assert_same_rows, interrupt, rows_of


def test_from_a_store_to_a_store(alone, run_ray, plain_rows, folder, bucket, s3, tmp_path):
    url, fs = bucket
    where = f"{url}/images", f"{url}/images/out"
    stop = Parts(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_ray(*where, part_images=4, maps="png16", storage_options=s3, progress=stop)
    summary = run_ray(*where, maps="png16", storage_options=s3, resume=True)
    assert (summary.images, summary.failed, summary.out) == (14, 2, where[1])
    fs.invalidate_cache()
    fs.get(f"{where[1]}/predictions", str(tmp_path / "got/predictions"), recursive=True)
    found = rows_of(tmp_path / "got")
    assert_same_rows(found, plain_rows(folder))
    for row in found:
        info = fs.info(f"{where[0]}/{row['path']}")
        assert row["etag"] == info["ETag"].strip('"') and row["size"] == info["size"]
    assert len(fs.find(f"{where[1]}/maps")) == 12
    assert not fs.exists(f"{where[1]}/.attempts")
    # An object that was replaced by one of the same size is told by its tag.
    key = f"{where[0]}/{found[-1]['path']}"
    fs.pipe_file(key, b"y" * fs.info(key)["size"])
    with pytest.raises(ConfigError, match="1 images have changed since"):
        run_ray(*where, maps="png16", storage_options=s3, resume=True)


def test_object_that_vanishes_is_a_row(alone, run_ray, bucket, s3, tmp_path, monkeypatch):
    url, fs = bucket
    listed = engine.list_images

    def then_remove(source, out):
        table = listed(source, out)
        fs.rm_file(f"{url}/images/kind 0/00003.png")
        return table

    monkeypatch.setattr(engine, "list_images", then_remove)
    summary = run_ray(f"{url}/images", tmp_path / "out", storage_options=s3)
    assert ("kind 0/00003.png", "could not be fetched: no such file") in summary.failures
    assert summary.failed == 3


def test_store_that_fails_ends_the_run(alone, run_ray, bucket, s3, tmp_path, monkeypatch):
    monkeypatch.setattr(PartScorer, "_fetch", lambda *_: "connection refused")
    with pytest.raises(DataError, match=r"none of 14 files could be fetched \(connection refused"):
        run_ray(f"{bucket[0]}/images", tmp_path / "out", part_images=14, storage_options=s3)


def test_keys_that_lead_out_of_their_folder_are_left_alone(bucket, s3, folder, tmp_path):
    url, fs = bucket
    fs.put_file(str(folder / "kind 0/00000.png"), f"{url}/odd/../../a.png")
    with pytest.raises(DataError, match="no images"):
        list_images(Place(f"{url}/odd", s3), Place(str(tmp_path)))
    with pytest.raises(ValueError, match="leads out of its folder"):
        Place(str(tmp_path / "out")).write("maps/../../a.png", b"")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("memory://images", "lives in one process"),
        ("nosuch://images", "no such store here .*s3:// needs s3fs"),
    ],
)
def test_places_that_cannot_be_used(run_ray, tmp_path, url, words):
    with pytest.raises(ConfigError, match=words):
        run_ray(url, tmp_path / "out")


def test_store_that_is_empty_or_missing(s3, bucket, tmp_path):
    out = Place(str(tmp_path))
    with pytest.raises(DataError, match="nothing does not exist"):
        list_images(Place(f"{bucket[0]}/nothing", s3), out)
    bucket[1].pipe_file(f"{bucket[0]}/texts/a.txt", b"")
    with pytest.raises(DataError, match="no images; files that end in .png"):
        list_images(Place(f"{bucket[0]}/texts", s3), out)
    with pytest.raises(DataError, match="does not exist|cannot be listed"):
        list_images(Place("s3://no-such-bucket-here", s3), out)


def test_output_that_cannot_be_written(alone, run_ray, folder, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError, match="out: (cannot be written|out of reach)"):
        run_ray(folder, tmp_path / "out")


@pytest.mark.parametrize("zone", ["UTC", "XYZ-14"])
def test_times_of_a_store_do_not_depend_on_the_time_zone_here(zone, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        found = _nanoseconds("1970-01-01T00:00:01"), _nanoseconds("1970-01-01T14:00:01+14:00")
    time.tzset()
    assert found == (1_000_000_000, 1_000_000_000)
