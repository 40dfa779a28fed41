"""Intervals of a difference over seeds and test images together: both are samples, and each moves an accuracy.

Two arms answer the same images with networks of the same seeds, so their difference is a table of -1, 0 and 1 with a
row a seed and a column an image: a two-way layout of random seeds and random images with one value a cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Crossed:
    """A mean difference and its interval over seeds and images; NaN where one seed or one image gives none.

    `seed_variance`, `image_variance` and `interaction_variance` are the components of a single answer's variance,
    estimated without bias and so sometimes below 0. Units: fractions, and their squares.
    """

    seeds: int
    images: int
    mean: float
    low: float
    high: float
    seed_variance: float
    image_variance: float
    interaction_variance: float


def interval(differences: ArrayLike, confidence: float = CONFIDENCE) -> Crossed:
    """Return the interval of a mean over seeds and images, `differences` of shape (seeds, images).

    With the mean squares of seeds, images and interaction, MS, MI and MX over S·N cells, the squared half-width is
    t(S-1)² MS / (S·N) + z² max(0, MI - MX) / (S·N): the squared half-widths of the two parts of the variance,
    seeds with the interaction, and images, added as Zou and Donner (2008) recover variance estimates (MOVER).
    `resflow bench coverage` tries it.
    """
    table = np.asarray(differences, dtype=float)
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"expected a table (seeds, images), got shape {table.shape}.")
    seeds, images = table.shape
    mean = float(table.mean())
    if min(table.shape) < 2:
        return Crossed(seeds, images, mean, *[np.nan] * 5)
    of_seeds, of_images, interaction = mean_squares(table)
    t = float(special.stdtrit(seeds - 1, (1 + confidence) / 2))
    z = float(special.ndtri((1 + confidence) / 2))
    half = np.sqrt((t**2 * of_seeds + z**2 * max(0.0, of_images - interaction)) / table.size)
    return Crossed(
        seeds=seeds,
        images=images,
        mean=mean,
        low=max(-1.0, mean - half),
        high=min(1.0, mean + half),
        seed_variance=(of_seeds - interaction) / images,
        image_variance=(of_images - interaction) / seeds,
        interaction_variance=interaction,
    )


def mean_squares(table: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean squares of rows, columns and interaction of a table of at least 2 by 2 (Scheffé 1959, ch. 7)."""
    seeds, images = table.shape
    mean = table.mean()
    of_seeds = images * float(((table.mean(axis=1) - mean) ** 2).sum())
    of_images = seeds * float(((table.mean(axis=0) - mean) ** 2).sum())
    rest = max(0.0, float(((table - mean) ** 2).sum()) - of_seeds - of_images)
    return of_seeds / (seeds - 1), of_images / (images - 1), rest / ((seeds - 1) * (images - 1))
