"""The benchmarks measure what they say, and their report has the promised form."""

import json

import pytest
import torch

from benchmarks.memory import peak_bytes
from benchmarks.subjects import BenchmarkedModel, bare_tower
from benchmarks.timing import interleaved
from tests.helpers.commands import command

INFERENCE = ["backbone_seconds", "predict_seconds", "overhead", "images_per_second"]


@pytest.fixture
def report(clip_dir, tmp_path):
    """Runs a benchmark on the tiny CLIP and reads its JSON."""

    def run(name, *arguments):
        path = tmp_path / "report.json"
        backbone = ("--backbone", f"local-dir:{clip_dir}", "--device", "cpu", "--repeats", 1)
        assert command("benchmark", name, *backbone, "--json", path, *arguments) == 0
        return json.loads(path.read_text())

    return run


@pytest.mark.parametrize("samples", [0, 2])
def test_inference_reports_time_overhead_and_memory(report, samples):
    found = report("inference", "--samples", samples, "--batch-size", 2)
    assert all(found[key] > 0 for key in INFERENCE) and "accuracy" not in found
    assert found["overhead"] == pytest.approx(found["predict_seconds"] / found["backbone_seconds"])
    assert found["settings"]["samples"] == samples and found["environment"]["packages"]["torch"]
    assert found["peak_memory_bytes"] is None or found["peak_memory_bytes"] > 2**20


def test_inference_in_bfloat16_tells_its_price_and_the_float32_tower_beside_it(report):
    found = report(
        "inference", "--precision", "bfloat16", "--accuracy-images", 2, "--files", 2
    )  # fmt: skip
    assert found["backbone_float32_seconds"] > 0 and found["ratio_to_float32_backbone"] > 0
    price = found["accuracy"]
    assert price["images"] == 2 and 0 < price["largest_map_change"] < 0.1
    assert price["pixel_auroc_change"] == pytest.approx(
        price["pixel_auroc"] - price["float32_pixel_auroc"]
    )
    assert found["end_to_end"]["files"] == 2 and found["end_to_end"]["images_per_second"] > 0


@pytest.mark.parametrize("extra", [(), ("--text-checkpointing", "--precision", "bfloat16")])
def test_training_reports_the_step_with_and_without_the_tower(report, extra):
    found = report("training", "--batch-size", 2, *extra)
    assert found["cached_ratio"] == pytest.approx(
        found["cached_step_seconds"] / found["step_seconds"]
    )
    assert found["settings"]["text_checkpointing"] is bool(extra)


def test_settings_of_a_backbone_without_one_are_refused(capsys):
    assert command("benchmark", "inference", "--random-weights") == 2
    assert "name one" in capsys.readouterr().err


@torch.no_grad()
def test_bare_tower_is_open_clips_and_leaves_the_model_as_it_was(tiny_model):
    images = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    before = [type(module) for module in tiny_model.modules()]
    given = bare_tower(tiny_model, images, "float32")()
    expected = tiny_model.backbone.encode_image(images).pooled
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=0)
    assert [type(module) for module in tiny_model.modules()] == before


def test_random_head_leaves_the_callers_random_state(clip_dir):
    from bayes_pfl.config import BackboneConfig

    before = torch.random.get_rng_state()
    BenchmarkedModel(backbone=BackboneConfig(f"local-dir:{clip_dir}"), device="cpu").model()
    assert torch.equal(before, torch.random.get_rng_state())


def test_works_take_turns_and_warm_up_uncounted():
    turns = []
    works = {name: lambda name=name: turns.append(name) for name in "ab"}
    taken = interleaved(works, 2, torch.device("cpu"))
    assert turns == list("ababab") and [len(taken[name]) for name in "ab"] == [2, 2]


def test_peak_memory_sees_what_is_freed_before_the_end():
    def work():
        torch.zeros(50 * 2**18).add_(1)

    small = peak_bytes(lambda: None, torch.device("cpu"))
    if small is None:
        pytest.skip("peak memory is unknown on this system")
    assert peak_bytes(work, torch.device("cpu")) >= small + 25 * 2**20


def test_soak_counts_every_part_and_keeps_to_its_time(tmp_path, capsys):
    path = tmp_path / "soak.json"
    few = ("--images", 250, "--evaluated", 24)
    assert command("benchmark", "soak", *few, "--json", path) == 0
    found = json.loads(path.read_text())
    assert [found[part]["images"] for part in ("stream", "folder", "evaluate")] == [250, 250, 24]
    assert all(found[part]["images_per_second"] > 0 for part in ("stream", "folder", "evaluate"))
    more = ("--images", 10**7, "--parts", "stream", "--minutes", 0.01)
    assert command("benchmark", "soak", *more, "--json", path) == 0
    assert 0 < json.loads(path.read_text())["stream"]["images"] < 10**6
    assert command("benchmark", "soak", "--parts", "strem") == 2
    assert "'strem' is not known" in " ".join(capsys.readouterr().err.split())


def test_profiles_reports_the_fit_the_ratio_and_folders_in_processes_of_their_own(
    checkpoint_dir, tmp_path, capsys
):
    path = tmp_path / "profiles.json"
    least = ("benchmark", "profiles", "--checkpoint", checkpoint_dir, "--device", "cpu")
    assert command(*least, "--mutual", 5) == 2
    assert "--mutual 5: 32 are drawn" in " ".join(capsys.readouterr().err.split())
    few = ("--pictures", 3, "--mutual", 32, "--repeats", 1, "--json", path)
    assert command(*least, *few) == 0
    found = json.loads(path.read_text())
    assert found["fit_seconds"] > 0 and found["processor_ratio"] > 0
    assert found["ratio"] == pytest.approx(found["profile_seconds"] / found["plain_seconds"])
    (folder,) = found["mutual"]
    assert folder["pictures"] == 32 and folder["processor_seconds_per_picture"] > 0
    assert folder["peak_mb"] is None or folder["peak_mb"] > 50
