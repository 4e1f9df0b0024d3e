"""Prediction past one machine: on Ray Data, from any store to Parquet. Of the extra ``[ray]``."""

from bayes_pfl.predict.ray.engine import predict_ray

__all__ = ["predict_ray"]
