"""Probabilities as archives keep them: a byte each, an eighth of an octave apart.

Code c stands for 0.5 ** (c / 8), so that what is read back lies within 4.5 % of what was written; the last code stands
for 0, and for all that is less than a byte reaches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

STEPS = 8  # codes an octave
LAST = 255
PRECISION = 2 ** (0.5 / STEPS) - 1  # the largest relative error, of what is 0.5 ** (LAST / STEPS) or more
LOSS_PRECISION = float(np.log(2) / (2 * STEPS))  # nats: that of a logarithm of one


def encode(probabilities: ArrayLike) -> NDArray[np.uint8]:
    """Return the code of each probability."""
    values = np.asarray(probabilities, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.nan_to_num(-STEPS * np.log2(values), nan=LAST)  # damage is no probability: others tell of it
    return np.clip(np.round(codes), 0, LAST).astype(np.uint8)


def decode(codes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the probability that each code stands for."""
    return _VALUES[codes]


def is_rounded(probabilities: NDArray[Any]) -> bool:
    """Tell whether probabilities have been through an archive, on this machine or another."""
    return bool(np.allclose(decode(encode(probabilities)), probabilities, rtol=1e-12, atol=0))


_VALUES = np.append(0.5 ** (np.arange(LAST) / STEPS), 0.0)
