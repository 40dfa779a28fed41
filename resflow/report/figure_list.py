"""The figures of one report: which there are values for, their captions, and their bytes in every form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from resflow.analysis import tuning_curves
from resflow.analysis.analyse import Analysis
from resflow.analysis.design import MANY
from resflow.figures import accuracy, confusion, costs, curves, diagnostics, forest, landscape, tuning
from resflow.figures.confusion import MOST_CLASSES
from resflow.figures.style import NARROW, WIDE, settle, standalone, to_file, to_png, to_svg
from resflow.report import test_images

OURS = re.compile(
    r"(accuracy|effects|cost|confusion|inside_\w+|landscape_\w+|tuning_\w+|(training|validation)(_by_\w+)?)\.(svg|png)"
)


@dataclass(frozen=True)
class RenderedFigure:
    """One figure as a report needs it: SVG texts for wide and for narrow pages, and files by suffix."""

    name: str
    title: str
    caption: str
    wide: str
    narrow: str
    files: dict[str, bytes]


def draw_figures(analysis: Analysis) -> list[RenderedFigure]:
    return [_render(*figure) for figure in _figures(analysis)]


def export_figures(analysis: Analysis, kind: str, width: float) -> Iterator[tuple[str, bytes]]:
    """Each figure's name and file, `kind` svg, png or pdf, so many inches wide: for a paper, on white."""
    for name, _, _, figure in _figures(analysis):
        yield name, to_file(figure(width=width), kind)


def _render(name: str, title: str, caption: str, figure: Callable[..., Figure]) -> RenderedFigure:
    wide, narrow = figure(width=WIDE), figure(width=NARROW)
    settle(wide)
    settle(narrow)
    svg = to_svg(wide, name)
    return RenderedFigure(
        name=name,
        title=title[:1].upper() + title[1:],
        caption=caption,
        wide=svg,
        narrow=to_svg(narrow, f"{name}-narrow"),
        files={"svg": standalone(svg).encode(), "png": to_png(wide)},
    )


def _figures(analysis: Analysis) -> Iterator[tuple[str, str, str, Callable[..., Figure]]]:
    """Yield name, title, caption and drawing function, in the order of the report."""
    a, design, metric = analysis, analysis.design, analysis.design.metric
    if not a.completed:
        yield from _curves(analysis)
        yield from _tuning(analysis)
        return
    many = len(a.trials) > MANY
    marks = "Large marks are means over seeds" if many else "Small marks are seeds, large ones their mean"
    wide = f", wide lines span the middle nine tenths of an arm's seeds (more than {MANY} trials)" if many else ""
    bars = " with its 95 % t interval." if a.arms["low"].notna().any() else "; one seed has no interval."
    yield (
        "accuracy",
        f"{metric.label} by {design.scale or 'arm'}",
        marks + wide + bars,
        partial(accuracy.accuracy, a.trials, a.arms, design, a.chance),
    )
    if len(a.effects) and a.effects["n"].sum():
        yield (
            "effects",
            f"Differences in {metric.label}",
            "Paired differences over seeds with 95 % t intervals; marker and colour give the verdict."
            + (" Of a difference by another factor: larger or smaller." if (a.effects["less"] != "").any() else "")
            + (" Grey zone: the declared margin of equivalence." if design.margin is not None else ""),
            partial(forest.effect_forest, a.effects, design),
        )
    yield from _curves(analysis)
    yield from _inside(analysis)
    yield from _landscape(analysis)
    yield (
        "cost",
        f"{metric.label} against cost",
        "Means over seeds; small marks are trials. Time is wall time of a trial on the hardware named below, with "
        "evaluation. Dashes: the Pareto front, arms that no other beats at no more cost.",
        partial(costs.cost, a.trials, a.arms, design),
    )
    yield from _confusion(analysis)
    yield from _tuning(analysis)


INSIDE = (  # figure, kind, whether of the first step (else of the last that was kept), title, caption
    ("response_sd", "response_sd", False, "Responses by layer", "Standard deviation of batch norm outputs."),
    ("gradient_norm", "gradient_norm", True, "Gradients by layer, at the first step", "L2 norm by kernel."),
    ("gradient_norm_last", "gradient_norm", False, "Gradients by layer, at the end", "L2 norm by kernel, last step."),
    ("dead_units", "dead_units", False, "Dead units by layer", "ReLU outputs that are zero for every image."),
    ("shortcut_share", "shortcut_share", False, "The shortcut's share, by block", "Of the norms of both branches."),
)


def _inside(analysis: Analysis) -> Iterator[tuple[str, str, str, Callable[..., Figure]]]:
    """What diagnostics saw, of the trained networks; gradients also of the first step."""
    table = analysis.diagnostics
    if table is None or table.empty:
        return
    for name, kind, first, title, caption in INSIDE:
        mine = table[table["kind"] == kind]
        epoch = 0 if first else mine.groupby("id")["epoch"].transform("max")
        mine = mine[mine["epoch"] == epoch].dropna(subset=["value"])
        if len(mine):
            shade = " Lines are means over seeds, shades span them. Of 64 validation images; gradients of a batch."
            yield f"inside_{name}", title, caption + shade, partial(diagnostics.inside, mine, analysis.design, kind)


def _landscape(analysis: Analysis) -> Iterator[tuple[str, str, str, Callable[..., Figure]]]:
    """What `resflow landscape` measured, where it did."""
    table = analysis.landscape
    if table is None:
        return
    line, plane = table[table["y"].isna()], table[table["y"].notna()]
    if len(line):
        yield (
            "landscape_line",
            "Loss around the trained networks",
            "Cross-entropy on training images, in inference mode, along a random direction with filter normalisation "
            "(Li et al. 2018), the same one for nets that share layers. Means over the seeds measured.",
            partial(landscape.landscape_line, line, analysis.design),
        )
    if len(plane):
        seed = int(plane["seed"].min())
        yield (
            "landscape_plane",
            "Loss over two directions",
            f"Contours of the loss, the same levels in each panel, of seed {seed}. A cross marks the network.",
            partial(landscape.landscape_plane, plane[plane["seed"] == seed], analysis.design),
        )


def _tuning(analysis: Analysis) -> Iterator[tuple[str, str, str, Callable[..., Figure]]]:
    """What a tuning phase found: what more candidates buy, and what each hyperparameter does."""
    phase, asked = analysis.tuning, analysis.run.study.get("tune")
    if phase is None or not phase.tried:
        return
    asked = asked if isinstance(asked, dict) else {}
    called = {arm: arm for arm in phase.table["arm"]}
    independent = asked.get("oracle") == "random" and asked.get("pruning") == "none"
    curve = tuning_curves.expected(phase, independent=independent)
    if len(curve):
        how = (
            "The expected best of so many random candidates (Dodge et al. 2019), with 95 % bands for the whole curve "
            "(Lourie et al. 2023): what another search of this size could have found."
            if independent
            else "The best of the first candidates. No band: later ones depend on earlier ones, or some ended early."
        )
        yield (
            "tuning_curves",
            "Validation accuracy by candidates tried",
            how,
            partial(tuning.tuning_curves, curve, called),
        )
    points = tuning_curves.scatter(phase, list(analysis.space))
    if len(points):
        logs = [name for name, one in analysis.space.items() if getattr(one, "sampling", "linear") == "log"]
        text = "Each mark is a candidate; the ring is the one that was chosen. All other settings vary as well."
        draw = partial(tuning.sensitivity, points, called, logs)
        yield "tuning_sensitivity", "What each hyperparameter does", text, draw


def _confusion(analysis: Analysis) -> Iterator[tuple[str, str, str, Callable[..., Figure]]]:
    """The best arm's confusions, of few classes; of more the table of the hardest ones stands alone."""
    answers, arms = analysis.predictions, test_images.shown_arms(analysis)
    if answers is None or not arms or arms[0] not in answers.of_arm:
        return
    table = answers.confusion(arms[0])
    if len(table) <= MOST_CLASSES:
        yield (
            "confusion",
            f"What {analysis.design.display_name(arms[0])} answers",
            "Per cent of a true class' test images (row) by answer (column), the mean over seeds, of the arm with the "
            "best mean. Blue is right, orange wrong.",
            partial(confusion.confusion, table, test_images.class_names(analysis, len(table))),
        )


def _curves(analysis: Analysis) -> Iterator[tuple[str, str, str, Callable[..., Figure]]]:
    """Training and validation error, each twice where there are two ways to lay the panels out."""
    design, many = analysis.design, len(analysis.trials) > MANY
    factor = design.main
    rest = design.others(factor) if factor else ()
    ways = [(True, (factor,)), (False, rest)] if factor and rest else [(True, ())]
    for column, word in (("train_top1", "training"), ("validation_top1", "validation")):
        if column not in analysis.histories or not analysis.histories[column].notna().any():
            continue
        seeds = "A shade spans the middle nine tenths of the seeds" if many else "A thin line a seed"
        caption = (
            f"Error on the {word} images, clean and in inference mode. {seeds}; the mean of completed seeds is bold."
        )
        names: set[str] = set()
        for by_scale, by in ways:
            name = "_by_".join([word, *(["_".join(_file_name(f) for f in by)] if by else [])])
            name += "_2" if name in names else ""
            names.add(name)
            title = f"{word} error" + (f", a panel for each {' and '.join(by)}" if by else "")
            frame = analysis.histories
            yield name, title, caption, partial(curves.curves, frame, design, column, panel_by_scale=by_scale)


def _file_name(factor: str) -> str:
    return re.sub(r"\W+", "", factor, flags=re.ASCII)[:40] or "factor"
