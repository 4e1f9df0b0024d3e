"""Image and pixel metrics, exact or in bounded memory, from one pass over the data.

>>> from bayes_pfl.metrics import image_metrics
>>> result = image_metrics([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
>>> result["auroc"], round(result["ap"], 4)
(0.75, 0.8333)
"""

from bayes_pfl.metrics.streamed import ImageMetrics, PixelMetrics, image_metrics, pixel_metrics

__all__ = ["ImageMetrics", "PixelMetrics", "image_metrics", "pixel_metrics"]
