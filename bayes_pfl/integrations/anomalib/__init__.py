"""The model as one of anomalib's: its Engine tests and predicts with it.

Of the extra ``[anomalib]``.

Raises:
    ConfigError: the extra is not installed.
"""

from bayes_pfl.errors import ConfigError

try:
    import anomalib  # noqa: F401
except ImportError as error:
    raise ConfigError(
        "anomalib is not installed; run: pip install 'bayes-pfl[anomalib]'"
    ) from error

from bayes_pfl.integrations.anomalib.module import BayesPFL

__all__ = ["BayesPFL"]
