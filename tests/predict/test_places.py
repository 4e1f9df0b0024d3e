"""What a run can be given: files, folders, patterns, several of them."""

import pytest

from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.places import places_of
from bayes_pfl.predict.settings import FolderSettings
from tests.helpers.folders import rows_of, save

LEAST = FolderSettings(samples=0, maps="none", overlays=False, report=False)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path, ["a/1.png", "a/2.png", "b/1.png", "b/deep/3.jpg", "c.png"])
    (tmp_path / "b" / "notes.txt").write_text("no image")
    return tmp_path


def paths(folder, given, model, name="out"):
    predict_folder(model, given, folder / name, class_name="nut", settings=LEAST)
    return [row["path"] for row in rows_of(folder / name)]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["a"], ["1.png", "2.png"]),
        (["a/2.png"], ["2.png"]),
        (["b", "c.png"], ["b/1.png", "b/deep/3.jpg", "c.png"]),
        (["a/*.png", "a/1.png"], ["1.png", "2.png"]),
        (["**/*.png"], ["a/1.png", "a/2.png", "b/1.png", "c.png"]),
        (["b", "b/deep"], ["1.png", "deep/3.jpg"]),
    ],
    ids=str,
)
def test_paths_are_relative_to_what_all_have_in_common(tiny_model, folder, given, wanted):
    places = [str(folder / one) for one in given]
    assert paths(folder, places if len(places) > 1 else places[0], tiny_model) == wanted


def test_scores_do_not_depend_on_how_an_image_is_given(tiny_model, folder):
    paths(folder, folder / "a", tiny_model, "first")
    paths(folder, folder / "a" / "2.png", tiny_model, "second")
    first, second = (rows_of(folder / name)[-1] for name in ("first", "second"))
    assert float(first["score"]) == pytest.approx(float(second["score"]), abs=1e-5)


def test_a_named_file_is_taken_for_an_image(tiny_model, folder):
    summary = predict_folder(
        tiny_model,
        [folder / "b" / "notes.txt", folder / "c.png"],
        folder / "out",
        class_name="nut",
        settings=LEAST,
    )
    assert (summary.succeeded, summary.failed) == (1, 1)
    assert "not an image" in rows_of(folder / "out")[0]["error"]


def test_other_places_are_another_run(tiny_model, folder):
    out = folder / "out"
    given = [folder / "a" / "1.png", folder / "c.png"]
    how = {"class_name": "nut", "settings": LEAST}
    predict_folder(tiny_model, given, out, **how)
    again = predict_folder(tiny_model, given[::-1], out, resume=True, **how)
    assert again.resumed == 2
    other = [*given, folder / "b"]
    with pytest.raises(ConfigError, match="folder"):
        predict_folder(tiny_model, other, out, resume=True, **how)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["a", "nowhere"], "nowhere does not exist; give a folder, a file or a pattern"),
        (["x*.png"], "nothing fits this pattern"),
        ([], "no images were given"),
        (["b/deep", "empty"], None),
    ],
    ids=str,
)
def test_what_cannot_be_used(tiny_model, folder, given, said):
    (folder / "empty").mkdir()
    places = [folder / one for one in given]
    if said is None:
        assert [path.name for path in places_of(places).files(folder / "out").images] == ["3.jpg"]
        return
    with pytest.raises(DataError, match=said):
        places_of(places)
