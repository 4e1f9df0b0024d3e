"""Uncertainty: what the pairs' own scores are, and that it is high where errors are."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from bayes_pfl import BayesPFL
from bayes_pfl.model.maps import highest_pixels, mean_and_spread, pairs_at
from bayes_pfl.model.scoring import credible_interval, deploy_scores
from bayes_pfl.rendering import TEST_CATEGORIES, render
from tests.helpers.folders import picture
from tests.model.test_maps import GRID, PAIRS, SIZE, differences, layer_logits, plain_path


@pytest.mark.parametrize("layers", [1, 3])
def test_pairs_at_pixels_equal_their_whole_maps_there(layers):
    logits = layer_logits(layers)
    places = torch.randint(0, SIZE * SIZE, (2, 50), generator=torch.Generator().manual_seed(0))
    places[0, :4] = torch.tensor([0, SIZE - 1, SIZE * (SIZE - 1), SIZE * SIZE - 1])
    got = pairs_at(differences(logits), GRID, SIZE, places)
    whole = plain_path(logits).flatten(2).transpose(0, 1)  # (B, K, S*S)
    wanted = whole.gather(2, places[:, None].expand(-1, PAIRS, -1)).mean(2)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


def test_pairs_of_maps_of_one_pixel():
    logits = differences(layer_logits())
    got = pairs_at(logits, GRID, 1, torch.zeros(2, 1, dtype=torch.long))
    mean, _ = mean_and_spread(logits, GRID, 1)
    torch.testing.assert_close(got.mean(1), mean[:, 0, 0], atol=1e-6, rtol=0)


def test_highest_pixels_are_those_of_the_score_and_the_first_of_equal_ones():
    maps = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(1))
    places = highest_pixels(maps, 0.0075)
    assert places.shape == (3, 12)
    top = maps.flatten(1).topk(12, dim=1).values.sort(1).values
    torch.testing.assert_close(maps.flatten(1).gather(1, places).sort(1).values, top)
    for value in (0.0, -0.0, 0.5, 1.0):
        level = torch.full((1, 40, 40), value)
        assert highest_pixels(level, 0.0075)[0].sort().values.tolist() == list(range(12))
    assert highest_pixels(torch.rand(2, 5, 5), 0.0075).shape == (2, 1)


def test_the_mean_of_the_pairs_scores_is_the_score(tiny_model):
    for index, samples in ((0, 1), (1, 4), (2, 0)):
        image = tiny_model.transform(picture(index))[None]
        raw = tiny_model.score_batch(image, ["metal nut"], tiny_model.draw(samples))
        assert raw.pair_scores.shape == (1, 3 * max(1, samples))
        wanted = deploy_scores(raw).score
        torch.testing.assert_close(raw.pair_scores.mean(1), wanted, atol=2e-6, rtol=0)
        assert raw.pair_scores.min() >= 0 and raw.pair_scores.max() <= 1


def test_each_pairs_score_is_that_of_a_model_with_this_pair_alone(tiny_model):
    features = tiny_model.backbone.encode_image(tiny_model.transform(picture(3))[None])
    text = tiny_model.prompt_embeddings(features.pooled, tiny_model.draw(2), ["wood"])
    raw = tiny_model.score_features(features, text)
    top = highest_pixels(raw.map, 0.0075)
    for k in range(text.shape[2]):
        alone = tiny_model.score_features(features, text[:, :, k : k + 1])
        at_top = alone.map.flatten(1).gather(1, top).mean(1)
        wanted = (alone.text_score + at_top) / 2
        torch.testing.assert_close(raw.pair_scores[:, k], wanted, atol=1e-5, rtol=0)


def test_interval_holds_the_score_and_does_not_depend_on_the_batch(tiny_model):
    images = [picture(index, (40 + index, 30)) for index in range(7)]
    alone = [tiny_model.predict(image, "wood") for image in images]
    for result in alone:
        low, high = result.interval
        assert 0 <= low <= result.score <= high <= 1 and low < high
        assert high - low <= 8 * result.uncertainty
    for size in (2, 7):
        for one, other in zip(
            alone, tiny_model.predict(images, "wood", batch_size=size), strict=True
        ):
            assert one.interval == pytest.approx(other.interval, abs=1e-5)


def test_interval_is_made_of_linear_quantiles():
    scores = torch.rand(4, 30, generator=torch.Generator().manual_seed(2))
    low, high = credible_interval(scores)
    np.testing.assert_allclose(low, np.quantile(scores, 0.025, axis=1), atol=1e-6)
    np.testing.assert_allclose(high, np.quantile(scores, 0.975, axis=1), atol=1e-6)
    one = credible_interval(scores[:, :1])
    assert torch.equal(one[0], one[1])


def test_half_precision_logits_give_float32():
    given = [layer.bfloat16() for layer in differences(layer_logits())]
    assert pairs_at(given, GRID, SIZE, torch.zeros(2, 3, dtype=torch.long)).dtype == torch.float32


def error_figures(model, categories, normals, faulty):
    """AUROC of finding the wrong pixels of an image by its uncertainty; mean over images.

    A pixel is wrong where map >= threshold differs from the mask; the threshold is the value that
    1% of the pixels of some normal pictures of the category exceed.

    Returns:
        AUROC by the uncertainty, by its ratio to the distance from the threshold, by the distance
        alone; number of images.
    """
    found = []
    for name in categories:
        good = [render(name, 5, index, size=256).image for index in range(normals)]
        maps = [r.anomaly_map for r in model.predict_stream(good, name, uncertainty=False)]
        limit = float(np.quantile(np.stack(maps), 0.99))
        bad = [render(name, 6, index, size=256, defect="random") for index in range(faulty)]
        results = model.predict_stream([one.image for one in bad], name)
        for one, result in zip(bad, results, strict=True):
            wrong = ((result.anomaly_map >= limit) != one.mask).ravel()
            if 0 < wrong.sum() < wrong.size:
                spread = result.uncertainty_map.ravel()
                near = np.abs(result.anomaly_map - limit).ravel()
                signs = (spread, spread / (near + 1e-3), 1 / (near + 1e-3))
                found.append([roc_auc_score(wrong, sign) for sign in signs])
    return np.mean(found, axis=0), len(found)


def test_errors_are_more_frequent_where_the_uncertainty_is_high():
    model = BayesPFL.from_pretrained("bayes-pfl-tiny", device="cpu")
    (spread, *_), images = error_figures(model, TEST_CATEGORIES[::8], normals=2, faulty=3)
    assert images >= 8 and spread > 0.6


@pytest.mark.slow
def test_errors_and_uncertainty_over_all_unseen_categories(capsys):
    model = BayesPFL.from_pretrained("bayes-pfl-tiny", device="cpu")
    (spread, ratio, near), images = error_figures(model, TEST_CATEGORIES, normals=20, faulty=10)
    with capsys.disabled():
        print(
            f"\n{images} images: uncertainty {spread:.3f}, ratio {ratio:.3f}, distance {near:.3f}"
        )
    assert spread > 0.6 and near > spread


def test_the_middle_of_four_patches_is_their_mean():
    logits = torch.tensor([[[0.0, 4.0, 8.0, 12.0]]])  # a 2x2 grid
    got = pairs_at([logits], (2, 2), 3, torch.tensor([[4]]))  # its middle
    torch.testing.assert_close(got, torch.tensor([[6.0]]).sigmoid())
