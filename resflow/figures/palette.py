"""The look of arms, the same in all figures of a report, and that of verdicts.

Arms that differ along the scale (depth) alone are a series: it has a hue, a marker and dashes, and its levels are a
ramp of that hue from light to dark. Where nothing is a scale each arm is a series of its own. What colour alone does
not tell apart, be it in grey or to a reader who sees fewer colours, differs in marker and dashes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_hex, to_rgb

from resflow.analysis.design import Design
from resflow.figures.style import INK, MOST_NAMED, MUTED
from resflow.study.contrast_families import TUNED, arm_name

# Two colours that mean a verdict, and nothing else anywhere.
HELPS, HURTS = "#1f78c8", "#d55e00"
VERDICTS = {"helps": (HELPS, "^"), "hurts": (HURTS, "v"), "equivalent": (INK, "D"), "undecided": (MUTED, "o")}
# The light and the dark end of each ramp: 20 steps of CIE L* apart, with contrast 3:1 or more on white and on #0d1117.
# The first two are far apart to protanopes and deuteranopes too, the third is between them.
RAMPS = (
    ("#6ea231", "#3e6d00"),
    ("#a182eb", "#6a50b3"),
    ("#0ca59e", "#0b6d68"),
    ("#e963b2", "#ae297d"),
    ("#b78e1e", "#7b5d00"),
    ("#f3656f", "#b62b40"),
)
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")
DASHES = (
    "-",
    (0, (5, 1.5)),
    (0, (1.5, 1.2)),
    (0, (5, 1.2, 1.2, 1.2)),
    (0, (8, 2)),
    (0, (3, 3)),
    (0, (8, 1.5, 1.5, 1.5, 1.5, 1.5)),
    (0, (1, 3)),
)
STEPS = 4  # of a ramp that are told apart, in grey as well; of more, neighbours differ in marker and dashes
ALONE = (1.0, 0.0, 2 / 3, 1 / 3)  # places in their ramps of series of one arm, so that in grey four differ
SEED_ALPHA = 0.7  # of a thin line or a small mark of one seed


@dataclass(frozen=True)
class Style:
    """Colour, marker and dashes of an arm or a series."""

    color: str
    marker: str
    dashes: Any


UNNAMED = Style(MUTED, "o", "-")


def series(design: Design) -> dict[str, list[str]]:
    """Return series -> its arms in order: the levels beside the scale, or each arm alone."""
    if design.scale is None:
        return {design.display_name(arm): [arm] for arm in design.arms}
    levels = scale_levels(design)
    groups: dict[str, list[str]] = {design.label(arm, design.others(design.scale)): [] for arm in design.arms}
    for arm in sorted(design.arms, key=lambda arm: levels.index(design.arms[arm][design.scale or ""])):
        groups[design.label(arm, design.others(design.scale))].append(arm)
    return groups


def scale_levels(design: Design) -> list[str]:
    """Return the labels of the scale by their value; none where nothing is a scale."""
    return sorted(design.factors[design.scale], key=float) if design.scale else []


def arm_styles(design: Design) -> dict[str, Style]:
    """Return arm -> its style. Of more series than a legend names all are grey: their colours would say nothing."""
    levels, groups = scale_levels(design), series(design)
    if len(groups) > MOST_NAMED:
        return dict.fromkeys(design.arms, UNNAMED)
    looks = {}
    for place, members in enumerate(groups.values()):
        for arm in members:
            level = levels.index(design.arms[arm][design.scale]) if design.scale else None
            looks[arm] = _style(place) if level is None else _level_style(place, level, len(levels))
    return {arm: looks[arm] for arm in design.arms}


def series_styles(design: Design) -> dict[str, Style]:
    """Return series -> the style of what joins its arms: where it has several, the middle of its ramp."""
    groups, looks = series(design), arm_styles(design)
    if len(groups) > MOST_NAMED or not design.scale:
        return {name: looks[members[0]] for name, members in groups.items()}
    return {name: _styled(place, 0, 0.5) for place, name in enumerate(groups)}


def tuned_styles(design: Design, arms: Iterable[str]) -> dict[str, Style]:
    """Return arm -> style of arms as a tuning phase names them: those of the arms that run with what it chose."""
    looks = arm_styles(design)
    return {arm: looks.get(arm) or looks.get(arm_name(arm, TUNED), UNNAMED) for arm in arms}


def _style(place: int) -> Style:
    """The style of a series of one arm."""
    return _styled(place, 0, ALONE[(place + place // len(RAMPS)) % len(ALONE)])


def _level_style(place: int, level: int, levels: int) -> Style:
    """The style of a series' level. Levels with the same dashes are so far apart that their colours tell."""
    stride = -(-(levels - 1) // (STEPS - 1))
    return _styled(place, level % stride, level / (levels - 1))


def _styled(place: int, shift: int, along: float) -> Style:
    index = place + place // math.lcm(len(RAMPS), len(MARKERS)) + shift  # no hue comes with a marker again
    light, dark = (np.array(to_rgb(end)) for end in RAMPS[place % len(RAMPS)])
    return Style(to_hex(light + along * (dark - light)), MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)])
