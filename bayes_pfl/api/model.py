"""The model that users load: the network, with checkpoints, the hub and prediction."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict, overload

import torch
from PIL import Image
from typing_extensions import Self, Unpack

from bayes_pfl.checkpoints.hub import push_checkpoint
from bayes_pfl.checkpoints.load import DEFAULT_CHECKPOINT, load_checkpoint, save_checkpoint
from bayes_pfl.detect.inputs import ImageLike
from bayes_pfl.detect.results import AnomalyResult
from bayes_pfl.fit.calibration import Calibration
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.images import predict


class PredictOptions(TypedDict, total=False):
    """Keyword arguments of :meth:`BayesPFL.predict`, for type checkers."""

    samples: int | None
    precision: str
    batch_size: int
    generator: torch.Generator | None
    seed: int
    smoothing: bool
    threshold: float | None
    calibration: Calibration | str | os.PathLike[str] | None
    uncertainty: bool
    compile: bool


class BayesPFL(BayesPFLNetwork):
    """Zero-shot anomaly detection by Bayesian prompt flow learning (arXiv 2503.10080).

    Load one with :meth:`from_pretrained`; train one with ``bayes-pfl train``.
    """

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = DEFAULT_CHECKPOINT,
        device: str | None = None,
        *,
        revision: str | None = None,
        local_files_only: bool = False,
        token: str | None = None,
    ) -> Self:
        """Load a checkpoint. See :func:`bayes_pfl.checkpoints.load.load_checkpoint`."""
        return load_checkpoint(
            name_or_path,
            device=device,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
            model_class=cls,
        )

    @overload
    def predict(
        self,
        images: str | os.PathLike[str] | Image.Image,
        class_name: str,
        **options: Unpack[PredictOptions],
    ) -> AnomalyResult: ...

    @overload
    def predict(
        self,
        images: list[Any] | tuple[Any, ...],
        class_name: str | Iterable[str],
        **options: Unpack[PredictOptions],
    ) -> list[AnomalyResult]: ...

    @overload
    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        class_name: str | Iterable[str],
        **options: Unpack[PredictOptions],
    ) -> AnomalyResult | list[AnomalyResult]: ...

    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        class_name: str | Iterable[str],
        *,
        samples: int | None = None,
        precision: str = "float32",
        batch_size: int = 8,
        generator: torch.Generator | None = None,
        seed: int = 0,
        smoothing: bool = True,
        threshold: float | None = None,
        calibration: Calibration | str | os.PathLike[str] | None = None,
        uncertainty: bool = True,
        compile: bool = False,
    ) -> AnomalyResult | list[AnomalyResult]:
        """Detect anomalies; arguments and result as in :func:`bayes_pfl.predict.images.predict`."""
        return predict(
            self,
            images,
            class_name,
            samples=samples,
            precision=precision,
            batch_size=batch_size,
            generator=generator,
            seed=seed,
            smoothing=smoothing,
            threshold=threshold,
            calibration=calibration,
            uncertainty=uncertainty,
            compile=compile,
        )

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write config.json and model.safetensors into ``folder``, whole or not at all."""
        return save_checkpoint(self, folder)

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
        license: str | None = None,
    ) -> str:
        """Upload it with a model card; as :func:`bayes_pfl.checkpoints.hub.push_checkpoint`."""
        with tempfile.TemporaryDirectory() as folder:
            return push_checkpoint(
                self.save_pretrained(folder),
                repository,
                private=private,
                token=token,
                revision=revision,
                commit_message=commit_message,
                license=license,
            )
