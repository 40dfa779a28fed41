"""The metric against what it costs: parameters, multiply-adds, time, and the arms that nothing beats.

Time is that of one trial alone, with the work that it shares with others in a run: what a trial takes there by itself
would put a large backbone on the front as if its features cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from resflow.analysis import times
from resflow.analysis.design import Design
from resflow.figures.accuracy import handles_of
from resflow.figures.labels import POINTS, points_per_unit, small, text_width
from resflow.figures.palette import SEED_ALPHA, Style, arm_styles, series, series_styles
from resflow.figures.style import MUTED, WIDE, columns, em, finish, hover, legend, new_figure, short, theme
from resflow.figures.ticks import LEAST_SPAN, limit, number_axis
from resflow.records.run import MANY

TIME = "time"  # a column of this module's own: seconds of one trial alone


@dataclass(frozen=True)
class Cost:
    """A column of costs, the factor to the unit that it is drawn in, and the label of its axis."""

    column: str
    unit: float
    label: str

    def of(self, table: pd.DataFrame) -> pd.Series:
        """Return the costs of a table's rows, in that unit."""
        return table[self.column].astype(float) * self.unit


def cost(trials: pd.DataFrame, arms: pd.DataFrame, design: Design, width: float = WIDE) -> Figure:
    """Draw the metric against parameters, multiply-adds an image and time of a trial alone: each seed, and the mean.

    A step joins the arms of the Pareto front: no other arm has a mean as good at no more cost. Where the records of an
    arm do not tell what its shared work cost, times are trials' own and no step joins them.
    """
    table, lines, untold = arms.set_index("arm"), series(design), times.untold(arms)
    table[TIME] = table["seconds" if untold else "alone_seconds"]
    marks = series_styles(design)
    done = trials[trials["status"] == "completed"]
    done = done.assign(**{TIME: done["seconds"] + done["shared_seconds"] * (0 if untold else 1)})  # NaN is not drawn
    with theme():
        kinds = _costs(table, "a trial" if untold else "of a trial alone")
        fronts = [kind for kind in kinds if kind.column != TIME or not untold]
        side_by_side = columns(len(kinds), width, 2.5) > 1
        figure = new_figure(width, 3.0 if side_by_side else 2.5 * len(kinds))
        grid = figure.subplots(*((1, len(kinds)) if side_by_side else (len(kinds), 1)), sharey=True, squeeze=False)
        inches = (width / grid.shape[1] - 0.6 * em(), figure.get_figheight() / grid.shape[0] - 0.8 * em())
        for axes, kind in zip(grid.ravel(), kinds, strict=True):
            if kind in fronts:
                _front(axes, table, kind, design)
            for name, members in lines.items():
                _series_of(axes, done[done["arm"].isin(members)], table.loc[members], kind, design, marks[name])
            axes.set_xlabel(kind.label)
            axes.margins(0.1)
            least = LEAST_SPAN * float(kind.of(table).max())
            limit(axes.set_xlim, axes.dataLim.intervalx, "", 0.0 if np.isnan(least) else least)
            number_axis(axes, "x", 4)
            number_axis(axes, "y", 5)
            finish(axes)
            _name_levels(axes, table, kind, design, inches)
        for axes in grid[:, 0]:
            axes.set_ylabel(design.metric.axis_label)
        handles = handles_of(marks, line=design.scale is not None)
        if fronts:
            handles.append(Line2D([], [], color=MUTED, linestyle=(0, (2, 2)), lw=1, label="Pareto front"))
        legend(figure, handles)
    return figure


def _costs(table: pd.DataFrame, of_what: str) -> list[Cost]:
    """The costs that differ between arms; `of_what` the time is."""
    minutes = float(table[TIME].max()) >= 180
    giga = float(table["multiply_adds"].astype(float).max()) >= 1e9
    time = Cost(TIME, 1 / 60, f"minutes {of_what}") if minutes else Cost(TIME, 1.0, f"seconds {of_what}")
    every = [
        Cost("parameters", 1e-6, "parameters (millions)"),
        Cost("multiply_adds", *((1e-9, "multiply-adds (G)") if giga else (1e-6, "multiply-adds (M)"))),
        time,
    ]
    return [kind for kind in every if table[kind.column].astype(float).nunique() > 1] or [time]


def _series_of(axes: Axes, trials: pd.DataFrame, rows: pd.DataFrame, kind: Cost, design: Design, style: Style) -> None:
    scale, looks = design.metric.scale, arm_styles(design)
    if len(trials) and kind.column == TIME and len(trials) <= MANY:
        for arm, own in trials.groupby("arm", sort=False):
            x, y, look = kind.of(own), scale * own[design.metric.column], looks[str(arm)]
            axes.plot(x, y, look.marker, color=look.color, alpha=SEED_ALPHA, ms=2.5 * em(), mew=0)
    x, y = kind.of(rows), scale * rows["mean"]
    axes.plot(x, y, color=style.color, linestyle=style.dashes, lw=1)
    for arm, place, value in zip(rows.index, x, y, strict=True):
        if np.isfinite(place) and np.isfinite(value):
            (dot,) = axes.plot([place], [value], looks[arm].marker, color=looks[arm].color, ms=6 * em())
            hover(dot, f"{design.display_name(arm)}: {value:.1f} {design.metric.unit} at {place:.3g}")


def _name_levels(axes: Axes, table: pd.DataFrame, kind: Cost, design: Design, inches: tuple[float, float]) -> None:
    """Write the level of the scale beside means where there is room: at the ends of each series first."""
    if design.scale is None:
        return
    means = pd.DataFrame({"x": kind.of(table), "y": design.metric.scale * table["mean"]}).dropna()
    right, up = (points_per_unit(*of) for of in zip(inches, (axes.get_xlim(), axes.get_ylim()), strict=True))
    marks = [(right * x, up * y) for x, y in means.to_numpy()]
    boxes = [(x - 4 * em(), y - 4 * em(), x + 4 * em(), y + 4 * em()) for x, y in marks]
    size = small()
    ends = {arm for members in series(design).values() for arm in (members[0], members[-1])}
    for arm in sorted(means.index, key=lambda arm: arm not in ends):
        label = short(design.arms[arm][design.scale])
        wide, high = POINTS * text_width(label, size), size
        x, y = marks[list(means.index).index(arm)]
        for dx, dy in (
            (5, 4),
            (-5 - wide, 4),
            (5, -4 - high),
            (-5 - wide, -4 - high),
            (-wide / 2, 6),
            (-wide / 2, -6 - high),
        ):
            box = (x + dx, y + dy, x + dx + wide, y + dy + high)
            if not any(_meet(box, other) for other in boxes):
                boxes.append(box)
                place = tuple(means.loc[arm])
                axes.annotate(label, place, (dx, dy), textcoords="offset points", fontsize=size, color=MUTED)
                break


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def pareto(cost: pd.Series, gain: pd.Series, *, higher_is_better: bool = True) -> list[str]:
    """Name the arms that no other beats: none is as good at no more cost, and cheaper or better. By rising cost."""
    table = pd.DataFrame({"cost": cost.astype(float), "gain": gain.astype(float)}).dropna()
    table["gain"] *= 1 if higher_is_better else -1
    front, best = [], -np.inf
    for arm, row in table.sort_values(["cost", "gain"], ascending=[True, False], kind="stable").iterrows():
        if row["gain"] > best:
            front.append(str(arm))
            best = row["gain"]
    return front


def _front(axes: Axes, table: pd.DataFrame, kind: Cost, design: Design) -> None:
    arms = pareto(table[kind.column], table["mean"], higher_is_better=design.metric.higher_is_better)
    x, y = kind.of(table.loc[arms]), design.metric.scale * table.loc[arms, "mean"]
    axes.plot(x, y, drawstyle="steps-post", color=MUTED, linestyle=(0, (2, 2)), lw=1, zorder=1)
