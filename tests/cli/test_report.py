"""What `resflow report --format`, `compare`, `show` and `open` say of runs, and what they refuse."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference
from support.fake_run import trial_id, write_run
from typer.testing import CliRunner

from resflow.analysis import seed_statistics
from resflow.cli import main
from resflow.errors import RecordError, ResflowError
from resflow.report import exports, markdown
from resflow.report.tables import Table

HEADS = {"head": {"linear": "linear", "wide": "wide"}}


def good(levels):
    return (0.8, 0.95) if levels["head"] == "linear" else (0.7, 0.9)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = write_run(Path("results/one"), HEADS, good, epochs=2, name="one")
    other = write_run(Path("results/other"), HEADS, good, seeds=(4, 5, 6, 7), epochs=3, name="other")
    return one, other


def said(*words):
    result = CliRunner().invoke(main.app, list(words), env={"COLUMNS": "200"})
    if isinstance(result.exception, ResflowError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_frames_hold_every_number_in_each_form(runs):
    said("report", "one", "--format", "csv", "--format", "json", "--format", "parquet", "--out", "tables")
    csv = pd.read_csv("tables/trials.csv")
    parquet = pd.read_parquet("tables/trials.parquet")
    rows = json.loads(Path("tables/trials.json").read_text(encoding="utf-8"))
    assert len(csv) == len(parquet) == len(rows) == 6
    for values in (csv["test_top1"], [row["test_top1"] for row in rows]):
        assert list(values) == pytest.approx(list(parquet["test_top1"]), rel=1e-5)
    assert len(pd.read_csv("tables/epochs.csv")) == 12
    assert {path.stem for path in Path("tables").iterdir()} == {"trials", "arms", "effects", "epochs"}


def test_printed_tables_are_markdown_and_latex(runs):
    paths = said("report", "one", "--format", "md", "--format", "latex").split()
    assert {Path(path).suffix for path in paths} == {".md", ".tex"}
    text = Path("results/one/exports/arms.tex").read_text(encoding="utf-8")
    assert "\\begin{tabular}{l" in text
    assert text.count("\\\\") == 3  # a header and two arms
    assert "\\%" in text
    assert not re.search(r"(?<!\\)[%&#_]", text.split("\\toprule")[1].replace(" & ", " "))


@pytest.mark.parametrize("kind", exports.PICTURES)
def test_figures_have_the_width_that_was_asked_for(runs, kind):
    said("report", "one", "--format", kind, "--width", "3.4", "--out", "figures")
    data = Path(f"figures/accuracy.{kind}").read_bytes()
    assert data.startswith({"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[kind])
    if kind == "png":
        assert int.from_bytes(data[16:20], "big") == round(3.4 * 300)
    if kind == "pdf":
        assert b"/Type3" not in data
    again = exports.write_exports(Path("results/one"), [kind], Path("again"))
    assert next(path for path in again if path.stem == "accuracy").read_bytes() == data


def test_text_of_a_table_cannot_become_markup():
    table = Table("A_b", ("x", "y"), (("50 % & <b>", "−1_2 \\input{x}"),), frozenset({"x"}))
    assert r"50 \% \& $<$b$>$ & $-$1\_2 \textbackslash{}input\{x\}" in exports.latex(table)
    assert "\\<b\\>" in markdown.table(table)


def test_an_unknown_format_is_refused(runs):
    with pytest.raises(RecordError, match=r"'latx'.*latex"):
        said("report", "one", "--format", "latx")


def test_a_comparison_tells_what_differs_and_how_the_arms_stand(runs):
    text = said("compare", "one", "other")
    assert re.search(r"seeds\s+\[1, 2, 3\]\s+\[4, 5, 6, 7\]", text)
    assert re.search(r"recipe.epochs\s+2\s+3", text)
    assert "python" not in text  # is the same
    values = [
        pd.read_csv(said("report", run, "-f", "csv", "-o", run).split()[0]).query("arm == 'wide'")["test_top1"]
        for run in ("one", "other")
    ]
    assert f"{100 * values[0].mean():.1f}" in text
    assert "wide − linear" in text
    assert "hurts" in text


def test_runs_that_are_the_same_say_so(runs):
    text = said("compare", "one", "one")
    assert "are the same" in text


@pytest.mark.parametrize("seed", range(5))
def test_welch_is_scipys(seed):
    draw = np.random.default_rng(seed)
    x, y = draw.normal(0, 1, 3 + seed), draw.normal(0.5, 2, 6)
    theirs = reference.ttest_ind(x, y, equal_var=False).confidence_interval()
    found = seed_statistics.welch(x, y)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    assert np.isnan(seed_statistics.welch([1.0], y).low)


def test_a_trial_is_shown_by_the_beginning_of_its_id(runs):
    trial = trial_id("wide", 5)
    for words in (trial[:6], f"other/{trial}", f"results/other/{trial[:8]}"):
        text = said("show", words)
        assert f"other/{trial}" in text
        assert "wide, seed 5" in text
        assert "test top-1" in text
        assert "learning_rate" in text


def test_a_trial_that_is_not_there_or_not_one_is_refused(runs):
    with pytest.raises(RecordError, match="resflow status"):
        said("show", "ffffffffffff")
    with pytest.raises(RecordError, match=r"Give more of it|no record"):
        said("show", "one/")
    first = {trial_id(arm, seed)[0] for arm in HEADS["head"] for seed in (1, 2, 3)}
    several = [c for c in first if sum(trial_id(a, s)[0] == c for a in HEADS["head"] for s in (1, 2, 3)) > 1]
    for letter in several:
        with pytest.raises(RecordError, match="several trials"):
            said("show", f"one/{letter}")


def test_open_opens_the_report_and_makes_it_where_there_is_none(runs, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    said("open", "one")
    assert opened == [(runs[0] / "report.html").resolve().as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert "in yours" in said("open", "one")
