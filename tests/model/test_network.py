"""The whole model: gradients, independence of the batch, seeds, the frozen backbone."""

import copy
from dataclasses import replace

import open_clip
import pytest
import torch
from torch.nn import functional as F

from bayes_pfl import BayesPFL
from bayes_pfl.checkpoints.load import build_model
from bayes_pfl.clip.frozen_clip import FrozenCLIP
from bayes_pfl.clip.load import load_backbone
from bayes_pfl.config import BackboneConfig, FlowConfig, ModelConfig, PromptConfig
from bayes_pfl.errors import BackboneError, ConfigError, DataError
from bayes_pfl.model.objective import TrainingBatch, training_losses
from bayes_pfl.model.sampling import PromptNoise
from tests.conftest import TINY_CLIP

NAMES = ["metal nut", "macaroni", "extraordinarily reflective printed circuit board"]
SIZE = TINY_CLIP["vision_cfg"]["image_size"]


@pytest.fixture
def images():
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def model(tiny_model):
    return copy.deepcopy(tiny_model)


def unequal_widths(pairs=2, flow=None):
    """A model whose joint width differs from its text width, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = open_clip.CLIP(**{**TINY_CLIP, "embed_dim": 24})
        backbone = FrozenCLIP(clip, open_clip.get_tokenizer("ViT-B-32"), image_size=SIZE)
        config = ModelConfig(prompts=PromptConfig(pairs, 2, 3), flow=flow or FlowConfig(3))
        return BayesPFL(config, backbone)


def losses(model, images, stage, pair=0):
    masks = torch.zeros(len(images), SIZE, SIZE)
    masks[0, 10:20, 10:30] = 1
    generator = torch.Generator().manual_seed(3)
    noise = PromptNoise.draw(1, model.backbone.embed_dim, generator, batch=len(images))
    features = model.backbone.encode_image(images)
    labels = torch.tensor([1, 0, 0])
    batch = TrainingBatch(features, NAMES, masks, labels, noise, pair)
    return training_losses(model, batch, stage=stage)


@pytest.mark.parametrize("kind", ["equal", "unequal"])
def test_gradient_reaches_every_learnt_parameter_and_none_of_the_backbone(kind, model, images):
    model = model if kind == "equal" else unequal_widths()
    model.train()
    for stage in (1, 2):
        losses(model, images, stage)["total"].backward()
    missing = [n for n, p in model.learned_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []
    assert all(p.grad.isfinite().all() for _, p in model.learned_parameters())
    frozen = dict(model.backbone.named_parameters())
    assert frozen and all(not p.requires_grad and p.grad is None for p in frozen.values())


@pytest.mark.parametrize("stage", [1, 2])
def test_every_pair_is_trained_at_once_as_an_image_of_its_own(stage, model, images):
    together = losses(model, images, stage, pair=None)
    apart = [losses(model, images, stage, pair) for pair in range(model.config.prompts.pairs)]
    names = {"classification", "focal"} & set(together)  # means: dice is a quotient of sums
    for name in names:
        mean = torch.stack([terms[name] for terms in apart]).mean()
        assert together[name].item() == pytest.approx(mean.item(), rel=1e-5)
        assert len({terms[name].item() for terms in apart}) == len(apart)
    together["total"].backward()
    if stage == 1:
        moved = model.prompts.state_abnormal.grad.flatten(1).abs().amax(1)
        assert (moved > 0).all()


def test_second_stage_trains_the_image_alignment_alone(model, images):
    terms = losses(model, images, stage=2)
    assert set(terms) == {"total", "classification"}
    terms["total"].backward()
    touched = {n.split(".")[0] for n, p in model.learned_parameters() if p.grad is not None}
    assert touched == {"alignment", "log_scale_image"}


def test_total_is_the_sum_of_the_terms_and_the_flow_weight_scales_three_of_them(model, images):
    terms = losses(model, images, stage=1)
    torch.testing.assert_close(terms["total"], sum(v for k, v in terms.items() if k != "total"))
    assert set(terms) >= {"classification", "focal", "dice", "orthogonal"}
    assert {k for k in terms if k.startswith("flow_")} == {
        "flow_specific",
        "flow_normal",
        "flow_abnormal",
    }


def test_pair_chooses_the_prompts_of_the_maps(model, images):
    first, second = (losses(model, images, 1, pair)["focal"] for pair in (0, 1))
    assert not torch.allclose(first, second)


@torch.no_grad()
def test_scores_do_not_depend_on_the_batch(tiny_model, images):
    samples = tiny_model.draw(4, seed=1)
    together = tiny_model.score_batch(images, NAMES, samples)
    for row, name in enumerate(NAMES):
        alone = tiny_model.score_batch(images[row : row + 1], [name], samples)
        for field in ("text_score", "text_spread", "map", "map_spread"):
            torch.testing.assert_close(
                getattr(together, field)[row], getattr(alone, field)[0], atol=2e-5, rtol=0
            )
    order = [2, 0, 1]
    shuffled = tiny_model.score_batch(images[order], [NAMES[i] for i in order], samples)
    torch.testing.assert_close(shuffled.map, together.map[order], atol=2e-5, rtol=0)


@torch.no_grad()
def test_scores_are_probabilities_and_depend_on_image_and_name(tiny_model, images):
    samples = tiny_model.draw(3)
    scores = tiny_model.score_batch(images, NAMES, samples)
    for values, top in ((scores.text_score, 1), (scores.map, 1), (scores.map_spread, 0.5)):
        assert values.dtype == torch.float32 and values.min() >= 0 and values.max() <= top
    assert scores.map.shape == scores.map_spread.shape == (3, SIZE, SIZE)
    renamed = tiny_model.score_batch(images, ["wood"] * 3, samples)
    assert not torch.allclose(renamed.text_score, scores.text_score)
    assert not torch.allclose(scores.map[0], scores.map[1])


@torch.no_grad()
def test_sampling_is_reproducible_by_seed(tiny_model, images):
    def run(seed):
        return tiny_model.score_batch(images, NAMES, tiny_model.draw(3, seed=seed))

    first, again, other = run(7), run(7), run(8)
    assert torch.equal(first.map, again.map) and torch.equal(first.text_score, again.text_score)
    assert not torch.allclose(first.map, other.map)


def test_global_random_state_is_untouched(tiny_model, images, checkpoint_dir):
    before = torch.random.get_rng_state()
    tiny_model.score_batch(images, NAMES, tiny_model.draw(2, seed=3))
    BayesPFL.from_pretrained(checkpoint_dir, device="cpu")
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("samples", [-1, -7])
def test_no_samples_are_refused(tiny_model, samples):
    with pytest.raises(ConfigError, match=f"samples = {samples}"):
        tiny_model.draw(samples)


def test_number_of_samples_is_the_configs_or_the_callers(tiny_model):
    assert tiny_model.draw().count == tiny_model.config.scoring.samples
    assert tiny_model.draw(5).count == 5


@torch.no_grad()
def test_mixed_names_are_cut_behind_the_last_end_without_a_difference(tiny_model):
    """Tokens behind [EOS] change nothing: short names in a batch of long ones, and alone."""
    vectors = torch.randn(3, 4, 10, tiny_model.backbone.text.width)
    together = tiny_model.backbone.text(
        vectors, tiny_model.backbone.text.tokenize(NAMES, vectors=10)
    )
    for row, name in enumerate(NAMES):
        names = tiny_model.backbone.text.tokenize([name], vectors=10)
        alone = tiny_model.backbone.text(vectors[row : row + 1], names)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)
        full = replace(names, suffix=F.pad(names.suffix, (0, 66 - names.suffix.shape[1])))
        padded = tiny_model.backbone.text(vectors[row : row + 1], full)
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-5)


def text_configs():
    """Text towers of open_clip's kinds: where they read, and whether they look ahead."""
    yield "clip", {}, False
    yield "clip in a tower of its own", {}, True
    yield "last token, looking both ways", {"pool_type": "last", "no_causal_mask": True}, True
    yield "last token, causal", {"pool_type": "last"}, True
    yield "first token", {"pool_type": "first", "no_causal_mask": True}, True
    yield "projection with a bias", {"proj_bias": True}, True
    yield "no projection", {"proj_type": "none"}, True


@pytest.mark.parametrize(
    ("changes", "own_tower"),
    [pytest.param(changes, own, id=name) for name, changes, own in text_configs()],
)
@torch.no_grad()
def test_prompts_of_ordinary_words_are_encoded_as_open_clip_encodes_text(changes, own_tower):
    torch.manual_seed(0)
    config = {**TINY_CLIP, "text_cfg": {**TINY_CLIP["text_cfg"], **changes}}
    clip = (open_clip.model.CustomTextCLIP if own_tower else open_clip.CLIP)(**config).eval()
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    backbone = FrozenCLIP(clip, tokenizer, image_size=SIZE)
    words = "a good photo of the"
    text = clip.text if own_tower else clip
    ids = tokenizer([words])[0, 1:6]
    vectors = text.token_embedding(ids)[None, None].expand(3, 1, -1, -1)
    got = backbone.text(vectors, backbone.text.tokenize(NAMES, vectors=5))[:, 0]
    wanted = clip.encode_text(tokenizer([f"{words} {name}" for name in NAMES]))
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


class PaddedWithEnd:
    """Convention of Hugging Face's CLIP tokenizer: [EOS] is the padding as well."""

    def __init__(self):
        self.inner = open_clip.get_tokenizer("ViT-B-32")

    def __call__(self, texts, context_length=77):
        ids = self.inner(texts, context_length=context_length)
        return torch.where(ids == 0, torch.tensor(49407), ids)


class EndThenPadding:
    """[EOS] of another id than the padding, for towers that read at the first [EOS]."""

    def __init__(self, end=2, pad=1):
        self.end, self.pad = end, pad
        self.inner = open_clip.get_tokenizer("ViT-B-32")

    def __call__(self, texts, context_length=77):
        ids = self.inner(texts, context_length=context_length)
        ids = torch.where(ids == 0, torch.tensor(self.pad), ids)
        return torch.where(ids == 49407, torch.tensor(self.end), ids)


@pytest.mark.parametrize(
    ("tokenizer", "changes"),
    [
        (PaddedWithEnd(), {}),
        (EndThenPadding(), {"pool_type": "eos", "eos_id": 2}),
        (EndThenPadding(end=3, pad=3), {"pool_type": "eos", "eos_id": 3}),
        (EndThenPadding(end=1, pad=1), {"pool_type": "last", "no_causal_mask": True}),
    ],
    ids=["end pads", "end, then padding", "end pads and is read", "siglip"],
)
@torch.no_grad()
def test_other_tokenizers_are_understood(tokenizer, changes):
    torch.manual_seed(0)
    config = {**TINY_CLIP, "text_cfg": {**TINY_CLIP["text_cfg"], **changes}}
    clip = open_clip.model.CustomTextCLIP(**config).eval()
    backbone = FrozenCLIP(clip, tokenizer, image_size=SIZE)
    vectors = clip.text.token_embedding(tokenizer(["one two"])[0, 1:3])[None, None]
    names = NAMES[:1]
    got = backbone.text(vectors, backbone.text.tokenize(names, vectors=2))[:, 0]
    wanted = clip.encode_text(tokenizer([f"one two {name}" for name in names]))
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["", "   ", "\n\t"])
def test_empty_class_names_are_refused(tiny_model, name):
    with pytest.raises(DataError, match="class name is empty"):
        tiny_model.backbone.text.tokenize([name], 10)


def test_class_name_too_long_tells_how_many_tokens_fit(tiny_model):
    tiny_model.backbone.text.tokenize(["nut " * 65], 10)  # 1 + 10 + 65 + 1 = 77
    with pytest.raises(DataError, match=r"takes 66 tokens; with 10 prompt vectors 65 fit"):
        tiny_model.backbone.text.tokenize(["nut " * 66], 10)


@pytest.mark.parametrize("name", ["Größe", "ネジ", "a\u200bb", 'screw #3 (5/8")', "x", "X", "<b>"])
@torch.no_grad()
def test_any_words_give_finite_embeddings(tiny_model, name):
    tokens = tiny_model.backbone.text.tokenize([name, "bottle"], 2)
    vectors = torch.zeros(2, 1, 2, tiny_model.backbone.text.width)
    assert tiny_model.backbone.text(vectors, tokens).isfinite().all()


def test_backbone_stays_in_eval_mode_and_without_gradient(model, images):
    model.train()
    assert model.training and not any(m.training for m in model.backbone.modules())
    features = model.backbone.encode_image(images.requires_grad_())
    assert not features.pooled.requires_grad and not features.tokens[0].requires_grad


def test_widths_that_differ_are_mapped(images):
    model = unequal_widths().eval()
    assert model.backbone.embed_dim == 24 and model.backbone.text.width == 32
    scores = model.score_batch(images, NAMES, model.draw(2))
    assert scores.map.shape == (3, SIZE, SIZE) and scores.map.isfinite().all()
    assert "to_text_width.weight" in model.learned_state_dict()


def test_checkpoint_holds_the_learnt_part_alone(tiny_model):
    state = tiny_model.learned_state_dict()
    assert state and not any(name.startswith("backbone.") for name in state)
    assert set(state) == {name for name, _ in tiny_model.learned_parameters()}


def test_first_values_are_the_published_ones(tiny_config):
    torch.manual_seed(0)
    model = build_model(tiny_config)
    assert model.log_scale_pixel.item() == pytest.approx(2.6593, abs=1e-4)
    assert model.log_scale_image.item() == pytest.approx(2.6593, abs=1e-4)
    for name, parameter in model.learned_parameters():
        if name.endswith(".bias") and name != "attention.query.bias":
            assert not parameter.any(), name
    query = model.attention.query  # as PyTorch fills a Conv1d: within 1 / sqrt(D), also its bias
    for values in (query.weight, query.bias):
        assert 0.5 * query.in_features**-0.5 < values.abs().max() <= query.in_features**-0.5
    weights = model.specific_flow.u.weight
    assert weights.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.agnostic_flow.normal.w.std().item() == pytest.approx(1, rel=0.2)


def test_image_of_another_size_is_refused(tiny_model):
    with pytest.raises(BackboneError, match=r"image of \(32, 32\) pixels.*48 x 48"):
        tiny_model.backbone.encode_image(torch.zeros(1, 3, 32, 32))


def test_bfloat16_autocast_stays_near(tiny_model, images):
    samples = tiny_model.draw(2)
    exact = tiny_model.score_batch(images, NAMES, samples)
    with torch.autocast("cpu", torch.bfloat16):
        rough = tiny_model.score_batch(images, NAMES, samples)
    assert rough.map.dtype == torch.float32
    assert float((rough.map - exact.map).abs().mean()) < 0.05


def test_load_backbone_resolves_every_default(clip_dir):
    backbone, resolved = load_backbone(BackboneConfig(f"local-dir:{clip_dir}"))
    assert resolved.layers == backbone.layers == (1, 2, 3, 4)
    assert resolved.image_size == SIZE and resolved.activation == "gelu"
    assert resolved.sha256 == backbone.sha256 and len(resolved.sha256) == 64
    again, second = load_backbone(resolved)
    assert second == resolved and again.grid == backbone.grid
