"""What the end of a run says when images may not be like those of the profile."""

import pytest

from bayes_pfl.predict.summary import Counts, Summary

PROFILE = {"class_name": "plate", "pictures": 8}


def remarks(images, anomalous, failed=0, tiled=0, profile=PROFILE, **settings):
    settings = {"threshold": 0.5, "tile": None} | settings
    summary = Summary("in", "out", images, settings=settings, profile=profile, remarks=["a.txt"])
    summary.finish(Counts(images, failed, anomalous, tiled=tiled), 1.0, "cpu")
    first, *others = summary.remarks
    assert first == "a.txt"
    return others


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
