"""The baseline without any learning: how much a pixel differs from its surroundings."""

from __future__ import annotations

import cv2
import numpy as np


def local_contrast(image: np.ndarray, blur: float = 8.0, smooth: float = 4.0) -> np.ndarray:
    """|image - blurred image|, mean over the channels, smoothed as anomaly maps are.

    Args:
        image: uint8 (H, W, 3).
        blur: sigma of the blur that is subtracted, in pixels.
        smooth: sigma of the smoothing of the result, in pixels.

    Returns:
        float32 (H, W), in [0, 1].
    """
    pixels = image.astype(np.float32) / 255
    contrast = np.abs(pixels - cv2.GaussianBlur(pixels, (0, 0), blur)).mean(axis=2)
    return cv2.GaussianBlur(contrast, (0, 0), smooth)
