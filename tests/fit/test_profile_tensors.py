"""Tensors of a profile that were changed together with the hash in its config."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save

from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.fit import fit_profile
from bayes_pfl.fit.profile_files import load_profile, save_profile
from tests.fit.test_references import texture

NAN = float("nan")


@pytest.fixture(scope="module")
def saved(tiny_model, tmp_path_factory):
    profile = fit_profile(tiny_model, [texture(seed) for seed in range(3)], "metal nut")
    return save_profile(profile, tmp_path_factory.mktemp("profile") / "part")


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
    data = save(tensors | {name: change(tensors[name]).contiguous()})
    (tmp_path / "profile.safetensors").write_bytes(data)
    config = json.loads((saved / "config.json").read_text())
    config["memory"]["tensors_sha256"] = hashlib.sha256(data).hexdigest()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="not the tensors of a profile") as caught:
        load_profile(tmp_path)
    assert "\n" not in str(caught.value)
