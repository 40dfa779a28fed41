"""The figures of one report: their sections, which there are values for, their captions, their bytes in every form.

A new figure is a function from frames to a Figure in `resflow/figures/`, and here a function that yields it and a row
of KINDS that says in which section of the report it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from resflow.analysis import tuning_curves
from resflow.analysis.analyse import Analysis
from resflow.figures import accuracy, confusion, costs, curves, diagnostics, forest, landscape, tuning
from resflow.figures.confusion import MOST_CLASSES
from resflow.figures.palette import tuned_styles
from resflow.figures.style import (
    NARROW,
    WIDE,
    current_page,
    settle,
    standalone,
    to_png,
    to_svg,
)
from resflow.records.record import PROBE
from resflow.records.run import MANY
from resflow.report import figure_titles, tables, test_images, times

FILES = ("svg", "png")  # of every figure, and of those of the answer, which other pages show as thumbnails
MOST_ROWS = 60  # of differences that are all drawn
ANSWER = "answer"
SECTIONS = (ANSWER, "effects", "curves", "inside", "tuning", "costs", "classes")  # as the templates have them


@dataclass(frozen=True)
class Entry:
    """One figure that there are values for; `draw` takes its width in inches."""

    name: str
    title: str
    caption: str
    draw: Callable[..., Figure]


@dataclass(frozen=True)
class Kind:
    """Figures of one kind: their section of the report, a pattern of their names, and those that a run has.

    Of a kind that is `paired` two stand side by side where a page is wide, so that one drawing serves every page.
    """

    section: str
    names: str
    entries: Callable[[Analysis], Iterator[Entry]]
    paired: bool = False


@dataclass(frozen=True)
class RenderedFigure:
    """One figure as a report needs it: SVG texts by layout, and files by suffix.

    A figure has one layout, `pair`, or two: `wide`, and `narrow` for phones.
    """

    name: str
    section: str
    title: str
    caption: str
    layouts: dict[str, str]
    files: dict[str, bytes]


def draw_figures(analysis: Analysis) -> list[RenderedFigure]:
    """Draw every figure of a run for its report."""
    return [_render(kind, entry) for kind in KINDS for entry in kind.entries(analysis)]


def is_figure_file(name: str) -> bool:
    """Tell whether a report writes files of this name into figures/."""
    stem, _, suffix = name.rpartition(".")
    return suffix in FILES and any(re.fullmatch(kind.names, stem) for kind in KINDS)


def list_figures(analysis: Analysis) -> Iterator[tuple[str, Entry]]:
    """Yield the section and the entry of every figure that there are values for, in the order of KINDS."""
    for kind in KINDS:
        for entry in kind.entries(analysis):
            yield kind.section, entry


def _render(kind: Kind, entry: Entry) -> RenderedFigure:
    first = entry.draw(width=NARROW if kind.paired else WIDE)
    settle(first)
    svg = to_svg(first, entry.name)
    layouts = {"pair": svg} if kind.paired else {"wide": svg, "narrow": _narrow(entry)}
    files = {"svg": standalone(svg).encode()}
    if kind.section == ANSWER:
        files["png"] = to_png(first)
    title = entry.title[:1].upper() + entry.title[1:]
    return RenderedFigure(entry.name, kind.section, title, entry.caption, layouts, files)


def _narrow(entry: Entry) -> str:
    figure = entry.draw(width=NARROW)
    settle(figure)
    return to_svg(figure, f"{entry.name}-narrow")


def _accuracy(analysis: Analysis) -> Iterator[Entry]:
    a, design = analysis, analysis.design
    if not a.completed:
        return
    many = len(a.trials) > MANY
    marks = "Large marks are means over seeds" if many else "Small marks are seeds, large ones their mean"
    wide = f", wide lines span the middle nine tenths of an arm's seeds (more than {MANY} trials)" if many else ""
    bars = "; so few seeds have no interval."
    if a.arms["low"].notna().any():
        bars = f" with its 95 % interval over seeds{design.seeds_of}."
    for number, arms in enumerate(accuracy.pages(a.arms, design), 1):
        yield Entry(
            _numbered("accuracy", number),
            figure_titles.accuracy(a),
            f"{figure_titles.accuracy_axes(a)}. {marks}{wide}{bars}",
            partial(accuracy.accuracy, a.trials, arms, design, a.chance),
        )


def _numbered(name: str, number: int) -> str:
    """Name a figure of several that a page has no room for at once."""
    return name if number == 1 else f"{name}_{number}"


def _effects(analysis: Analysis) -> Iterator[Entry]:
    table, design = analysis.effects, analysis.design
    if not len(table) or not table["n"].sum():
        return
    shown, rest = table, ""
    if len(table) > MOST_ROWS:
        shown = table[table["verdict"] != "undecided"]
        rest = f" Of {len(table)} only those that are decided are drawn; the tables have all."
    if shown.empty:
        return
    for number, part in enumerate(forest.pages(shown, design, current_page().width), 1):
        yield Entry(
            _numbered("effects", number),
            figure_titles.effects(analysis),
            f"Paired differences with 95 % intervals over {tables.tell_over(table, design)}; marker and colour give "
            "the verdict."
            + (" Of a difference by another factor: more or less than before." if (table["less"] != "").any() else "")
            + (
                " Grey zone: the declared margin of equivalence; wide lines must lie within it."
                if design.margin is not None
                else ""
            )
            + " Holm's correction may leave undecided what an interval tells from 0."
            + rest,
            partial(forest.effect_forest, part, design),
        )


def _cost(analysis: Analysis) -> Iterator[Entry]:
    if not analysis.completed:
        return
    yield Entry(
        "cost",
        f"{analysis.design.metric.label} against cost",
        f"Means over seeds; small marks are trials. {times.caption(analysis)} Dashes: the Pareto front, arms that no "
        "other beats at no more cost.",
        partial(costs.cost, analysis.trials, analysis.arms, analysis.design),
    )


INSIDE = (  # figure, kind, whether of the first step (else of the last that was kept), title, caption
    ("response_sd", "response_sd", False, "Responses by layer", "Standard deviation of batch norm outputs."),
    ("gradient_norm", "gradient_norm", True, "Gradients by layer, at the first step", "L2 norm by kernel."),
    ("gradient_norm_last", "gradient_norm", False, "Gradients by layer, at the end", "L2 norm by kernel, last step."),
    ("dead_units", "dead_units", False, "Dead units by layer", "ReLU outputs that are zero for every image."),
    ("shortcut_share", "shortcut_share", False, "The shortcut's share, by block", "Of the norms of both branches."),
)


def _inside(analysis: Analysis) -> Iterator[Entry]:
    """Diagnostics of the trained networks; gradients also of the first step."""
    table = analysis.diagnostics
    if table is None or table.empty:
        return
    probed = _probed(analysis)
    collapsed = analysis.trials[analysis.trials["collapsed"] != ""]
    names = ", ".join(map(analysis.design.display_name, dict.fromkeys(collapsed["arm"])))
    left_out = f" Without {len(collapsed)} collapsed networks ({names})." if len(collapsed) else ""
    for name, kind, first, title, caption in INSIDE:
        rows = table[table["kind"] == kind]
        epoch = 0 if first else rows.groupby("id")["epoch"].transform("max")
        rows = rows[rows["epoch"] == epoch].dropna(subset=["value"])
        rows = rows if first else rows[~rows["id"].isin(list(collapsed["id"]))]
        if len(rows):
            shade = f" Lines are means over seeds, shades span them. Of {probed}; gradients of a batch."
            draw = partial(diagnostics.inside, rows, analysis.design, kind)
            yield Entry(f"inside_{name}", title, caption + shade + ("" if first else left_out), draw)


def _probed(analysis: Analysis) -> str:
    """Say how many images of which part diagnostics looked at, as far as the records tell."""
    data = [record.data for record in analysis.records if record.status == "completed"]
    parts = {"train" if one.get("validation") == 0 else "validation" for one in data}
    part = {"train": "training", "validation": "validation"}[parts.pop()] if len(parts) == 1 else "validation"
    counts = {one.get("validation") or one.get("train") for one in data if one.get("validation") is not None}
    numbers = sorted({min(count, PROBE) for count in counts if count is not None})
    return f"{' or '.join(map(str, numbers))} {part} images" if numbers else "validation images"


def _landscape(analysis: Analysis) -> Iterator[Entry]:
    """The loss as `resflow landscape` measured it, where it did."""
    table = analysis.landscape
    if table is None or not analysis.completed:
        return
    line, plane = table[table["y"].isna()], table[table["y"].notna()]
    if len(line):
        yield Entry(
            "landscape_line",
            "Loss around the trained networks",
            "Cross-entropy on training images, in inference mode, along a random direction with filter normalisation "
            "(Li et al. 2018), the same one for nets that share layers. Means over the seeds measured.",
            partial(landscape.landscape_line, line, analysis.design),
        )
    if len(plane):
        seed = int(plane["seed"].min())
        yield Entry(
            "landscape_plane",
            "Loss over two directions",
            f"Contours of the loss, the same levels in each panel, of seed {seed}. A cross marks the network.",
            partial(landscape.landscape_plane, plane[plane["seed"] == seed], analysis.design),
        )


def _tuning(analysis: Analysis) -> Iterator[Entry]:
    """A tuning phase: what more candidates buy, and what each hyperparameter does."""
    phase, tune = analysis.tuning, analysis.run.study.get("tune")
    if phase is None or not phase.tried:
        return
    tune = tune if isinstance(tune, dict) else {}
    names = {arm: arm for arm in phase.table["arm"]}
    looks = tuned_styles(analysis.design, names)
    independent = tune.get("oracle") == "random" and tune.get("pruning") == "none"
    curve = tuning_curves.expected(phase, independent=independent)
    if len(curve):
        how = (
            "The expected best of so many random candidates (Dodge et al. 2019), with bands that hold the whole curve "
            "of that expectation in 95 % of searches (Lourie et al. 2023): no range for the best of one search."
            if independent
            else "The best of the first candidates. No band: later ones depend on earlier ones, or some ended early."
        )
        yield Entry(
            "tuning_curves",
            "Validation accuracy by candidates tried",
            how,
            partial(tuning.tuning_curves, curve, names, looks),
        )
    points = tuning_curves.scatter(phase, list(analysis.space))
    if len(points):
        logs = [name for name, one in analysis.space.items() if getattr(one, "sampling", "linear") == "log"]
        text = "Each mark is a candidate; the ring is the one that was chosen. All other settings vary as well."
        draw = partial(tuning.sensitivity, points, names, looks, logs)
        yield Entry("tuning_sensitivity", "What each hyperparameter does", text, draw)


def _confusion(analysis: Analysis) -> Iterator[Entry]:
    """The best arm's confusions, of few classes; of more the table of the hardest ones stands alone."""
    answers, arms = analysis.predictions, test_images.shown_arms(analysis)
    if answers is None or not arms or arms[0] not in answers.of_arm:
        return
    if answers.classes(arms[0]) <= MOST_CLASSES:
        table = answers.confusion(arms[0])
        yield Entry(
            "confusion",
            f"What {analysis.design.display_name(arms[0])} answers",
            "Per cent of a true class' test images (row) by answer (column), the mean over seeds, of the arm with the "
            "best mean. Right answers have a rim.",
            partial(confusion.confusion, table, test_images.class_names(analysis, len(table))),
        )


def _curves(analysis: Analysis) -> Iterator[Entry]:
    """Training and validation error, each twice where there are two ways to lay the panels out."""
    design, many = analysis.design, len(analysis.trials) > MANY
    factor = design.main
    rest = design.others(factor) if factor else ()
    ways = [(True, (factor,)), (False, rest)] if factor and rest else [(True, ())]
    for column, word in (("train_top1", "training"), ("validation_top1", "validation")):
        if column not in analysis.histories or not analysis.histories[column].notna().any():
            continue
        seeds = "A shade spans the middle nine tenths of the seeds" if many else "Each thin line is a seed"
        caption = (
            f"Error on the {word} images, clean and in inference mode. {seeds}; the mean of completed seeds is bold."
        )
        names: set[str] = set()
        found = figure_titles.training(analysis) if column == "train_top1" else ""
        for by_scale, by in ways:
            name = "_by_".join([word, *(["_".join(_file_name(f) for f in by)] if by else [])])
            name += "_2" if name in names else ""
            names.add(name)
            title = (found or f"{word} error") + (f", a panel for each {' and '.join(by)}" if by else "")
            draw = partial(curves.curves, analysis.histories, design, column, panel_by_scale=by_scale)
            yield Entry(name, title, caption, draw)


def _file_name(factor: str) -> str:
    return re.sub(r"\W+", "", factor, flags=re.ASCII)[:40] or "factor"


KINDS = (  # in the order in which they are drawn and exported
    Kind(ANSWER, r"accuracy(_\d+)?", _accuracy),
    Kind("effects", r"effects(_\d+)?", _effects),
    Kind("curves", r"(training|validation)(_by_\w+)?", _curves, paired=True),
    Kind("inside", r"inside_\w+", _inside, paired=True),
    Kind("inside", r"landscape_\w+", _landscape, paired=True),
    Kind("costs", "cost", _cost),
    Kind("classes", "confusion", _confusion),
    Kind("tuning", r"tuning_\w+", _tuning),
)
