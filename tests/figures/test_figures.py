"""Figures show what the frames hold, in forms that repeat, for studies of any shape."""

import io
import re
import xml.etree.ElementTree as ET
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.fake_run import degrading, write_run

from resflow.analysis.analyse import analyse
from resflow.figures import accuracy, confusion, costs, curves, diagnostics, forest, tuning
from resflow.figures import compact as compacting
from resflow.figures.compact import compact
from resflow.figures.costs import pareto
from resflow.figures.labels import spread, swarm, text_width, wrap
from resflow.figures.palette import HELPS, HURTS, arm_styles
from resflow.figures.style import GRID, INK, MUTED, NARROW, WIDE, settle, standalone, theme, to_png, to_svg
from resflow.figures.ticks import alike
from resflow.report.figure_list import draw_figures, is_figure_file
from resflow.report.write import switches

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


def end_names(figure):
    """What is written where lines end, panel by panel."""
    return [[text.get_text() for text in axes.texts] for axes in figure.axes]


@pytest.fixture(scope="module")
def depth(tmp_path_factory):
    return analyse(write_run(tmp_path_factory.mktemp("depth"), epochs=4))


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_study_is_drawn(tmp_path, shape, width):
    a = analyse(write_run(tmp_path, **{"seeds": (1, 2), "epochs": 3, **SHAPES[shape]}))
    drawn = [
        accuracy.accuracy(a.trials, a.arms, a.design, a.chance, width),
        costs.cost(a.trials, a.arms, a.design, width),
        curves.curves(a.histories, a.design, "train_top1", panel_by_scale=True, width=width),
        curves.curves(a.histories, a.design, "validation_top1", panel_by_scale=False, width=width),
    ]
    drawn += [forest.effect_forest(a.effects, a.design, width)] if len(a.effects) else []
    for figure in drawn:
        assert figure.get_figwidth() == width
        assert any(axes.has_data() for axes in figure.axes)


def test_the_accuracy_figure_shows_every_seed_interval_and_chance(depth):
    figure = accuracy.accuracy(depth.trials, depth.arms, depth.design, depth.chance)
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in figure.axes[0].lines])
    for value in 100 * depth.trials["test_top1"]:
        assert np.isclose(drawn, value).any()
    for value in 100 * depth.arms["mean"]:
        assert np.isclose(drawn, value).any()
    ends = np.concatenate([np.concatenate(c.get_segments())[:, 1] for c in figure.axes[0].collections])
    for value in 100 * depth.arms[["low", "high"]].to_numpy().ravel():
        assert np.isclose(ends, value).any()
    assert legend_texts(figure) == ["chance 10 %"]
    assert end_names(figure) == [["plain", "residual"]]


def test_chance_far_below_all_arms_is_named_but_does_not_flatten_them(tmp_path):
    a = analyse(write_run(tmp_path, HEADS, good))
    figure = accuracy.accuracy(a.trials, a.arms, a.design, a.chance)
    assert "chance 10 %, off this axis" in legend_texts(figure)
    assert figure.axes[0].get_xlim()[0] > 50


def test_one_seed_draws_no_interval(tmp_path):
    a = analyse(write_run(tmp_path, seeds=(1,), epochs=3))
    assert not accuracy.accuracy(a.trials, a.arms, a.design, a.chance).axes[0].collections


def test_curves_come_by_depth_and_by_shortcut(depth):
    by_depth = curves.curves(depth.histories, depth.design, "train_top1", panel_by_scale=True)
    assert [axes.get_title("left") for axes in by_depth.axes] == [f"depth {d}" for d in (18, 34, 50, 101)]
    assert end_names(by_depth) == [["plain", "residual"]] * 4
    by_shortcut = curves.curves(depth.histories, depth.design, "train_top1", panel_by_scale=False)
    assert [axes.get_title("left") for axes in by_shortcut.axes] == ["plain", "residual"]
    assert end_names(by_shortcut) == [["18", "34", "50", "101"]] * 2
    for figure in (by_depth, by_shortcut):  # a line a seed and one for the mean of each arm
        assert sum(len(axes.lines) for axes in figure.axes) == 8 * (3 + 1)


def test_curves_show_error_and_the_mean_of_completed_seeds_only(tmp_path):
    heads = {"head": {"linear": 1}}
    a = analyse(write_run(tmp_path, heads, good, statuses={("linear", 2): "diverged"}))
    lines = curves.curves(a.histories, a.design, "train_top1", panel_by_scale=True).axes[0].lines
    done = a.histories[a.histories["status"] == "completed"]
    expected = 100 * (1 - done.groupby("epoch")["train_top1"].mean())
    assert len(lines) == 4
    assert np.asarray(lines[-1].get_ydata()) == pytest.approx(expected.to_numpy())


def test_a_contrast_without_pairs_is_shown_as_such(tmp_path):
    statuses = {("plain-101", seed): "failed" for seed in (1, 2, 3)}
    a = analyse(write_run(tmp_path, truth=degrading, statuses=statuses, epochs=3))
    figure = forest.effect_forest(a.effects, a.design)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts.count("no pair of seeds") == a.effects["difference"].isna().sum() == 4


def test_svg_follows_the_page_and_its_text_is_text(depth):
    figure = accuracy.accuracy(depth.trials, depth.arms, depth.design, depth.chance)
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
    root = ET.fromstring(to_svg(accuracy.accuracy(a.trials, a.arms, a.design, a.chance), "a"))
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert any(text.startswith("$x_1$") for text in texts)
    assert any(text.lstrip().startswith("_hidden") for text in texts)


def test_the_same_frames_give_the_same_bytes(tmp_path):
    a = analyse(write_run(tmp_path, HEADS, good, seeds=(1, 2), epochs=3))
    first, second = {one.name: one for one in draw_figures(a)}, costs.cost(a.trials, a.arms, a.design)
    settle(second)
    assert standalone(to_svg(second, "cost")).encode() == first["cost"].files["svg"]
    assert first["accuracy"].files["png"].startswith(b"\x89PNG")
    assert all(is_figure_file(f"{figure.name}.{kind}") for figure in first.values() for kind in figure.files)


def test_a_layout_repeats_wherever_its_variables_lie_in_memory(depth):
    layouts, heap = set(), []
    for size in range(12):
        heap.append([bytearray(1 + 97 * size) for _ in range(150 * size)])
        figure = forest.effect_forest(depth.effects, depth.design)
        settle(figure)
        layouts.add(tuple(tuple(axes.get_position(original=True).bounds) for axes in figure.axes))
    assert len(layouts) == 1


@given(st.lists(st.tuples(*[st.floats(0, 2000)] * 2), min_size=4, max_size=300))
def test_a_compact_curve_passes_its_points_within_a_hundredth(points):
    text = "L".join(f"{x:.6f} {y:.6f} " for x, y in points)
    found = re.search(r' d="M([^l]*)l([^"]*)"', compact(f'<path d="M {text}" style="stroke:red"/>'))
    start, steps = (re.findall(r"-?(?:\d+\.?\d*|\.\d+)", part) for part in found.groups())
    moves = np.array([*start, *steps], dtype=float).reshape(-1, 2)
    assert np.abs(moves.cumsum(axis=0) - np.array(points)).max() <= 0.0051 + 0.005


def test_styles_that_shapes_share_are_theirs_still(tmp_path, monkeypatch):
    a = analyse(write_run(tmp_path, HOSTILE, good, seeds=(1, 2, 3), epochs=9))
    drawn = curves.curves(a.histories, a.design, "train_top1", panel_by_scale=True)
    shared = to_svg(drawn, "accuracy")
    monkeypatch.setattr(compacting, "_share_styles", lambda svg: svg)
    plain = to_svg(drawn, "accuracy")
    assert len(shared) < 0.9 * len(plain)
    rules = dict(re.findall(r"\.(s[0-9a-f]{8})\{([^}]*)\}", shared))
    looks = [
        [  # of each element, whatever says how it looks
            sorted(
                [rules[name] for name in element.get("class", "").split() if name in rules]
                + [element.get("style", "")] * ("style" in element.attrib)
                + [f"clip-path:{element.get('clip-path')}"] * ("clip-path" in element.attrib)
            )
            for element in ET.fromstring(svg).iter()
        ]
        for svg in (shared, plain)
    ]
    assert looks[0] == looks[1]
    texts = [
        [element.text for element in ET.fromstring(svg).iter() if "style" not in element.tag] for svg in (shared, plain)
    ]
    assert texts[0] == texts[1]


def test_png_is_on_white(depth):
    png = to_png(costs.cost(depth.trials, depth.arms, depth.design))
    assert png.startswith(b"\x89PNG")
    assert Image.open(io.BytesIO(png)).convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


costs_and_gains = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=9)


@given(costs_and_gains, st.booleans())
def test_the_pareto_front_is_what_no_arm_beats(points, higher):
    names = [f"arm-{n}" for n in range(len(points))]
    cost, gain = (pd.Series([p[i] for p in points], names) for i in (0, 1))
    front = pareto(cost, gain, higher_is_better=higher)
    better = (lambda a, b: a > b) if higher else (lambda a, b: a < b)
    for name in names:
        cheaper = [o for o in names if cost[o] < cost[name] and not better(gain[name], gain[o])]
        beaten = cheaper or [o for o in names if cost[o] <= cost[name] and better(gain[o], gain[name])]
        same = [o for o in names if (cost[o], gain[o]) == (cost[name], gain[name])]
        assert any(o in front for o in same) == (not beaten)


def test_what_is_drawn_names_itself(depth):
    svg = to_svg(accuracy.accuracy(depth.trials, depth.arms, depth.design, depth.chance), "accuracy")
    titles = re.findall(r"<title>([^<]*)</title>", svg)
    done = depth.trials[depth.trials["status"] == "completed"]
    seeds = [title for title in titles if ", seed " in title]
    assert len(seeds) == len(done) == len(set(seeds))
    assert "hover-" not in svg


def test_a_confusion_matrix_says_its_shares(tmp_path):
    table = np.array([[0.75, 0.25, 0.0], [0.0, 1.0, 0.0], [0.5, 0.125, 0.375]])
    figure = confusion.confusion(table, ["rose", "tulip", "lily"])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(texts) == sorted(["75", "25", "100", "50", "12", "38"])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["rose", "tulip", "lily"]


def test_arms_that_are_changes_of_a_baseline_are_called_by_their_change(tmp_path):
    factors = {"head": {"wide": 1, "narrow": 2}, "rate": {"0.1": 0.1, "0.01": 0.01}, "views": {"raw": 1, "clean": 2},
               "epochs": {"5": 5}}  # fmt: skip
    run = write_run(tmp_path, factors, lambda levels: (0.8, 0.95), seeds=(1, 2), epochs=2)
    kept = ["wide-0.1-raw-5", "narrow-0.1-raw-5", "wide-0.01-raw-5", "wide-0.1-clean-5"]
    plan = pd.read_csv(run / "plan.csv", dtype=str)
    plan[plan["arm"].isin(kept)].to_csv(run / "plan.csv", index=False)
    study = (run / "study.yaml").read_text(encoding="utf-8")
    arms = study[study.index("arms:") : study.index("settings:")]
    (run / "study.yaml").write_text(study.replace(arms, "arms:\n" + "".join(f"- {arm}\n" for arm in kept)), "utf-8")
    analysis = analyse(run)
    design, names = analysis.design, ["baseline", "head narrow", "rate 0.01", "views clean"]
    assert [design.display_name(arm) for arm in kept] == names
    assert [switches(analysis, arm) for arm in kept] == [{"arm": name} for name in names]
    assert design.scale is None


def test_an_arm_has_one_colour_in_all_figures(depth):
    looks = arm_styles(depth.design)
    points = accuracy.accuracy(depth.trials, depth.arms, depth.design, depth.chance)
    lines = curves.curves(depth.histories, depth.design, "train_top1", panel_by_scale=True)
    cost = costs.cost(depth.trials, depth.arms, depth.design)
    for row in depth.arms.to_dict("records"):
        for figure in (points, cost):
            at = [
                line.get_color()
                for line in figure.axes[0].lines
                if len(line.get_ydata()) == 1 and np.isclose(line.get_ydata()[0], 100 * row["mean"])
            ]
            assert looks[row["arm"]].color in at
    panels = {axes.get_title("left"): axes for axes in lines.axes}
    for arm, look in looks.items():
        drawn = panels[f"depth {depth.design.arms[arm]['depth']}"].lines
        assert sum(line.get_color() == look.color for line in drawn) == 3 + 1


@given(st.lists(st.floats(-5, 5), max_size=12), st.floats(0.5, 20))
def test_no_seed_lies_on_another(values, per_unit):
    steps = swarm(values, per_unit, 3.5)
    marks = [(step, value * per_unit) for step, value in zip(steps, values, strict=True)]
    for (step, place), (other_step, other) in combinations(marks, 2):
        assert step != other_step or abs(place - other) >= 3.5


@given(st.lists(st.floats(0, 10), min_size=1, max_size=9), st.floats(0.1, 1))
def test_names_at_ends_keep_their_order_and_their_distance(places, apart):
    moved = spread(places, apart, 0.0, 10.0)
    order = np.argsort(places, kind="stable")
    assert (np.diff(moved[order]) >= apart - 1e-9).all()
    assert (moved >= -1e-9).all()
    assert (moved <= 10 + 1e-9).all()
    if (np.diff(np.asarray(places)[order]) >= apart).all():
        assert moved == pytest.approx(places)


def test_names_that_have_no_room_are_not_spread():
    assert spread([1.0, 1.0, 1.0], 0.6, 0.0, 1.0) is None


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "Zs", "Pd"]), max_size=60), st.floats(0.2, 3))
def test_wrapped_text_is_whole_and_fits(text, width):
    lines = wrap(text, width, 9)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(len(line) <= 1 or text_width(line, 9) <= width + 1e-9 for line in lines)


@given(st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=1, max_size=8))
def test_the_numbers_of_an_axis_are_written_alike(values):
    texts = alike(values)
    assert not any("e" in text for text in texts)
    decimals = {len(text.partition(".")[2]) for text in texts}
    if not any(letter in "⁰¹²³⁴⁵⁶⁷⁸⁹" for text in texts for letter in text) and max(map(abs, values)) <= 500:
        assert len(decimals) == 1


def test_a_million_is_not_beside_ten_thousand_in_another_notation():
    assert alike([1, 100, 10_000, 1_000_000]) == ["10⁰", "10²", "10⁴", "10⁶"]
    assert alike([0.001, 0.1, 10]) == ["0.001", "0.1", "10"]
    assert alike([-0.5, 0, 0.5]) == ["−0.5", "0.0", "0.5"]
    assert alike([0, 2000, 10_000]) == ["0", "2,000", "10,000"]


def test_costs_that_hardly_differ_stand_above_each_other(depth):
    arms = depth.arms.assign(multiply_adds=[4_087_000_000 + 500_000 * place for place in range(len(depth.arms))])
    figure = costs.cost(depth.trials, arms, depth.design)
    axes = next(axes for axes in figure.axes if "multiply-adds" in axes.get_xlabel())
    low, high = axes.get_xlim()
    assert high - low >= 0.1 * 4.087


def test_zero_has_a_place_on_a_logarithmic_axis(depth):
    rows = pd.DataFrame({"id": "a", "arm": "plain-18", "seed": 1, "kind": "dead_units", "place": range(6), "epoch": 1})
    figure = diagnostics.inside(rows.assign(value=[0.0, 1e-4, 1e-3, 0.0, 1e-3, 0.9]), depth.design, "dead_units")
    (axes,) = figure.axes
    assert axes.get_ylim()[0] <= 0
    assert np.isfinite(axes.transData.transform([(1, 0.0), (2, 0.01)])).all()
    assert "0" in [label.get_text() for label in axes.get_yticklabels()]


@pytest.mark.parametrize("column", ["train_top1", "validation_top1"])
def test_panels_of_error_are_filled(depth, column):
    figure = curves.curves(depth.histories, depth.design, column, panel_by_scale=True)
    error = 100 * (1 - depth.histories[column])
    low, high = figure.axes[0].get_ylim()
    assert error.max() - error.min() >= 0.8 * (high - low)


def test_a_band_that_says_nothing_does_not_flatten_the_curve(depth):
    scores = np.array([0.05, 0.07, 0.08, 0.08])
    table = pd.DataFrame(
        {"arm": "plain-18", "k": range(1, 5), "score": scores, "low": 0.02, "high": [0.4, 0.9, 0.99, 1.0]}
    )
    figure = tuning.tuning_curves(table, {"plain-18": "plain-18"}, arm_styles(depth.design))
    low, high = figure.axes[0].get_ylim()
    assert 100 * np.ptp(scores) >= (high - low) / 3
    assert [text.get_text() for text in figure.axes[0].texts] == ["band up to 100 %"]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_forest_has_its_numbers_and_whole_names_in_the_studys_order(tmp_path, width):
    factors = {
        "head": {"a-quite-long-name-of-a-head": 1, "one more that is long and has spaces": 2, "b": 3},
        "net": {"x": 1, "y": 2},
    }
    a = analyse(write_run(tmp_path, factors, lambda levels: (0.8, 0.9), epochs=2))
    shuffled = a.effects.sample(frac=1, random_state=1)
    figures = [forest.effect_forest(table, a.design, width) for table in (a.effects, shuffled)]
    texts = [[text.get_text() for axes in figure.axes for text in axes.texts] for figure in figures]
    assert texts[0] == texts[1]
    assert not any("…" in text for text in texts[0])
    joined = "".join("".join(texts[0]).split())
    for label in factors["head"]:
        assert label.replace(" ", "") in joined
    for row in a.effects.to_dict("records"):
        number = f"{abs(100 * row['difference']):.1f}"
        assert any(number in text for text in texts[0])
    assert len(texts[0]) == 2 * len(a.effects)


def test_more_or_less_of_a_difference_is_no_help_and_no_harm(depth):
    interactions = depth.effects[depth.effects["less"] != ""]
    assert set(interactions["verdict"]) & {"helps", "hurts"}
    figure = forest.effect_forest(interactions, depth.design)
    assert not set(legend_texts(figure)) & {"helps", "hurts"}
    assert set(legend_texts(figure)) == set(interactions["change"])
    colours = {line.get_color() for axes in figure.axes for line in axes.lines}
    assert not colours & {HELPS, HURTS}


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_no_text_of_a_forest_is_cut_at_its_edge_as_browsers_draw_it(depth, width):
    figure = forest.effect_forest(depth.effects, depth.design, width)
    settle(figure)
    with theme():
        for text in (text for axes in figure.axes for text in axes.texts):
            box = text.get_window_extent()
            drawn = max(text_width(line, text.get_fontsize()) for line in text.get_text().split("\n"))
            assert box.width == pytest.approx(drawn * figure.dpi, rel=0.03)  # no hinting of a screen
            assert box.x0 >= 0
            assert box.x1 <= width * figure.dpi
