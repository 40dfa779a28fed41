"""Names in any script are drawn in a font that has their letters, or it is told that none has."""

from __future__ import annotations

import logging
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from resflow import fonts
from resflow.data.info import NAME_WIDTH, contact_sheet
from resflow.figures import confusion, style

FLOWER = "花"


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[fonts.Font]:
    """The fonts of this machine, as a test has them."""
    listed: list[fonts.Font] = []
    monkeypatch.setattr(fonts, "_at_hand", lambda: tuple(listed))
    for cached in (fonts._cover, fonts._tell):
        cached.cache_clear()
    return listed


def make_font(path: Path, letters: str) -> fonts.Font:
    """Write a font whose letters are all a filled square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    names = [".notdef", *(f"letter{number}" for number in range(len(letters)))]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(dict(zip(map(ord, letters), names[1:], strict=True)))
    builder.setupGlyf({name: pen.glyph() if name != ".notdef" else TTGlyphPen(None).glyph() for name in names})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return fonts.Font(path.stem, str(path))


def sheet(names: list[str], path: Path) -> np.ndarray:
    """Return the names of a contact sheet as pixels, a row a class."""
    count = len(names)
    images = np.full((count, 16, 16, 3), 255, np.uint8)
    contact_sheet(
        SimpleNamespace(class_names=names, classes=count, image_size=16, labels=np.arange(count), images=images),  # type: ignore[arg-type]
        path,
    )
    return np.asarray(Image.open(path).convert("L"))[2:, : NAME_WIDTH - 2].reshape(count, 18, -1)


def test_letters_of_many_alphabets_need_no_other_font(
    others: list[fonts.Font], caplog: pytest.LogCaptureFixture
) -> None:
    assert fonts.fallbacks(["été", "новый", "ελιά", "עברית", "łąka − 50 %"]) == ()
    assert not caplog.records


def test_a_font_at_hand_is_used_for_what_the_base_lacks(
    others: list[fonts.Font], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others += [make_font(tmp_path / "Latin.ttf", "ab"), make_font(tmp_path / "Flower.ttf", FLOWER)]
    assert [font.family for font in fonts.fallbacks([f"a{FLOWER}b"])] == ["Flower"]
    with_font = sheet([FLOWER, "a"], tmp_path / "with.png")
    others.clear()
    fonts._cover.cache_clear()
    without = sheet([FLOWER, "a"], tmp_path / "without.png")
    assert (with_font[0] != without[0]).any()
    assert (with_font[1] == without[1]).all()
    assert [record.getMessage() for record in caplog.records] == [
        f"No font here has {FLOWER}: PNG and PDF pictures show a box for each. Install one that has, such as Noto Sans "
        "CJK."
    ]


def test_a_missing_letter_is_told_once_and_damaged_fonts_are_passed_over(
    others: list[fonts.Font], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "Broken.ttf").write_bytes(b"no font")
    others.append(fonts.Font("Broken", str(tmp_path / "Broken.ttf")))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert fonts.fallbacks([FLOWER]) == ()
    assert len(caplog.records) == 1


def test_one_text_in_two_spellings_is_drawn_alike(others: list[fonts.Font], tmp_path: Path) -> None:
    composed, spelled = (unicodedata.normalize(form, "été") for form in ("NFC", "NFD"))
    first, second, boxes = sheet([composed, spelled, "\ue000t\ue000"], tmp_path / "sheet.png")
    assert (first == second).all()
    assert (first != boxes).any()


@pytest.mark.parametrize("text", ["new\nline", "tab\there", "\x1b[31m", "\u202eabc", "a\x00b"])
def test_a_name_is_drawn_in_one_line_without_what_has_no_shape(text: str) -> None:
    assert fonts.drawable(text).isprintable()
    assert style.short(text).isprintable()


def test_a_confusion_s_picture_has_the_letters_and_its_svg_does_not_depend_on_the_machine(
    others: list[fonts.Font], tmp_path: Path
) -> None:
    from matplotlib import font_manager

    table, names = np.eye(2), [FLOWER, "rose"]
    bare = style.to_png(confusion.confusion(table, names))
    svg = style.to_svg(confusion.confusion(table, names), "confusion")
    font = make_font(tmp_path / "Flower.ttf", FLOWER)
    others.append(font)
    fonts._cover.cache_clear()
    font_manager.fontManager.addfont(font.path)
    try:
        assert style.to_png(confusion.confusion(table, names)) != bare
        assert style.to_svg(confusion.confusion(table, names), "confusion") == svg
        assert FLOWER in svg
    finally:
        font_manager.fontManager.ttflist = [e for e in font_manager.fontManager.ttflist if e.fname != font.path]
