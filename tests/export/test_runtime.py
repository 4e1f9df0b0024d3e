"""An export in place of PyTorch: predict writes the same."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.export.check import TOLERANCE
from bayes_pfl.export.runtime import ExportedScorer, exported_scorers
from bayes_pfl.export.standalone.detector import Detector
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.settings import FolderSettings
from tests.fit.test_tiles import NAME, large, spotted
from tests.helpers.folders import picture, rows_of


def test_a_run_with_a_profile_is_the_same(with_profile, tiny_model, profile, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, image in (("a", spotted(91)), ("b", large(61)), ("c", picture(1)), ("d", large(60))):
        image.save(photos / f"{name}.png")
    made = {"plain": Scorer, "exported": partial(ExportedScorer, Detector(with_profile))}
    settings = FolderSettings(samples=2, seed=5)
    for name, make in made.items():
        predict_folder(
            tiny_model,
            photos,
            tmp_path / name,
            settings=settings,
            profile=profile,
            make_scorer=make,
        )
    plain, exported = (rows_of(tmp_path / name) for name in made)
    for a, b in zip(plain, exported, strict=True):
        for name, value in a.items():
            try:
                assert abs(float(value) - float(b[name])) <= TOLERANCE
            except ValueError:
                assert value == b[name]
    assert plain[0]["label"] == "1" and plain[0]["regions"]
    files = [sorted(x.relative_to(tmp_path / n) for x in (tmp_path / n).rglob("*.*")) for n in made]
    assert files[0] == files[1]


def test_places_are_the_same(with_profile, tiny_model, profile):
    settings = ScoringSettings(samples=2, seed=5, tile=profile.settings.tile)
    known = {NAME: profile.references}
    pixels = [np.asarray(image.resize((48, 48))) for image in (spotted(91), large(3))]
    ours, theirs = (
        make(tiny_model, settings, references=known)(pixels, [NAME] * 2)
        for make in (Scorer, partial(ExportedScorer, Detector(with_profile)))
    )
    for a, b in zip(ours, theirs, strict=True):
        assert a.place[:3] == b.place[:3] and abs(a.place.distance - b.place.distance) < TOLERANCE
        np.testing.assert_allclose(a.spread, b.spread, atol=TOLERANCE)


def test_what_was_exported_otherwise_is_refused(with_profile, by_words, tiny_model, profile):
    detector = Detector(with_profile)
    with pytest.raises(ConfigError, match="samples = 3, but it was exported with 2"):
        ExportedScorer(detector, tiny_model, ScoringSettings(samples=3, seed=5))
    with pytest.raises(ConfigError, match="references = "):
        ExportedScorer(detector, tiny_model, ScoringSettings(samples=2, seed=5))
    scorer = ExportedScorer(Detector(by_words), tiny_model, ScoringSettings(samples=0))
    with pytest.raises(ConfigError, match="class name 'cable' with an export for 'nut|bolt'"):
        scorer([np.zeros((48, 48, 3), np.uint8)], ["cable"])


def test_a_folder_that_is_there_is_used(by_words, tiny_model):
    settings = FolderSettings(samples=0)
    with exported_scorers(tiny_model, by_words, "nut|bolt", None, settings, None) as make:
        assert isinstance(make(tiny_model, settings), ExportedScorer)


def test_the_commands_export_and_use_what_they_exported(
    run, by_words, checkpoint_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "bayes_pfl.export.folder.write_onnx",
        lambda _, folder: Path(shutil.copy(by_words / "model.onnx", folder)),
    )
    asked = ("--class-name", "nut|bolt", "--samples", 0)
    out = tmp_path / "export"
    code, said, _ = run("export", checkpoint_dir, "--out", out, *asked)
    assert code == 0 and "3 pictures compared with PyTorch" in said
    (tmp_path / "photos").mkdir()
    picture(1).save(tmp_path / "photos" / "a.png")
    given = ("predict", tmp_path / "photos", "--checkpoint", checkpoint_dir, *asked)
    runtime = ("--runtime", "onnxruntime", "--export-folder", out)
    for name, more in (("plain", ()), ("exported", runtime)):
        assert run(*given, "--out", tmp_path / name, *more)[0] == 0
    plain, exported = (rows_of(tmp_path / name)[0] for name in ("plain", "exported"))
    assert abs(float(plain["score"]) - float(exported["score"])) <= TOLERANCE
