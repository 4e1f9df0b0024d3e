"""Exports in less than float32: smaller, of a stated price, and not kept where that is too high."""

import json
import shutil

import numpy as np
import onnx
import pytest

from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.export import folder as export
from bayes_pfl.export.precision import halve_weights
from bayes_pfl.export.price import Price, check_price
from bayes_pfl.export.runtime import ExportedScorer
from bayes_pfl.export.standalone.detector import Detector
from tests.helpers.folders import picture


@pytest.fixture
def known_graph(by_words, monkeypatch):
    """The graph of `by_words` in place of one that is traced again."""

    def copied(graph, folder):
        shutil.copy(by_words / "model.onnx", folder)
        return folder / "model.onnx"

    monkeypatch.setattr(export, "write_onnx", copied)


def exported(model, out, **options):
    return export.export_detector(model, out, class_name="nut|bolt", samples=0, **options)


def folder_of(tmp_path, count=4):
    folder = tmp_path / "normal"
    folder.mkdir()
    for seed in range(count):
        picture(seed).save(folder / f"{seed}.png")
    return folder


@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_smaller_export_says_what_it_costs(
    known_graph, by_words, tiny_model, tmp_path, precision, format
):
    calibrate = folder_of(tmp_path) if precision == "int8" else None
    done = exported(
        tiny_model, tmp_path / "out", precision=precision, format=format, calibrate=calibrate
    )
    before, after = done.sizes
    assert after < before and 0 < done.agreement.map < 0.1
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"]["precision"] == precision
    assert manifest["price"] == done.price._asdict() and done.price.pictures == 60
    assert manifest["calibrated_on"] == ("4 pictures of normal" if calibrate else None)
    pictures = [picture(seed) for seed in range(3)]
    exact, found = (Detector(place, 1).score(pictures) for place in (by_words, tmp_path / "out"))
    for (a, _), (b, values) in zip(exact, found, strict=True):
        assert abs(a["score"] - b["score"]) < 0.05 and np.isfinite(values).all()


def test_int8_computes_in_integers_in_a_run_too(known_graph, tiny_model, tmp_path):
    exported(tiny_model, tmp_path / "out", precision="int8", calibrate=folder_of(tmp_path))
    scorer = ExportedScorer(Detector(tmp_path / "out"), tiny_model, ScoringSettings(samples=0))
    assert 0 < scorer([np.zeros((48, 48, 3), np.uint8)], ["nut|bolt"])[0].score < 1
    with pytest.raises(ConfigError, match="with --runtime it is that of the export"):
        ExportedScorer(scorer.detector, tiny_model, ScoringSettings(precision="bfloat16"))
    graph = onnx.load(tmp_path / "out" / "model.onnx").graph
    kinds = {tensor.data_type for tensor in graph.initializer if len(tensor.dims) > 1}
    assert onnx.TensorProto.INT8 in kinds
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in graph.node}


def test_small_constants_keep_their_digits(tmp_path):
    values = {"epsilon": np.full(4, 1e-12), "large": np.full(2048, 1e6), "weights": np.ones(2048)}
    tensors = [onnx.numpy_helper.from_array(v.astype(np.float32), k) for k, v in values.items()]
    graph = onnx.helper.make_graph([], "g", [], [], tensors)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "model.onnx")
    halve_weights(tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert [tensor.name for tensor in graph.initializer] == ["epsilon", "large", "weights.half"]
    assert [(n.op_type, *n.input, *n.output) for n in graph.node] == [
        ("Cast", "weights.half", "weights")
    ]


def test_int8_needs_normal_pictures(known_graph, tiny_model, tmp_path):
    with pytest.raises(ConfigError, match="int8 needs normal pictures.*--calibrate FOLDER"):
        exported(tiny_model, tmp_path / "out", precision="int8")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        exported(tiny_model, tmp_path / "out", precision="int8", calibrate=tmp_path / "empty")
    with pytest.raises(ConfigError, match="it is for int8"):
        exported(tiny_model, tmp_path / "out", calibrate=tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("after", [(80.0, 90.0), (90.0, 80.0), (float("nan"), 90.0)])
def test_too_high_a_price_is_refused(after):
    image, pixel = after
    price = Price(90.0, image, 90.0, pixel, 60)
    with pytest.raises(ConfigError, match="60 rendered pictures 90.0 -> .*--accept-drop"):
        check_price(price)
    check_price(Price(90.0, 88.5, 90.0, 91.0, 60))


def test_what_is_refused_is_not_kept(known_graph, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "bayes_pfl.export.price.measure_price", lambda *_: Price(90.0, 80.0, 90.0, 90.0, 60)
    )
    with pytest.raises(ConfigError, match="falls by more than 2 points"):
        exported(tiny_model, tmp_path / "out", precision="float16")
    assert not (tmp_path / "out").exists()
    exported(tiny_model, tmp_path / "out", precision="float16", accept_drop=20)
