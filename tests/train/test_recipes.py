"""The settings of a run: the published one line by line, and what a file and options change."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from bayes_pfl.config import BackboneConfig, StageConfig, TrainConfig
from bayes_pfl.data.records import Sample
from bayes_pfl.data.sources import hold_out, read_source
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.rendering import TRAIN_CATEGORIES, write_mvtec_tree
from bayes_pfl.train.augmentation import AugmentedDataset, TrainTransform
from bayes_pfl.train.batches import TrainingBatches
from bayes_pfl.train.recipes import Recipe, published_recipe, with_file
from bayes_pfl.train.run import TrainingRequest, training_data
from bayes_pfl.train.state import TrainingState
from bayes_pfl.train.trainer import Trainer
from tests.helpers.layout_trees import Painter, mvtec, visa

SHORT = TrainConfig(
    stage1=StageConfig(epochs=3, patience=3),
    stage2=StageConfig(epochs=3, patience=3, schedule="constant"),
    batch_size=4,
    steps_per_epoch=2,
    validation_samples=1,
)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    root = tmp_path_factory.mktemp("recipes")
    return read_source(
        write_mvtec_tree(root, TRAIN_CATEGORIES[:2], normals=2, anomalies=3, size=64)
    )


@pytest.fixture
def trainer(tiny_model, samples, tmp_path):
    import copy

    def make(config=SHORT, fabric=None, out="run"):
        fabric = fabric or Fabric(accelerator="cpu", devices=1)
        model = copy.deepcopy(tiny_model)
        return Trainer(model, config, samples, samples, tmp_path / out, fabric)

    return make


# What the scripts and the code of the published run do; docs/training.md has it as a table.
PUBLISHED = {
    "stage1": {"epochs": 30, "patience": 4, "schedule": "cosine"},
    "stage2": {"epochs": 30, "patience": 4, "schedule": "constant"},
    "max_epochs": 30,
    "ties_improve": True,
    "batch_size": 32,
    "accumulate": 1,
    "steps_per_epoch": None,
    "last_batch": "short",
    "lr_prompts": 1e-3,
    "lr_flow": 1e-3,
    "lr_temperature": 1e-2,
    "lr_other": 1e-4,
    "betas": (0.5, 0.999),
    "warmup_fraction": 0.1,
    "flow_weight": 0.01,
    "max_gradient_norm": None,
    "every_pair": False,
    "validation": "authors",
    "validation_samples": 5,
    "validation_draws": "new",
    "validation_smoothing": False,
    "augment": True,
    "precision": "32-true",
    "seed": 333,
}


@pytest.mark.parametrize(
    ("dataset", "other", "mosaic"), [("visa", "mvtec", 0.0), ("mvtec", "visa", 0.4)]
)
def test_published_run(dataset, other, mosaic):
    recipe = published_recipe(dataset)
    expected = PUBLISHED | {"mosaic": mosaic, "mosaic_of_all": mosaic > 0}
    train = asdict(recipe.train)
    assert {name: train[name] for name in expected} == expected
    assert recipe.validation_dataset == other
    backbone = recipe.model.backbone
    assert (backbone.name, backbone.pretrained, backbone.image_size) == (
        *("ViT-L-14-336", "openai"),
        518,
    )
    assert backbone.activation == "gelu" and backbone.layers == (6, 12, 18, 24)
    assert not recipe.model.flow.constrained and recipe.model.flow.length == 10
    assert asdict(recipe.model.prompts) == {"pairs": 3, "context_tokens": 5, "state_tokens": 5}


def test_published_run_is_of_two_benchmarks(run, tmp_path):
    with pytest.raises(ConfigError, match="give --dataset visa or mvtec, not btad"):
        published_recipe("btad")
    code, _, error = run(
        *("train", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--preset", "published")
    )
    assert code == 2 and "--dataset visa or mvtec" in error


def test_published_run_trains_on_all_of_one_and_validates_on_named_categories(
    tmp_path, monkeypatch
):
    mvtec(Painter(tmp_path / "mvtec_anomaly_detection"))
    visa(Painter(tmp_path / "VisA_20220922"))
    recipe = published_recipe("mvtec")
    request = TrainingRequest(
        tmp_path,
        tmp_path / "out",
        recipe.model.backbone,
        recipe.train,
        dataset="mvtec",
        validation_dataset=recipe.validation_dataset,
    )
    with (
        pytest.warns(UserWarning, match="expected"),
        pytest.raises(DataError, match="no category cashew, pipe_fryum, capsules"),
    ):
        training_data(request)
    named = {"visa": ("chewinggum", "candle")}
    monkeypatch.setattr("bayes_pfl.train.run.AUTHORS_VALIDATION", named)
    with pytest.warns(UserWarning, match="expected"):
        trained, validated = training_data(request)
    assert {s.category for s in trained} == {"bottle", "metal_nut"}
    assert {s.category for s in validated} == {"candle", "chewinggum"}  # macaroni2 is not named
    record = request.model(trained, validated).training
    assert record.trained == ("mvtec/bottle", "mvtec/metal_nut")
    assert record.validated == ("visa/candle", "visa/chewinggum")


def test_a_file_changes_what_it_names(tmp_path):
    file = tmp_path / "settings.json"
    model = {"prompts": {"pairs": 2, "context_tokens": 4, "state_tokens": 3}, "flow": {"length": 6}}
    file.write_text(json.dumps({"train": {"seed": 7}, "model": model, "processes": 1}))
    recipe = with_file(published_recipe("visa"), file)
    assert recipe.train == replace(published_recipe("visa").train, seed=7)
    assert (recipe.model.prompts.pairs, recipe.model.flow.length) == (2, 6)
    assert not recipe.model.flow.constrained and recipe.model.backbone.activation == "gelu"
    file.write_text(json.dumps({"stage1": {"epochs": 3, "patience": 1}}))
    assert with_file(Recipe(), file).train.stage1 == StageConfig(3, 1)


def test_faults_of_a_file_are_named_with_their_place(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"train": {"sed": 1}, "model": {"flow": {"length": -1}}, "x": 1}))
    with pytest.raises(ConfigError) as caught:
        with_file(Recipe(), file)
    for part in ("unknown entry 'x'", "train: unknown entry 'sed'", "model.flow.length = -1"):
        assert part in str(caught.value)
    file.write_text("[]")
    with pytest.raises(ConfigError, match="expected an object"):
        with_file(Recipe(), file)


def test_the_config_of_a_run_repeats_it(trainer, samples, tmp_path, clip_dir):
    from bayes_pfl.train.run import run_training

    root = samples[0].path.parents[3]
    config = replace(SHORT, stage1=StageConfig(1, 1), stage2=StageConfig(0, 1), held_out=0.5)
    backbone = BackboneConfig(f"local-dir:{clip_dir}")
    request = TrainingRequest(root, tmp_path / "out", backbone, config, accelerator="cpu")
    run_training(request)
    again = with_file(Recipe(), tmp_path / "out" / "config.json")
    assert again.train == config
    assert again.model.backbone.name == backbone.name


def test_options_override_the_recipe(run, monkeypatch, tmp_path):
    requests = []

    def stop(request, progress):
        requests.append(request)
        raise ConfigError("stopped here")

    monkeypatch.setattr("bayes_pfl.train.run.run_training", stop)
    common = ("train", "--data", str(tmp_path), "--out", str(tmp_path / "out"))
    run(*common, "--preset", "published", "--dataset", "visa", "--seed", "4", "--epochs2", "5")
    run(*common, "--flow", "free", "--activation", "quick_gelu")
    run(*common, "--preset", "published", "--dataset", "visa", "--backbone", "ViT-B-32")
    published, plain, other = requests
    expected = published_recipe("visa")
    assert published.backbone == expected.model.backbone
    stage2 = replace(expected.train.stage2, epochs=5)
    assert published.config == replace(expected.train, seed=4, stage2=stage2)
    assert published.validation_dataset == "mvtec" and not published.flow.constrained
    assert not plain.flow.constrained and plain.backbone.activation == "quick_gelu"
    assert plain.backbone.name == "bayes-pfl-clip-tiny"
    assert other.backbone == BackboneConfig("ViT-B-32", activation="gelu")


def test_rates_of_a_constant_stage(trainer):
    factor = trainer()._schedule(SHORT.stage2)
    assert {factor(step) for step in range(10)} == {1.0}


def test_epochs_of_both_stages_together(trainer):
    state = trainer(replace(SHORT, max_epochs=4)).run()
    assert [row["stage"] for row in state.history] == [1, 1, 1, 2]
    state = trainer(replace(SHORT, max_epochs=3), out="other").run()
    assert [row["stage"] for row in state.history] == [1, 1, 1]


@pytest.mark.parametrize("ties", [False, True])
def test_patience_and_ties(ties):
    state = TrainingState()
    settings = StageConfig(epochs=30, patience=4)
    found = []
    while not state.is_over(settings, None):
        found.append(state.finish_epoch([0.5, 0.5, 0.4][min(state.epoch, 2)], (0, 1), ties))
        state.history.append({})
    assert found == [True, ties] + [False] * (4 if ties else 3)


def test_a_short_last_batch(tiny_model, samples):
    fabric = Fabric(accelerator="cpu", devices=1)
    config = replace(SHORT, steps_per_epoch=None, last_batch="short", augment=False)
    batches = TrainingBatches(samples, tiny_model, config, fabric, None)
    sizes = [len(micro.names) for (micro,) in batches.steps(1, 0)]
    assert sizes == [4, 4, 2] and len(samples) == 10
    (last,) = list(batches.steps(1, 0))[-1]
    assert len(last.noise.specific) == 2
    filled = replace(config, last_batch="filled")
    batches = TrainingBatches(samples, tiny_model, filled, fabric, None)
    assert [len(micro.names) for (micro,) in batches.steps(1, 0)] == [4, 4, 4]
    with pytest.raises(ConfigError, match="short last batch is not divided"):
        replace(config, accumulate=2)


def test_new_draws_in_every_epoch(trainer, monkeypatch):
    seeds, smoothed = [], []

    def evaluate(model, samples, settings, progress):
        seeds.append(settings.seed)
        smoothed.append(settings.smoothing)
        return {}

    monkeypatch.setattr("bayes_pfl.train.validation.evaluate", evaluate)
    monkeypatch.setattr("bayes_pfl.train.validation.merge_records", lambda *_: None)
    for name in ("pixel_average_precision", "text_score_average_precision"):
        monkeypatch.setattr(f"bayes_pfl.train.validation.{name}", lambda records: 0.5)
    monkeypatch.setattr("bayes_pfl.train.validation.map_range", lambda records: (0.1, 0.9))
    new = replace(SHORT, validation_draws="new", validation_smoothing=False)
    trainer(new).run()
    assert len(set(seeds)) == len(seeds) == 6 and not any(smoothed)
    seeds.clear()
    trainer(out="fixed").run()
    assert set(seeds) == {SHORT.seed}


def test_the_scale_of_half_precision_is_resumed(trainer, tmp_path):
    def fabric(scale):
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        return Fabric(
            accelerator="cpu", plugins=[MixedPrecision("16-mixed", "cpu", scaler)]
        ), scaler

    first, _ = fabric(8.0)
    one = replace(SHORT, stage1=StageConfig(1, 1), stage2=StageConfig(0, 1))
    trainer(one, first).run()
    again, scaler = fabric(65536.0)
    trainer(replace(one, stage1=StageConfig(2, 1)), again).run(resume=True)
    assert scaler.get_scale() == 8.0


def test_categories_of_one_word_are_held_out_together(tmp_path):
    names = {"macaroni1": "macaroni", "macaroni2": "macaroni", "candle": "candle", "cup": "cup"}
    found = [Sample(tmp_path, c, w, 0) for c, w in names.items()]
    for seed in range(6):
        kept, held = hold_out(found, 0.3, seed)
        assert not {s.class_name for s in kept} & {s.class_name for s in held}
        assert kept and held


def test_any_image_can_become_a_mosaic_of_anomalous_ones(samples):
    transform = TrainTransform(32, (0.5,) * 3, (0.5,) * 3)
    all_of_them = AugmentedDataset(samples, transform, mosaic=1.0, mosaic_of_all=True)
    assert {all_of_them[i]["label"] for i in range(len(samples))} == {1}
    some = AugmentedDataset(samples, transform, mosaic=1.0)
    assert [some[i]["label"] for i in range(len(samples))] == [s.label for s in samples]
    normal = next(i for i, s in enumerate(samples) if s.label == 0)
    assert all_of_them[normal]["mask"].any() and not some[normal]["mask"].any()
    assert all_of_them[normal]["has_mask"]


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (
            lambda s: s.label == 0 or s.category == "held",
            "no anomalous image .* once held are held",
        ),
        (lambda s: s.label == 0 or s.category != "held", "cannot judge stage 1: it needs an anom"),
        (lambda s: s.label == 1 or s.category != "held", "cannot judge stage 2: it needs normal"),
    ],
)
def test_a_validation_that_could_judge_nothing_is_refused(samples, monkeypatch, keep, message):
    first = samples[0].category
    named = [
        replace(s, category="held", class_name="held") if s.category == first else s
        for s in samples
    ]
    chosen = [sample for sample in named if keep(sample)]
    monkeypatch.setattr("bayes_pfl.train.run.read_source", lambda path: chosen)
    request = TrainingRequest(
        samples[0].path, samples[0].path, BackboneConfig(), SHORT, validation_categories=("held",)
    )
    with pytest.raises(DataError, match=message):
        training_data(request)
