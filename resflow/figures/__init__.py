"""Figures of a run: functions from frames to a matplotlib Figure. They read and save nothing.

A study with a numeric factor (depth) is drawn along it, a series for each combination of the other factors; a study
without one is drawn arm by arm. Every completed seed is a point or a thin line. `width` is in inches; below five the
panels stand in one column.
"""

from resflow.figures.accuracy import accuracy
from resflow.figures.classes import confusion
from resflow.figures.costs import cost
from resflow.figures.curves import curves
from resflow.figures.forest import effect_forest
from resflow.figures.inside import inside
from resflow.figures.landscape import landscape_line, landscape_plane
from resflow.figures.maps import maps
from resflow.figures.tuned import sensitivity, tuning_curves

__all__ = [
    "accuracy",
    "confusion",
    "cost",
    "curves",
    "effect_forest",
    "inside",
    "landscape_line",
    "landscape_plane",
    "maps",
    "sensitivity",
    "tuning_curves",
]
