"""Exports of the tiny model, each made once: tracing takes seconds."""

import numpy as np
import pytest

from bayes_pfl.data.roi import Roi
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
def masked_profile(tiny_model):
    """One with a region of interest of no simple shape, whose rectangle ends within tiles."""
    mask = np.ones((61, 83), bool)
    mask[:9], mask[:, 70:] = False, False
    mask[20:30, 15:40] = False
    options = FitOptions(fpr=0.3, tile=TILE, samples=0, roi=Roi(mask, "mask.png"))
    return fit_profile(tiny_model, [large(seed) for seed in range(20)], NAME, options)


@pytest.fixture(scope="session")
def with_roi(tiny_model, masked_profile, tmp_path_factory):
    """The folder of that profile."""
    out = tmp_path_factory.mktemp("export") / "masked"
    export_detector(tiny_model, out, profile=masked_profile)
    return out


@pytest.fixture(scope="session")
def by_words(tiny_model, tmp_path_factory):
    """The folder of a name with synonyms, by the mean prompt."""
    out = tmp_path_factory.mktemp("export") / "words"
    export_detector(tiny_model, out, class_name="nut|bolt", samples=0)
    return out
