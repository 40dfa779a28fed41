"""Where figures and tables are printed: widths, the font and its size, by what asks for them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from resflow.errors import RecordError, one_of
from resflow.figures.style import Page

TIMES = "STIXGeneral"  # matplotlib brings it; its letters are Times'
COLUMN = 3.4  # inches: one column of a two-column paper
POINTS = 72.27  # TeX's, an inch


@dataclass(frozen=True)
class Preset:
    """The page of figures, and the width of the text beside the column, in inches: a wide table goes across it.

    A page's height leaves room for a caption.
    """

    page: Page
    text: float


PAPER = Preset(Page(COLUMN, 8.5), 2 * COLUMN + 0.25)
PRESETS = {
    "neurips": Preset(Page(5.5, 8.2, TIMES, 8.0), 5.5),
    "icml": Preset(Page(3.25, 8.2, TIMES, 8.0), 6.75),
    "nature": Preset(Page(3.5, 8.5, size=6.0), 7.2),  # 89 and 183 mm, sans-serif of 5 to 7 points
    "slide": Preset(Page(5.5, 2.9), 5.5),  # of 160 x 90 mm, as beamer's: a tenth of its height is a title's
}


def choose_preset(name: str | None, width: float | None) -> Preset:
    """Return the preset of a name, or a paper's, with the column as wide as `width` says. Raises RecordError."""
    if name is not None and name not in PRESETS:
        raise RecordError(f"--preset: {one_of(name, PRESETS, 'preset')}")
    preset = PRESETS[name] if name else PAPER
    if width is None:
        return preset
    return Preset(replace(preset.page, width=width), max(width, preset.text))
