"""What the end of a run says when images may not be like those of the profile."""

import pytest

from bayes_pfl.predict.rows import Row
from bayes_pfl.predict.summary import Counts, Summary

PROFILE = {"class_name": "plate", "pictures": 8}


def remarks(images, anomalous, failed=0, tiled=0, profile=PROFILE, wide=0, tall=0, **settings):
    settings = {"threshold": 0.5, "tile": None} | settings
    summary = Summary("in", "out", images, settings=settings, profile=profile, remarks=["a.txt"])
    summary.finish(Counts(images, failed, anomalous, tiled=tiled, wide=wide, tall=tall), 1.0, "cpu")
    first, *others = summary.remarks
    assert first == "a.txt"
    return others


ONE = {"source": "roi.png", "sha256": "0"}


@pytest.mark.parametrize(
    ("wide", "tall", "roi", "told"),
    [
        (9, 2, ONE, "2 of 12 images are taller than wide, others are wider than tall: one region"),
        (3, 8, ONE, "3 of 12 images are wider than tall, others are taller than wide: one region"),
        (9, 0, ONE, ""),
        (9, 2, ONE | {"sha256": None}, ""),  # a folder of regions
        (9, 2, None, ""),
    ],
)
def test_a_region_of_interest_for_images_that_lie_differently_is_doubted(wide, tall, roi, told):
    found = remarks(12, 0, roi=roi, profile=None, wide=wide, tall=tall)
    assert [line[: len(told)] for line in found] == ([told] if told else [])


def test_rows_add_up_to_how_their_images_lie():
    counts = Counts()
    for width, height in ((30, 20), (20, 30), (20, 31), (20, 20), (None, None)):
        counts.add(Counts.of(Row("a.png", "nut", width=width, height=height)))
    assert (counts.wide, counts.tall) == (1, 2)


def test_more_than_half_labelled_anomalous_is_doubted():
    (found,) = remarks(12, 7)
    assert found.startswith("7 of 12 images are labelled anomalous") and "JPEG quality" in found
    assert remarks(12, 6) == []
    (found,) = remarks(12, 6, failed=1)
    assert found.startswith("6 of 12")


@pytest.mark.parametrize(("images", "profile"), [(7, PROFILE), (12, None)])
def test_few_images_or_no_profile_are_not_doubted(images, profile):
    assert remarks(images, images, profile=profile) == []


def test_images_no_larger_than_a_tile_are_counted_without_those_that_failed():
    (found,) = remarks(12, 0, failed=2, tiled=7, tile=320)
    assert found.startswith("3 of 12 images are no larger than a tile")
    assert remarks(12, 0, failed=2, tiled=10, tile=320) == []
    assert remarks(12, 0, tiled=7, tile=320, profile=None) == []
