"""Holm's correction for several comparisons (Holm 1979): adjusted p, and the level at which each is judged."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

ALPHA = 0.05


def first_level(declared: int) -> float:
    """Return the level at which the first of so many comparisons is judged: no other is judged harder."""
    return ALPHA / max(declared, 1)


def adjust(p: ArrayLike) -> NDArray[np.float64]:
    """Adjust p by Holm's step-down procedure (Holm 1979): the k-th smallest p times m-k+1, made monotone, at most 1.

    A NaN (a declared contrast that cannot be tested yet) stays NaN and still counts in m, so that an
    unfinished run is never more lenient than the finished one.
    """
    raw = np.atleast_1d(np.asarray(p, dtype=float))
    filled = np.where(np.isnan(raw), 1.0, raw)
    order = np.argsort(filled, kind="stable")
    steps = filled[order] * np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return np.where(np.isnan(raw), np.nan, adjusted)


def levels(p: ArrayLike) -> NDArray[np.float64]:
    """Return the level at which Holm's procedure judges each p: ALPHA / (m-k+1) of the k-th smallest.

    From the first that is not below its own level on, all have that one. NaN counts and stays as in `adjust`.
    """
    raw = np.atleast_1d(np.asarray(p, dtype=float))
    filled = np.where(np.isnan(raw), 1.0, raw)
    order = np.argsort(filled, kind="stable")
    steps = ALPHA / np.arange(len(raw), 0, -1)
    failing = np.flatnonzero(filled[order] >= steps)
    judged = np.empty_like(raw)
    judged[order] = np.minimum(steps, steps[failing[0]]) if len(failing) else steps
    return np.where(np.isnan(raw), np.nan, judged)
