"""The graph of a detector as a file: of ONNX, or of OpenVINO."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bayes_pfl.errors import ConfigError
from bayes_pfl.export.graph import DetectorGraph
from bayes_pfl.support.error_text import one_line

OPSET = 20
"""Of ONNX; the first with all operators that are used, in their final form."""

TWO_GIGABYTES = 2**31 - 2**24
"""What a file of ONNX can hold, less some room for its nodes."""


def require_export_packages(*further: str) -> None:
    """Raise ConfigError where a package of the extra ``[export]`` is missing."""
    for name in ("onnx", "onnxscript", *further):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"{name} is not installed; run: pip install 'bayes-pfl[export]'")


def write_onnx(graph: DetectorGraph, folder: Path) -> Path:
    """Write model.onnx, for any number of views; weights past 2 GB lie in a second file.

    Raises:
        ConfigError: PyTorch's exporter cannot take a part of this model.
    """
    inputs = graph.example(2)
    batch = torch.export.Dim("batch")
    shapes = {name: {0: batch} if one.ndim else None for name, one in inputs.items()}
    size = sum(tensor.nbytes for tensor in graph.state_dict().values())
    with torch.no_grad():
        graph(**inputs)  # what is made at the first use is made here, not while it is traced
    try:
        with quiet():
            program = torch.onnx.export(
                graph,
                (),
                kwargs=inputs,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=list(inputs),
                output_names=list(graph.outputs),
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # the exporter raises almost anything
        cause = error.__cause__ or error
        raise ConfigError(
            f"PyTorch {torch.__version__} cannot export this model ({one_line(cause, 200)}); see "
            "docs/guides/deployment.md for what can be exported"
        ) from error
    assert program is not None
    path = folder / "model.onnx"
    program.save(path, external_data=size > TWO_GIGABYTES)
    return path


def write_openvino(onnx: Path, half: bool = False) -> Path:
    """Write model.xml and model.bin in place of the files of ONNX.

    Args:
        half: keep weights in float16.
    """
    import openvino

    model = openvino.Core().read_model(onnx)
    path = onnx.with_suffix(".xml")
    openvino.save_model(model, path, compress_to_fp16=half)
    del model  # it may read the file as it needs it
    for part in onnx.parent.glob(f"{onnx.name}*"):
        part.unlink()
    return path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within, exporter and quantiser do not speak of their own affairs."""
    levels: dict[Any, int] = {}
    for name in ("", "torch.onnx", "onnxscript", "onnx_ir", "torch.export"):
        logger = logging.getLogger(name)
        levels[logger] = logger.level
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
