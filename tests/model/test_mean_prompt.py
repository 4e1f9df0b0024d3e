"""The mean prompt (samples 0): no randomness, text once per class, and fused into all commands."""

import numpy as np
import pytest
import torch

from bayes_pfl.data.records import Sample
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.evaluate.scoring import EvaluationSettings, evaluate
from bayes_pfl.model.sampling import PromptNoise

PICTURES = list(np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8))
NAMES = ["nut", "metal nut", "nut"]


@pytest.fixture
def calls(tiny_model, monkeypatch):
    """Names that go through the text tower."""
    seen = []
    encode = tiny_model.backbone.text.tokenize

    def tokenize(names, vectors):
        seen.append(list(names))
        return encode(names, vectors)

    monkeypatch.setattr(tiny_model.backbone.text, "tokenize", tokenize)
    return seen


def test_text_is_encoded_once_per_class_in_a_run(tiny_model, calls):
    scorer = Scorer(tiny_model, ScoringSettings(samples=0))
    for names in (["nut", "nut"], ["wood", "nut"], ["wood", "wood"]):
        scorer(PICTURES[:2], names)
    assert calls == [["nut"], ["wood"]]
    assert len(scorer.draws.texts) == 2 and scorer.draws.count == 0
    Scorer(tiny_model, ScoringSettings(samples=0))(
        PICTURES[:1], ["nut"]
    )  # another run keeps its own
    assert calls[2:] == [["nut"]]


@torch.no_grad()
def test_it_is_the_flows_of_the_mean_and_the_context_of_the_prior(tiny_model):
    """The same as a sample of noise 0 for the states and z = 0 for the context."""
    zero = torch.zeros(1, tiny_model.backbone.embed_dim)
    sampled = tiny_model.samples_from(PromptNoise(zero, zero, zero))
    specific = tiny_model.specific_sample(torch.randn(1, zero.shape[1]), sampled)
    unmoved = type(specific)(torch.zeros_like(specific.z), specific.log_base, specific.log_det)
    expected = tiny_model.text_embeddings(unmoved, sampled, ["nut"])
    pooled = torch.randn(2, zero.shape[1])
    found = tiny_model.prompt_embeddings(pooled, tiny_model.draw(0), ["nut", "nut"])
    assert found.shape == (2, 2, tiny_model.config.prompts.pairs, zero.shape[1])
    torch.testing.assert_close(found, expected.expand_as(found), atol=1e-5, rtol=0)


def test_results_depend_neither_on_seed_nor_on_batch(tiny_model):
    first = tiny_model.predict(PICTURES, NAMES, samples=0, seed=0)
    other = tiny_model.predict(PICTURES, NAMES, samples=0, seed=5, batch_size=1)
    for a, b in zip(first, other, strict=True):
        assert a.score == pytest.approx(b.score, abs=1e-5)
        np.testing.assert_allclose(a.anomaly_map, b.anomaly_map, atol=1e-5)
    assert first[0].score != first[1].score


def test_generator_is_not_advanced(tiny_model):
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    tiny_model.predict(PICTURES[0], "nut", samples=0, generator=generator)
    assert torch.equal(generator.get_state(), before)


def test_it_evaluates(tiny_model, tmp_path):
    from PIL import Image

    samples = []
    for index, picture in enumerate(PICTURES):
        path = tmp_path / f"{index}.png"
        Image.fromarray(picture).save(path)
        samples.append(Sample(path, "nut", "nut", 0, None))
    records = evaluate(tiny_model, samples, EvaluationSettings(samples=0))
    assert len(records["nut"].rows) == 3
