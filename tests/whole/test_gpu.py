"""What a CUDA device gives is what the processor gives. Run with: pytest -m gpu."""

import pytest

from bayes_pfl.checkpoints.load import load_checkpoint
from benchmarks.inference import InferenceSettings, benchmark_inference
from benchmarks.subjects import BenchmarkedModel, noise_pictures, rendered_pictures
from benchmarks.training import TrainingSettings, benchmark_training

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def models():
    return {device: load_checkpoint("bayes-pfl-tiny", device=device) for device in ("cpu", "cuda")}


@pytest.fixture(scope="module")
def pictures():
    return [image for image, _, _ in rendered_pictures(6, 256)]


def largest_difference(first, second):
    pairs = list(zip(first, second, strict=True))
    maps = max(abs(a.anomaly_map - b.anomaly_map).max() for a, b in pairs)
    return max(maps, max(abs(a.score - b.score) for a, b in pairs))


def test_scores_of_the_processor(models, pictures):
    given = [model.predict(pictures, "part", seed=3) for model in models.values()]
    assert largest_difference(*given) < 1e-3  # convolutions may run in TF32


@pytest.mark.parametrize("samples", [0, 4])
def test_batches_do_not_matter(models, pictures, samples):
    one, many = (
        models["cuda"].predict(pictures, "part", samples=samples, batch_size=count)
        for count in (1, 6)
    )
    assert largest_difference(one, many) < 1e-3


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near(models, pictures, precision):
    exact, half = (
        models["cuda"].predict(pictures, "part", precision=p) for p in ("float32", precision)
    )
    assert largest_difference(exact, half) < 0.1


def test_compiled(models):
    images = noise_pictures(4, 256)
    plain, compiled = (
        models["cuda"].predict(images, "part", compile=flag, samples=2) for flag in (False, True)
    )
    assert largest_difference(plain, compiled) < 1e-2


def test_benchmarks_run_and_know_the_memory():
    subject = BenchmarkedModel(checkpoint="bayes-pfl-tiny", device="cuda")
    settings = InferenceSettings(repeats=1, precision="bfloat16", accuracy_images=2)
    assert benchmark_inference(subject, settings)["peak_memory_bytes"] > 2**20
    found = benchmark_training(subject, TrainingSettings(batch_size=2, repeats=1))
    assert found["peak_memory_bytes"] > 2**20
