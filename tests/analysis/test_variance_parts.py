"""Parts of a spread: what is planted is found, intervals cover as often as they say, and what cannot be told is not."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resflow.analysis import seed_statistics
from resflow.analysis.design import Design
from resflow.analysis.variance_parts import ALL, deviation, variance_parts
from resflow.records.metrics import metric
from resflow.study.variation import STREAMS, Parts, Streams, expand

STUDIES = 1000
ERRORS = 4  # standard errors that a simulated share or mean may be off
SIZES = st.floats(0.0, 3.0)
PARTS = Parts(parts=list(STREAMS))
Planted = list[tuple[Streams, NDArray]]


def planted(sds: dict[str, float], together: float, seeds: int, studies: int = STUDIES) -> Planted:
    """Return each of the streams with the values that they give, one a study.

    Each stream has an effect of its own of size `sds`, and each two of them one of size `together` besides.
    """
    draws = np.random.default_rng(1)
    alone = {stream: sd * draws.normal(size=(studies, seeds)) for stream, sd in sds.items()}
    pairs = {pair: together * draws.normal(size=(studies, seeds, seeds)) for pair in combinations(STREAMS, 2)}
    values = []
    for one in expand(PARTS, range(seeds), seeds, 0):
        at = {"init": one.held.get("init", one.seed), "order": one.held.get("order", one.seed), "split": one.split_seed}
        total = sum(effects[:, at[stream]] for stream, effects in alone.items())
        total = total + sum(effects[:, at[a], at[b]] for (a, b), effects in pairs.items())
        values.append((one, total))
    return values


def samples(values: Planted) -> dict[str, NDArray]:
    """Return part -> its values, a row a study, a column a seed."""
    (_, first), *others = values
    of = {part: [first, *(row for one, row in others if (one.varies or ALL) == part)] for part in (*STREAMS, ALL)}
    return {part: np.stack(rows, axis=1) for part, rows in of.items()}


@settings(derandomize=True, max_examples=12)
@given(st.fixed_dictionaries(dict.fromkeys(STREAMS, SIZES)), SIZES, st.integers(3, 9))
def test_planted_parts_are_recovered_and_their_intervals_cover(
    sds: dict[str, float], together: float, seeds: int
) -> None:
    shared = 2 * together**2  # each stream takes part in two of the three interactions
    truth = {stream: sd**2 + shared for stream, sd in sds.items()}
    truth[ALL] = sum(sd**2 for sd in sds.values()) + 3 * together**2
    for part, rows in samples(planted(sds, together, seeds)).items():
        if truth[part] < seed_statistics.SAME:
            continue
        found = [deviation(row) for row in rows]
        estimates = np.array([one.sd**2 for one in found])
        error = truth[part] * np.sqrt(2 / (seeds - 1) / STUDIES)
        assert abs(estimates.mean() - truth[part]) < ERRORS * error
        covered = np.mean([one.low**2 <= truth[part] <= one.high**2 for one in found])
        assert abs(covered - 0.95) < ERRORS * np.sqrt(0.95 * 0.05 / STUDIES)


def test_parts_add_up_where_streams_do_not_interact_and_to_more_where_they_do() -> None:
    sds = {"init": 1.0, "order": 0.5, "split": 2.0}
    for together, more in ((0.0, 0.0), (1.0, 3.0)):
        found = {part: np.var(rows, axis=1, ddof=1).mean() for part, rows in samples(planted(sds, together, 5)).items()}
        gap = sum(found[part] for part in STREAMS) - found[ALL]
        assert gap == pytest.approx(more, abs=0.6)


def frames(seeds: int) -> tuple[pd.DataFrame, pd.DataFrame, Design]:
    """Return the trials of a study of two arms, those that vary one stream, and its design."""
    sds = {"init": 0.02, "order": 0.01, "split": 0.03}
    values = planted(sds, 0.01, seeds, studies=2)
    rows = [
        {"arm": arm, "seed": one.seed, "varies": one.varies, "test_top1": 0.5 + row[place], "train_top1": 0.9}
        for one, row in values
        for place, arm in enumerate(("small", "large"))
    ]
    every = pd.DataFrame(rows)
    design = Design(
        factors={"depth": ("small", "large")},
        arms={"small": {"depth": "small"}, "large": {"depth": "large"}},
        baseline="small",
        metric=metric("test_top1"),
        follows=STREAMS,
        parts=STREAMS,
        first_seed=0,
    )
    return every[every["varies"] == ""].drop(columns="varies"), every[every["varies"] != ""], design


def test_each_arm_and_difference_has_a_row_a_part_and_the_first_seed_is_in_all() -> None:
    trials, apart, design = frames(4)
    table = variance_parts(trials, apart, design)
    top1 = table[table["metric"] == "test_top1"].set_index(["arm", "reference", "varies"])
    assert set(top1.index) == {
        (arm, reference, part)
        for arm, reference in (("small", ""), ("large", ""), ("large", "small"))
        for part in (*STREAMS, ALL)
    }
    assert (top1["n"] == 4).all()
    first = trials[trials["seed"] == 0]
    for part in STREAMS:
        own = pd.concat([first, apart[apart["varies"] == part]]).pivot(index="seed", columns="arm", values="test_top1")
        assert top1.loc[("large", "", part), "sd"] == pytest.approx(own["large"].std())
        assert top1.loc[("large", "small", part), "sd"] == pytest.approx((own["large"] - own["small"]).std())
    whole = trials.pivot(index="seed", columns="arm", values="test_top1")
    assert top1.loc[("small", "", ALL), "sd"] == pytest.approx(whole["small"].std())
    training = table[table["metric"] == "train_top1"]
    assert set(training["note"]) == {seed_statistics.NO_SPREAD}


def test_a_part_of_which_trials_are_missing_is_told_by_those_that_are_there() -> None:
    trials, apart, design = frames(4)
    lost = apart.index[(apart["varies"] == "init") & (apart["arm"] == "large")]
    apart.loc[lost[:2], "test_top1"] = np.nan
    table = variance_parts(trials, apart, design).set_index(["metric", "arm", "reference", "varies"])
    top1 = table.loc["test_top1"]
    assert top1.loc[("large", "", "init"), "n"] == top1.loc[("large", "small", "init"), "n"] == 2
    assert top1.loc[("large", "", "init"), "note"] == seed_statistics.TWO_VALUES
    assert top1.loc[("small", "", "init"), "n"] == 4


def test_a_study_without_parts_has_none() -> None:
    trials, apart, design = frames(3)
    assert variance_parts(trials, apart, Design(design.factors, design.arms, "small", design.metric)).empty


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ([], seed_statistics.NO_VALUE),
        ([0.5], seed_statistics.ONE_VALUE),
        ([0.5, 0.6], seed_statistics.TWO_VALUES),
        ([0.5, 0.5, 0.5], seed_statistics.NO_SPREAD),
    ],
)
def test_what_has_no_interval_says_why(values: list[float], note: str) -> None:
    found = deviation(values)
    assert (found.n, found.note) == (len(values), note)
    assert np.isnan([found.low, found.high]).all()


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=9), st.floats(0.1, 100))
def test_the_interval_is_around_the_deviation_and_of_its_unit(values: list[float], scale: float) -> None:
    found, scaled = deviation(values), deviation([scale * value for value in values])
    if found.note or scaled.note:
        return
    assert found.low < found.sd < found.high
    assert [scaled.low, scaled.high] == pytest.approx([scale * found.low, scale * found.high])
