"""Checkpoints through a hub on this machine: pushed, pinned, checked, offline; refusals told."""

import copy
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict, replace

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import constants

from bayes_pfl import BayesPFL
from bayes_pfl.checkpoints.format import CHECKSUM, read_config
from bayes_pfl.checkpoints.hub import fetch_checkpoint, split_revision
from bayes_pfl.checkpoints.load import find_checkpoint, load_checkpoint
from bayes_pfl.checkpoints.publish import card_of, push_checkpoint
from bayes_pfl.errors import CheckpointError
from bayes_pfl.support.checksums import file_sha256
from tests.helpers.hub_server import READER, WRITER, serve


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A running hub, an empty cache, and no token."""
    with serve() as running:
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield running


@pytest.fixture
def pushed(hub, checkpoint_dir):
    """`org/head@commit` of the tiny checkpoint."""
    return push_checkpoint(checkpoint_dir, "org/head", token=WRITER)


def dead_address():
    """Of a port of this machine at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def refused(call, *arguments, **options):
    with pytest.raises(CheckpointError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    assert WRITER not in message and READER not in message
    return message


def changed(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.log_scale_pixel += 1
    return other


# There and back --------------------------------------------------------------------------------


def test_a_pushed_model_comes_back_as_it_was(hub, tiny_model):
    pinned = tiny_model.push_to_hub("org/head", token=WRITER, commit_message="first")
    loaded = BayesPFL.from_pretrained(pinned, device="cpu")
    assert loaded.config == tiny_model.config and not loaded.training
    before, after = tiny_model.learned_state_dict(), loaded.learned_state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    repository = hub.repositories["org/head"]
    assert set(repository.files("main")[1]) == {
        ".gitattributes",
        "README.md",
        "config.json",
        "model.safetensors",
    }
    assert repository.messages == ["initial commit", "first"] and not repository.private


def test_a_new_repository_may_be_private(hub, checkpoint_dir):
    pinned = push_checkpoint(checkpoint_dir, "org/own", token=WRITER, private=True)
    assert hub.repositories["org/own"].private
    assert "no such repository, or a private one" in refused(find_checkpoint, pinned)
    assert (find_checkpoint(pinned, token=READER) / "config.json").is_file()


def test_a_commit_stays_what_it_was_and_the_main_branch_moves(hub, pushed, tiny_model):
    later = changed(tiny_model).push_to_hub("org/head", token=WRITER)
    assert later != pushed
    scales = [
        load_checkpoint(name, device="cpu").log_scale_pixel.item()
        for name in (pushed, "org/head", later)
    ]
    assert scales[1] == scales[2] == scales[0] + 1


def test_the_main_branch_is_asked_for_again_although_it_is_cached(hub, pushed, tiny_model):
    first = find_checkpoint("org/head")
    changed(tiny_model).push_to_hub("org/head", token=WRITER)
    assert find_checkpoint("org/head") != first


def test_a_commit_in_the_cache_is_not_asked_for(hub, pushed):
    folder = find_checkpoint(pushed)
    hub.asked.clear()
    assert find_checkpoint(pushed) == folder and hub.asked == []


def test_a_branch_is_made_and_pinned_by_name(hub, pushed, tiny_model):
    model = changed(tiny_model)
    model.push_to_hub("org/head", token=WRITER, revision="trial")
    model.push_to_hub("org/head", token=WRITER, revision="trial")  # it is there by now
    written = find_checkpoint("org/head@trial")
    assert written == find_checkpoint("org/head", revision="trial")
    assert written != find_checkpoint("org/head")


def test_both_files_are_of_one_commit(hub, pushed, tiny_model, monkeypatch):
    """The branch moves between the two downloads."""
    download = huggingface_hub.HfApi.hf_hub_download
    moved = []

    def moving(self, repository, name, **options):
        path = download(self, repository, name, **options)
        if not moved:
            moved.append(changed(tiny_model).push_to_hub("org/head", token=WRITER))
        return path

    monkeypatch.setattr(huggingface_hub.HfApi, "hf_hub_download", moving)
    folder = find_checkpoint("org/head")
    assert moved and f"org/head@{folder.name}" == pushed
    assert (folder / "model.safetensors").is_file()


def test_revision_twice_is_refused_unless_it_is_the_same():
    assert split_revision("org/head@v1", "v1") == ("org/head", "v1")
    assert split_revision("org/head") == ("org/head", None)
    assert "one of the two" in refused(split_revision, "org/head@v1", "v2")


def test_a_folder_of_that_name_comes_before_the_hub(hub, checkpoint_dir, tmp_path, monkeypatch):
    shutil.copytree(checkpoint_dir, tmp_path / "org" / "head")
    monkeypatch.chdir(tmp_path)
    assert str(find_checkpoint("org/head")) == os.path.join("org", "head")
    assert hub.asked == []


# Offline ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["variable", "argument", "dead hub"])
def test_the_cache_serves_without_a_network(how, hub, pushed, monkeypatch):
    folder = find_checkpoint("org/head")
    hub.asked.clear()
    if how == "variable":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif how == "dead hub":
        monkeypatch.setattr(constants, "ENDPOINT", dead_address())
    assert find_checkpoint("org/head", local_files_only=how == "argument") == folder
    assert hub.asked == []


def test_offline_without_the_files_ends_in_one_line(hub, pushed, monkeypatch):
    assert "local_files_only is set" in refused(find_checkpoint, "org/head", local_files_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for call in (find_checkpoint, lambda name: push_checkpoint("bayes-pfl-tiny", name)):
        assert "HF_HUB_OFFLINE is set" in refused(call, "org/head")


def test_a_dead_network_ends_in_one_line(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", dead_address())
    assert refused(find_checkpoint, "org/head").startswith("cannot fetch checkpoint org/head (")
    message = refused(push_checkpoint, "bayes-pfl-tiny", "org/head")
    assert message.startswith("cannot push to org/head: ")


# Checksums -------------------------------------------------------------------------------------


def test_weights_carry_their_checksum(hub, pushed, checkpoint_dir):
    config = json.loads(hub.repositories["org/head"].files("main")[1]["config.json"])
    assert config[CHECKSUM] == file_sha256(checkpoint_dir / "model.safetensors")


@pytest.mark.parametrize("place", ["hub", "cache"])
def test_changed_weights_are_refused(place, hub, pushed, tiny_model, tmp_path):
    other = changed(tiny_model).save_pretrained(tmp_path / "other") / "model.safetensors"
    if place == "hub":
        hub.repositories["org/head"].commit("main", {other.name: other.read_bytes()}, "bad")
    else:
        shutil.copy(other, find_checkpoint("org/head") / other.name)
    message = refused(load_checkpoint, "org/head", device="cpu")
    assert "SHA-256" in message and "load again" in message


def test_a_repository_without_a_checksum_loads(hub, pushed, checkpoint_dir):
    plain = (checkpoint_dir / "config.json").read_bytes()
    hub.repositories["org/head"].commit("main", {"config.json": plain}, "by hand")
    assert find_checkpoint("org/head").is_dir()


def test_what_came_from_the_hub_can_be_pushed_again(hub, pushed):
    again = push_checkpoint("org/head", "org/copy", token=WRITER)
    first, second = (fetch_checkpoint(name) for name in (pushed, again))
    assert (first / "config.json").read_bytes() == (second / "config.json").read_bytes()


# Refusals --------------------------------------------------------------------------------------


def test_what_the_hub_does_not_have_is_told(hub, pushed):
    assert "no such repository" in refused(find_checkpoint, "org/absent")
    assert "no such revision" in refused(find_checkpoint, "org/head@v9")
    hub.repositories["org/head"].commit("main", {}, "")
    hub.repositories["org/empty"] = type(hub.repositories["org/head"])()
    hub.repositories["org/empty"].commit("main", {"README.md": b""}, "")
    assert "not a checkpoint of this package" in refused(find_checkpoint, "org/empty")


def test_a_gated_repository_asks_for_the_terms(hub, pushed):
    hub.repositories["org/head"].gated = True
    message = refused(find_checkpoint, pushed)
    assert "gated: accept its terms" in message and "HF_TOKEN" in message
    assert find_checkpoint(pushed, token=READER).is_dir()


def test_pushing_needs_a_token_that_may_write(hub, checkpoint_dir):
    assert "hf auth login" in refused(push_checkpoint, checkpoint_dir, "org/head")
    message = refused(push_checkpoint, checkpoint_dir, "org/head", token=READER)
    assert "right to write" in message and hub.repositories == {}


@pytest.mark.parametrize("name", ["head", "org/head/more", "org/a b", "../head", "org/--head"])
def test_names_that_are_none_are_refused_before_any_question(name, hub, checkpoint_dir):
    assert "give org/name" in refused(push_checkpoint, checkpoint_dir, name, token=WRITER)
    assert hub.asked == []


def test_a_damaged_checkpoint_is_not_pushed(hub, checkpoint_dir, tmp_path):
    folder = shutil.copytree(checkpoint_dir, tmp_path / "damaged")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    assert "truncated" in refused(push_checkpoint, folder, "org/head", token=WRITER)
    assert hub.repositories == {}


# Model card ------------------------------------------------------------------------------------


def parts_of(card):
    _, metadata, body = card.split("---\n", 2)
    return yaml.safe_load(metadata), body


def test_card_says_what_the_checkpoint_is(hub, tiny_model):
    tiny_model.push_to_hub("org/head", token=WRITER, license="mit")
    files = hub.repositories["org/head"].files("main")[1]
    metadata, body = parts_of(files["README.md"].decode())
    assert metadata["library_name"] == "bayes-pfl" and metadata["license"] == "mit"
    assert {"anomaly-detection", "zero-shot"} <= set(metadata["tags"])
    count = sum(value.numel() for value in tiny_model.learned_state_dict().values())
    for fact in ('from_pretrained("org/head")', f"{count:,}", tiny_model.config.backbone.sha256):
        assert fact in body
    assert json.loads(files["config.json"])[CHECKSUM] in body


def test_card_of_the_checkpoint_itself_is_kept(tiny_config, tmp_path):
    own = tmp_path / "README.md"
    own.write_text("# Mine\n")
    metadata, body = parts_of(card_of(tiny_config, "org/head", own, 1, "0" * 64))
    assert body.strip() == "# Mine" and metadata["license"] == "unknown"
    own.write_text("---\nlicense: mit\n---\n# Mine\n")
    assert card_of(tiny_config, "org/head", own, 1, "0" * 64) == own.read_text()


def test_card_names_a_backbone_of_the_hub(tiny_config, tmp_path):
    config = replace(tiny_config, backbone=replace(tiny_config.backbone, name="hf-hub:org/clip"))
    metadata, _ = parts_of(card_of(config, "org/head", tmp_path / "none", 1, "0" * 64))
    assert metadata["base_model"] == "org/clip"


def test_card_on_the_hub_is_not_overwritten(hub, pushed, tiny_model):
    hub.repositories["org/head"].commit("main", {"README.md": b"# Edited\n"}, "by hand")
    changed(tiny_model).push_to_hub("org/head", token=WRITER)
    assert hub.repositories["org/head"].files("main")[1]["README.md"] == b"# Edited\n"


def test_a_backbone_of_this_machine_is_pointed_out(hub, checkpoint_dir, caplog):
    push_checkpoint(checkpoint_dir, "org/head", token=WRITER)
    assert "is a local file" in caplog.text
    caplog.clear()
    push_checkpoint("bayes-pfl-tiny", "org/tiny", token=WRITER)
    assert caplog.text == ""


# Command line ----------------------------------------------------------------------------------


def test_push_on_the_command_line_through_the_usual_variables(hub, checkpoint_dir, tmp_path):
    """A process of its own: HF_ENDPOINT, HF_TOKEN and HF_HOME as a user sets them."""
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": WRITER}
    done = subprocess.run(
        [sys.executable, "-m", "bayes_pfl.cli.main", "push", str(checkpoint_dir), "org/head"]
        + ["--private", "--license", "mit", "--message", "from the shell"],
        env={**os.environ, **variables, "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    repository = hub.repositories["org/head"]
    assert done.stdout.strip() == f"org/head@{repository.branches['main']}"
    assert repository.private and repository.messages[-1] == "from the shell"
    assert asdict(load_checkpoint(done.stdout.strip(), device="cpu", token=READER).config)


def test_checksum_entry_is_no_part_of_the_model_config(hub, pushed, tiny_model):
    assert read_config(find_checkpoint(pushed)) == tiny_model.config
