"""The look of figures: one theme, the page that they are drawn for, SVG for light and dark pages."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.text import Text

from resflow import fonts
from resflow.figures.compact import compact

WIDE, NARROW = 7.4, 3.7  # inches: a page column, and a phone held upright
ROW = 0.27  # inches for one line of a forest or dot plot
EDGE = 0.06  # inches beside panels: a reader's own font may be a little wider
MOST_NAMED = 30  # series of a legend, and rows that have as much room
# Stand-ins that `to_svg` turns into colours of the page around the figure.
INK, MUTED, GRID = "#1a1b1c", "#6b6c6d", "#d7d8d9"
LONGEST_LABEL, LONGEST_NARROW = 34, 26
AXES = "axes:"  # before the attributes that a panel carries in the gid of its axes
HOVER = "hover-"  # begins the id of what is named where it is pointed at
_STYLE = """<style>
svg { color: #1f2328; background: #ffffff; --muted: #59636e; --grid: #d8dee4 }
@media (prefers-color-scheme: dark) { svg { color: #e6edf3; background: #0d1117; --muted: #9aa4af; --grid: #3a424c } }
</style>"""


@dataclass(frozen=True)
class Page:
    """What a figure is drawn for: width and most height in inches, the font, and its size in points."""

    width: float = WIDE
    height: float = np.inf
    font: str = fonts.BASE
    size: float = 9.0


SCREEN = Page()
_page: ContextVar[Page] = ContextVar("page", default=SCREEN)


@contextmanager
def drawn_for(page: Page) -> Iterator[None]:
    """Draw and save figures inside this for another page than a report's: their font, size and height are its."""
    token = _page.set(page)
    try:
        yield
    finally:
        _page.reset(token)


def current_page() -> Page:
    """Return the page that figures are drawn for."""
    return _page.get()


def em() -> float:
    """Return the size of letters against those of a report: what has room there needs so much more, or less."""
    return current_page().size / SCREEN.size


def is_wide(width: float) -> bool:
    """Tell whether panels stand side by side, and labels beside what they name."""
    return width >= 5 * em()


def new_figure(width: float, height: float) -> Figure:
    """Make a figure of a width in inches and a height in inches of a report, no higher than the page."""
    figure = Figure(figsize=(width, min(height * em(), current_page().height)), layout="constrained")
    cast(ConstrainedLayoutEngine, figure.get_layout_engine()).set(w_pad=EDGE)
    return figure


@contextmanager
def theme() -> Iterator[None]:
    """Draw and save inside this. Text stays text in SVG, a `$` is a dollar, and bytes repeat."""
    page = current_page()
    settings: Any = {
        **sns.axes_style("whitegrid"),
        **sns.plotting_context("paper"),
        "font.family": ["sans-serif"] if page.font == fonts.BASE else [page.font, fonts.BASE],
        "font.sans-serif": [fonts.BASE],
        "font.size": page.size,
        "axes.titlesize": 1.05 * page.size,
        "axes.labelsize": page.size,
        "xtick.labelsize": 0.94 * page.size,
        "ytick.labelsize": 0.94 * page.size,
        "legend.fontsize": 0.94 * page.size,
        "text.hinting": "none",  # laid out as wide as a browser and a PDF draw it
        "text.parse_math": False,
        "axes.formatter.use_mathtext": False,
        "axes.unicode_minus": True,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.edgecolor": GRID,
        "grid.color": GRID,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "legend.frameon": False,
        "legend.handlelength": 2.8,
        "svg.fonttype": "none",
        "svg.hashsalt": "resflow",
    }
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()  # a matplotlibrc of the user's, or of the folder, draws nothing here
        mpl.rcParams.update(settings)
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")  # `fonts` has told of it, once
        yield


@contextmanager
def _lettered(figure: Figure) -> Iterator[None]:
    """Have a figure's letters that DejaVu Sans lacks in fonts at hand, for a picture: an SVG's reader has their own."""
    for axes in figure.axes:  # labels of ticks are set when they are asked for
        axes.get_xticklabels()
        axes.get_yticklabels()
    before = {text: text.get_fontfamily() for text in figure.findobj(Text)}
    families = [font.family for font in fonts.fallbacks(text.get_text() for text in before)]
    for text in before if families else ():
        text.set_fontfamily([*dict.fromkeys((current_page().font, fonts.BASE)), *families])
    yield
    for text, family in before.items():
        text.set_fontfamily(family)


def panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Make a grid of panels with shared axes, each of a height in inches of a report: as many columns as `columns`."""
    across = columns(count, width, height)
    rows = -(-count // across)
    figure = new_figure(width, height * rows + 0.4)
    axes = figure.subplots(rows, across, sharex=True, sharey=True, squeeze=False).ravel()
    for spare in axes[count:]:
        spare.set_axis_off()
        above = axes[list(axes).index(spare) - across]
        above.tick_params(labelbottom=True)
    return figure, list(axes[:count])


def label_grid(figure: Figure, grid: Sequence[Axes], x: str, y: str) -> None:
    """Name the axes that panels share: y once for all rows, since it is longer than a low panel is high."""
    grid[-1].set_xlabel(x)
    spec = grid[0].get_subplotspec()
    if spec is not None and spec.get_gridspec().nrows > 1:
        figure.supylabel(y, fontsize=current_page().size)
    else:
        grid[0].set_ylabel(y)


def columns(count: int, width: float, height: float) -> int:
    """Return how many panels stand side by side: two, or three of many; of a narrow page one, or two of many."""
    across = min(count, 2 if count <= 4 else 3) if is_wide(width) else 1 if count <= 3 else 2
    while across < count and -(-count // across) * 0.6 * height * em() > current_page().height:
        across += 1
    return across


def finish(axes: Axes) -> None:
    """Take away spines and ticks, and put the grid behind the data."""
    sns.despine(ax=axes, left=True, bottom=False)
    axes.tick_params(length=0)
    axes.set_axisbelow(True)


def short(label: str, width: float = WIDE, longest: int = 0) -> str:
    """Cut a label to what fits in a figure; tables carry the whole one. Matplotlib hides those that begin with _."""
    label = fonts.drawable(label)
    longest = longest or (LONGEST_LABEL if is_wide(width) else LONGEST_NARROW)
    label = label if len(label) <= longest else label[: longest - 1] + "…"
    return f" {label}" if label.startswith("_") else label


def hover(artist: Artist, text: str) -> None:
    """Have an artist named where a reader points at it: `to_svg` makes a title of this."""
    artist.set_gid(HOVER + quote(text, safe=""))


def middle(values: Any) -> tuple[float, float]:
    """Return what the middle nine tenths of some values span; NaN where there are none."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    return (float(np.quantile(finite, 0.05)), float(np.quantile(finite, 0.95))) if len(finite) else (np.nan, np.nan)


def row_height(rows: int) -> float:
    """Return the height of a row of a figure that has so many, in inches: of many it is as low as its text."""
    return ROW if rows <= MOST_NAMED else 0.7 * ROW


def legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """Put one legend above all panels, in as many columns as fit; none of more than an eye tells apart.

    The figure is higher by all of its lines but the first, as far as the page is.
    """
    if len(handles) > MOST_NAMED:
        return
    longest = max((len(str(handle.get_label())) for handle in handles), default=1)
    across = max(1, min(int(figure.get_figwidth() / em() / (0.62 + 0.075 * longest)), len(handles)))
    lines = -(-len(handles) // across)
    figure.set_figheight(min(figure.get_figheight() + 0.17 * em() * max(lines - 1, 0), current_page().height))
    figure.legend(handles=handles, loc="outside upper left", ncols=across)


def settle(figure: Figure) -> None:
    """Lay the figure out once: saving it lays it out twice a file, and draws it once more than into the file."""
    engine = figure.get_layout_engine()
    if engine is None:
        return
    with theme():
        engine.execute(figure)
        figure.set_layout_engine(None)  # not "none", which draws all once more before each file
    for axes in figure.axes:  # the solver's last digits depend on where its variables lie in memory
        x, y, width, height = (round(float(value), 9) for value in axes.get_position(original=True).bounds)
        axes.set_position((x, y, width, height), which="original")


def to_png(figure: Figure) -> bytes:
    """Render on white, for places that show no SVG."""
    buffer = io.BytesIO()
    with theme(), _lettered(figure):
        figure.savefig(buffer, format="png", dpi=144, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def to_file(figure: Figure, kind: str) -> bytes:
    """Return a figure for print, on white: svg, png (300 dots an inch) or pdf, whose bytes repeat."""
    buffer = io.BytesIO()
    stamp = {"svg": "Date", "pdf": "CreationDate", "png": "Software"}[kind]
    letters = nullcontext() if kind == "svg" else _lettered(figure)
    with theme(), letters, mpl.rc_context({"pdf.fonttype": 42}):  # TrueType: publishers refuse Type 3
        figure.savefig(buffer, format=kind, dpi=300, facecolor="white", metadata={stamp: None})
    return buffer.getvalue()


def to_svg(figure: Figure, name: str) -> str:
    """Return SVG to stand in a page: text and grid take the page's `color`, `--muted` and `--grid`.

    `name` prefixes every id, so that several figures can stand in one page.
    """
    buffer = io.StringIO()
    for axes in figure.axes:
        axes.set_gid(AXES + quote(_scales(axes, figure), safe=""))
    with theme():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(f'<g id="{HOVER}([^"]*)">', _titled, text)
    text = re.sub(f'<g id="{AXES}([^"]*)">', lambda match: f'<g class="axes" {unquote(match[1])}>', text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    text = text.replace(INK, "currentColor").replace(MUTED, "var(--muted)").replace(GRID, "var(--grid)")
    return compact(text.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'"))


def _scales(axes: Axes, figure: Figure) -> str:
    """Return where a panel lies in its SVG and what its ends stand for, as attributes that a page's script reads."""
    width, height = (72 * float(size) for size in figure.get_size_inches())
    place = axes.get_position()
    box = (place.x0 * width, (1 - place.y1) * height, place.x1 * width, (1 - place.y0) * height)
    ends = {"x": (*axes.get_xlim(), axes.get_xscale()), "y": (*axes.get_ylim(), axes.get_yscale())}
    told = [f'data-box="{" ".join(f"{end:.2f}" for end in box)}"']
    told += [f'data-{side}="{low:.6g} {high:.6g} {scale}"' for side, (low, high, scale) in ends.items()]
    return " ".join(told)


def _titled(match: re.Match[str]) -> str:
    return f'<g class="hover"><title>{escape(unquote(match[1]))}</title>'


def standalone(svg: str) -> str:
    """Return the same SVG as a file of its own, which follows the reader's colour scheme."""
    return svg.replace("<defs>", f"{_STYLE}\n <defs>", 1)
