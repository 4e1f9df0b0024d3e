"""A threshold on labelled data: its false positive rate, and what it finds.

Measured for the category of the class name that a calibration or profile is for, and in the
protocol `deploy` only: the scores of the protocol `authors` depend on the test set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.evaluate.datasets import EvaluationData
from bayes_pfl.evaluate.records import CategoryRecord
from bayes_pfl.fit.calibration import Calibration, settings_of
from bayes_pfl.fit.decision import reaches
from bayes_pfl.fit.profile import Profile
from bayes_pfl.model.network import BayesPFLNetwork


def check_fitted(
    fitted: Calibration | Profile | None,
    model: BayesPFLNetwork,
    data: Sequence[EvaluationData],
    settings: ScoringSettings,
    seeds: Sequence[int],
) -> None:
    """Check that a calibration or profile, if there is one, fits a run; before any work.

    Raises:
        ConfigError: no category has its class name, or its settings or weights differ.
    """
    if fitted is None:
        return
    name, what = fitted.settings.class_name, type(fitted).__name__.lower()
    known = dict.fromkeys(sample.class_name for one in data for sample in one.samples)
    if name not in known:
        raise ConfigError(
            f"the {what} is for {name!r}, which no category here is called; there are "
            f"{', '.join(map(repr, list(known)[:10]))}"
        )
    for seed in seeds:
        fitted.check(model, settings_of(model, name, replace(settings, seed=seed)))


def add_rates(
    result: dict[str, Any],
    records: Mapping[str, CategoryRecord],
    data: EvaluationData,
    calibration: Calibration,
) -> None:
    """Add "at_threshold" to the categories of the calibration's class, in a result of `deploy`.

    It holds the false and the true positive rate at the calibration's threshold, with their counts;
    a rate is None where there are no images of its class.
    """
    names = {sample.category: sample.class_name for sample in data.samples}
    for category, record in records.items():
        if names.get(category) == calibration.settings.class_name and record.rows:
            reached = reaches(record.image_scores("deploy"), calibration.threshold)
            false, true = reached[record.labels == 0], reached[record.labels == 1]
            result["categories"][category]["at_threshold"] = {
                "threshold": calibration.threshold,
                "calibrated_fpr": calibration.fpr,
                "fpr": float(false.mean()) if len(false) else None,
                "tpr": float(true.mean()) if len(true) else None,
                "false_positives": int(false.sum()),
                "true_positives": int(true.sum()),
            }


def threshold_line(entry: Mapping[str, Any]) -> str:
    """What an entry of metrics.json says "at_threshold"."""
    rates = entry["at_threshold"]
    return (
        f"at the calibrated threshold {rates['threshold']:.4f} "
        f"{rates['false_positives']} of {entry['n_normal']} normal images are labelled anomalous "
        f"(calibrated for a rate of {rates['calibrated_fpr']:g}), "
        f"{rates['true_positives']} of {entry['n_anomalous']} anomalous ones are found"
    )
