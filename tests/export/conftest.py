"""Exports of the tiny model, each made once: tracing takes seconds."""

import pytest

from bayes_pfl.export.folder import export_detector
from bayes_pfl.fit.fit import FitOptions, fit_profile
from tests.fit.test_tiles import NAME, TILE, large


@pytest.fixture(scope="session")
def profile(tiny_model):
    options = FitOptions(fpr=0.3, tile=TILE, samples=2, seed=5)
    return fit_profile(tiny_model, [large(seed) for seed in range(20)], NAME, options)


@pytest.fixture(scope="session")
def with_profile(tiny_model, profile, tmp_path_factory):
    """The folder of a profile with tiles, sampled prompts and thresholds."""
    out = tmp_path_factory.mktemp("export") / "part"
    export_detector(tiny_model, out, profile=profile, checkpoint="tiny")
    return out


@pytest.fixture(scope="session")
def by_words(tiny_model, tmp_path_factory):
    """The folder of a name with synonyms, by the mean prompt."""
    out = tmp_path_factory.mktemp("export") / "words"
    export_detector(tiny_model, out, class_name="nut|bolt", samples=0)
    return out
