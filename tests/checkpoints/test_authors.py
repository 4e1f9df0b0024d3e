"""Checkpoints of the authors' code: the same scores once converted, and nothing in them runs."""

import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from bayes_pfl import BayesPFL
from bayes_pfl.checkpoints.authors import (
    convert_authors_checkpoint,
    convert_state_dict,
    our_name,
    read_authors_file,
)
from bayes_pfl.checkpoints.format import read_config, save_checkpoint
from bayes_pfl.clip.load import load_backbone
from bayes_pfl.config import BackboneConfig
from bayes_pfl.errors import CheckpointError, ConfigError
from bayes_pfl.model.sampling import PromptNoise
from bayes_pfl.support.checksums import file_sha256
from tests.helpers.paths import PARITY


@pytest.fixture(scope="module")
def fixture_config():
    return json.loads((PARITY / "config.json").read_text())


@pytest.fixture(scope="module")
def weights():
    return load_file(PARITY / "weights.safetensors")


@pytest.fixture(scope="module")
def authors_state(weights):
    return {k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")}


@pytest.fixture(scope="module")
def backbone(weights, fixture_config, tmp_path_factory):
    """The fixture's CLIP as a file in OpenAI's format, with its three extra entries."""
    clip = {k.removeprefix("clip."): v for k, v in weights.items() if k.startswith("clip.")}
    ids, rows = clip.pop("token_ids"), clip.pop("token_rows")
    table = torch.zeros(fixture_config["text"]["vocab_size"], rows.shape[1], dtype=rows.dtype)
    clip["token_embedding.weight"] = table.index_copy(0, ids, rows)
    clip |= {
        "input_resolution": torch.tensor(fixture_config["vision"]["pretrain_image_size"]),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(len(table)),
    }
    path = tmp_path_factory.mktemp("clip") / "clip.pt"
    torch.save(clip, path)
    return BackboneConfig(
        str(path),
        image_size=fixture_config["image_size"],
        layers=tuple(fixture_config["feature_layers_1based"]),
    )


@pytest.fixture
def authors_file(authors_state, tmp_path):
    path = tmp_path / "authors.pth"
    torch.save({"MyModel": authors_state}, path)
    return path


def check_scores(model):
    """Scores of every fixture image, both stages, within 1e-4 of the published ones."""
    given = load_file(PARITY / "outputs.safetensors")
    words = ["bottle", "metal nut", "printed circuit board"]
    for index, word in enumerate(words):
        noise = PromptNoise(
            given[f"test.{index}.eps_specific"],
            given["test.eps_agnostic_normal"],
            given["test.eps_agnostic_abnormal"],
        )
        features = model.backbone.encode_image(given["preprocessed"][index : index + 1])
        samples = model.samples_from(noise)
        specific = model.specific_sample(features.pooled, samples)
        text = model.text_embeddings(specific, samples, [word])
        for stage in (1, 2):
            scores = model.score_features(features, text, stage)
            for ours, theirs in (
                (scores.text_score[0], "image_score"),
                (scores.map[0], "anomaly_map"),
            ):
                wanted = given[f"test.{index}.stage{stage}.{theirs}"]
                torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=0)


@torch.no_grad()
def test_converted_file_scores_as_published_and_survives_saving(authors_file, backbone, tmp_path):
    model = convert_authors_checkpoint(authors_file, backbone)
    assert model.config.backbone.activation == "gelu"  # as their code ran OpenAI's weights
    assert model.config.flow.constrained is False and model.config.scoring.stage == 2
    check_scores(model)
    saved = save_checkpoint(model, tmp_path / "converted")
    check_scores(BayesPFL.from_pretrained(saved, device="cpu"))


def test_sizes_come_from_the_weights(authors_file, backbone, fixture_config):
    config = convert_authors_checkpoint(authors_file, backbone, stage=1).config
    assert config.prompts.pairs == fixture_config["prompts_B"]
    assert config.prompts.context_tokens == fixture_config["context_length_P"]
    assert config.prompts.state_tokens == fixture_config["state_length_Q"]
    assert config.flow.length == fixture_config["num_flows"]
    assert config.scoring.stage == 1


@pytest.mark.parametrize("stage", [1, 2])
def test_stage_comes_from_the_name(authors_file, backbone, stage):
    named = authors_file.rename(authors_file.with_name(f"epoch_post_12_{stage}.pth"))
    assert convert_authors_checkpoint(named, backbone).config.scoring.stage == stage
    with pytest.raises(ConfigError, match=f"is of stage {stage} by its name"):
        convert_authors_checkpoint(named, backbone, stage=3 - stage)


def test_a_released_file_is_known_by_its_hash(authors_file, backbone, monkeypatch, tmp_path):
    model = convert_authors_checkpoint(authors_file, backbone)
    assert model.config.training is None
    released = {file_sha256(authors_file): ("visa", "mvtec")}
    monkeypatch.setattr("bayes_pfl.checkpoints.authors._RELEASED", released)
    model = convert_authors_checkpoint(authors_file, backbone)
    record = read_config(save_checkpoint(model, tmp_path / "converted")).training
    assert len(record.trained) == 12 and "visa/macaroni2" in record.trained
    assert "mvtec/zipper" in record.validated


def test_activation_can_be_chosen(authors_file, backbone):
    chosen = replace(backbone, activation="quick_gelu")
    config = convert_authors_checkpoint(authors_file, chosen).config
    assert config.backbone.activation == "quick_gelu"


def test_every_tensor_of_the_file_is_known(authors_state, caplog):
    converted = convert_state_dict(authors_state)
    assert caplog.text == "" and all(v.dtype == torch.float32 for v in converted.values())
    unused = [name for name in authors_state if our_name(name) is None]
    assert len(converted) + len(unused) == len(authors_state)
    assert all("coder." in name or "p_mu" in name for name in unused)


def test_names_saved_from_a_parallel_wrapper_are_the_same(authors_state):
    wrapped = {f"module.{name}": value for name, value in authors_state.items()}
    assert convert_state_dict(wrapped).keys() == convert_state_dict(authors_state).keys()


def test_unknown_tensors_are_left_out_and_told(authors_state, caplog):
    converted = convert_state_dict(authors_state | {"novelty.weight": torch.zeros(1)})
    assert "novelty.weight" in caplog.text and not any("novelty" in name for name in converted)


class Trap:
    """Writes a file when it is unpickled without care."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("inside", [True, False])
def test_pickle_with_code_is_refused_and_not_run(inside, authors_state, tmp_path):
    trap = Trap(tmp_path / "ran")
    content = {"MyModel": authors_state | {"x": trap}} if inside else trap
    if inside:
        torch.save(content, tmp_path / "bad.pth")
    else:
        (tmp_path / "bad.pth").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(CheckpointError, match=r"bad\.pth: refused, .*would run io\.open") as error:
        read_authors_file(tmp_path / "bad.pth")
    assert not (tmp_path / "ran").exists() and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [{}, {"model": {}}, {"MyModel": [1]}, {"MyModel": {"a": 1}}, [1, 2], torch.zeros(2)],
    ids=["empty", "other key", "list", "numbers", "no dict", "tensor"],
)
def test_other_contents_are_told(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not the authors' format"):
        read_authors_file(tmp_path / "other.pth")


@pytest.mark.parametrize("content", [b"", b"plain text", b"PK\x03\x04", b"\x80\x02}q\x00"])
def test_damaged_files_are_told_in_one_line(content, tmp_path):
    path = tmp_path / "damaged.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not readable as a PyTorch checkpoint") as error:
        read_authors_file(path)
    assert "\n" not in str(error.value)


def test_absent_file_and_folder_are_told(tmp_path):
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(CheckpointError, match="not readable"):
            read_authors_file(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_context": None}, "prompts.context"),
        ({"prompt_context": torch.zeros(3)}, "misshapen"),
        ({"temperature_pixel": None}, "missing log_scale_pixel"),
        ({"class_mapping.weight": torch.zeros(2, 2)}, "other shape: alignment.text_map.weight"),
        ({"PFL_normal.amor_u": torch.zeros(7)}, "other shape: agnostic_flow.normal.u"),
        ({"RCA.q_proj_pre.bias": torch.full((64,), float("nan"))}, "holds NaN"),
    ],
)
def test_state_that_does_not_fit_is_told(change, message, authors_state, backbone, tmp_path):
    state = {k: v for k, v in (authors_state | change).items() if v is not None}
    torch.save({"MyModel": state}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=message):
        convert_authors_checkpoint(tmp_path / "odd.pth", backbone)


def test_checkpoint_for_another_backbone_is_told(authors_file, clip_dir):
    with pytest.raises(CheckpointError, match="made for another backbone or other sizes"):
        convert_authors_checkpoint(authors_file, BackboneConfig(f"local-dir:{clip_dir}"))


def test_backbone_without_a_choice_runs_openai_weights_with_their_own_activation(backbone):
    assert load_backbone(backbone)[1].activation == "quick_gelu"
