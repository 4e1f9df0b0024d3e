"""The camera: exposure, colour, optics, sensor noise, resolution and JPEG. It moves no pixel."""

from __future__ import annotations

import cv2
import numpy as np

from bayes_pfl.rendering.noise import Field, Rng, axes, pick, value_noise, white
from bayes_pfl.rendering.scene import thrice

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def photograph(rng: Rng, image: np.ndarray, grey: bool = False) -> np.ndarray:
    """Turn a scene, float32 (S, S, 3) about [0, 1], into a photograph, uint8 (S, S, 3).

    ``grey`` scenes stay grey; of the others about one in eight is taken without colour.
    """
    size, unit = image.shape[0], image.shape[0] / 256
    image = exposure(rng, image)
    if not grey:
        image = cv2.transform(np.ascontiguousarray(image), colour_matrix(rng))
    if rng.random() < 0.4:
        image = image * thrice(vignette(rng, size))
    image = optics(rng, image, unit)
    image = image + sensor_noise(rng, size, grey)
    pixels = (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return jpeg(rng, pixels)


def exposure(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Gain, contrast about the middle, and a tone curve."""
    gain, contrast = np.float32(rng.uniform(0.8, 1.2)), np.float32(rng.uniform(0.8, 1.15))
    image = np.clip((image * gain - 0.5) * contrast + 0.5, 0, 1.15)
    if rng.random() < 0.4:
        image = cv2.pow(np.ascontiguousarray(image), float(rng.uniform(0.75, 1.35)))
    return image


def colour_matrix(rng: Rng) -> np.ndarray:
    """(3, 3): warm or cold light, a little green or magenta, more or less colour down to none."""
    warm, green = rng.normal(0, 0.045), rng.normal(0, 0.02)
    balance = np.diag([1 + warm, 1 + green, 1 - warm])
    factor = 0.0 if rng.random() < 0.12 else rng.uniform(0.6, 1.2)
    vivid = factor * np.eye(3) + (1 - factor) * np.tile(_LUMA, (3, 1))
    return (vivid @ balance).astype(np.float32)


def vignette(rng: Rng, size: int) -> Field:
    """Corners darker than the middle."""
    x, y = axes(size, 0.0, tuple(rng.normal(0, 0.15, 2)))
    return 1.0 - np.float32(rng.uniform(0.03, 0.28)) * (x * x + y * y)


def optics(rng: Rng, image: np.ndarray, unit: float) -> np.ndarray:
    """A slight blur, a sharpened picture, or one that was enlarged from a smaller one."""
    choice, size = rng.random(), image.shape[0]
    if choice < 0.3:
        return cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.35, 1.0)) * max(unit, 0.6))
    if choice < 0.45:
        soft = cv2.GaussianBlur(image, (0, 0), 1.0 * max(unit, 0.6))
        return image + np.float32(rng.uniform(0.2, 0.7)) * (image - soft)
    if choice < 0.58:
        small = max(16, int(size * rng.uniform(0.55, 0.9)))
        image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)
    return image


def sensor_noise(rng: Rng, size: int, grey: bool) -> np.ndarray:
    """Luminance noise, and blotches of colour at half its resolution; (S, S, 3)."""
    strength = np.float32(pick(rng, [0.0, 0.006, 0.015, 0.035]) * rng.uniform(0.5, 1.2))
    noise = thrice(strength * white(rng, size))
    if grey or strength < 0.01 or rng.random() < 0.5:
        return noise
    blotches = cv2.merge([value_noise(rng, size, 3.0 / size) for _ in range(3)])
    return noise + np.float32(0.6) * strength * blotches


def jpeg(rng: Rng, pixels: np.ndarray) -> np.ndarray:
    """Compress two pictures in three by JPEG, at a quality of 45 to 97."""
    if rng.random() > 0.66:
        return pixels
    options = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 98))]
    # The codec reads BGR: channels are swapped before and after, so that chroma is right.
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), options)
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return np.ascontiguousarray(decoded[..., ::-1])
