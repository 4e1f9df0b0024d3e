"""Zero-shot anomaly detection by Bayesian prompt flow learning (Bayes-PFL, CVPR 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bayes_pfl.support.version import __version__

if TYPE_CHECKING:
    from bayes_pfl.api.detector import AnomalyDetector
    from bayes_pfl.api.model import BayesPFL
    from bayes_pfl.detect.results import AnomalyResult

__all__ = ["AnomalyDetector", "AnomalyResult", "BayesPFL", "__version__"]


_HOMES = {
    "AnomalyDetector": "bayes_pfl.api.detector",
    "AnomalyResult": "bayes_pfl.detect.results",
    "BayesPFL": "bayes_pfl.api.model",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """Import public names on first use: the command line starts fast, metrics need no model."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
