"""Random files in; a value or one clear line out. What guided searches found is replayed here.

The search itself: `python tools/fuzz.py TARGET --seconds N`; see docs/robustness.md.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bayes_pfl.clip.architecture import model_cfg_of
from bayes_pfl.config import ModelConfig, TrainConfig
from bayes_pfl.data.card_schema import parse_card
from bayes_pfl.data.polygons import read_polygons
from bayes_pfl.errors import BackboneError, BayesPFLError
from bayes_pfl.support.parsing import Malformed, parse_json, parse_yaml, short
from bayes_pfl.support.typed_json import from_dict
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import MAX_MESSAGE, TARGETS, examine
from tests.helpers.paths import DATA

FOUND = DATA / "fuzz"
FILES = sorted(path for path in FOUND.glob("*/*") if path.is_file())
MANY = settings(max_examples=100, deadline=None, derandomize=True, database=None)
FEW = settings(MANY, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
CARD = parse_yaml(seeds("card")[0].decode())
MEMORY_MB = 700  # that one small file may add to the highest the process ever had

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["../a", "/etc/passwd", "a\nb", "{category}/*", "mvtec", "\ud800", "\x1b[2J"]),
)
keys = st.text(max_size=5)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(keys, v, max_size=4), max_leaves=12
)


def peak_mb() -> float:
    """The highest memory that the process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def changed(good: object, change: object, path: list[int]) -> object:
    """A nested value in which one place, found by the path of choices, holds another value."""
    if not path or not isinstance(good, dict | list) or not good:
        return change
    places = list(good) if isinstance(good, dict) else range(len(good))
    place = places[path[0] % len(places)]
    copy = good.copy()
    copy[place] = changed(good[place], change, path[1:])
    return copy


def refused(call: object, *arguments: object) -> str:
    """The line it refuses with; empty if it takes the value. All else is raised."""
    try:
        call(*arguments)
    except BayesPFLError as error:
        message = str(error)
        assert "\n" not in message and len(message) < MAX_MESSAGE
        return message
    return ""


paths = st.lists(st.integers(0, 20), max_size=6)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_stays_mended(path):
    before = peak_mb()
    examine(TARGETS[path.parent.name], path.read_bytes())
    assert peak_mb() - before < MEMORY_MB


def test_the_collection_is_small_and_known():
    assert FILES and sum(path.stat().st_size for path in FILES) < 200_000
    assert {path.parent.name for path in FILES} <= TARGETS.keys()


@pytest.mark.parametrize("target", TARGETS)
def test_good_files_are_taken(target):
    taken = [examine(TARGETS[target], data) for data in seeds(target)]
    # A config is none of another kind, and no archive here is a whole CLIP.
    assert target in ("config", "pickle", "backbone") or "" in taken


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.filterwarnings("ignore::bayes_pfl.data.records.DatasetWarning")
@pytest.mark.parametrize("target", TARGETS)
def test_damaged_files(target, tmp_path):
    good = seeds(target)
    examples = 8 if target == "run_line" else 40  # a command line takes half a second

    @settings(FEW, max_examples=examples)
    @given(st.data())
    def check(data):
        content = bytearray(data.draw(st.sampled_from(good)))
        for _ in range(data.draw(st.integers(0, 3))):
            place = data.draw(st.integers(0, max(0, len(content) - 1)))
            content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        end = data.draw(st.integers(0, len(content)) | st.none())
        examine(TARGETS[target], bytes(content[:end]), tmp_path)

    check()


@MANY
@given(values, paths)
def test_configs_of_any_content(change, path):
    for cls in (ModelConfig, TrainConfig):
        refused(from_dict, cls, changed(asdict(cls()), change, path))


@MANY
@given(values, paths)
def test_cards_of_any_content(change, path):
    refused(parse_card, changed(CARD, change, path))


@FEW
@given(st.booleans(), values, paths)
def test_polygons_of_any_content(tmp_path, labelme, change, path):
    corners = [[1, 2], [30.5, 2], [30, 20]]
    good: object = {"size": [40, 30], "polygons": [corners]}
    if labelme:
        shape = {"shape_type": "polygon", "points": corners}
        good = {"shapes": [shape], "imageWidth": 40, "imageHeight": 30}
    file = tmp_path / "roi.json"
    file.write_text(json.dumps(changed(good, change, path)))
    refused(read_polygons, file)


@MANY
@given(st.text(max_size=200))
def test_parsers_of_any_text(text):
    for parse in (parse_json, parse_yaml):
        try:
            parse(text)
        except Malformed as error:
            assert "\n" not in str(error) and len(str(error)) < 400


@MANY
@given(values)
def test_values_in_messages_are_short_and_visible(value):
    assert len(short(value)) <= 60 and short(value).isprintable()


names = st.sampled_from(
    [
        "visual.conv1.weight",
        "visual.proj",
        "visual.positional_embedding",
        "visual.attnpool.positional_embedding",
        "visual.layer1.0.conv1.weight",
        "visual.transformer.resblocks.0.ln_1.weight",
        "transformer.resblocks.0.ln_1.weight",
        "transformer.resblocks.",
        "text_projection",
        "positional_embedding",
        "token_embedding.weight",
        "ln_final.weight",
    ]
)
tensors = st.lists(st.integers(0, 5), max_size=4).map(torch.zeros)


@MANY
@given(st.dictionaries(names, tensors, max_size=12))
def test_weights_of_any_names_and_shapes(state):
    try:
        model_cfg_of(state)
    except BackboneError as error:
        assert "\n" not in str(error)
