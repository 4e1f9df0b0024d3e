"""Profiles of a region of interest: what lies outside of it is neither learnt nor judged."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from bayes_pfl.data.roi import PictureRoi, Roi
from bayes_pfl.data.tiles import Tiling
from bayes_pfl.detect.memory import PatchMemory
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.conformal import PixelRates
from bayes_pfl.fit.fit import FitOptions, fit_folder, fit_profile
from bayes_pfl.fit.map_sums import MapSums
from bayes_pfl.fit.profile_files import load_profile, save_profile

NAME, SIZE = "metal nut", (120, 90)
BOX = (30, 20, 100, 80)


def region():
    """An oval, bool (90, 120)."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    return ((x - 64.5) / 35) ** 2 + ((y - 49.5) / 30) ** 2 < 1


def texture(seed):
    noise = np.random.default_rng(seed).normal(128, 12, (SIZE[1], SIZE[0], 1)).clip(0, 255)
    return Image.fromarray(np.repeat(noise.astype(np.uint8), 3, axis=2))


def spotted(seed, at):
    found = texture(seed)
    found.paste((250, 30, 30), (at[0], at[1], at[0] + 14, at[1] + 14))
    return found


INSIDE, OUTSIDE = (60, 45), (3, 5)
CASES = {
    "plain": {},
    "aligned": {"aligned": True},
    "rotations": {"rotations": True},
    "tiles": {"tile": 48},
    "words": {"words_only": True},
}


@pytest.fixture(scope="module", params=CASES)
def options(request):
    return FitOptions(fpr=0.3, roi=Roi(region()), **CASES[request.param])


@pytest.fixture(scope="module")
def profile(tiny_model, options):
    return fit_profile(tiny_model, [texture(seed) for seed in range(24)], NAME, options)


@pytest.fixture(scope="module")
def saved(profile, tmp_path_factory):
    return save_profile(profile, tmp_path_factory.mktemp("profile") / "part")


def test_faults_inside_are_found_and_those_outside_are_not(tiny_model, saved, options):
    images = spotted(90, OUTSIDE), spotted(90, INSIDE), texture(90)
    outside, inside, sound = (tiny_model.predict(image, profile=saved) for image in images)
    assert outside.score == sound.score and outside.p_value == sound.p_value
    np.testing.assert_array_equal(outside.anomaly_map, sound.anomaly_map)
    assert not inside.anomaly_map[~region()].any()
    if options.words_only:  # the model is random: its words know no fault
        return
    assert inside.label and inside.score > outside.score
    row, column = np.unravel_index(inside.anomaly_map.argmax(), inside.anomaly_map.shape)
    assert 54 <= column < 80 and 39 <= row < 65
    near = inside.nearest_normal
    assert near.box.left < 74 and near.box.right > 60 and near.box.bottom > 45
    assert BOX[0] <= near.box.left and near.box.right <= BOX[2]


def test_it_comes_back_to_the_last_bit(tiny_model, profile, saved):
    found = load_profile(saved)
    assert found.sha256 == profile.sha256 and found.roi == profile.roi == Roi(region())
    image = spotted(91, INSIDE)
    for a, b in ((tiny_model.predict(image, profile=p) for p in (profile, found)),):
        assert (a.score, a.p_value, a.label) == (b.score, b.p_value, b.label)
        np.testing.assert_array_equal(a.anomaly_map, b.anomaly_map)
    explicit = tiny_model.predict(image, profile=found, roi=Roi(region()))
    assert explicit.score == a.score
    with pytest.raises(ConfigError, match="roi = "):
        tiny_model.predict(image, profile=found, roi=Roi(~region()))


def test_normal_pictures_rarely_reach_the_threshold(tiny_model, profile):
    labels = [r.label for r in tiny_model.predict(map(texture, range(100, 130)), profile=profile)]
    assert sum(labels) <= 16  # of 30 at a rate of 0.3: more than that has a chance of 0.2%


def test_what_lies_outside_is_not_learnt(tiny_model):
    options = FitOptions(fpr=0.3, roi=Roi(region()))
    clean, dirty = (
        fit_profile(tiny_model, images, NAME, options)
        for images in (map(texture, range(4)), (spotted(seed, OUTSIDE) for seed in range(4)))
    )
    image = spotted(91, INSIDE)
    a, b = (tiny_model.predict(image, profile=p) for p in (clean, dirty))
    assert a.score == b.score


@pytest.mark.parametrize("count", [1, 3])
def test_all_of_the_picture_is_as_no_region(tiny_model, count):
    images, every = [texture(seed) for seed in range(count)], Roi(np.ones((2, 2), bool))
    for kind in ({}, {"aligned": True}, {"rotations": True}, {"tile": 48}):
        a, b = (
            tiny_model.predict(
                spotted(91, INSIDE),
                profile=fit_profile(tiny_model, images, NAME, FitOptions(roi=roi, **kind)),
            )
            for roi in (every, None)
        )
        assert a.score == pytest.approx(b.score, abs=1e-6), kind
        assert a.interval == pytest.approx(b.interval, abs=1e-5)
        np.testing.assert_allclose(a.anomaly_map, b.anomaly_map, atol=1e-4)


def test_an_update_is_one_fit_of_all(tiny_model, tmp_path):
    options = FitOptions(fpr=0.3, roi=Roi(region()))
    for part, seeds in (("all", range(5)), ("few", range(3)), ("more", range(3, 5))):
        (tmp_path / part).mkdir()
        for seed in seeds:
            texture(seed).save(tmp_path / part / f"{seed}.png")
    whole = fit_folder(tiny_model, tmp_path / "all", NAME, options).profile
    few = save_profile(
        fit_folder(tiny_model, tmp_path / "few", NAME, options).profile, tmp_path / "p"
    )
    both = fit_folder(
        tiny_model, tmp_path / "more", NAME, options, before=load_profile(few)
    ).profile
    assert both.sha256 == whole.sha256


def test_regions_by_name(tiny_model, tmp_path):
    for part in ("in", "roi", "more"):
        (tmp_path / part).mkdir()
    for seed in range(4):
        texture(seed).save(tmp_path / "in" / f"{seed}.png")
        Image.fromarray(np.roll(region(), 2 * seed, 1)).save(tmp_path / "roi" / f"{seed}.png")
    texture(9).save(tmp_path / "in" / "without.png")
    options = FitOptions(fpr=0.3, roi=tmp_path / "roi")
    found = fit_folder(tiny_model, tmp_path / "in", NAME, options)
    assert [(path[-11:], "no region of" in why) for path, why in found.skipped] == [
        ("without.png", True)
    ]
    saved = save_profile(found.profile, tmp_path / "part")
    picture = tmp_path / "in" / "2.png"
    result = tiny_model.predict(picture, profile=saved, roi=tmp_path / "roi")
    assert not result.anomaly_map[~np.roll(region(), 4, 1)].any()
    with pytest.raises(ConfigError, match="give the regions of these pictures with --roi"):
        tiny_model.predict(picture, profile=saved)
    with pytest.raises(ConfigError, match="roi = .*, but it was made with 'folder'"):
        tiny_model.predict(picture, profile=saved, roi=Roi(region()))
    texture(7).save(tmp_path / "more" / "7.png")
    with pytest.raises(ConfigError, match="which it does not keep; fit it again"):
        fit_folder(tiny_model, tmp_path / "more", NAME, options, before=load_profile(saved))


def test_files_of_a_profile(tiny_model, tmp_path):
    images = [texture(seed) for seed in range(2)]
    one, other, none = (
        fit_profile(tiny_model, images, NAME, FitOptions(roi=roi))
        for roi in (Roi(region()), Roi(region()[::-1]), None)
    )
    place = tmp_path / "part"
    for profile in (one, other, none):
        save_profile(profile, place)
        names = [path.name for path in place.glob("roi*")]
        assert names == ([f"roi.{profile.roi.key}.png"] if profile.roi else [])
        assert load_profile(place).roi == profile.roi
    save_profile(one, place)
    path = place / f"roi.{one.roi.key}.png"
    Image.fromarray(region()[::-1]).save(path)
    with pytest.raises(ConfigError, match="has changed since the profile was made"):
        load_profile(place)
    path.unlink()
    with pytest.raises(ConfigError, match="make it with bayes-pfl fit again"):
        load_profile(place)
    config = json.loads((place / "config.json").read_text())
    config["settings"]["roi"] = "../../secret"
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="part"):
        load_profile(place)


def test_a_run_without_the_region_of_a_profile_is_refused(tiny_model, saved):
    found = load_profile(saved)
    assert found.settings.roi == Roi(region()).key
    plain = fit_profile(tiny_model, [texture(0)], NAME)
    with pytest.raises(ConfigError, match="roi = "):
        tiny_model.predict(texture(1), profile=plain, roi=Roi(region()))


def test_commands_take_the_region_and_a_profile_keeps_it(run, checkpoint_dir, tmp_path):
    mask, part, model = tmp_path / "roi.png", tmp_path / "part", ("--checkpoint", checkpoint_dir)
    Image.fromarray(region()).save(mask)
    for name, seeds in (("in", range(3)), ("more", range(3, 5))):
        (tmp_path / name).mkdir()
        for seed in seeds:
            texture(seed).save(tmp_path / name / f"{seed}.png")
    assert run("fit", tmp_path / "in", "--out", part, "--roi", mask, *model)[0] == 0
    code, _, said = run("fit", tmp_path / "more", "--update", part, "--roi", mask)
    assert code == 2 and "--update keeps" in said
    assert run("fit", tmp_path / "more", "--update", part)[0] == 0
    assert load_profile(part).roi == Roi(region()) and len(load_profile(part).pictures) == 5
    out = tmp_path / "out"
    few = ("--maps", "npy", "--no-overlays", "--no-report")
    assert run("predict", tmp_path / "in", "--profile", part, "--out", out, *few)[0] == 0
    assert not np.load(out / "maps" / "0.png.npy")[~region()].any()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["settings"]["roi"]["sha256"] == summary["profile"]["roi"] == Roi(region()).key


def test_a_memory_keeps_what_counts_and_all_of_it_as_ever():
    patches = torch.nn.functional.normalize(
        torch.randn(3, 30, 8, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    whole = PatchMemory.of(patches, 60)
    same = PatchMemory.of(patches, 60, inside=torch.ones(3, 30, dtype=torch.bool))
    for a, b in ((whole.vectors, same.vectors), (whole.cells, same.cells)):
        assert torch.equal(a, b)
    inside = torch.zeros(3, 30, dtype=torch.bool)
    inside[:, 4:9], inside[1] = True, True
    part = PatchMemory.of(patches, 60, inside=inside)
    assert part.owners.bincount().tolist() == [5, 20, 5]
    assert part.cells[:5].tolist() == [4, 5, 6, 7, 8]


def test_sums_of_pixels_that_count_are_those_of_the_pixels_alone():
    draw = torch.Generator().manual_seed(0)
    maps, masks = (
        torch.randn(5, 12, 12, generator=draw),
        torch.rand(5, 12, 12, generator=draw) > 0.4,
    )
    sums = MapSums(1e-3, masked=True)
    for one, mask in zip(maps, masks, strict=True):
        sums.add(one, mask)
    values = maps[masks]
    centre, spread = sums.standard(False)
    assert float(centre) == pytest.approx(float(values.mean()), abs=1e-6)
    assert float(spread) == pytest.approx(float(values.std(correction=0)), abs=1e-6)
    rest = maps[:4][masks[:4]]
    centre, spread = sums.standard(False, maps[4], masks[4])
    assert float(centre) == pytest.approx(float(rest.mean()), abs=1e-6)
    parts = [MapSums(1e-3, masked=True) for _ in range(5)]
    for part, one, mask in zip(parts, maps, masks, strict=True):
        part.add(one, mask)
    both = MapSums.together([MapSums.together([part]) for part in parts]).standard(False)
    assert float(both.centre) == pytest.approx(float(values.mean()), abs=1e-6)
    assert float(both.spread) == pytest.approx(float(values.std(correction=0)), abs=1e-6)


def test_rates_of_pixels_that_count():
    draw = np.random.default_rng(0)
    maps, mask = draw.random((20, 16, 16)).astype(np.float32), draw.random((16, 16)) > 0.6
    part, alone = PixelRates(), PixelRates()
    for one in maps:
        part.add(one * mask, mask)
        alone.add(one[mask][None])
    assert part.threshold(0.1) == alone.threshold(0.1)


def test_a_tile_is_found_again_although_others_have_no_part_in_the_region(tiny_model):
    frame = np.ones((192, 192), bool)
    frame[20:-20, 20:-20] = False
    images = [texture(seed).resize((192, 192)) for seed in range(3)]
    options = FitOptions(roi=Roi(frame), tile=64, keep_outliers=True)
    profile = fit_profile(tiny_model, images, NAME, options)
    found, tiles = profile.references.tiles, Tiling(64).tiles((192, 192))
    rows, columns = found.settings.grid
    numbers = np.unique(found.memory.cells.numpy() // (rows * columns))
    touched = [
        at for at, one in enumerate(tiles) if PictureRoi.of(Roi(frame), (192, 192)).touches(one)
    ]
    assert len(touched) < len(tiles) and numbers.tolist() == touched
