"""Names of precisions, and the warning where one costs time instead of saving it."""

from __future__ import annotations

import logging

import pytest
import torch

from bayes_pfl.errors import ConfigError
from bayes_pfl.support import precision
from bayes_pfl.support.precision import autocast, computed_here, half_dtype

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def processor(monkeypatch, caplog):
    """Makes the processor one that computes in the given types, and in float32."""
    caplog.set_level(logging.WARNING)

    def computes_in(*dtypes):
        precision._tell_slow.cache_clear()
        monkeypatch.setattr(precision, "computed_here", lambda dtype: dtype in dtypes)
        return caplog

    yield computes_in
    precision._tell_slow.cache_clear()


def test_both_names_of_a_precision_mean_the_same():
    assert half_dtype("float32") is half_dtype("fp32") is None
    assert half_dtype("bfloat16") == half_dtype("bf16") == torch.bfloat16
    assert half_dtype("float16") == half_dtype("fp16") == torch.float16


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match="precision = 'half': use one of float32, fp32"):
        autocast(CPU, "half")


def test_a_precision_that_the_processor_lacks_is_told_once(processor):
    told = processor()
    for _ in range(3):
        autocast(CPU, "bf16")
    autocast(CPU, "fp16")
    assert [r.getMessage().split(":")[0] for r in told.records] == [
        "bfloat16 is slow here",
        "float16 is slow here",
    ]
    assert "use float32" in told.text


def test_nothing_is_told_where_it_is_fast(processor):
    told = processor(torch.bfloat16)
    autocast(CPU, "bfloat16")
    autocast(CPU, "float32")
    precision.tell_if_slow(GPU, torch.float16)
    assert not told.records


def test_a_build_that_cannot_tell_is_not_warned_of(monkeypatch):
    monkeypatch.setattr(precision, "_CHECKS", {torch.bfloat16: "_there_is_no_such_question"})
    computed_here.cache_clear()
    assert computed_here(torch.bfloat16)
    computed_here.cache_clear()
