"""Intervals of a difference over seeds and test images together: both are samples, and each moves an accuracy.

Two arms answer the same images with networks of the same seeds, so their difference is a table of -1, 0 and 1 with a
row a seed and a column an image: a two-way layout of random seeds and random images with one value a cell.

The interval's squared half-width is t(n-1)² sd²/n + z² v: that of the mean over n seeds, whose images take part in it
through the interaction, and that of v, the variance that sampling of images alone gives the mean. Adding the squared
half-widths of parts is how Zou and Donner (2008) recover variance estimates (MOVER). `resflow bench coverage` tries it.
Its tests are the levels at which such an interval ends at a value; with v = 0 they are Student's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

CONFIDENCE = 0.95
LOWEST_TAIL, HALVINGS = 1e-15, 50  # p is told to three decimals


@dataclass(frozen=True)
class Spread:
    """The uncertainty of a mean over seeds: `seeds` is sd²/n with n - 1 = `freedom`, `images` the variance v."""

    seeds: float
    freedom: int
    images: float = 0.0

    def half_width(self, tail: float) -> float:
        """Return half the width of the interval that leaves out `tail` on each side, 0 < tail < 0.5."""
        return float(np.sqrt(self.quantile(tail) ** 2 * self.seeds + special.ndtri(tail) ** 2 * self.images))

    def quantile(self, tail: float) -> float:
        """Return how many standard errors over seeds the interval over seeds alone reaches: Student's t."""
        return float(-special.stdtrit(self.freedom, tail))

    def seeds_tail(self, errors: float) -> float:
        """Return what the interval over seeds alone that reaches so many standard errors leaves out on each side."""
        return float(special.stdtr(self.freedom, -errors))

    def tail(self, distance: float) -> float:
        """Return what the interval whose half-width is `distance` leaves out on each side; `seeds` is above 0."""
        if self.images == 0:
            return self.seeds_tail(distance / float(np.sqrt(self.seeds)))
        low, high = LOWEST_TAIL, 0.5
        if self.half_width(low) <= distance:
            return low
        for _ in range(HALVINGS):
            middle = np.sqrt(low * high)
            low, high = (middle, high) if self.half_width(middle) > distance else (low, middle)
        return float(np.sqrt(low * high))

    def p_above(self, distance: float) -> float:
        """Return p of the one-sided test that a mean lies `distance` above the bound that it must exceed."""
        return self.tail(distance) if distance >= 0 else 1 - self.tail(-distance)


def image_variance(differences: ArrayLike) -> float:
    """Return the variance that sampling of images gives a mean over seeds, `differences` of shape (seeds, images).

    It is max(0, MI - MX) / (S·N), from the mean squares of images and of the interaction: what the images have in
    common over all seeds; and 1 / (S·N²), half an image a seed each way (Agresti and Min 2005 add as much to each cell
    of a 2 by 2 table): near 0 and 100 % so few images differ that without it the variance is too often too small.
    NaN where one seed or one image does not tell.
    """
    table = np.asarray(differences, dtype=float)
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"expected a table (seeds, images), got shape {table.shape}.")
    if min(table.shape) < 2:
        return float("nan")
    _, of_images, interaction = mean_squares(table)
    return (max(0.0, of_images - interaction) + 1 / table.shape[1]) / table.size


def mean_squares(table: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean squares of rows, columns and interaction of a table of at least 2 by 2 (Scheffé 1959, ch. 7)."""
    seeds, images = table.shape
    mean = table.mean()
    of_seeds = images * float(((table.mean(axis=1) - mean) ** 2).sum())
    of_images = seeds * float(((table.mean(axis=0) - mean) ** 2).sum())
    rest = max(0.0, float(((table - mean) ** 2).sum()) - of_seeds - of_images)
    return of_seeds / (seeds - 1), of_images / (images - 1), rest / ((seeds - 1) * (images - 1))
