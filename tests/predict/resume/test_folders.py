"""A stopped run over a folder goes on, and refuses to mix with another."""

from __future__ import annotations

import os
import shutil

import pytest

from bayes_pfl.data.wording import ClassNames
from bayes_pfl.errors import BayesPFLError, ConfigError
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.report.pictures import picture_name
from tests.helpers.killing import files_of
from tests.predict.resume.stops import JOURNAL, Stop, entries, other_weights, save


def test_done_images_are_not_scored_again(predict, stopped, counted, tmp_path):
    whole = predict("whole")
    counted.clear()
    summary = predict(resume=True)
    assert counted == [2, 2, 2]
    assert (summary.resumed, summary.images, summary.succeeded) == (4, 10, 10)
    tables = [(tmp_path / out / "predictions.csv").read_bytes() for out in ("whole", "out")]
    assert tables[0] == tables[1] and summary.highest == whole.highest
    before = files_of(stopped)
    again = predict(resume=True)
    assert again.resumed == 10 and counted == [2, 2, 2]
    assert files_of(stopped) == before


def test_a_stopped_run_is_neither_whole_nor_lost(predict, stopped):
    assert not (stopped / "predictions.csv").exists()
    with pytest.raises(ConfigError, match="stopped after 4 images; add --resume.*--overwrite"):
        predict()
    assert len(entries(stopped)) == 4
    with pytest.raises(ConfigError, match="exclude each other"):
        predict(resume=True, overwrite=True)
    assert predict(overwrite=True).resumed == 0
    assert len(entries(stopped)) == 10
    assert predict().resumed == 0  # a finished run is replaced, as ever


def test_resume_begins_where_nothing_was_begun(predict):
    assert predict(resume=True).resumed == 0


def test_a_run_that_replaces_another_takes_its_table_away_first(predict, tmp_path):
    predict()
    with pytest.raises(KeyboardInterrupt):
        predict(progress=Stop(2))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [JOURNAL]


def test_new_images_are_added_and_removed_ones_left_out(predict, stopped, folder, counted):
    save(folder, 12)
    for index, path in enumerate(sorted(folder.iterdir())):
        os.utime(path, ns=(index, index))
    predict(overwrite=True)
    (folder / "03.png").unlink()
    shutil.copy(folder / "00.png", folder / "0 new.png")
    counted.clear()
    summary = predict(resume=True)
    assert counted == [1]
    assert (summary.images, summary.resumed, summary.dropped) == (12, 11, 1)
    paths = [line.split(",")[0] for line in summary.predictions.read_text().splitlines()[1:]]
    assert paths == sorted(paths) and '"03.png"' not in paths and '"0 new.png"' in paths


def test_failures_are_tried_again(predict, folder, counted):
    whole = (folder / "04.png").read_bytes()
    (folder / "04.png").write_bytes(whole[:30])
    assert predict().failed == 1
    (folder / "04.png").write_bytes(whole)
    counted.clear()
    summary = predict(resume=True)
    assert counted == [1] and (summary.resumed, summary.failed) == (9, 0)


def test_an_image_without_its_pictures_is_done_again(predict, tmp_path, counted):
    predict(maps="npy", report=True)
    (tmp_path / "out/maps/02.png.npy").write_bytes(b"")
    (tmp_path / "out/report/pictures" / picture_name("07.png")).unlink()
    counted.clear()
    predict(maps="npy", report=True, resume=True)
    assert sum(counted) == 2
    assert all(path.stat().st_size for path in (tmp_path / "out").rglob("*.*"))


def test_the_batch_size_may_change(predict, stopped):
    assert predict(resume=True, batch_size=3, workers=1).resumed == 4


def test_other_runs_are_refused(predict, stopped, folder, tiny_model, tmp_path):
    for options, told in (
        ({"samples": 2}, "samples = 2, but it was begun with 3"),
        ({"seed": 1, "maps": "npy"}, "seed = 1, .*; maps = 'npy', but"),
        ({"class_name": "bolt"}, "class_name = 'bolt'"),
        ({"threshold": 0.5}, "threshold = 0.5, but it was begun with None"),
        ({"class_name": ClassNames(default="nut")}, "class_name = 'by subfolder'"),
    ):
        with pytest.raises(ConfigError, match=told):
            predict(resume=True, **options)
    with other_weights(tiny_model), pytest.raises(ConfigError, match="checkpoint_sha256 = "):
        predict(resume=True)
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match="folder = .*moved', but it was begun with .*in'"):
        predict_folder(
            tiny_model,
            moved,
            stopped,
            class_name="nut",
            resume=True,
            settings=FolderSettings(maps="none", overlays=False, report=False),
        )
    assert len(entries(stopped)) == 4


def test_changed_images_and_names_are_refused(predict, stopped, folder, tmp_path):
    os.utime(folder / "01.png", ns=(1, 1))
    with pytest.raises(ConfigError, match="1 images have changed since .* such as '01.png'"):
        predict(resume=True)
    table = tmp_path / "names.csv"
    table.write_text("path,class_name\n00.png,bolt\n")
    names = ClassNames(table, "nut")
    with pytest.raises(KeyboardInterrupt):
        predict("named", class_name=names, progress=Stop(4))
    table.write_text("path,class_name\n00.png,screw\n")
    with pytest.raises(ConfigError, match="another class name .* such as '00.png'"):
        predict("named", class_name=names, resume=True)


def test_messages_are_one_line(predict, stopped):
    with pytest.raises(BayesPFLError) as told:
        predict(resume=True, samples=1)
    assert "\n" not in str(told.value)
