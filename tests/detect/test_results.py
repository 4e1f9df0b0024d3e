"""AnomalyResult: regions, files, and what a notebook shows."""

import json
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.detect.results import AnomalyResult, Box
from bayes_pfl.errors import ConfigError, DataError
from tests.helpers.folders import picture


@pytest.fixture(scope="module")
def result(tiny_model):
    return tiny_model.predict(picture(0, (64, 40)), "metal nut")


def two_regions():
    """A large faint region and a small hot one."""
    values = np.full((40, 60), 0.1, np.float32)
    values[5:15, 10:30] = 0.6
    values[30:33, 50:54] = 0.9
    return values


def of_map(values):
    """A result with this map."""
    height, width = values.shape
    return AnomalyResult(0.5, 0.5, 0.5, 0.0, (0.5, 0.5), values, None, "nut", (width, height))


def boxes(values, *arguments, **options):
    return of_map(values).boxes(*arguments, **options)


def contours(values, threshold):
    return of_map(values).contours(threshold)


def test_boxes_are_tight_and_the_hottest_comes_first():
    assert boxes(two_regions(), 0.5) == [Box(50, 30, 54, 33), Box(10, 5, 30, 15)]
    assert boxes(two_regions(), 0.5, min_area=13) == [Box(10, 5, 30, 15)]
    assert boxes(two_regions(), 0.6) == boxes(two_regions(), 0.5)  # at or above, in float32
    assert boxes(two_regions(), 0.95) == []
    assert boxes(two_regions(), 0.0) == [Box(0, 0, 60, 40)]
    cut = Image.fromarray(two_regions()).crop(boxes(two_regions(), 0.7)[0])
    assert cut.size == (4, 3) and np.asarray(cut).min() == np.float32(0.9)


def test_regions_that_touch_at_a_corner_are_one():
    values = np.zeros((6, 6), np.float32)
    values[1, 1] = values[2, 2] = 1
    assert boxes(values, 0.5) == [Box(1, 1, 3, 3)]
    assert len(contours(values, 0.5)) == 1


def test_contours_enclose_exactly_the_region():
    large, small = contours(two_regions(), 0.5)
    assert large.dtype == np.int32 and large.shape[1] == 2
    assert (large.min(0).tolist(), large.max(0).tolist()) == ([10, 5], [29, 14])
    assert (small.min(0).tolist(), small.max(0).tolist()) == ([50, 30], [53, 32])
    for x, y in large:
        assert two_regions()[y, x] == np.float32(0.6)
    assert contours(two_regions(), 0.95) == []


def test_regions_of_a_result_lie_in_its_image(result):
    limit = float(np.quantile(result.anomaly_map, 0.9))
    found = result.boxes(limit)
    assert found and len(result.contours(limit)) == len(found)
    inside = np.zeros(result.anomaly_map.shape, bool)
    for left, top, right, bottom in found:
        assert 0 <= left < right <= 64 and 0 <= top < bottom <= 40
        inside[top:bottom, left:right] = True
    assert not (result.anomaly_map[~inside] >= limit).any()
    assert replace(result, map_threshold=limit).boxes() == found


def test_regions_without_a_threshold_are_refused(result):
    for ask in (result.contours, result.boxes):
        with pytest.raises(ConfigError, match="no pixel threshold.*profile"):
            ask()
    for wrong in (float("nan"), "0.5", True):
        with pytest.raises(ConfigError, match="threshold = "):
            result.contours(wrong)
    with pytest.raises(ConfigError, match="min_area = 0"):
        result.boxes(0.5, min_area=0)


def test_saving_by_the_name(result, tmp_path):
    (path,) = result.save(tmp_path / "new" / "a.png")
    assert Image.open(path).tobytes() == result.overlay().tobytes()
    (path,) = result.save(tmp_path / "A.JPG")
    assert Image.open(path).format == "JPEG"
    (path,) = result.save(str(tmp_path / "a.npy"))
    np.testing.assert_array_equal(np.load(path), result.anomaly_map)


def test_saving_into_a_folder_keeps_whole_names(tiny_model, tmp_path):
    for name in ("part.png", "part.bmp"):
        picture(1).save(tmp_path / name)
        written = tiny_model.predict(tmp_path / name, "nut").save(tmp_path / "out 1.2")
        assert [path.name for path in written] == [f"{name}.overlay.png", f"{name}.map.npy"]
    assert len(list((tmp_path / "out 1.2").iterdir())) == 4


def test_places_that_cannot_be_written(result, tmp_path):
    with pytest.raises(ConfigError, match="no name.*part.png"):
        result.save(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="a.png: cannot be written .*choose another place"):
        result.save(tmp_path / "file" / "a.png")


def test_overlay_shows_the_uncertainty_beside(result):
    plain, doubt = result.overlay(), result.overlay(uncertainty=True)
    assert doubt.width > 1.3 * plain.width and doubt.height >= plain.height
    left = np.asarray(doubt)[30:70, : plain.width // 2]
    np.testing.assert_array_equal(left, np.asarray(plain)[30:70, : plain.width // 2])
    still = replace(result, uncertainty_map=np.zeros_like(result.uncertainty_map))
    changed = np.asarray(still.overlay(uncertainty=True)) != np.asarray(doubt)
    assert np.argwhere(changed.any(axis=2))[:, 1].min() > 512  # that panel alone
    with pytest.raises(DataError, match="no uncertainty map.*uncertainty=True"):
        replace(result, uncertainty_map=None).overlay(uncertainty=True)


@pytest.mark.parametrize("size", [(1, 1), (300, 20), (20, 300), (700, 400)])
def test_overlay_with_uncertainty_takes_every_shape(tiny_model, size):
    one = tiny_model.predict(picture(0, size), "wood")
    plain, doubt = one.overlay(), one.overlay(uncertainty=True)
    assert doubt.width >= plain.width and doubt.height >= plain.height


class Tags(HTMLParser):
    """Names of the elements, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.names, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes = attrs

    def handle_data(self, data):
        self.text += data


def test_notebooks_show_names_and_do_not_execute_them(result):
    hostile = '"><script>alert(1)</script>\udcff'
    shown = replace(result, path=hostile, class_name="<b>nut", label=1, needs_review=True)
    page = Tags(shown._repr_html_())
    assert set(page.names) == {"div", "img", "table", "tr", "th", "td"}
    assert "<b>nut" in page.text and "anomalous, needs review" in page.text
    assert f"score {result.score:.3f}" in page.text
    shown._repr_html_().encode("utf-8")


def test_notebooks_get_a_picture_while_there_is_one(result):
    assert result._repr_png_().startswith(b"\x89PNG")
    gone = replace(result, image=None, path="gone.png", p_value=0.04)
    assert gone._repr_png_() is None
    page = Tags(gone._repr_html_())
    assert "img" not in page.names and "gone.png" in page.text and "0.04" in page.text


def test_figures_as_a_dictionary_are_json(result):
    found = json.loads(json.dumps(result.to_dict()))
    assert found["score"] == result.score and (found["width"], found["height"]) == (64, 40)
    assert found["label"] is None and found["regions"] is None


def test_results_as_a_table(tiny_model, monkeypatch):
    results = tiny_model.predict([picture(0), picture(1)], "metal nut", threshold=0.5)
    rows = [result.to_dict() for result in results]
    monkeypatch.setattr("bayes_pfl.detect.result_list.find_spec", lambda name: None)
    assert results.to_table() == rows

    class Pandas:
        DataFrame = staticmethod(lambda rows: ("frame", rows))

    monkeypatch.setitem(sys.modules, "pandas", Pandas)
    monkeypatch.setattr("bayes_pfl.detect.result_list.find_spec", lambda name: True)
    assert results.to_table() == ("frame", rows)


def test_a_mask_is_where_regions_are():
    found = replace(of_map(two_regions()), map_threshold=0.5)
    np.testing.assert_array_equal(found.mask(), two_regions() >= 0.5)
    assert replace(found, min_area=100).mask().sum() == 200
    assert of_map(two_regions()).mask(0.8).sum() == 12
    with pytest.raises(ConfigError, match="threshold"):
        of_map(two_regions()).mask()


def test_it_is_drawn_on_axes(result):
    from matplotlib import pyplot

    axes = result.plot(title="nut")
    assert axes.images[0].get_array().shape[2] == 3
    assert result.plot(axes) is axes
    pyplot.close(axes.figure)
