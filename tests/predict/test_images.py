"""BayesPFL.predict: one image or many, from files or memory."""

import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bayes_pfl import AnomalyResult, BayesPFL
from bayes_pfl.detect.full_maps import resize_map
from bayes_pfl.errors import BayesPFLError, ConfigError, DataError, ImageReadError
from bayes_pfl.model.scoring import deploy_scores, gaussian_smooth, top_spread

SIZES = [(60, 40), (48, 48), (7, 90), (1, 1), (130, 75), (64, 20)]
NAMES = ["metal nut", "wood", "a rather long name of a thing", "cable", "pill", "zipper"]


def picture(index, size):
    """A picture (width, height) of its own colours, edges and noise."""
    rng = np.random.default_rng(index)
    cells = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def pictures():
    return [picture(index, size) for index, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def expected(tiny_model, pictures):
    """Each picture scored alone."""
    pairs = zip(pictures, NAMES, strict=True)
    return [tiny_model.predict(image, class_name=name) for image, name in pairs]


def assert_same(a: AnomalyResult, b: AnomalyResult, tolerance=1e-5):
    for name in ("score", "text_score", "map_score", "uncertainty"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), abs=tolerance), name
    np.testing.assert_allclose(a.anomaly_map, b.anomaly_map, rtol=0, atol=tolerance)
    # The variance: its root magnifies rounding where the pairs agree.
    np.testing.assert_allclose(a.uncertainty_map**2, b.uncertainty_map**2, rtol=0, atol=tolerance)


def test_result_is_in_the_images_own_pixels_and_in_range(expected, pictures):
    for result, image, name in zip(expected, pictures, NAMES, strict=True):
        assert isinstance(result, AnomalyResult)
        assert (result.size, result.class_name, result.path) == (image.size, name, None)
        for values, top in ((result.anomaly_map, 1.0), (result.uncertainty_map, 0.5)):
            assert (values.dtype, values.shape) == (np.float32, image.size[::-1])
            assert values.min() >= 0 and values.max() <= top
        for value in (result.score, result.text_score, result.map_score):
            assert isinstance(value, float) and 0 <= value <= 1
        assert 0 < result.uncertainty <= 0.5
        assert result.label is None
    scores = [result.score for result in expected]
    assert max(scores) - min(scores) > 1e-3  # a constant would pass every other test


def test_scores_and_map_follow_their_definitions(tiny_model, pictures):
    image, size = pictures[0], tiny_model.backbone.image_size
    raw = tiny_model.score_batch(
        tiny_model.transform(image)[None], ["metal nut"], tiny_model.draw(seed=4)
    )
    result = tiny_model.predict(image, "metal nut", seed=4)
    assert result.score == pytest.approx(deploy_scores(raw).score.item(), abs=1e-6)
    assert result.score == pytest.approx((result.text_score + result.map_score) / 2, abs=1e-6)
    top = np.sort(raw.map.flatten().numpy())[::-1]
    assert result.map_score == pytest.approx(top[: round(0.0075 * size**2)].mean(), abs=1e-6)
    smooth = gaussian_smooth(raw.map, tiny_model.config.scoring.smoothing * size)
    wanted = F.interpolate(smooth[None], image.size[::-1], mode="bilinear", align_corners=False)
    np.testing.assert_allclose(result.anomaly_map, wanted[0, 0].numpy(), rtol=0, atol=1e-6)
    rough = tiny_model.predict(image, "metal nut", seed=4, smoothing=False)
    wanted = F.interpolate(raw.map[None], image.size[::-1], mode="bilinear", align_corners=False)
    np.testing.assert_allclose(rough.anomaly_map, wanted[0, 0].numpy(), rtol=0, atol=1e-6)
    assert rough.score == pytest.approx(result.score, abs=1e-7)


def test_uncertainty_bounds_the_spread_of_the_score_over_pairs():
    rng = torch.Generator().manual_seed(0)
    text, maps = torch.rand(2, 9, generator=rng), torch.rand(2, 9, 30, 30, generator=rng)
    mean, spread = maps.mean(1), maps.std(1, correction=0)
    combined = (text.std(1, correction=0) + top_spread(mean, spread)) / 2
    top = mean.flatten(1).topk(round(0.0075 * 900), dim=1).indices
    at_top = torch.gather(maps.flatten(2), 2, top[:, None].expand(-1, 9, -1)).mean(2)
    true = ((text + at_top) / 2).std(1, correction=0)
    assert (true <= combined + 1e-6).all()


def test_top_spread_is_the_mean_over_the_highest_pixels_ties_included():
    maps, spread = torch.zeros(1, 20, 20), torch.zeros(1, 20, 20)
    maps[0, 0, :4], spread[0, 0, :4] = 1.0, torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert top_spread(maps, spread).item() == pytest.approx(0.25)  # 3 of 400, 4 are equal
    maps[0, 0, :3] = 2.0
    assert top_spread(maps, spread).item() == pytest.approx(0.2)


@settings(max_examples=12, deadline=None)
@given(order=st.permutations(range(len(SIZES))), batch_size=st.integers(1, 7))
def test_results_do_not_depend_on_order_or_batch(tiny_model, pictures, expected, order, batch_size):
    results = tiny_model.predict(
        [pictures[i] for i in order], [NAMES[i] for i in order], batch_size=batch_size
    )
    for index, result in zip(order, results, strict=True):
        assert_same(result, expected[index])


def test_path_pillow_array_and_tensor_give_the_same(tiny_model, tmp_path, pictures, expected):
    path = tmp_path / "part no. 1 é.png"
    pictures[0].save(path)
    array = np.asarray(pictures[0])
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    kinds = [path, str(path), pictures[0], array, tensor, tensor.float() / 255]
    for kind in kinds:
        assert_same(tiny_model.predict(kind, "metal nut"), expected[0])
    for result in tiny_model.predict(kinds, "metal nut"):
        assert_same(result, expected[0])
    assert tiny_model.predict(path, "metal nut").path == str(path)
    for batch in (np.stack([array, array]), torch.stack([tensor, tensor])):
        results = tiny_model.predict(batch, "metal nut")
        assert len(results) == 2
        assert_same(results[1], expected[0])


def test_the_model_offers_predict(tiny_model, pictures, expected):
    assert_same(tiny_model.predict(pictures[0], class_name="metal nut"), expected[0])


def test_a_saved_model_predicts_the_same(checkpoint_dir, pictures, expected):
    model = BayesPFL.from_pretrained(checkpoint_dir, device="cpu")
    assert_same(model.predict(pictures[0], "metal nut"), expected[0], tolerance=1e-7)


def test_seed_and_generator_decide_the_draws(tiny_model, pictures):
    def score(**options):
        return tiny_model.predict(pictures[0], "metal nut", **options).score

    assert score(seed=1) == score(seed=1) != score(seed=2)
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    first = [score(generator=generator) for generator in generators]
    assert first[0] == first[1] == pytest.approx(score(seed=1), abs=1e-6)
    assert score(generator=generators[0]) != first[0]  # a generator goes on
    assert score(samples=1) != score(samples=4)


def test_precisions(tiny_model, pictures, expected):
    for long, short, tolerance in (
        ("float32", "fp32", 0),
        ("bfloat16", "bf16", 0.05),
        ("float16", "fp16", 0.01),
    ):
        results = [
            tiny_model.predict(pictures[0], "metal nut", precision=name) for name in (long, short)
        ]
        assert results[0].score == results[1].score
        assert results[0].score == pytest.approx(expected[0].score, abs=tolerance + 1e-7)
        assert results[0].anomaly_map.dtype == np.float32
    assert tiny_model.predict(pictures[0], "metal nut", precision="bf16").score != expected[0].score


def test_nothing_global_changes(tiny_model, pictures):
    def state():
        return (
            torch.get_rng_state().tolist(),
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_default_dtype(),
            tiny_model.training,
        )

    before = state()
    for precision in ("float32", "bfloat16"):
        stream = tiny_model.predict_stream(pictures, "nut", precision=precision, batch_size=2)
        for _ in range(3):
            next(stream)
            assert state() == before  # also while a stream is held open
        stream.close()
    tiny_model.predict(pictures[0], "nut", samples=2, seed=3)
    assert state() == before


def test_a_stream_takes_a_batch_at_a_time(tiny_model, pictures):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield pictures[taken % 3]

    stream = tiny_model.predict_stream(endless(), "wood", batch_size=4)
    assert taken == 0
    for wanted in (4, 4, 4, 4, 8):
        next(stream)
        assert taken == wanted


def test_a_generator_of_images_gives_a_list_and_nothing_gives_nothing(tiny_model, pictures):
    results = tiny_model.predict((image for image in pictures[:2]), (n for n in NAMES[:2]))
    assert [result.class_name for result in results] == NAMES[:2]
    assert tiny_model.predict([], "wood") == []


def test_threshold_gives_labels(tiny_model, pictures, expected):
    limit = expected[0].score
    assert tiny_model.predict(pictures[0], "metal nut", threshold=limit - 1e-4).label == 1
    assert tiny_model.predict(pictures[0], "metal nut", threshold=limit + 1e-4).label == 0


def test_the_uncertainty_map_can_be_left_out(tiny_model, pictures, expected):
    result = tiny_model.predict(pictures[0], "metal nut", uncertainty=False)
    assert result.uncertainty_map is None
    assert result.uncertainty == pytest.approx(expected[0].uncertainty, abs=1e-6)


def test_overlay_of_files_and_of_images_from_memory(tiny_model, tmp_path, pictures, expected):
    path = tmp_path / "a.png"
    pictures[0].save(path)
    result = tiny_model.predict(path, "metal nut")
    drawn = result.overlay(threshold=0.5, title="x")
    assert drawn.mode == "RGB"
    assert np.array_equal(drawn, expected[0].overlay(threshold=0.5, title="x"))
    path.unlink()
    with pytest.raises(ImageReadError, match="no such file"):
        result.overlay()
    with pytest.raises(DataError, match="neither path nor image"):
        replace(result, path=None).overlay()


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (3, 2)])
def test_extreme_shapes(tiny_model, size):
    result = tiny_model.predict(picture(0, size), "wood")
    assert result.anomaly_map.shape == size[::-1]
    assert result.overlay().width > 0


def test_resizing_keeps_the_range_and_gives_memory_of_its_own():
    values = torch.rand(16, 16)
    same = resize_map(values, (16, 16))
    assert not np.shares_memory(same, values.numpy())
    np.testing.assert_array_equal(same, values.numpy())
    large = resize_map(values * 1.0001, (50, 33))
    assert large.shape == (33, 50) and large.max() <= 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"precision": "int8"}, r"precision = 'int8'.*bfloat16"),
        ({"samples": -1}, "samples = -1.*0 at least"),
        ({"samples": 2.5}, "samples = 2.5"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_size": True}, "batch_size = True"),
    ],
)
def test_settings_that_cannot_be_used(tiny_model, pictures, options, told):
    with pytest.raises(ConfigError, match=told):
        tiny_model.predict_stream(pictures, "wood", **options)  # at once, not when first read


def test_class_names_that_cannot_be_used(tiny_model, pictures):
    with pytest.raises(ConfigError, match="for one image, give one name"):
        tiny_model.predict(pictures[0], ["wood"])
    with pytest.raises(ConfigError, match="differ in number"):
        tiny_model.predict_stream(pictures, ["wood"])
    with pytest.raises(ConfigError, match="differ in number"):
        tiny_model.predict(iter(pictures), iter(["wood"]))
    with pytest.raises(ConfigError, match="3 is not a word"):
        tiny_model.predict(pictures[:1], [3])
    with pytest.raises(DataError, match="class name is empty"):
        tiny_model.predict(pictures[0], " ")
    with pytest.raises(DataError, match="shorten it"):
        tiny_model.predict(pictures[0], "nut " * 100)


def test_images_that_cannot_be_used(tiny_model, tmp_path, pictures):
    with pytest.raises(ImageReadError, match="gone.png: no such file"):
        tiny_model.predict([pictures[0], tmp_path / "gone.png"], "wood")
    with pytest.raises(ImageReadError, match="is a folder"):
        tiny_model.predict(tmp_path, "wood")
    with pytest.raises(DataError, match="image 1: .*NoneType"):
        tiny_model.predict([pictures[0], None], "wood")
    for wrong in (7, None, b"a.png"):
        with pytest.raises(DataError, match=f"image 0: .*{type(wrong).__name__}"):
            tiny_model.predict(wrong, "wood")
    with pytest.raises(DataError, match=r"image 0: .*\[0, 1\]"):
        tiny_model.predict(np.full((5, 5), 3.0), "wood")


def test_an_overflow_is_told_and_not_returned(tiny_model, tiny_config, pictures):
    model = BayesPFL(tiny_config, tiny_model.backbone).eval()
    model.log_scale_image.data.fill_(float("nan"))
    with pytest.raises(BayesPFLError, match="not finite.*float32"):
        model.predict(pictures[0], "wood")


def test_paths_in_results_are_as_they_were_given(tiny_model, tmp_path, monkeypatch, pictures):
    pictures[0].save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    for path in ("a.png", Path("a.png"), os.path.join(".", "a.png")):
        assert tiny_model.predict(path, "wood").path == os.fspath(path)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"threshold": "0.5"}, "threshold = '0.5': give a number"),
        ({"threshold": [1]}, "threshold = .1.: give a number"),
        ({"threshold": True}, "threshold = True: give a number"),
        ({"profile": 3}, "profile is int: give a profile, or its folder"),
        ({"generator": 3}, "generator is int: give a torch.Generator"),
    ],
    ids=str,
)
def test_values_of_a_wrong_kind_are_our_errors(tiny_model, option, said):
    with pytest.raises(ConfigError, match=said):
        tiny_model.predict(picture(0, (40, 30)), "metal nut", **option)
