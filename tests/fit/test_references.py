"""Reference pictures: each is judged by the others alone, whatever their order and batches."""

import cv2
import numpy as np
import pytest
import torch

from bayes_pfl.detect.memory import PatchMemory
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import DataError
from bayes_pfl.fit.encoded import ANGLES, turned, unturned_cells
from bayes_pfl.fit.references import ReferenceOptions, fit_references

NAME, SIDE = "metal nut", 48


def texture(seed):
    """A grey noise texture with an even brightness, uint8 (S, S, 3)."""
    noise = np.random.default_rng(seed).normal(128, 12, (SIDE, SIDE, 1))
    return np.repeat(noise.clip(0, 255).astype(np.uint8), 3, axis=2)


def spotted(seed, at=(8, 30)):
    found = texture(seed)
    found[at[0] : at[0] + 12, at[1] : at[1] + 12] = (250, 30, 30)
    return found


@pytest.fixture(scope="module")
def pictures():
    return [texture(seed) for seed in range(8)]


def fitted(model, pictures, options=None, **settings):
    scorer = Scorer(model, ScoringSettings(**settings))
    return fit_references(scorer, pictures, NAME, options or ReferenceOptions())


def scored(model, pictures, references, **settings):
    scorer = Scorer(model, ScoringSettings(**settings), references={NAME: references})
    return scorer(pictures, [NAME] * len(pictures))


def test_neither_order_nor_batches_change_scores(tiny_model, pictures):
    new = [texture(90), spotted(91)]
    first = fitted(tiny_model, pictures).references
    other = fitted(tiny_model, pictures[::-1], batch_size=3).references
    assert first.digests == other.digests
    for a, b in zip(
        scored(tiny_model, new, first), scored(tiny_model, new[::-1], other)[::-1], strict=True
    ):
        assert a.score == pytest.approx(b.score, abs=1e-5)
        torch.testing.assert_close(a.map, b.map, atol=1e-4, rtol=0)


def test_a_fault_stands_out_and_is_found_at_its_place(tiny_model, pictures):
    references = fitted(tiny_model, pictures).references
    normal, faulty = scored(tiny_model, [texture(90), spotted(91)], references)
    assert faulty.score > normal.score and faulty.memory_score > 2 * normal.memory_score
    assert 0 <= normal.low <= normal.high < 1 and normal.uncertainty >= 0
    row, column = np.unravel_index(int(faulty.map.argmax()), faulty.map.shape)
    assert 4 <= row <= 24 and 26 <= column <= 46
    assert 0 <= faulty.place.picture < 8 and faulty.place.distance > 0


def test_a_reference_is_never_compared_with_itself(tiny_model, pictures):
    found = fitted(tiny_model, pictures)
    again = scored(tiny_model, pictures, found.references)
    by_digest = dict(zip(found.encoded.digests, found.memory_scores(), strict=True))
    order = {digest: at for at, digest in enumerate(found.references.digests)}
    assert set(order) == set(by_digest)
    np.testing.assert_allclose(
        sorted(image.memory_score for image in again), sorted(by_digest.values()), atol=2e-4
    )
    assert min(by_digest.values()) > 0.05


def saved_anew(pixels, quality=95):
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].copy()


def test_a_reference_that_was_saved_anew_is_not_compared_with_itself_either(tiny_model, pictures):
    references = fitted(tiny_model, pictures).references
    new = [saved_anew(picture) for picture in pictures]
    assert all((one != other).any() for one, other in zip(new, pictures, strict=True))
    again, known = (scored(tiny_model, some, references) for some in (new, pictures))
    for one, other in zip(again, known, strict=True):
        assert one.memory_score == pytest.approx(other.memory_score, rel=0.1)
        assert one.memory_score > 0.05
    patches = torch.eye(4)[:, :3]
    memory = PatchMemory(patches[:2].half(), torch.tensor([0, 2]), torch.tensor([1, 0]), 3)
    near = memory.at_same_cells(torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]))
    assert near.tolist() == [0, float("inf"), 0]  # the second picture has no patch


def test_a_picture_left_out_has_no_part_in_its_scale(tiny_model, pictures):
    found = fitted(tiny_model, [*pictures, spotted(50)])
    scores = [float(found.left_out(at)[0].scores().score) for at in range(9)]
    strange = int(np.argmax(found.memory_scores()))
    assert np.argmax(scores) == strange
    assert scores[strange] > 0.5  # measured by the others; it would have widened the scale


def test_copies_are_taken_once(tiny_model, pictures):
    found = fitted(tiny_model, [*pictures, pictures[0].copy()])
    assert len(found.encoded) == 8
    near = pictures[1].copy()
    near[0, 0] += 1
    found = fitted(tiny_model, [*pictures, near])
    assert len(found.encoded) == 9 and len(found.near_copies()) == 1


def test_one_picture_is_enough(tiny_model, pictures):
    found = fitted(tiny_model, pictures[:1])
    normal, faulty = scored(tiny_model, [texture(90), spotted(91)], found.references)
    assert faulty.score > normal.score


@pytest.mark.parametrize("option", ["rotations", "aligned"])
def test_options(tiny_model, pictures, option):
    found = fitted(tiny_model, pictures, ReferenceOptions(**{option: True}))
    cells = found.references.settings.grid
    assert int(found.references.memory.cells.max()) < cells[0] * cells[1]
    normal, faulty = scored(tiny_model, [texture(90), spotted(91)], found.references)
    assert faulty.score > normal.score


def test_pictures_of_which_some_are_faulty(tiny_model, pictures):
    several = [*pictures, texture(8), texture(9), spotted(20), spotted(21, (30, 4))]
    found = fitted(tiny_model, several, ReferenceOptions(mutual=True))
    normal, faulty = scored(tiny_model, [texture(90), spotted(91, (20, 20))], found.references)
    assert faulty.score > normal.score
    with pytest.raises(DataError, match="7 different pictures are too few"):
        fitted(tiny_model, several[:7], ReferenceOptions(mutual=True))


@pytest.mark.parametrize("angle", ANGLES[1:])
def test_cells_of_a_turned_picture_are_found_in_the_picture(angle):
    spot = np.zeros((64, 64, 3), np.uint8)
    spot[18:26, 34:42] = 255  # cell (2, 4) of a grid of 8 x 8
    moved = turned(spot, angle)[..., 0].reshape(8, 8, 8, 8).mean((1, 3))
    cell = torch.tensor([ANGLES.index(angle) * 64 + int(moved.argmax())], dtype=torch.int32)
    row, column = divmod(int(unturned_cells(cell, (8, 8))), 8)
    assert abs(row - 2) <= 1 and abs(column - 4) <= 1
