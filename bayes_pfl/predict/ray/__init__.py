"""Prediction past one machine: on Ray Data, from any store to Parquet. Of the extra ``[ray]``.

Raises:
    ConfigError: the extra is not installed.
"""

from bayes_pfl.errors import ConfigError

try:
    import pyarrow  # noqa: F401
    import ray.data  # noqa: F401
except ImportError as error:
    raise ConfigError("the engine ray needs: pip install 'bayes-pfl[ray]'") from error

from bayes_pfl.predict.ray.engine import predict_ray

__all__ = ["predict_ray"]
