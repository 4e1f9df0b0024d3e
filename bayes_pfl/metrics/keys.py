"""Float32 scores as unsigned integers of the same order.

An IEEE-754 float32 read as a sign-magnitude integer already sorts like the number it stands for.
Flipping the sign bit of positive numbers and all bits of negative ones makes that order the order
of uint32. So a histogram over the leading bits of the key has bins of constant *relative* width,
and it needs no knowledge of the range of the scores.
"""

import numpy as np

_SIGN = np.int32(-(2**31))
_LARGEST = float(np.finfo(np.float32).max)


def to_keys(scores: np.ndarray) -> np.ndarray:
    """Finite scores (n,) of any real dtype -> keys (n,) uint32, in the same order; -0.0 equals 0.0.

    Wider dtypes are rounded to float32, which keeps the order but may create ties; values beyond
    the range of float32 become its largest number.
    """
    if scores.dtype != np.float32:
        scores = np.clip(scores, -_LARGEST, _LARGEST).astype(np.float32)
    bits = (scores + np.float32(0)).view(np.int32)
    return (bits ^ ((bits >> 31) | _SIGN)).view(np.uint32)


def from_keys(keys: np.ndarray) -> np.ndarray:
    """Keys (n,) uint32 -> the float32 scores that they stand for."""
    bits = keys.astype(np.uint32).view(np.int32)
    return np.where(bits < 0, bits ^ _SIGN, ~bits).astype(np.int32).view(np.float32)
