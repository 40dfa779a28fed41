"""A published figure beside the arms: the numbers are the records', the words follow the intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_run import TEST, write_run

from resflow.analysis import image_statistics
from resflow.analysis.analyse import analyse
from resflow.report import published as report_published
from resflow.report.published import Published
from resflow.report.write import write_report

HEADS = {"head": {"linear": "linear", "wide": "wide"}}
ARTICLE = {"what": "an article", "metric": "test_top1", "correct": 38, "images": 43}


def run(folder: Path, published: Any, accuracy: float = 0.9, **asked: Any) -> Path:
    return write_run(folder, HEADS, lambda _: (accuracy, 0.95), epochs=2, published=published, **asked)


@pytest.mark.usefixtures("one_figure")
def test_the_figure_stands_beside_every_arm(tmp_path: Path) -> None:
    folder = run(tmp_path, ARTICLE, seeds=(1, 2), statuses={("wide", 2): "failed"})
    table = report_published.table(analyse(folder))
    assert table is not None
    assert table.title == "Beside an article: 38 of 43 (88.4 %, Wilson 75.5 to 94.9 %)"  # the figures of REFERENCE
    assert [row[0] for row in table.rows] == ["linear", "wide"]
    linear, wide = table.rows
    assert linear[1].endswith(f" of {TEST}")
    assert len(linear[1].split(", ")) == 2
    assert len(wide[1].split(", ")) == 1  # the failed seed has no figure
    assert "One image is 2.3 points" in table.note
    (answer,) = report_published.answer(analyse(folder))
    assert answer.startswith(f"linear has {linear[1]} test images right (mean {linear[2]} %, Wilson {linear[3]} %), ")
    figure, _, warning = answer.partition(" That figure is of ")
    assert figure.endswith(" an article: 38 of 43 (88.4 %, Wilson 75.5 to 94.9 %).")
    assert warning.startswith(f"43 images and these are {TEST}, so not the same ones")
    for page in (write_report(folder), folder / "README.md"):
        assert "Beside an article: 38 of 43" in page.read_text(encoding="utf-8")
        assert f"linear has {linear[1]} test images right" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "published",
    [None, "38 of 43", {}, {**ARTICLE, "images": 0}, {**ARTICLE, "metric": "loss"}, {**ARTICLE, "correct": 44}],
)
@pytest.mark.usefixtures("one_figure")
def test_a_run_without_a_proper_figure_has_no_such_table(tmp_path: Path, published: Any) -> None:
    folder = run(tmp_path, published)
    assert report_published.table(analyse(folder)) is None
    assert report_published.answer(analyse(folder)) == []
    if published is None:  # the page is made of those two
        assert "Beside" not in write_report(folder).read_text(encoding="utf-8")


def test_an_arm_that_never_ran_is_said_to_be_so(tmp_path: Path) -> None:
    folder = run(tmp_path, ARTICLE, seeds=(1,), statuses={("wide", 1): "not run"})
    table = report_published.table(analyse(folder))
    assert table is not None
    assert "not run" in table.rows[1]


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [(0.97, "above"), (0.9, "reaches"), (0.87, "not told apart from"), (0.5, "below")],
)
def test_the_answer_says_how_the_baseline_stands(tmp_path: Path, accuracy: float, said: str) -> None:
    (answer,) = report_published.answer(analyse(run(tmp_path, ARTICLE, accuracy, seeds=(1,))))
    assert f"{said} an article: 38 of 43" in answer


@pytest.mark.parametrize("images", [TEST, TEST + 1])
def test_other_images_than_the_figures_are_said_to_be_others(tmp_path: Path, images: int) -> None:
    analysis = analyse(run(tmp_path, {**ARTICLE, "correct": 1, "images": images}, seeds=(1,)))
    table = report_published.table(analysis)
    assert table is not None
    warning = f"That figure is of {images} images and these are {TEST}, so not the same ones"
    for text in (table.note, *report_published.answer(analysis)):
        assert (warning in text) == (images != TEST)


def test_a_baseline_that_never_ran_has_no_answer(tmp_path: Path) -> None:
    folder = run(tmp_path, ARTICLE, seeds=(1,), statuses={("linear", 1): "not run"})
    assert report_published.answer(analyse(folder)) == [
        "linear has not run: nothing stands beside an article, 38 of 43 (88.4 %, Wilson 75.5 to 94.9 %)."
    ]


@given(correct=st.integers(0, 43), seen=st.integers(0, 43))
def test_words_follow_the_interval_of_the_difference(correct: int, seen: int) -> None:
    figure, mean = Published("x", "test_top1", correct, 43), seen / 43
    word = report_published.beside(mean, 43, figure)
    low, high = image_statistics.newcombe(mean, 43, figure.share, 43)
    assert low <= mean - figure.share <= high
    assert (word in ("above", "below")) == (low > 0 or high < 0)
    assert (word in ("above", "reaches it")) == (mean >= figure.share)


def test_newcombe_gives_his_own_figures() -> None:
    """56 of 70 and 48 of 80: 0.0524 to 0.3339 (Newcombe 1998, Table II, method 10)."""
    assert image_statistics.newcombe(56 / 70, 70, 48 / 80, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_one_more_run_may_lie_further_than_the_mean(tmp_path: Path) -> None:
    """31, 32, 33, 34 and 35 of 43: another seed's are 33 ± 2.776 · 1.581 · √1.2."""
    shares = [count / 43 for count in (31, 32, 33, 34, 35)]
    assert report_published._one_more(shares, 43) == "28.2 to 37.8"
    assert report_published._one_more(shares[:2], 43) == "–"


def test_images_that_chose_the_weights_are_said_to_flatter(tmp_path: Path) -> None:
    settings = {"network": {}, "recipe": {"test_weights": "best"}, "data": {"source": "oxford_flowers10"}}
    published = {**ARTICLE, "metric": "validation_top1"}
    chosen = report_published.table(analyse(run(tmp_path / "a", published, settings=settings)))
    assert chosen is not None
    assert "flatters" in chosen.note
    free = report_published.table(analyse(run(tmp_path / "b", ARTICLE, settings=settings)))
    assert free is not None
    assert "flatters" not in free.note
