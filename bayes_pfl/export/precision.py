"""Weights of half the size, or arithmetic in integers of 8 bits, in the file of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bayes_pfl.data.image_files import find_images, no_images
from bayes_pfl.detect.inputs import load_pixels
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.errors import ConfigError
from bayes_pfl.export.model_file import TWO_GIGABYTES, quiet
from bayes_pfl.fit.profile import Profile

Precision = Literal["float32", "float16", "int8"]

_FEW = 1024  # numbers of a constant that is left alone: an epsilon would become 0
_LARGEST = float(np.finfo(np.float16).max)

_TOWER = "'image_tower'"  # in the names of the scopes of its nodes
_FIRST_LAYERS = 1 / 6
"""Share of the image tower's layers that stay in float32, the first ones: what they lose, all later
ones see. On the embedded model they made all of the loss of AUROC, and none of the gain in time."""

_MOST_PICTURES, _MOST_TILES = 64, 4


def halve_weights(path: Path) -> None:
    """Keep the large constants of a file of ONNX in float16; the runtime widens them as it loads.

    The processors that ONNX Runtime serves compute in float32 faster than in float16.
    """
    import onnx

    model = onnx.load(path)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < _FEW:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if np.abs(values).max() > _LARGEST:
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        cast = onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT)
        casts.append(cast)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _remove(path)
    external = sum(np.prod(x.dims) for x in model.graph.initializer) * 2 > TWO_GIGABYTES
    onnx.save(model, path, save_as_external_data=external, location=f"{path.name}.data")


def quantise(path: Path, views: Iterable[np.ndarray], inputs: Mapping[str, np.ndarray]) -> None:
    """Give the layers of a file of ONNX weights and activations of 8 bits.

    Weights have a scale for each channel, activations one for each layer, from the range that the
    views give them. What has no weights (attention, comparisons, maps, scores) stays in float32.

    Args:
        views: uint8 (S, S, 3) each.
        inputs: of one view; its pixels are replaced.
    """
    import onnx
    from onnxruntime import quantization

    class Views(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(views)

        def get_next(self) -> dict[str, np.ndarray] | None:
            view = next(self.left, None)
            return None if view is None else {**inputs, "pixels": view[None]}

    model = onnx.load(path, load_external_data=False)
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    found = path.with_name(f"quantised-{path.name}")
    with quiet():
        quantization.quantize_static(
            path,
            found,
            Views(),
            nodes_to_quantize=_layers(model.graph),
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            use_external_data_format=size > TWO_GIGABYTES,
        )
    _remove(path)
    for part in path.parent.glob(f"{found.name}*"):
        part.rename(part.with_name(part.name.removeprefix("quantised-")))


def _layers(graph: Any) -> list[str]:
    """Names of the convolutions and linear layers, but for the first of the image tower."""
    tower: list[str] = []
    others: list[str] = []
    for node in graph.node:
        scopes = "".join(x.value for x in node.metadata_props if x.key.endswith("name_scopes"))
        if node.op_type == "Conv" or (node.op_type in ("MatMul", "Gemm") and "linear" in scopes):
            (tower if _TOWER in scopes else others).append(node.name)
    return [*tower[max(1, round(_FIRST_LAYERS * len(tower))) :], *others]


def _remove(path: Path) -> None:
    """Remove a file of ONNX, and the file of its weights if it has one."""
    for part in path.parent.glob(f"{path.name}*"):
        part.unlink()


def calibration_views(
    scorer: Scorer, folder: Path | None, profile: Profile | None
) -> tuple[Iterator[np.ndarray], str]:
    """Views of normal pictures, uint8 (S, S, 3) each, and what they are, in words.

    At most 64 pictures are taken, evenly from all, with four of the tiles of each.

    Args:
        folder: of the pictures; None for those that the profile keeps.

    Raises:
        ConfigError: there are no pictures.
        DataError: a folder without pictures.
    """
    if folder is not None:
        paths = find_images(folder)
        if not paths:
            raise no_images(folder)
        chosen = _spread(paths, _MOST_PICTURES)
        return _views(scorer, chosen), f"{len(chosen)} pictures of {folder.resolve().name}"
    if profile is None or profile.pixels is None:
        raise ConfigError(
            "int8 needs normal pictures, whose ranges of values it learns: give --calibrate FOLDER"
        )
    numbers = _spread(range(len(profile.pictures)), _MOST_PICTURES)
    return map(profile.pixels, numbers), f"{len(numbers)} pictures of the profile"


def _views(scorer: Scorer, paths: Sequence[Path]) -> Iterator[np.ndarray]:
    settings, side = scorer.settings, scorer.model.backbone.image_size
    tiles = settings.tiles(scorer.model)
    for at, path in enumerate(paths):
        item = load_pixels(path, at, side, settings.window, tiles, settings.interest)
        yield item.pixels
        yield from (pixels for _, pixels in _spread(list(item.tiles), _MOST_TILES))


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """So many of them at most, evenly."""
    return list(islice(items, 0, None, max(1, -(-len(items) // most))))
