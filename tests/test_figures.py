"""Figures show what the frames hold, in forms that repeat, for studies of any shape."""

import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from fake_run import degrading, write_run
from PIL import Image

from resflow import figures
from resflow.analysis import analyse
from resflow.figure_curves import curves
from resflow.figure_style import GRID, INK, MUTED, NARROW, PALETTE, VERDICTS, WIDE, settle, standalone, to_png, to_svg
from resflow.report_figures import OURS, draw

HOSTILE = {"<b>&": {"$x_1$": 1, "_hidden": 2, 'a "b", c': 3}, "花": {"x" * 80: 1, "y": 2}}
HEADS = {"head": {"linear": 1, "wide": 2}}


def good(levels):
    return 0.8, 0.9


SHAPES = {
    "depth": {},
    "one seed": {"seeds": (1,)},
    "one factor": {"factors": HEADS, "truth": good},
    "one numeric factor": {"factors": {"rate": {"1e-2": 1, "0.1": 2}}, "truth": good},
    "one arm": {"factors": {"head": {"linear": 1}}, "truth": good},
    "hostile": {"factors": HOSTILE, "truth": good},
    "a loss": {"factors": HEADS, "truth": good, "metric": "test_loss"},
}


def legend_texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.fixture(scope="module")
def depth(tmp_path_factory):
    return analyse(write_run(tmp_path_factory.mktemp("depth"), epochs=4))


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_study_is_drawn(tmp_path, shape, width):
    a = analyse(write_run(tmp_path, **{"seeds": (1, 2), "epochs": 3, **SHAPES[shape]}))
    drawn = [
        figures.accuracy(a.trials, a.arms, a.design, a.chance, width),
        figures.cost(a.trials, a.arms, a.design, width),
        curves(a.histories, a.design, "train_top1", panel_by_scale=True, width=width),
        curves(a.histories, a.design, "validation_top1", panel_by_scale=False, width=width),
    ]
    drawn += [figures.effect_forest(a.effects, a.design, width)] if len(a.effects) else []
    for figure in drawn:
        assert figure.get_figwidth() == width
        assert any(axes.has_data() for axes in figure.axes)


def test_the_accuracy_figure_shows_every_seed_interval_and_chance(depth):
    figure = figures.accuracy(depth.trials, depth.arms, depth.design, depth.chance)
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in figure.axes[0].lines])
    for value in 100 * depth.trials["test_top1"]:
        assert np.isclose(drawn, value).any()
    for value in 100 * depth.arms["mean"]:
        assert np.isclose(drawn, value).any()
    ends = np.concatenate([np.concatenate(c.get_segments())[:, 1] for c in figure.axes[0].collections])
    for value in 100 * depth.arms[["low", "high"]].to_numpy().ravel():
        assert np.isclose(ends, value).any()
    assert legend_texts(figure) == ["plain", "residual", "chance 10 %"]


def test_chance_far_below_all_arms_is_named_but_does_not_flatten_them(tmp_path):
    a = analyse(write_run(tmp_path, HEADS, good))
    figure = figures.accuracy(a.trials, a.arms, a.design, a.chance)
    assert "chance 10 %, off this axis" in legend_texts(figure)
    assert figure.axes[0].get_xlim()[0] > 50


def test_one_seed_draws_no_interval(tmp_path):
    a = analyse(write_run(tmp_path, seeds=(1,), epochs=3))
    assert not figures.accuracy(a.trials, a.arms, a.design, a.chance).axes[0].collections


def test_curves_come_by_depth_and_by_shortcut(depth):
    by_depth = curves(depth.histories, depth.design, "train_top1", panel_by_scale=True)
    assert [axes.get_title("left") for axes in by_depth.axes] == [f"depth {d}" for d in (18, 34, 50, 101)]
    assert legend_texts(by_depth) == ["plain", "residual"]
    by_shortcut = curves(depth.histories, depth.design, "train_top1", panel_by_scale=False)
    assert [axes.get_title("left") for axes in by_shortcut.axes] == ["plain", "residual"]
    assert legend_texts(by_shortcut) == ["18", "34", "50", "101"]
    for figure in (by_depth, by_shortcut):  # a line a seed and one for the mean of each arm
        assert sum(len(axes.lines) for axes in figure.axes) == 8 * (3 + 1)


def test_curves_show_error_and_the_mean_of_completed_seeds_only(tmp_path):
    heads = {"head": {"linear": 1}}
    a = analyse(write_run(tmp_path, heads, good, statuses={("linear", 2): "diverged"}))
    lines = curves(a.histories, a.design, "train_top1", panel_by_scale=True).axes[0].lines
    done = a.histories[a.histories["status"] == "completed"]
    expected = 100 * (1 - done.groupby("epoch")["train_top1"].mean())
    assert len(lines) == 4
    assert np.asarray(lines[-1].get_ydata()) == pytest.approx(expected.to_numpy())


def test_a_contrast_without_pairs_is_shown_as_such(tmp_path):
    statuses = {("plain-101", seed): "failed" for seed in (1, 2, 3)}
    a = analyse(write_run(tmp_path, truth=degrading, statuses=statuses, epochs=3))
    figure = figures.effect_forest(a.effects, a.design)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts.count("no pair of seeds") == a.effects["difference"].isna().sum() == 3


def test_svg_follows_the_page_and_its_text_is_text(depth):
    figure = figures.accuracy(depth.trials, depth.arms, depth.design, depth.chance)
    svg = to_svg(figure, "accuracy")
    assert not any(color in svg for color in (INK, MUTED, GRID))
    assert "currentColor" in svg
    assert ">residual</text>" in svg
    assert "dc:date" not in svg
    alone = ET.fromstring(standalone(svg))
    assert "prefers-color-scheme: dark" in next(alone.iter("{http://www.w3.org/2000/svg}style")).text
    identifiers = re.findall(r'\bid="([^"]+)"', svg)
    assert len(set(identifiers)) == len(identifiers)
    assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= set(identifiers)
    assert all(name.startswith("accuracy-") for name in identifiers)


def test_hostile_labels_are_escaped_in_svg(tmp_path):
    a = analyse(write_run(tmp_path, HOSTILE, good, seeds=(1, 2), epochs=2))
    root = ET.fromstring(to_svg(figures.accuracy(a.trials, a.arms, a.design, a.chance), "a"))
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert any(text.startswith("$x_1$") for text in texts)
    assert any(text.lstrip().startswith("_hidden") for text in texts)


def test_the_same_frames_give_the_same_bytes(tmp_path):
    a = analyse(write_run(tmp_path, HEADS, good, seeds=(1, 2), epochs=3))
    first, second = draw(a), figures.cost(a.trials, a.arms, a.design)
    settle(second)
    assert standalone(to_svg(second, "cost")).encode() == first[-1].files["svg"]
    assert to_png(second) == first[-1].files["png"]
    assert all(OURS.fullmatch(f"{figure.name}.{kind}") for figure in first for kind in figure.files)


def test_png_is_on_white(depth):
    png = to_png(figures.cost(depth.trials, depth.arms, depth.design))
    assert png.startswith(b"\x89PNG")
    assert Image.open(io.BytesIO(png)).convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return np.dot((0.2126, 0.7152, 0.0722), linear)


@pytest.mark.parametrize("color", [*PALETTE, *(color for color, _ in VERDICTS.values())])
@pytest.mark.parametrize("page", ["#ffffff", "#0d1117"])
def test_every_colour_stands_out_on_light_and_dark_pages(color, page):
    light, dark = sorted((luminance(color), luminance(page)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3  # WCAG 2.2, 1.4.11: graphical objects
