"""The profile of a part: what it keeps, what it refuses, and that a stop never spoils it."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bayes_pfl import BayesPFL
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit import profile_files
from bayes_pfl.fit.fit import FitOptions, fit_folder, fit_profile
from bayes_pfl.fit.profile_files import load_profile, save_profile
from bayes_pfl.fit.profile_page import page_of
from bayes_pfl.support.files import write_atomically
from tests.fit.test_references import spotted, texture

NAME = "metal nut"


def image(seed):
    return Image.fromarray(texture(seed))


@pytest.fixture(scope="module")
def profile(tiny_model):
    options = FitOptions(fpr=0.1)
    return fit_profile(tiny_model, [image(s) for s in range(24)], NAME, options, checkpoint="tiny")


@pytest.fixture(scope="module")
def saved(profile, tmp_path_factory):
    return save_profile(profile, tmp_path_factory.mktemp("profile") / "part")


@pytest.fixture
def copied(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "part")
    return tmp_path / "part"


def folder_of(place, seeds):
    place.mkdir()
    for seed in seeds:
        image(seed).save(place / f"{seed:03d}.png")
    return place


def test_it_comes_back_to_the_last_bit(tiny_model, profile, saved):
    new = [image(90), Image.fromarray(spotted(91))]
    wanted = tiny_model.predict(new, profile=profile)
    found = tiny_model.predict(new, profile=saved)
    for a, b in zip(wanted, found, strict=True):
        assert (a.score, a.interval, a.p_value, a.memory_score) == (
            b.score,
            b.interval,
            b.p_value,
            b.memory_score,
        )
        np.testing.assert_array_equal(a.anomaly_map, b.anomaly_map)
        assert a.nearest_normal == b.nearest_normal
    normal, faulty = found
    assert faulty.label == 1 and normal.label == 0 and faulty.p_value == pytest.approx(1 / 25)
    assert faulty.class_name == NAME and faulty.words_score is not None
    assert faulty.nearest_normal.picture.size == (48, 48)
    page = (saved / "README.md").read_text()
    assert NAME in page and "Pixel threshold" in page and "image 3" in page


def test_regions_get_p_values_from_the_pictures_left_out(tiny_model, profile, copied):
    faulty = Image.fromarray(spotted(91))
    strongest = tiny_model.predict(faulty, profile=profile).regions[0]
    assert len(profile.calibration.peaks) == 24 and strongest.p_value == pytest.approx(1 / 25)
    path = copied / "config.json"
    kept = json.loads(path.read_text())
    del kept["calibration"]["peaks"]  # as earlier versions wrote it
    path.write_text(json.dumps(kept))
    older = tiny_model.predict(faulty, profile=copied).regions
    assert older[0] == replace(strongest, p_value=None)


def test_it_says_where_the_class_name_changes_nearly_nothing(
    tiny_model, profile, checkpoint_dir, tmp_path, run
):
    found = load_profile(save_profile(profile, tmp_path / "part")).name_effect
    numbers = [at * 24 // 20 for at in range(20)]
    pixels = [profile.pixels(at) for at in numbers]
    other = [result.score for result in tiny_model.predict(pixels, "object")]
    own = [profile.pictures[at].words_score for at in numbers]
    assert found == profile.name_effect and found.images == 20
    assert found.largest == pytest.approx(np.abs(np.subtract(own, other)).max(), abs=1e-5)
    for effect, said in (
        (replace(found, largest=0.02, spread=0.1), "0.020 at most on 20 .* nearly nothing"),
        (replace(found, largest=0.2, spread=0.1), r"0\.200 at most on 20 .* is 0\.100\.\n"),
    ):
        assert re.search(said, page_of(replace(profile, name_effect=effect)))
    assert fit_profile(tiny_model, [image(seed) for seed in range(4)]).name_effect is None
    folder = folder_of(tmp_path / "in", range(9))
    with_words = "--checkpoint", checkpoint_dir, "--out", tmp_path / "out", "--class-name", NAME
    code, said, _ = run("fit", folder, *with_words)
    effect = load_profile(tmp_path / "out").name_effect
    assert code == 0 and effect.images == 9
    assert ("class name: changes nearly nothing" in said) == effect.slight


def test_samples_are_those_of_the_profile_unless_others_are_asked_for(tiny_model):
    pictures = [image(seed) for seed in range(4)]
    profile = fit_profile(tiny_model, pictures, NAME, FitOptions(samples=0))
    found = tiny_model.predict(image(90), profile=profile)
    assert found.score == tiny_model.predict(image(90), samples=0, profile=profile).score
    with pytest.raises(ConfigError, match="samples"):
        tiny_model.predict(image(90), samples=2, profile=profile)


def test_of_few_pictures_the_highest_score_is_the_threshold(tiny_model, tmp_path):
    few = fit_profile(tiny_model, [image(seed) for seed in range(5)], NAME)
    known, scores = few.calibration, [picture.score for picture in few.pictures]
    assert known.threshold == np.nextafter(max(scores), 1) and known.fpr == 0.17  # 1 / 6
    assert few.missing == 14 and (few.fpr, few.pixel_fpr) == (0.05, 0.05)
    found = load_profile(save_profile(few, tmp_path / "few"))
    assert "0.05, as asked for, needs 14 more" in (tmp_path / "few" / "README.md").read_text()
    assert found.calibration == known
    result = tiny_model.predict(image(90), profile=found)
    assert result.label == int(result.score >= known.threshold)
    rare = fit_profile(tiny_model, [image(s) for s in range(24)], NAME, FitOptions(fpr=0.01))
    assert rare.calibration.fpr == 0.04 and rare.missing == 75


def test_one_picture_gives_no_threshold(tiny_model, tmp_path):
    one = fit_profile(tiny_model, [image(0)], NAME)
    found = load_profile(save_profile(one, tmp_path / "one"))
    assert found.calibration is None
    assert "need a second normal picture" in (tmp_path / "one" / "README.md").read_text()
    result = tiny_model.predict(image(90), profile=found)
    assert result.label is None and result.p_value is None and 0 <= result.score < 1


def test_an_update_is_a_fit_of_all(tiny_model, tmp_path):
    first, more = folder_of(tmp_path / "a", range(5)), folder_of(tmp_path / "b", range(5, 9))
    both = folder_of(tmp_path / "c", range(9))
    place = save_profile(fit_folder(tiny_model, first, NAME).profile, tmp_path / "profile")
    updated = fit_folder(tiny_model, more, NAME, before=load_profile(place)).profile
    save_profile(updated, place)
    wanted, found = fit_folder(tiny_model, both, NAME).profile, load_profile(place)
    assert found.pictures == wanted.pictures
    assert (found.references.memory.vectors == wanted.references.memory.vectors).all()
    assert len(list((place / "pictures").iterdir())) == 9
    with pytest.raises(ConfigError, match="class_name = 'nut', but it was made with"):
        fit_folder(tiny_model, more, "nut", before=found)


def test_copies_and_unreadable_files_are_named(tiny_model, tmp_path):
    folder = folder_of(tmp_path / "in", range(5))
    shutil.copy(folder / "000.png", folder / "same.png")
    (folder / "broken.png").write_text("no image")
    found = fit_folder(tiny_model, folder, NAME)
    assert len(found.profile.pictures) == 5 and found.copies == ["same.png"]
    assert found.skipped[0][0].endswith("broken.png")


def test_near_copies_cost_one_pass_and_change_nothing(tiny_model, tmp_path, monkeypatch):
    """The same photographs saved again: two of one picture, in other batches than without them."""
    folder = folder_of(tmp_path / "in", range(7))
    wanted = fit_folder(tiny_model, folder, options=FitOptions(batch_size=4)).profile
    for name, value in (("0a.png", 1), ("0b.png", 2)):
        near = texture(3)
        near[0, 0] += value
        Image.fromarray(near).save(folder / name)
    (folder / "003.png").rename(folder / "0.png")  # of copies the first by digest stays
    encoded, seen = Scorer.encoded, []

    def counting(scorer, pixels, *rest):
        seen.extend(pixels)
        return encoded(scorer, pixels, *rest)

    monkeypatch.setattr(Scorer, "encoded", counting)
    found = fit_folder(tiny_model, folder, options=FitOptions(batch_size=4))
    assert len(seen) == 9 and len(found.copies) == 2
    assert {"0.png", "0a.png", "0b.png"} > set(found.copies)
    assert len(found.profile.pictures) == 7
    scores = [sorted(p.score for p in one.pictures) for one in (wanted, found.profile)]
    np.testing.assert_allclose(*scores, atol=1e-3)  # of the three one stays, perhaps another


def test_a_picture_of_another_thing_is_named(tiny_model, tmp_path):
    folder = folder_of(tmp_path / "in", range(8))
    gradient = np.linspace(0, 255, 48).astype(np.uint8)
    Image.fromarray(np.stack([np.tile(gradient, (48, 1))] * 3, -1)).save(folder / "sky.png")
    with pytest.raises(DataError, match=r"1 of 9 pictures differ much .* sky\.png .*keep-outliers"):
        fit_folder(tiny_model, folder, NAME)
    kept = fit_folder(tiny_model, folder, NAME, FitOptions(keep_outliers=True))
    assert len(kept.profile.pictures) == 9


def test_words_alone(tiny_model, tmp_path):
    options = FitOptions(words_only=True, fpr=0.1, keep_outliers=True)
    words = fit_profile(tiny_model, [image(seed) for seed in range(24)], NAME, options)
    found = load_profile(save_profile(words, tmp_path / "words"))
    assert found.references is None and found.calibration == words.calibration
    result = tiny_model.predict(image(90), profile=found)
    assert result.score == tiny_model.predict(image(90), NAME).score
    assert result.memory_score is None and result.label is not None
    with pytest.raises(DataError, match="too few"):
        fit_profile(tiny_model, [image(0)], NAME, options)
    with pytest.raises(ConfigError, match="words_only keeps none"):
        FitOptions(words_only=True, rotations=True)
    more = folder_of(tmp_path / "more", [1])
    with pytest.raises(ConfigError, match="keeps no pictures"):
        fit_folder(tiny_model, more, NAME, before=found)


def test_another_model_or_setting_is_refused(tiny_model, profile):
    with pytest.raises(ConfigError, match="seed = 1, but it was made with 0"):
        tiny_model.predict(image(0), profile=profile, seed=1)
    with pytest.raises(ConfigError, match="class name 'bolt' with a profile for 'metal nut'"):
        tiny_model.predict(image(0), "bolt", profile=profile)
    with pytest.raises(ConfigError, match="threshold = 0.5 with a profile"):
        tiny_model.predict(image(0), profile=profile, threshold=0.5)
    other = BayesPFL(tiny_model.config, tiny_model.backbone).eval()
    with pytest.raises(ConfigError, match="other weights .* fit it again"):
        other.predict(image(0), profile=profile)


def edited(folder, change):
    data = json.loads((folder / "config.json").read_text())
    change(data)
    (folder / "config.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.pop("format"), "not a profile"),
        (lambda d: d.update(version=9), "format 9"),
        (lambda d: d.update(pictures=[]), "without a hash"),
        (lambda d: d["pictures"][0].update(digest="../../x"), "without a hash"),
        (lambda d: d["calibration"].update(threshold=0.1), "scores and fpr give"),
        (lambda d: d["memory"].update(tensors_sha256="0" * 64), "missing, truncated"),
        (lambda d: d["pictures"].pop(), "do not fit its pictures"),
        (lambda d: d.update(surprise=1), "surprise"),
        (
            lambda d: d["memory"]["patches"].update(grid=[9000, 9000]),
            "grid = 9000: must be at most",
        ),
    ],
)
def test_a_config_that_was_changed_is_refused(copied, change, reason):
    edited(copied, change)
    with pytest.raises(ConfigError, match=reason) as caught:
        load_profile(copied)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused(copied):
    tensors = copied / "profile.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="missing, truncated"):
        load_profile(copied)
    tensors.unlink()
    with pytest.raises(ConfigError, match="missing, truncated"):
        load_profile(copied)
    (copied / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="not a profile"):
        load_profile(copied)
    with pytest.raises(ConfigError, match="not readable"):
        load_profile(copied / "nowhere")


def test_a_changed_picture_is_refused_where_it_is_needed(tiny_model, copied, tmp_path):
    for path in (copied / "pictures").iterdir():
        image(500).save(path, lossless=True)
    found = load_profile(copied)
    with pytest.raises(ConfigError, match="has changed since"):
        tiny_model.predict(image(90), profile=found)


def test_a_stop_at_any_write_leaves_the_old_or_the_new_profile(
    tiny_model, profile, copied, monkeypatch
):
    new = fit_profile(tiny_model, [image(seed) for seed in range(40, 64)], NAME, checkpoint="tiny")
    known = {profile.sha256, replace(new).sha256}
    seen = set()
    for stop in range(60):
        place = copied.parent / f"stop-{stop}"
        shutil.copytree(copied, place)
        count = iter(range(1000))

        def write(path, data, *, sync=True, count=count, stop=stop):
            if next(count) == stop:
                raise KeyboardInterrupt
            return write_atomically(path, data, sync=sync)

        monkeypatch.setattr(profile_files, "write_atomically", write)
        try:
            save_profile(new, place)
        except KeyboardInterrupt:
            seen.add(load_profile(place).sha256)
            continue
        assert load_profile(place).sha256 == new.sha256
        break
    assert seen == known and stop > 20


def test_a_first_save_that_was_stopped_can_be_made_again(profile, tmp_path, monkeypatch):
    # the last is stopped twice: before its config.json, then before its tensors are there again
    for at, stops in enumerate([(0,), (3,), (24,), (25,), (25, 0)]):
        place = tmp_path / str(at)
        for stop in stops:
            count = iter(range(1000))

            def write(path, data, *, sync=True, count=count, stop=stop):
                if next(count) == stop:
                    path.with_name(f".{path.name}.{'0' * 32}").write_bytes(b"half")
                    raise KeyboardInterrupt
                return write_atomically(path, data, sync=sync)

            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(profile_files, "write_atomically", write)
                save_profile(profile, place)
        assert load_profile(save_profile(profile, place)).sha256 == profile.sha256
        assert not [path for path in place.rglob(".*") if path.is_file()]
    (tmp_path / "mine" / "pictures").mkdir(parents=True)
    (tmp_path / "mine" / "pictures" / "me.webp").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        save_profile(profile, tmp_path / "mine")


def test_other_files_are_not_written_over(profile, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        save_profile(profile, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        save_profile(profile, tmp_path / "file")


def test_two_stopped_writes_leave_the_old_profile(tiny_model, profile, copied, monkeypatch):
    other = fit_profile(tiny_model, [image(s) for s in range(3)], NAME, FitOptions(fpr=0.1))

    def stopping(path, data, **options):
        if path.name == profile_files.CONFIG:
            raise KeyboardInterrupt
        write_atomically(path, data, **options)

    monkeypatch.setattr(profile_files, "write_atomically", stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            save_profile(other, copied)
        assert load_profile(copied).sha256 == profile.sha256
    monkeypatch.undo()
    save_profile(other, copied)
    assert load_profile(copied).sha256 == other.sha256


def test_an_update_keeps_different_pictures_of_one_name(tiny_model, tmp_path):
    first, more = folder_of(tmp_path / "a", [1, 2]), tmp_path / "b"
    more.mkdir()
    image(3).save(more / "001.png")
    before = fit_folder(tiny_model, first, NAME).profile
    found = fit_folder(tiny_model, more, NAME, before=before)
    assert found.copies == [] and len(found.profile.pictures) == 3
    again = load_profile(save_profile(found.profile, tmp_path / "part"))
    for number in range(3):
        np.testing.assert_array_equal(again.pixels(number), found.profile.pixels(number))
