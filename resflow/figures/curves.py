"""Error over epochs, as He et al. 2015, Figure 4: degradation is about training error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from resflow.analysis.design import Design
from resflow.figures.labels import POINTS, fit_at_ends, name_ends, small, text_width
from resflow.figures.palette import SEED_ALPHA, Style, arm_styles, series_styles
from resflow.figures.style import MOST_NAMED, WIDE, em, finish, hover, label_grid, legend, panels, short, theme
from resflow.figures.ticks import limit, number_axis
from resflow.records.run import MANY

ERRORS = {"train_top1": "training error (%)", "validation_top1": "validation error (%)"}
Draw = Callable[[Axes, str, Style], Line2D | None]


def curves(
    histories: pd.DataFrame, design: Design, column: str, *, panel_by_scale: bool, width: float = WIDE
) -> Figure:
    """Draw error over epochs in inference mode, as He et al. 2015, Figure 4: a thin line a seed, the mean bold.

    `histories` has id, arm, seed, status, epoch and `column` (a top-1). With `panel_by_scale` a panel a depth
    and a line a shortcut, else a panel a shortcut and a line a depth. The mean is drawn over the epochs
    that every completed seed reached. Of more than MANY trials the seeds are a shade: their middle nine tenths.
    """
    histories = histories[histories[column].notna()]  # of epochs with an evaluation
    draw = _shade if histories["id"].nunique() > MANY else _curve
    of_arm = dict(iter(histories[["id", "arm", "seed", "epoch", "status", column]].groupby("arm", sort=False)))

    def scale(axes: Axes) -> None:
        number_axis(axes, "x", 5, whole=True)
        number_axis(axes, "y", 5)
        limit(axes.set_ylim, 100 * (1 - histories[column].to_numpy(dtype=float)), "%")

    with theme():
        panel = Panels(design, list(design.arms), ("epoch", ERRORS[column]), (width, 2.35), panel_by_scale)
        figure, _ = panel.draw(
            lambda axes, arm, style: (
                draw(axes, of_arm[arm], column, style, design.display_name(arm)) if arm in of_arm else None
            ),
            scale,
            at_ends=True,
        )
    return figure


@dataclass(frozen=True)
class Panels:
    """Panels of one scale: a panel a shortcut and a line a depth, or with `by_scale` the reverse.

    `labels` are those of x and y, `size` is the figure's width and a panel's height in inches.
    """

    design: Design
    arms: Sequence[str]
    labels: tuple[str, str]
    size: tuple[float, float]
    by_scale: bool = False

    def draw(self, draw: Draw, scale: Callable[[Axes], object], *, at_ends: bool = False) -> tuple[Figure, list[Axes]]:
        """Draw each arm with `draw`, which returns its line, then set the axes with `scale`, then name the lines.

        They are named `at_ends` where there is room, else in a key above their panel.
        """
        outer, inner = _split(self.design, self.by_scale)
        names, looks = list(dict.fromkeys(outer[arm] for arm in self.arms)), arm_styles(self.design)
        figure, grid = panels(len(names), *self.size)
        lines: list[dict[str, Line2D]] = []
        for axes, name in zip(grid, names, strict=True):
            drawn = {arm: draw(axes, arm, looks[arm]) for arm in self.arms if outer[arm] == name}
            lines.append({arm: line for arm, line in drawn.items() if line is not None and inner[arm]})
            axes.set_title(short(name), loc="left")
            finish(axes)
        label_grid(figure, grid, *self.labels)
        for axes in grid:
            scale(axes)
        spec = grid[0].get_subplotspec()
        rows, across = (spec.get_gridspec().nrows, spec.get_gridspec().ncols) if spec else (1, 1)
        width, height = figure.get_figwidth() / across - 0.5 * em(), figure.get_figheight() / rows - 0.6 * em()
        texts = [[short(inner[arm]) for arm in of_panel] for of_panel in lines]
        fitting = at_ends and all(fit_at_ends(of_panel, width, height) for of_panel in texts)
        shared = self.by_scale and self.design.scale is not None and len(self.design.varied) > 1  # lines are series
        for axes, of_panel in zip(grid, lines, strict=True):
            if fitting:
                ends = [(_end(line), short(inner[arm]), looks[arm]) for arm, line in of_panel.items()]
                name_ends(axes, [(*end, name, look) for end, name, look in ends if end], height)
            elif not shared:
                _key(axes, {short(inner[arm]): looks[arm] for arm in of_panel}, width)
        if shared and not fitting:
            named = {inner[arm] for of_panel in lines for arm in of_panel}
            legend(figure, _strokes({name: s for name, s in series_styles(self.design).items() if name in named}))
        return figure, grid


def _end(line: Line2D) -> tuple[float, float] | None:
    """Return where a line ends, as far as it is finite; None where none of it is."""
    places = np.column_stack([np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)])
    places = places[np.isfinite(places).all(axis=1)]
    return (float(places[-1, 0]), float(places[-1, 1])) if len(places) else None


def _key(axes: Axes, looks: Mapping[str, Style], width: float) -> None:
    """Name a panel's lines above it: beside its title where both fit, else below it."""
    if not looks or len(looks) > MOST_NAMED:
        return
    size, title = small(), axes.get_title("left")
    widest = max(text_width(name, size) for name in looks) + 4.2 * size / POINTS
    beside = text_width(title, 1.05 * size / 0.83) + widest * len(looks) < width
    across = len(looks) if beside else max(1, min(len(looks), int(width / widest)))
    axes.legend(
        handles=_strokes(looks),
        loc="lower right" if beside else "lower left",
        bbox_to_anchor=(1.0 if beside else 0.0, 1.0),
        ncols=across,
        fontsize=size,
        handlelength=2.4,
        handletextpad=0.5,
        columnspacing=0.8,
        borderpad=0.15,
        borderaxespad=0.0,
        labelspacing=0.2,
    )
    if not beside and title:
        axes.set_title(title, loc="left", pad=6 + 1.3 * size * -(-len(looks) // across))


def _strokes(looks: Mapping[str, Style]) -> list[Line2D]:
    return [Line2D([], [], color=s.color, linestyle=s.dashes, lw=1.8, label=short(name)) for name, s in looks.items()]


def _split(design: Design, panel_by_scale: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Arm -> panel title, and arm -> name of its line."""
    factor = design.main
    rest = design.others(factor) if factor else ()
    of_factor = {arm: design.label(arm, (factor,)) if factor else design.display_name(arm) for arm in design.arms}
    of_rest = {arm: design.label(arm, rest) for arm in design.arms}
    if not rest:
        return dict.fromkeys(design.arms, ""), of_factor
    if panel_by_scale:
        return {arm: f"{factor} {label}" for arm, label in of_factor.items()}, of_rest
    return of_rest, of_factor


def _curve(axes: Axes, rows: pd.DataFrame, column: str, style: Style, name: str) -> Line2D | None:
    line, thin = None, {"color": style.color, "linestyle": style.dashes, "lw": 0.7, "alpha": SEED_ALPHA}
    for _, run in rows.groupby("id", sort=True):
        error = 100 * (1 - run[column])
        (line,) = axes.plot(run["epoch"], error, **thin)
        hover(line, f"{name}, seed {run['seed'].iloc[0]}: {error.iloc[-1]:.1f} % at the end")
    done = rows[rows["status"] == "completed"]
    if done.empty:
        return line
    wide = done.pivot_table(index="epoch", columns="id", values=column).dropna()
    return _mean(axes, 100 * (1 - wide), style, name)


def _shade(axes: Axes, rows: pd.DataFrame, column: str, style: Style, name: str) -> Line2D:
    done = rows[rows["status"] == "completed"]
    wide = 100 * (1 - done.pivot(index="epoch", columns="id", values=column).dropna())
    low, high = np.quantile(wide.to_numpy(dtype=float), (0.05, 0.95), axis=1) if len(wide) else ([], [])
    axes.fill_between(wide.index, low, high, color=style.color, alpha=0.25, lw=0)
    return _mean(axes, wide, style, name)


def _mean(axes: Axes, wide: pd.DataFrame, style: Style, name: str) -> Line2D:
    (line,) = axes.plot(wide.index, wide.mean(axis=1), color=style.color, linestyle=style.dashes, lw=2)
    hover(line, f"{name}, mean of {wide.shape[1]}")
    return line
