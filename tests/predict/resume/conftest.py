"""A folder, a run of it, the same run stopped, and a count of what is scored."""

from __future__ import annotations

import pytest

from bayes_pfl.predict.folder import predict_folder
from tests.helpers.folders import arguments
from tests.predict.resume.stops import Stop, save


@pytest.fixture
def counted(tiny_model, monkeypatch):
    """The sizes of the batches that the model scores."""
    sizes = []
    score = type(tiny_model).score_features

    def counting(self, features, text, **rest):
        sizes.append(len(features.pooled))
        return score(self, features, text, **rest)

    monkeypatch.setattr(type(tiny_model), "score_features", counting)
    return sizes


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "in", 10)


@pytest.fixture
def predict(tiny_model, folder, tmp_path):
    """A plain run of `folder` in batches of two."""

    def run(out="out", **options):
        plain = {"class_name": "nut", "maps": "none", "overlays": False, "report": False}
        plain |= {"batch_size": 2}
        return predict_folder(tiny_model, folder, tmp_path / out, **arguments(**plain | options))

    return run


@pytest.fixture
def stopped(predict, tmp_path):
    """The output folder of a run that was stopped after four of ten images."""
    with pytest.raises(KeyboardInterrupt, match="4 of 10 images are done"):
        predict(progress=Stop(4))
    return tmp_path / "out"
