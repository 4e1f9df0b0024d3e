"""The model as a scikit-learn outlier detector: `fit` on normal images makes a profile of them.

Symbols: n images, H×W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_is_fitted

from bayes_pfl.api.model import BayesPFL
from bayes_pfl.data.roi_files import RoiLike
from bayes_pfl.data.tiles import DEFAULT_OVERLAP
from bayes_pfl.detect.inputs import ImageLike
from bayes_pfl.detect.results import AnomalyResult
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import DataError
from bayes_pfl.fit.fit import FitOptions, fit_profile
from bayes_pfl.fit.profile import Profile, ProfileLike
from bayes_pfl.fit.profile_files import known_profile
from bayes_pfl.predict.images import predict_stream

Images = Iterable[ImageLike]


class AnomalyDetector(OutlierMixin, BaseEstimator):
    """Anomaly detector fitted to normal images: it compares with them, and has a threshold.

    It follows scikit-learn's convention for outliers: higher is more normal, 1 is an inlier, -1 an
    outlier. Parameters are only stored; `fit` checks them and loads the model.

    Args:
        checkpoint: as for :meth:`bayes_pfl.BayesPFL.from_pretrained`, or a model in memory.
        class_name: what the images show.
        samples, precision, batch_size, seed: as in :meth:`bayes_pfl.BayesPFL.predict`.
        fpr: at most this share of new normal images is called an outlier.
        device: None for the best at hand.
        keep_outliers: fit although some images look abnormal.
        rotations, aligned, words_only: see :class:`bayes_pfl.fit.fit.FitOptions`.
        tile, overlap, window, roi: as in :meth:`bayes_pfl.BayesPFL.predict`.

    Attributes:
        model_: the model.
        profile_: what `fit` found, see :class:`bayes_pfl.fit.profile.Profile`.
        calibration_: its thresholds; None where the images were too few for them.
        offset_: decision_function is score_samples minus this; NaN without thresholds.

    Example:
        >>> from sklearn.base import clone
        >>> clone(AnomalyDetector(class_name="metal nut", fpr=0.1)).get_params()["fpr"]
        0.1
    """

    def __init__(
        self,
        checkpoint: str | Path | BayesPFL = "bayes-pfl-tiny",
        class_name: str = "object",
        *,
        samples: int | None = None,
        fpr: float = 0.05,
        precision: str = "float32",
        batch_size: int = 8,
        seed: int = 0,
        device: str | None = None,
        keep_outliers: bool = False,
        rotations: bool = False,
        aligned: bool = False,
        words_only: bool = False,
        tile: int | str | None = None,
        overlap: float = DEFAULT_OVERLAP,
        window: tuple[float, float] | None = None,
        roi: RoiLike | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.class_name = class_name
        self.samples = samples
        self.fpr = fpr
        self.precision = precision
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        self.keep_outliers = keep_outliers
        self.rotations = rotations
        self.aligned = aligned
        self.words_only = words_only
        self.tile = tile
        self.overlap = overlap
        self.window = window
        self.roi = roi

    @classmethod
    def from_profile(
        cls, profile: ProfileLike, *, device: str | None = None, batch_size: int = 8
    ) -> AnomalyDetector:
        """A detector that is fitted already, from the folder of ``bayes-pfl fit``.

        Raises:
            BayesPFLError: the profile or its checkpoint cannot be read, or they do not fit.
        """
        found, _ = known_profile(profile)
        if found is None:
            raise DataError("profile = None: give a profile, or its folder")
        known = found.settings
        name = found.checkpoint.name or "bayes-pfl-tiny"
        detector = cls(
            name,
            found.class_name,
            samples=known.samples,
            fpr=found.fpr,
            precision=known.precision,
            batch_size=batch_size,
            seed=known.seed,
            device=device,
            tile=known.tile,
            overlap=known.overlap,
            window=known.window,
            roi=found.roi,
            rotations=found.options.rotations,
            aligned=found.options.aligned,
            words_only=found.references is None,
        )
        model = BayesPFL.from_pretrained(name, device=device)
        found.check(model, known)
        return detector._with(model, found)

    def fit(self, X: Images, y: Any = None) -> AnomalyDetector:
        """Fit to normal images; no weight is changed.

        Args:
            X: paths or images, or an array (n, H, W, 3), one at least. `predict` needs two; below
                1 / `fpr` - 1 images its false positive rate is 1 / (n + 1), the lowest that so few
                can guarantee. words_only needs 20.
            y: not used; there for pipelines.

        Raises:
            BayesPFLError: an unusable parameter, too few images, some that look abnormal.
        """
        images = _images(X)
        options = FitOptions(
            **asdict(self._settings()),
            fpr=self.fpr,
            keep_outliers=self.keep_outliers,
            rotations=self.rotations,
            aligned=self.aligned,
            words_only=self.words_only,
        )
        if isinstance(self.checkpoint, BayesPFL):
            model, name = self.checkpoint, None
        else:
            model = BayesPFL.from_pretrained(self.checkpoint, device=self.device)
            name = str(self.checkpoint)
        return self._with(
            model, fit_profile(model, images, self.class_name, options, checkpoint=name)
        )

    def _with(self, model: BayesPFL, profile: Profile) -> AnomalyDetector:
        self.model_, self.profile_, self.calibration_ = model, profile, profile.calibration
        known = profile.calibration
        # An image at the threshold is an outlier; the next float below it is not.
        self.offset_ = -float(np.nextafter(known.threshold, -np.inf)) if known else math.nan
        return self

    def score_samples(self, X: Images) -> np.ndarray:
        """Minus the anomaly scores, float64 (n,) in [-1, 0]: higher is more normal."""
        return np.array([-result.score for result in self._stream(X, False)], np.float64)

    def decision_function(self, X: Images) -> np.ndarray:
        """`score_samples` minus `offset_`, (n,): negative for outliers.

        Raises:
            DataError: `fit` had one image alone, which gives no threshold.
        """
        check_is_fitted(self, "profile_")
        if self.calibration_ is None:
            raise DataError(
                "no threshold: it needs a second normal image; score_samples needs none"
            )
        return self.score_samples(X) - self.offset_

    def predict(self, X: Images) -> np.ndarray:
        """1 for inliers, -1 for outliers, int (n,)."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def score(self, X: Images, y: Any = None) -> float:
        """For model selection, in [0, 1]; small folds of normal images need no threshold.

        Args:
            y: 1 for inliers, -1 for outliers; None for inliers alone.

        Returns:
            The area under the ROC curve where both kinds are there, else the mean of 1 plus
            `score_samples` (of inliers) or of minus `score_samples` (of outliers).
        """
        samples = self.score_samples(X)
        truth = np.ones(len(samples)) if y is None else np.asarray(y)
        if len(set(truth.tolist())) > 1:
            return float(roc_auc_score(truth, samples))
        return float(np.mean(1 + samples if truth[0] == 1 else -samples))

    def explain(self, X: Images) -> list[AnomalyResult]:
        """Whole results with maps, intervals and p-values, one for each image."""
        return list(self._stream(X, True))

    def __getstate__(self) -> dict[str, Any]:
        """Without the model where its name is known: it is loaded again when it is needed."""
        state = dict(super().__getstate__())
        if not isinstance(self.checkpoint, BayesPFL):
            state.pop("model_", None)
        return state

    def _model(self) -> BayesPFL:
        if not hasattr(self, "model_") and not isinstance(self.checkpoint, BayesPFL):
            self.model_ = BayesPFL.from_pretrained(self.checkpoint, device=self.device)
        return self.model_

    def _stream(self, X: Images, uncertainty: bool) -> Iterable[AnomalyResult]:
        check_is_fitted(self, "profile_")
        return predict_stream(
            self._model(),
            _images(X),
            self.class_name,
            self._settings(),
            profile=self.profile_,
            uncertainty=uncertainty,
        )

    def _settings(self) -> ScoringSettings:
        return ScoringSettings(
            samples=self.samples,
            precision=self.precision,
            batch_size=self.batch_size,
            seed=self.seed,
            tile=self.tile,
            overlap=self.overlap,
            window=self.window,
            roi=self.roi,
        )


def _images(X: Any) -> Images:
    """Images one by one; an array of text is one of paths."""
    if isinstance(X, str | Path):
        raise DataError(f"X = {str(X)!r}: give a list of images, also for a single one")
    if isinstance(X, np.ndarray):
        if X.ndim == 1:
            return list(X.tolist())
        if X.ndim != 4:
            raise DataError(f"X of shape {X.shape}: give (n, H, W, 3), or a list of images")
    elif not isinstance(X, Iterable):
        raise DataError(f"X is {type(X).__name__}: give a list of images or an array (n, H, W, 3)")
    images: Images = X
    return images
