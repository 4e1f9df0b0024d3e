"""Names of precisions, and the warning where one is slower than float32."""

from __future__ import annotations

import logging

import pytest
import torch

from bayes_pfl.errors import ConfigError
from bayes_pfl.support import precision
from bayes_pfl.support.precision import autocast, computes_natively, half_dtype

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def processor(monkeypatch, caplog):
    """Makes the processor one with instructions for the given types, and for float32."""
    caplog.set_level(logging.WARNING)

    def computes_in(*dtypes):
        precision.warn_if_slow.cache_clear()
        monkeypatch.setattr(precision, "computes_natively", lambda dtype: dtype in dtypes)
        return caplog

    yield computes_in
    precision.warn_if_slow.cache_clear()


def test_both_names_of_a_precision_mean_the_same():
    assert half_dtype("float32") is half_dtype("fp32") is None
    assert half_dtype("bfloat16") == half_dtype("bf16") == torch.bfloat16
    assert half_dtype("float16") == half_dtype("fp16") == torch.float16


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match="precision = 'half': use one of float32, fp32"):
        autocast(CPU, "half")


def test_a_precision_that_the_processor_lacks_is_warned_of_once(processor):
    log = processor()
    for _ in range(3):
        autocast(CPU, "bf16")
    autocast(CPU, "fp16")
    assert [r.getMessage().split(":")[0] for r in log.records] == [
        "bfloat16 is slow here",
        "float16 is slow here",
    ]
    assert "use float32" in log.text


def test_no_warning_where_it_is_fast(processor):
    log = processor(torch.bfloat16)
    autocast(CPU, "bfloat16")
    autocast(CPU, "float32")
    precision.warn_if_slow(GPU, torch.float16)
    assert not log.records


def test_no_warning_where_pytorch_does_not_answer(monkeypatch):
    monkeypatch.setattr(precision, "_CHECKS", {torch.bfloat16: "_there_is_no_such_question"})
    computes_natively.cache_clear()
    assert computes_natively(torch.bfloat16)
    computes_natively.cache_clear()
