"""The fonts at hand, by the letters that they have: names of classes are in any script.

matplotlib brings DejaVu Sans, which has the Latin, Greek, Cyrillic, Arabic, Hebrew and some further alphabets; for what
it lacks, Chinese say, a font of this machine is looked for. A letter that none has is told, once: a box says nothing.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

BASE = "DejaVu Sans"
_log = logging.getLogger("resflow.fonts")


@dataclass(frozen=True, order=True)
class Font:
    """A font file at hand and the family that it is of."""

    family: str
    path: str

    @property
    def letters(self) -> frozenset[str]:
        """The letters that it has a shape for."""
        return _letters(self.path)


def base() -> Font:
    """Return the font that is always there, since matplotlib brings it."""
    import matplotlib as mpl

    return Font(BASE, str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"))


def drawable(text: str) -> str:
    """Return text as fonts have it: in composed letters, in one line, without what has no shape."""
    one_line = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in one_line)


def fallbacks(texts: Iterable[str]) -> tuple[Font, ...]:
    """Return fonts at hand for the letters of some texts that the base lacks, as few as do, and tell what none has."""
    letters = {letter for text in texts for letter in text if letter.isprintable()}
    if all(map(str.isascii, letters)) or not (wanted := letters - base().letters):
        return ()
    found, lacking = _cover(frozenset(wanted))
    if lacking:
        _tell(lacking)
    return found


@cache
def _cover(wanted: frozenset[str]) -> tuple[tuple[Font, ...], str]:
    """Return fonts that have these letters, and those that none has."""
    left, found = set(wanted), []
    while left and (best := max(_at_hand(), key=lambda font: len(left & font.letters), default=None)):
        if not left & best.letters:
            break
        found.append(best)
        left -= best.letters
    return tuple(found), "".join(sorted(left))


@cache
def _tell(letters: str) -> None:
    shown = letters[:20] + (" …" if len(letters) > 20 else "")
    _log.warning(
        "No font here has %s: PNG and PDF pictures show a box for each. Install one that has, such as Noto Sans CJK.",
        shown,
    )


@cache
def _at_hand() -> tuple[Font, ...]:
    """Return the upright fonts of this machine, those without serifs first."""
    from matplotlib import font_manager

    regular = (400, "normal", "regular", "book")
    fonts = {
        Font(entry.name, entry.fname)
        for entry in font_manager.fontManager.ttflist
        if entry.style == "normal" and entry.weight in regular and not entry.name.startswith("Last Resort")  # boxes
        if getattr(entry, "index", 0) == 0  # the first of a collection's, which is what is opened by path
    }
    return tuple(sorted(fonts, key=lambda font: ("Sans" not in font.family, "Mono" in font.family, font)))


@cache
def _letters(path: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError, ValueError):  # one that only has bitmaps, or is damaged
        return frozenset()
