"""Photos beside the activation maps of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from resflow.figures.labels import small
from resflow.figures.style import WIDE, new_figure, short, theme


def maps(
    photo: NDArray[np.uint8], rows: Mapping[str, Sequence[tuple[str, NDArray[np.float32]]]], width: float = WIDE
) -> Figure:
    """Draw a photo: a row an arm, with its (title, map) from the first stage to Grad-CAM, each map 0..1 and square."""
    columns = 1 + max(len(row) for row in rows.values())
    side = width / columns
    with theme():
        figure = new_figure(width, side * 1.18 * len(rows) + 0.3)
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for axes in grid.ravel():
            axes.set_axis_off()
        for line, (arm, row) in zip(grid, rows.items(), strict=True):
            line[0].imshow(photo, interpolation="nearest")
            line[0].set_title(short(arm, width, 22), loc="left", fontsize=small())
            for axes, (title, values) in zip(line[1:], row, strict=False):
                _over(axes, photo, values)
                axes.set_title(short(title, width, 22), loc="left", fontsize=small())
    return figure


def _over(axes: Any, photo: NDArray[np.uint8], values: NDArray[np.float32]) -> None:
    """Draw a map over a pale photo: bright where the network is."""
    extent = (-0.5, photo.shape[1] - 0.5, photo.shape[0] - 0.5, -0.5)
    axes.imshow(photo.mean(axis=-1), cmap="gray", vmin=-120, vmax=300, interpolation="nearest")
    axes.imshow(values, cmap="viridis", vmin=0, vmax=1, alpha=0.65, extent=extent, interpolation="bilinear")
