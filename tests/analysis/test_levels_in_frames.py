"""Whatever has an arm has a column for each factor, under a name that no other column has."""

import io
from itertools import product

import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.fake_run import write_run

from resflow import atomic
from resflow.analysis.analyse import analyse
from resflow.report.exports import frames, printed
from resflow.report.write import write_report
from resflow.study.level_columns import column_names
from resflow.tuning.phase import SEARCH_COLUMNS, Phase

# Settings that are called like a column of some table, columns that no setting is called like, and what looks like one.
NAMES = ("epochs", "learning_rate", "family", "contrast_group", "seed", "status", "arm", "note", "n", "x", "place",
         "factor_epochs", "factor_factor_seed", "arm_depth", "reference", "花 b")  # fmt: skip
LABELS = ("1e-4", "none", "NA", "0.10", "1", "True", "nan", "a b")
SIDES = {"effects": ("arm", "reference")}

labels = st.lists(st.sampled_from(LABELS), min_size=1, max_size=2, unique=True)
odd_factors = st.dictionaries(st.sampled_from(NAMES), labels, min_size=1, max_size=4)


def good(levels):
    return 0.8, 0.95


def analysed(folder, factors, **options):
    run = {name: dict.fromkeys(levels) for name, levels in factors.items()}
    analysis = analyse(write_run(folder, run, good, seeds=(1, 2), epochs=2, **options))
    return {**frames(analysis), "diagnostics": analysis.diagnostics}


@pytest.fixture(scope="module")
def own_columns(tmp_path_factory):
    """Frame -> its columns beside those of factors."""
    plain = analysed(tmp_path_factory.mktemp("plain"), {"which": ["a", "b"]})
    return {name: [c for c in frame.columns if not c.endswith("which")] for name, frame in plain.items()}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(odd_factors)
def test_every_frame_with_an_arm_has_the_label_of_every_factor(tmp_path_factory, own_columns, factors):
    rows = list(product(*factors.values()))
    arms = {"-".join(row): dict(zip(factors, row, strict=True)) for row in rows}
    assume(len(arms) == len(rows))
    statuses = {(next(iter(arms)), 2): "failed", (list(arms)[-1], 1): "not run"}
    for name, frame in analysed(tmp_path_factory.mktemp("odd"), factors, statuses=statuses).items():
        assert frame.columns.is_unique
        as_read = pd.read_csv(io.BytesIO(atomic.csv(frame)), dtype=str, keep_default_na=False) if len(frame) else frame
        for side in SIDES.get(name, ("arm",)) if len(frame) else ():
            prefix = f"{side}_" if name in SIDES else ""
            for factor, column in column_names(factors, own_columns[name], prefix).items():
                assert list(frame[column]) == list(as_read[column]) == [arms[arm][factor] for arm in frame[side]]


@given(st.lists(st.sampled_from(NAMES), unique=True), st.lists(st.sampled_from(NAMES), unique=True))
def test_no_column_is_called_like_another(factors, taken):
    names = column_names(factors, taken)
    assert list(names) == factors
    assert len({*names.values(), *taken}) == len(factors) + len(taken)
    assert all(name == factor for factor, name in names.items() if factor not in taken)


@pytest.mark.usefixtures("one_figure")
def test_tables_on_disk_hold_labels_as_the_study_writes_them(tmp_path):
    factors = {"learning_rate": {"1e-4": 1e-4, "0.10": 0.1}, "weights": {"none": "none"}, "epochs": {"20": 20}}
    write_report(write_run(tmp_path, factors, good, seeds=(1, 2), epochs=2))
    trials, effects = (pd.read_csv(tmp_path / f"{name}.csv", dtype=str, keep_default_na=False)
                       for name in ("trials", "effects"))  # fmt: skip
    assert list(trials.columns[:5]) == ["id", "arm", "learning_rate", "weights", "epochs"]
    assert set(trials["learning_rate"]) == {"1e-4", "0.10"}
    assert set(trials["weights"]) == {"none"}
    row = effects[["arm", "arm_learning_rate", "arm_epochs", "reference_learning_rate", "reference_weights"]].iloc[0]
    assert list(row) == ["0.10-none-20", "0.10", "20", "1e-4", "none"]


def test_printed_arms_have_a_column_for_each_factor_that_varies(tmp_path):
    factors = {"head": {"linear": 1, "wide": 2}, "depth": {"18": 18}, "Seeds": {"a": 1, "b": 2}}
    table = printed(analyse(write_run(tmp_path, factors, good, seeds=(1, 2), epochs=2)))[0]
    assert table.header[:4] == ("Arm", "head", "factor_Seeds", "Seeds")
    assert [row[:3] for row in table.rows][1] == ("linear-b", "linear", "b")


def test_the_ledger_of_a_search_has_them_too(tmp_path):
    rows = [(f"{label}-4", "s", "x", "random", 2, 1, 4) for label in ("none", "1e-4")]
    levels = {f"{label}-4": {"weights": label, "epochs": "4"} for label in ("none", "1e-4")}
    ledger = Phase(pd.DataFrame(rows, columns=list(SEARCH_COLUMNS)), {}).ledger(levels)
    assert list(ledger.columns[:4]) == ["arm", "weights", "factor_epochs", "search"]
    assert list(ledger["weights"]) == ["none", "1e-4"]
