"""The scale of a combination: its formulas by hand, and what must hold for all values."""

import math

import numpy as np
import pytest
import torch

from bayes_pfl.detect.standards import Standard, combined, log_odds


def test_a_standard_by_hand():
    one = Standard.of([3.0], 0.5)
    assert one.centre == 3 and one.spread == pytest.approx(0.5 * math.sqrt(2))
    five = Standard.of([1, 2, 3, 4, 5], 0.5)
    variance = (4 * 0.25 + 10) / (4 + 4)
    assert five.centre == 3 and five.spread == pytest.approx(math.sqrt(variance * 1.2))
    many = np.random.default_rng(0).normal(2, 3, 20_000)
    assert Standard.of(many, 0.5).spread == pytest.approx(3, abs=0.1)


def test_a_quarter_of_outliers_moves_the_robust_standard_little():
    values = np.random.default_rng(0).normal(0, 1, 4000)
    values[:1000] += 100
    found = Standard.robust(values, 0.01)
    assert abs(found.centre) < 0.5 and 0.9 < found.spread < 1.8
    assert Standard.robust([2.0] * 9, 0.01) == (2, 0.01)


def test_a_combination_rises_with_each_source_and_stays_below_one():
    grid = torch.linspace(-6, 60, 200)
    table = combined(grid[:, None], grid[None])
    assert (table.diff(dim=0) > 0).all() and (table.diff(dim=1) > 0).all()
    assert table.min() > 0 and table.max() < 1
    torch.testing.assert_close(table, table.T)


def test_one_source_alone_can_flag_a_picture():
    low = torch.tensor(-20.0)
    assert combined(torch.tensor(8.0), low) == pytest.approx(0.5, abs=1e-3)
    assert combined(torch.tensor(80.0), low) > 0.9
    assert combined(torch.tensor(0.0), torch.tensor(0.0)) < 0.2


def test_sure_probabilities_stay_finite():
    assert torch.isfinite(log_odds(torch.tensor([0.0, 1.0]))).all()
