"""Tensors of a profile that were changed together with the hash in its config."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save

from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.fit import FitOptions, fit_profile
from bayes_pfl.fit.profile_files import load_profile, save_profile
from tests.fit.test_references import texture
from tests.fit.test_tiles import TILE, large

NAN = float("nan")


@pytest.fixture(scope="module")
def saved(tiny_model, tmp_path_factory):
    profile = fit_profile(tiny_model, [texture(seed) for seed in range(3)], "metal nut")
    return save_profile(profile, tmp_path_factory.mktemp("profile") / "part")


@pytest.fixture(scope="module")
def tiled(tiny_model, tmp_path_factory):
    pictures, options = [large(seed) for seed in range(3)], FitOptions(tile=TILE)
    profile = fit_profile(tiny_model, pictures, "metal nut", options)
    return save_profile(profile, tmp_path_factory.mktemp("profile") / "tiled")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("vectors", lambda x: x * NAN),
        ("vectors", lambda x: x[:-1]),
        ("vectors", lambda x: x.flatten()),
        ("owners", lambda x: x + 9),
        ("owners", lambda x: x.float()),
        ("owners", lambda x: x[:, None]),
        ("cells", lambda x: x - 1),
        ("pairs", lambda x: x[None]),
        ("pairs", lambda x: x * NAN),
        ("words_map.centre", lambda x: x * NAN),
        ("words_map.centre", lambda x: torch.zeros(5, 3)),
        ("memory_map.spread", lambda x: x * 0),
        ("memory_map.spread", lambda x: x * float("inf")),
        ("memory_map.spread", lambda x: torch.ones(7)),
    ],
)
def test_tensors_that_cannot_be_a_profile_are_refused(saved, tmp_path, name, change):
    tensors = load_file(saved / "profile.safetensors")
    changed(saved, tmp_path, tensors | {name: change(tensors[name]).contiguous()})
    with pytest.raises(ConfigError, match="not the tensors of a profile") as caught:
        load_profile(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mean", lambda x: x[:-1]),
        ("mean", lambda x: x * NAN),
        ("matrix", lambda x: x[:, :-1]),
        ("matrix", lambda x: x * float("inf")),
        ("matrix", lambda x: None),
    ],
)
def test_a_whitening_that_does_not_fit_is_refused(tiled, tmp_path, name, change):
    tensors = load_file(tiled / "profile.safetensors")
    value = change(tensors.pop(f"tiles.whitening.{name}"))
    kept = {} if value is None else {f"tiles.whitening.{name}": value.contiguous()}
    changed(tiled, tmp_path, tensors | kept)
    with pytest.raises(ConfigError, match="not the tensors of a profile"):
        load_profile(tmp_path)


def test_a_profile_of_before_whitening_is_read_with_the_patches_of_whole_pictures(tiled, tmp_path):
    tensors = load_file(tiled / "profile.safetensors")
    kept = {name: value for name, value in tensors.items() if "whitening" not in name}
    config = changed(tiled, tmp_path, kept)
    patches = config["memory"]["patches"]
    del config["memory"]["tile_patches"], patches["whitened"], patches["farthest"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = load_profile(tmp_path).references
    assert found.tiles.settings == found.settings and found.tiles.memory.whitening is None


def changed(saved, folder, tensors):
    """A profile with other tensors, their hash in its config, which is returned."""
    data = save(tensors)
    (folder / "profile.safetensors").write_bytes(data)
    config = json.loads((saved / "config.json").read_text())
    config["memory"]["tensors_sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))
    return config
