"""Captions and the pictures they are of: true of what is seen, and even over all kinds."""

from __future__ import annotations

import numpy as np
import torch

from pretraining.captions import Caption, CaptionWriter, PictureFacts, agreement, kind_words
from pretraining.pictures import plan, views_of
from tests.helpers.small_recipe import SOURCE, draw


def test_every_caption_is_true_of_its_picture() -> None:
    writer, rng = CaptionWriter(("river", "seven"), unknown_noun=0.3), np.random.default_rng(0)
    subjects = [
        PictureFacts(n, d, "seen") for n in ("nut", "wood") for d in ("good", "hole", "crack")
    ]
    for _ in range(40):
        captions = [writer.write(subject, rng) for subject in subjects]
        true = agreement(subjects, captions)
        assert true.diagonal().all()
        for column, caption in enumerate(captions):
            names_thing = caption.class_name is None or caption.class_name in caption.text
            assert names_thing or caption.text == "seen"
            if caption.defect not in (None, "good") and caption.text != "seen":
                assert any(word in caption.text for word in kind_words(caption.defect))
            if caption.defective is not None:
                wrong = [s.defective != caption.defective for s in subjects]
                assert not true[torch.tensor(wrong), column].any()


def test_agreement_follows_the_stated_facts() -> None:
    subjects = [PictureFacts("nut"), PictureFacts("nut", "hole"), PictureFacts("wood", "crack")]
    captions = [
        Caption("nut", "nut"),
        Caption("something damaged", None, True),
        Caption("nut with a hole", "nut", True, "hole"),
        Caption("nut with a crack", "nut", True, "crack"),
    ]
    expected = [[1, 0, 0, 0], [1, 1, 1, 0], [0, 1, 0, 0]]
    assert agreement(subjects, captions).int().tolist() == expected


def test_pairs_differ_in_their_state_alone() -> None:
    writer, rng = CaptionWriter((), unknown_noun=0.0), np.random.default_rng(1)
    for _ in range(30):
        normal, defective = writer.pair("nut", rng)
        assert normal != defective
        assert "nut" in normal and "nut" in defective


def test_crops_are_labelled_by_what_they_hold() -> None:
    picture = draw("nut", 0, 0, size=64, defect="hole")
    rng = np.random.default_rng(0)
    views = [view for _ in range(30) for view in views_of(picture, 2, rng)]
    for pixels, mask, subject in views:
        assert pixels.shape == (64, 64, 3) and mask.shape == (64, 64)
        white = (pixels > 250).all(axis=2)
        assert subject.defective == bool(white.sum() > 20) == mask.any()
        assert (white != mask).sum() < 0.1 * mask.size  # resampled edges
        assert subject.defective or subject.caption is None
    assert {subject.defective for _, _, subject in views} == {True, False}


def test_plan_covers_every_kind_and_half_of_the_pictures_are_good() -> None:
    requests = plan(SOURCE.training, 24, seed=5)
    assert sum(request.defect == "good" for request in requests) == 12
    nuts = [request for request in requests if request.category == "metal_nut"]
    assert {request.defect for request in nuts} == {"good", "hole", "crack"}
    for good, spoiled in zip(nuts[::2], nuts[1::2], strict=True):
        assert (good.index, good.defect == "good") == (spoiled.index, spoiled.defect != "good")
