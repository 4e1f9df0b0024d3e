"""The switches that take a part of the model out: what they change, and what they leave."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch

from bayes_pfl.checkpoints.format import read_config
from bayes_pfl.checkpoints.load import build_model, load_checkpoint
from bayes_pfl.config import AblationConfig, ModelConfig
from bayes_pfl.model.objective import TrainingBatch, training_losses
from bayes_pfl.model.sampling import PromptNoise
from bayes_pfl.rendering import TRAIN_CATEGORIES, write_mvtec_tree
from bayes_pfl.support.typed_json import from_dict
from tests.helpers.commands import command

PARTS = ("flow", "specific", "agnostic", "attention")


@pytest.fixture
def without(tiny_config):
    """A model with some parts out, its weights the same as those of any other."""

    def build(*parts):
        ablation = AblationConfig(**dict.fromkeys(parts, False))
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = build_model(replace(tiny_config, ablation=ablation)).eval()
        with torch.no_grad():  # first weights are small: what moves a prompt should show
            model.specific_flow.base.mean[-1].weight.mul_(50)
        return model

    return build


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(2))


def embeddings(model, images, seed=0):
    """(2, 2, K, D) for two images of one class."""
    with torch.no_grad():
        pooled = model.backbone.encode_image(images).pooled
        return model.prompt_embeddings(pooled, model.draw(3, seed), ["cog", "cog"])


def differ(a, b):
    return (a - b).abs().max() > 1e-4


def test_all_parts_are_in_by_default_and_switches_change_no_weights(tiny_model, without):
    assert asdict(tiny_model.config.ablation) == dict.fromkeys(PARTS, True)
    reduced = without(*PARTS).learned_state_dict()
    assert {k: v.shape for k, v in reduced.items()} == {
        k: v.shape for k, v in tiny_model.learned_state_dict().items()
    }


def test_a_config_from_before_the_switches_means_all_parts(tiny_config):
    old = asdict(tiny_config)
    del old["ablation"]
    assert from_dict(ModelConfig, json.loads(json.dumps(old))) == tiny_config


def test_without_the_flow_prompts_are_one_per_pair_and_no_seed_matters(without, images):
    reduced, whole = without("flow"), without()
    found = embeddings(reduced, images)
    assert found.shape[2] == reduced.config.prompts.pairs
    assert torch.equal(found, embeddings(reduced, images, seed=5))
    assert differ(found[0], found[1])  # the mean still depends on the image
    assert differ(embeddings(whole, images), embeddings(whole, images, seed=5))


def test_without_the_specific_part_prompts_do_not_depend_on_the_image(without, images):
    found = embeddings(without("specific"), images)
    assert torch.allclose(found[0], found[1], atol=1e-6)
    assert differ(found, embeddings(without("specific"), images, seed=5))
    whole = embeddings(without(), images)
    assert differ(whole[0], whole[1])


def test_without_the_agnostic_part_states_are_the_banks(without, images):
    reduced = without("agnostic")
    samples = reduced.draw(3)
    assert samples.normal.z.shape == (3, 32)
    assert not samples.normal.z.any() and not samples.abnormal.z.any()
    assert differ(embeddings(reduced, images)[0], embeddings(reduced, images)[1])


def test_without_both_parts_nothing_is_left_to_sample(without, images):
    assert without("specific", "agnostic").draw(3).count == 1


def test_without_attention_patches_are_compared_with_the_plain_text(without, images):
    reduced = without("attention")
    features = reduced.backbone.encode_image(images)
    text = embeddings(reduced, images)
    with torch.no_grad():
        logits = reduced.layer_logits(features, text)
        for patches, found in zip(reduced.attention.project(features.tokens), logits, strict=True):
            cosines = torch.einsum("bskd,bnd->bskn", text, patches)
            expected = (cosines[:, 1] - cosines[:, 0]) * reduced.log_scale_pixel.exp()
            assert torch.allclose(found, expected, atol=1e-4)
        whole = without().layer_logits(features, text)
    assert differ(whole[0], logits[0])


# What learns nothing is what the switch takes out, and no more.
UNUSED = {
    "flow": ("specific_flow.u", "specific_flow.w", "specific_flow.b",
             "specific_flow.base.log_variance", "agnostic_flow.base.log_variance",
             "agnostic_flow.normal.u", "agnostic_flow.normal.w", "agnostic_flow.normal.b",
             "agnostic_flow.abnormal.u", "agnostic_flow.abnormal.w", "agnostic_flow.abnormal.b"),
    "specific": ("specific_flow.",),
    "agnostic": ("agnostic_flow.",),
    "attention": ("attention.query",),
}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_gradients_reach_all_that_is_left(without, images, part):
    def reached(model):
        generator = torch.Generator().manual_seed(0)
        noise = PromptNoise.draw(1, 32, generator, batch=2)
        masks = torch.zeros(2, 48, 48)
        masks[1, 10:20, 10:20] = 1
        features, labels = model.backbone.encode_image(images), torch.tensor([0, 1])
        batch = TrainingBatch(features, ["cog", "cog"], masks, labels, noise, 0)
        terms = training_losses(model, batch)
        terms["total"].backward()
        assert all(torch.isfinite(value) for value in terms.values())
        return {name for name, p in model.learned_parameters() if p.grad is not None}

    lost = reached(without()) - reached(without(part))
    assert lost and all(name.startswith(UNUSED[part]) for name in lost)
    for start in UNUSED[part]:
        assert any(name.startswith(start) for name in lost)


def test_trained_without_parts_and_loaded_again(clip_dir, tmp_path, capsys):
    data = write_mvtec_tree(
        tmp_path / "data", TRAIN_CATEGORIES[:3], normals=2, anomalies=2, size=48, seed=0
    )
    arguments = ["train", "--data", data, "--out", tmp_path / "run", "--epochs", 1, "--epochs2", 0,
                 "--backbone", f"local-dir:{clip_dir}", "--steps-per-epoch", 1, "--batch-size", 2,
                 "--without", "flow", "--without", "attention", "--accelerator", "cpu"]  # fmt: skip
    assert command(*arguments) == 0
    config = read_config(tmp_path / "run" / "best")
    assert config.ablation == AblationConfig(flow=False, attention=False)
    model = load_checkpoint(tmp_path / "run", device="cpu")
    assert model.draw(10).count == 1 and not model.attention.attends
    assert command(*arguments[:-6], "--resume") == 2  # all parts, this time
    assert "another --without" in capsys.readouterr().err
