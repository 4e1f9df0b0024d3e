"""What images are called: synonyms, names by subfolder and table, the sensitivity report."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bayes_pfl.data.wording import ClassNames, synonyms
from bayes_pfl.detect.class_names import unusual_words
from bayes_pfl.detect.inputs import load_pixels
from bayes_pfl.detect.name_sensitivity import (
    LITTLE,
    NameEffect,
    effect_of_name,
    name_sensitivity,
)
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import DataError
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.settings import FolderSettings
from tests.helpers.commands import command
from tests.helpers.folders import picture, rows_of, save


def encoded(model, count):
    return model.backbone.encode_image(
        torch.stack([model.transform(picture(index)) for index in range(count)])
    )


@torch.no_grad()
def test_synonyms_are_averaged_pair_by_pair(tiny_model):
    pooled, draws = encoded(tiny_model, 3).pooled, tiny_model.draw(2)
    got = tiny_model.prompt_embeddings(pooled, draws, ["screw|bolt", "wood", "bolt | screw|nut"])
    each = {
        name: tiny_model.prompt_embeddings(pooled, draws, [name] * 3)
        for name in ("screw", "bolt", "wood", "nut")
    }
    wanted = [
        (each["screw"][0] + each["bolt"][0]) / 2,
        each["wood"][1],
        (each["screw"][2] + each["bolt"][2] + each["nut"][2]) / 3,
    ]
    torch.testing.assert_close(got, F.normalize(torch.stack(wanted), dim=-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(got.norm(dim=-1), torch.ones(got.shape[:-1]))


def test_synonyms_in_prediction(tiny_model):
    images = [picture(index) for index in range(4)]

    def scores(name, **options):
        return [r.score for r in tiny_model.predict(images, name, **options)]

    for samples in (2, 0):
        both = scores("screw|bolt", samples=samples)
        assert both == pytest.approx(scores("bolt|screw", samples=samples), abs=1e-6)
        assert both != pytest.approx(scores("screw", samples=samples), abs=1e-5)
        assert scores("screw|screw", samples=samples) == scores("screw", samples=samples)
    mixed = tiny_model.predict(images[:2], ["screw|bolt", "wood"], batch_size=2)
    assert mixed[0].score == pytest.approx(scores("screw|bolt")[0], abs=1e-5)
    assert mixed[0].class_name == "screw|bolt"
    for wrong in ("screw|", "|", "a||b"):
        with pytest.raises(DataError, match="synonym is empty"):
            tiny_model.predict(images, wrong)
    assert synonyms("a, b") == ("a, b",)


def test_synonyms_are_scored_as_they_are_predicted(tiny_model):
    pictures, names = [picture(index) for index in range(2)], ["screw|bolt", "wood"]
    images = torch.stack([tiny_model.transform(image) for image in pictures])
    scores = tiny_model.score_batch(images, names, tiny_model.draw(3))
    found = tiny_model.predict(pictures, names, samples=3, batch_size=2)
    assert scores.pair_scores.mean(1).tolist() == pytest.approx([r.score for r in found], abs=1e-5)


def test_words_that_the_tokenizer_hardly_knows(tiny_model):
    for plain in ("zipper", "metal nut", "circuit board", "screw|bolt", "leather", "tile"):
        assert unusual_words(tiny_model, plain) == []
    assert unusual_words(tiny_model, "part XJ4-009 B|nut") == ["XJ4-009"]


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "in", ["metal_nut/a.png", "metal_nut/deep/b.png", "wood/c.png"])


def run(model, folder, out, names):
    settings = FolderSettings(maps="none", overlays=False, report=False)
    return predict_folder(model, folder, out, class_name=names, settings=settings)


def test_names_of_subfolders(tiny_model, folder, tmp_path):
    run(tiny_model, folder, tmp_path / "o", ClassNames())
    rows = {row["path"]: row for row in rows_of(tmp_path / "o")}
    names = {path: row["class_name"] for path, row in rows.items()}
    assert names == {
        "metal_nut/a.png": "metal nut",
        "metal_nut/deep/b.png": "metal nut",
        "wood/c.png": "wood",
    }
    for path, name in names.items():
        alone = tiny_model.predict(folder / path, name).score
        assert float(rows[path]["score"]) == pytest.approx(alone, abs=1e-5)
    save(folder, ["loose.png"])
    with pytest.raises(DataError, match="1 images lie in no subfolder, such as 'loose.png'"):
        run(tiny_model, folder, tmp_path / "o", ClassNames())
    run(tiny_model, folder, tmp_path / "o", ClassNames(default="thing"))
    assert rows_of(tmp_path / "o")[0]["class_name"] == "thing"


def test_names_from_a_table(tiny_model, folder, tmp_path):
    table = tmp_path / "names.csv"
    lines = ["path,class_name", "metal_nut/a.png,nut|bolt", "wood/c.png, plank "]
    table.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"1 images are not in .*names.csv, such as 'metal_nut/deep"
    ):
        run(tiny_model, folder, tmp_path / "o", ClassNames(table))
    run(tiny_model, folder, tmp_path / "o", ClassNames(table, "rest"))
    assert [row["class_name"] for row in rows_of(tmp_path / "o")] == ["nut|bolt", "rest", "plank"]
    for content, told in (("a,b\n1,2\n", "columns path and class_name"), ("", "columns")):
        table.write_text(content)
        with pytest.raises(DataError, match=told):
            run(tiny_model, folder, tmp_path / "o", ClassNames(table))
    with pytest.raises(DataError, match="not readable as CSV"):
        run(tiny_model, folder, tmp_path / "o", ClassNames(tmp_path / "gone.csv"))


def test_the_report_compares_with_the_first_name(tiny_model):
    images = [picture(index) for index in range(6)]
    effects = name_sensitivity(tiny_model, images, "screw|bolt", ScoringSettings(samples=2))
    assert [effect.name for effect in effects] == ["screw|bolt", "screw", "bolt", "object"]
    first = np.array([r.score for r in tiny_model.predict(images, "screw|bolt", samples=2)])
    other = np.array([r.score for r in tiny_model.predict(images, "bolt", samples=2)])
    assert (effects[0].change, effects[0].rank) == (0, pytest.approx(1))
    assert effects[2].mean == pytest.approx(other.mean(), abs=1e-6)
    assert effects[2].change == pytest.approx(np.abs(other - first).mean(), abs=1e-6)
    assert effects[2].largest == pytest.approx(np.abs(other - first).max(), abs=1e-6)
    with pytest.raises(DataError, match="no images"):
        name_sensitivity(tiny_model, [], "screw")


def test_what_is_worth_a_warning():
    assert NameEffect("a", 0.5, 0.02, 0.04, 0.1, 0.95, (), 9).warnings == []
    told = NameEffect("a", 0.5, 0.3, 0.4, 0.1, 0.1, ("x9",), 9).warnings
    assert len(told) == 3 and "0.30" in told[1] and "0.10" in told[2]
    assert NameEffect("a", 0.5, 0.0, 0.0, 0.1, None, (), 2).warnings == []


def test_what_changes_nearly_nothing():
    assert NameEffect("a", 0.5, 0.02, 0.04, 0.1, 0.95, (), 9).slight
    assert not NameEffect("a", 0.5, 0.02, 0.06, 0.1, 0.95, (), 9).slight
    assert not NameEffect("a", 0.5, 0.02, 0.04, 0.1, 0.95, (), 7).slight  # too few to say so


def test_object_in_place_of_a_name(tiny_model):
    pixels = [load_pixels(picture(index), index, 48).pixels for index in range(30)]
    scores = [result.score for result in tiny_model.predict(pixels, "screw", samples=2)]
    settings = ScoringSettings(samples=2, batch_size=7)
    found = effect_of_name(tiny_model, pixels, "screw", scores, settings)
    chosen = [at * 30 // 20 for at in range(20)]
    few = name_sensitivity(tiny_model, [pixels[at] for at in chosen], "screw", settings)[1]
    assert (found.name, found.images) == ("object", 20)
    assert (found.change, found.largest) == pytest.approx((few.change, few.largest), abs=1e-6)
    assert effect_of_name(tiny_model, pixels, "object", scores, settings) is None


def test_the_commands(checkpoint_dir, folder, tmp_path, capsys):
    common = ("--checkpoint", checkpoint_dir, "--out", tmp_path / "out")
    assert command("predict", folder, *common, "--class-name-from", "folder") == 0
    assert rows_of(tmp_path / "out")[2]["class_name"] == "wood"
    capsys.readouterr()
    assert command("predict", folder, *common, "--overwrite") == 0
    assert "no --class-name: 'object' is used" in capsys.readouterr().err
    assert {row["class_name"] for row in rows_of(tmp_path / "out")} == {"object"}
    assert command("predict", folder, *common, "--class-name", "XJ4-009-22") == 0
    assert "'XJ4-009-22' is unusual for the tokenizer" in capsys.readouterr().err
    options = ("--class-name", "nut|XJ4-009-22", "--checkpoint", checkpoint_dir)
    assert command("class-names", folder, *options, "--json", tmp_path / "n.json") == 0
    text = capsys.readouterr().out
    assert "3 images" in text and "note: XJ4-009-22: 'XJ4-009-22' is unusual" in text
    rows = json.loads((tmp_path / "n.json").read_text())
    assert [row["name"] for row in rows] == ["nut|XJ4-009-22", "nut", "XJ4-009-22", "object"]
    assert "changes nearly nothing" not in text  # three images are too few to say so
    save(folder, [f"wood/{name}.png" for name in "defgh"])
    assert command("class-names", folder, *options, "--json", tmp_path / "n.json") == 0
    rows = json.loads((tmp_path / "n.json").read_text())
    slight = all(row["largest"] <= LITTLE * row["spread"] for row in rows)
    assert ("changes nearly nothing" in capsys.readouterr().out) == slight
