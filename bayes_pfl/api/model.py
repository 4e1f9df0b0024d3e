"""The model that users load: the network, with checkpoints, the hub and prediction."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, TypedDict, cast, overload

import torch
from PIL import Image
from typing_extensions import Self, Unpack

from bayes_pfl.checkpoints.format import save_checkpoint
from bayes_pfl.checkpoints.load import DEFAULT_CHECKPOINT, load_checkpoint
from bayes_pfl.checkpoints.publish import push_checkpoint
from bayes_pfl.data.roi_files import RoiLike
from bayes_pfl.data.tiles import DEFAULT_OVERLAP
from bayes_pfl.detect.inputs import ImageLike
from bayes_pfl.detect.result_list import Results
from bayes_pfl.detect.results import AnomalyResult
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.calibration import Calibration
from bayes_pfl.fit.profile import ProfileLike
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.images import is_single, predict_stream


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
    profile: ProfileLike | None
    uncertainty: bool
    compile: bool
    tile: int | str | None
    overlap: float
    window: tuple[float, float] | None
    roi: RoiLike | None
    min_area: int


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
        model = load_checkpoint(
            name_or_path,
            device=device,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
            model_class=cls,
        )
        return cast(Self, model)

    @overload
    def predict(
        self,
        images: str | os.PathLike[str] | Image.Image,
        class_name: str | None = None,
        **options: Unpack[PredictOptions],
    ) -> AnomalyResult: ...

    @overload
    def predict(
        self,
        images: list[Any] | tuple[Any, ...],
        class_name: str | Iterable[str] | None = None,
        **options: Unpack[PredictOptions],
    ) -> Results: ...

    @overload
    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        class_name: str | Iterable[str] | None = None,
        **options: Unpack[PredictOptions],
    ) -> AnomalyResult | Results: ...

    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        class_name: str | Iterable[str] | None = None,
        *,
        samples: int | None = None,
        precision: str = "float32",
        batch_size: int = 8,
        generator: torch.Generator | None = None,
        seed: int = 0,
        smoothing: bool = True,
        threshold: float | None = None,
        calibration: Calibration | str | os.PathLike[str] | None = None,
        profile: ProfileLike | None = None,
        uncertainty: bool = True,
        compile: bool = False,
        tile: int | str | None = None,
        overlap: float = DEFAULT_OVERLAP,
        window: tuple[float, float] | None = None,
        roi: RoiLike | None = None,
        min_area: int = 1,
    ) -> AnomalyResult | Results:
        """Detect anomalies in one image, or in several of any sizes.

        The score is half the text score and half the mean of the highest 0.75% of the map's
        pixels. Nothing global is changed: not the random state, the gradient mode, nor the number
        of threads.

        Args:
            images: a path, Pillow image, array or tensor (values as
                :func:`bayes_pfl.data.pixels.as_rgb` takes them); or an iterable of these, or an
                array or tensor of four dimensions. For more than fits into memory:
                :meth:`predict_stream`. A path gives one result: of a file of several pages or
                frames the first is read, with a `DatasetWarning`;
                :func:`bayes_pfl.data.pages.read_pages` gives all, as images.
            class_name: what the images show, such as "metal nut"; one for all, or one for each.
                Synonyms, as in "screw|bolt", are averaged as text embeddings. None for the
                profile's, or "object".
            samples: Monte Carlo samples R; 0 for the mean prompt, whose text is encoded once per
                class name; None for the checkpoint's.
            precision: float32 (exact), bfloat16 or float16; or fp32, bf16, fp16.
            batch_size: images at once; the results do not depend on it.
            generator: source of the draws, in place of ``seed``.
            seed: of the draws: the same seed gives the same results.
            smoothing: False leaves the maps as the patches give them.
            threshold: scores of at least this give the label 1, others 0.
            calibration: of the same model, class name and settings, or its file: brings the
                threshold, that of the map, and p-values.
            profile: of the same model and settings, or its folder: the images are also compared
                with its normal pictures; score, map and interval are then those of both.
            uncertainty: False leaves the uncertainty map out, which halves the memory of a result.
            compile: the image tower through torch.compile: for long runs; the first batch takes
                longer.
            tile: look at images that are larger than this also in overlapping windows, of so many
                pixels a side: for faults that vanish where the whole image is squeezed to the
                model's input. "auto" for one and a half times its side, more for very large
                images. None for the profile's, or no windows.
            overlap: of neighbouring windows, as a share of their side, from 0 to 0.75.
            window: (centre, width) of the values of DICOM files; None for the files' own.
            roi: region of interest: a mask picture, a JSON file of polygons, or a folder of these,
                called as the images' files are. Each image is cropped to the rectangle around it;
                what lies outside of it does not count in score and map. None for the profile's,
                or whole images.
            min_area: of the results' ``regions``: those of fewer pixels are left out.

        Returns:
            One result for one image, else a list in the order given, with ``to_table()``.

        Raises:
            ConfigError: a setting that cannot be used, or names and images that differ in number.
            DataError: an image that cannot be read (the message names it), or an unusable class
                name.
        """
        one = is_single(images)
        if one and not (class_name is None or isinstance(class_name, str)):
            raise ConfigError(f"class_name = {class_name!r}: for one image, give one name")
        stream = self.predict_stream(
            [cast(ImageLike, images)] if one else cast(Iterable[ImageLike], images),
            class_name,
            samples=samples,
            precision=precision,
            batch_size=batch_size,
            generator=generator,
            seed=seed,
            smoothing=smoothing,
            threshold=threshold,
            calibration=calibration,
            profile=profile,
            uncertainty=uncertainty,
            compile=compile,
            tile=tile,
            overlap=overlap,
            window=window,
            roi=roi,
            min_area=min_area,
        )
        results = Results(stream)
        return results[0] if one else results

    def predict_stream(
        self,
        images: Iterable[ImageLike],
        class_name: str | Iterable[str] | None = None,
        **options: Unpack[PredictOptions],
    ) -> Iterator[AnomalyResult]:
        """As :meth:`predict`, for any number of images: only one batch of them is in memory.

        Returns:
            An iterator over the results, in the order of the images.

        Raises:
            ConfigError: at once, as :meth:`predict`.
            DataError: when the iterator reaches the image.
        """
        given: dict[str, Any] = dict(options)
        names = {item.name for item in fields(ScoringSettings)} & given.keys()
        settings = ScoringSettings(**{name: given.pop(name) for name in names})
        return predict_stream(self, images, class_name, settings, **given)

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
        """Upload it with a model card; as :func:`bayes_pfl.checkpoints.publish.push_checkpoint`."""
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
