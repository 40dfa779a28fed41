"""What `resflow report --format`, `compare`, `show` and `open` say of runs, and what they refuse."""

import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from scipy import stats as reference
from support.fake_run import rewrite, trial_id, write_run
from typer.testing import CliRunner

from resflow import atomic
from resflow.analysis import seed_statistics
from resflow.analysis.analyse import analyse
from resflow.cli import main
from resflow.errors import RecordError, ResflowError
from resflow.figures import labels
from resflow.figures.style import drawn_for
from resflow.report import exports, markdown, presets
from resflow.report.figure_list import list_figures
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
    assert "\\begin{tabular}{@{}l" in text
    assert text.count(" \\\\\n") == 4  # a header of two lines and two arms
    assert "\\label{tab:arms}" in text
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


LARGE = {"head": {"a head of many words that no column holds": 1, "b-" * 30: 2, "c": 3}, "depth": {"18": 18, "34": 34}}


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_sets_width_font_and_size_and_no_figure_is_higher_than_its_page(tmp_path, name):
    analysis = analyse(write_run(tmp_path / "run", LARGE, lambda levels: (0.8, 0.95), epochs=2))
    preset = presets.PRESETS[name]
    with drawn_for(preset.page):
        for _, entry in list_figures(analysis):
            figure = entry.draw(width=preset.page.width)
            assert figure.get_figwidth() == preset.page.width
            assert figure.get_figheight() <= preset.page.height
            texts = [text for text in figure.findobj(Text) if text.get_text()]
            assert {text.get_fontfamily()[0] for text in texts} <= {preset.page.font, "sans-serif"}
            assert max(text.get_fontsize() for text in texts) <= 1.2 * preset.page.size


def test_contrasts_that_a_page_has_no_room_for_stand_on_further_ones(tmp_path):
    analysis, page = analyse(write_run(tmp_path, epochs=2)), presets.PRESETS["slide"].page
    with drawn_for(page):
        entries = [entry for section, entry in list_figures(analysis) if section == "effects"]
        written = [entry.draw(width=page.width).findobj(Text) for entry in entries]
    drawn = [{text.get_text().replace("\n", " ") for text in texts} for texts in written]
    assert len(drawn) == len({entry.name for entry in entries}) > 1
    change = analysis.effects["context"].iloc[-1].removeprefix("depth ")
    for label in ("34 − 18, plain", "residual − plain, 101", f"residual − plain, {change}"):
        assert sum(label in texts for texts in drawn) == 1


def test_a_preset_that_is_none_or_has_nothing_to_set_is_refused(runs):
    with pytest.raises(RecordError, match=r"'cvpr'.*neurips"):
        said("report", "one", "--format", "pdf", "--preset", "cvpr")
    with pytest.raises(RecordError, match="no --format"):
        said("report", "one", "--preset", "icml")


def test_width_is_that_of_the_presets_column(runs):
    said("report", "one", "--format", "png", "--preset", "icml", "--width", "4", "--out", "figures")
    assert int.from_bytes(Path("figures/accuracy.png").read_bytes()[16:20], "big") == 4 * 300


def tabular_width(text):
    """The width of a LaTeX table in TeX's points, by the metrics of Computer Modern."""
    begin = re.search(r"\\begin\{tabular\}\{@\{\}(?:p\{(\d+)pt\})?([lr]*)@\{\}\}", text)
    body = text[begin.end() : text.index(r"\bottomrule")]
    rows = [line.removesuffix(r" \\").split(" & ") for line in body.splitlines() if line.endswith(r" \\")]
    columns = list(zip(*rows, strict=True))
    plain = [[re.sub(r"\$-\$", "−", re.sub(r"\\text[a-z]+|[{}\\$]", "", c)) for c in column] for column in columns]
    widths = [max(72.27 * labels.text_width(cell, 8, "cmr10") for cell in column) for column in plain]
    if begin[1]:
        widths[0] = float(begin[1])
    return sum(widths) + 8 * (len(widths) - 1)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_latex_tables_fit_what_they_are_made_for(tmp_path, name):
    analysis = analyse(write_run(tmp_path / "run", LARGE, lambda levels: (0.8, 0.95), seeds=(1, 2, 3, 4), epochs=2))
    preset = presets.PRESETS[name]
    tables = exports.printed(analysis)
    for table in tables:
        text = exports.latex(table, preset)
        wide = r"\begin{table*}" in text
        assert tabular_width(text) <= 72.27 * (preset.text if wide else preset.page.width)
        left_out = (
            set(table.header)
            - {"Note"}
            - {name for name in table.header if name.split()[0] in text.split("toprule")[1]}
        )
        assert all(name in text.split(r"\begin{table")[0] for name in left_out)
    assert max(len(table.header) for table in tables) > 8


def test_notes_of_rows_stand_in_the_caption_by_a_letter():
    rows = (("x", "1", "at chance"), ("y", "2", ""), ("z", "3", "at chance"))
    text = exports.latex(Table("A", ("Arm", "n", "Note"), rows, frozenset({"Arm", "Note"})))
    assert text.count(r"\textsuperscript{a}") == 3
    assert text.count("at chance") == 1
    assert "Note" not in text


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


def test_an_arm_is_shown_with_its_trials_and_a_seed_of_it_is_a_trial(runs):
    arm = said("show", "one/wide")
    assert all(trial_id("wide", seed) in arm for seed in (1, 2, 3))
    assert trial_id("linear", 1) not in arm
    assert "learning_rate: 0.05" in arm
    trial = said("show", f"one/{trial_id('wide', 2)}")
    for words in (
        ("one/wide/2",),
        ("one/wide", "--seed", "2"),
        ("results/one/wide/2",),
        (f"{runs[0].resolve()}/wide/2",),
    ):
        assert said("show", *words).replace(f"{Path.cwd()}/", "") == trial
    assert "wide, seed 2" in trial


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("one/wde",), r"no record of a trial or an arm 'wde' in one.*Did you mean 'wide'\?"),
        (("one/wide/9",), "no record of .*'wide/9'"),
        (("one/wide", "--seed", "9"), "'wide' with seed 9"),
        (("wide",), "an arm of several runs: one, other. Say RUN/wide"),
        (("nowhere/wide",), "no results folder at nowhere"),
    ],
)
def test_what_show_does_not_find_is_told_with_what_there_is(runs, words, told):
    with pytest.raises(RecordError, match=told):
        said("show", *words)


def test_no_python_is_shown(runs):
    for words in (("show", "one/wide"), ("show", "one/wide/1")):
        text = said(*words)
        assert not re.search(r"\{'|: (True|False|None)\b|\('", text), text


@pytest.mark.usefixtures("one_figure")
def test_open_opens_the_report_and_makes_it_where_there_is_none(runs, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    said("open", "one")
    assert opened == [(runs[0] / "report.html").resolve().as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert "in yours" in said("open", "one")


@pytest.mark.parametrize("cell", ["[0.5, 0.75]", "*", "[", "[]x", "*[2em]"])
def test_a_row_of_latex_is_no_option_of_the_line_break_before_it(cell):
    text = exports.latex(Table("A", (cell, "y"), ((cell, "1"), ("b", cell)), frozenset()))
    after = re.findall(r"(?:\\\\|\\toprule|\\midrule)\s*(\S)", text)
    assert "[" not in after
    assert "*" not in after
    header, body = text.split("toprule")[1].split("midrule")
    assert body.count(cell) == 2
    assert all(word in header for word in cell.split())


@given(cells=st.lists(st.text(max_size=12), min_size=2, max_size=2))
def test_any_text_is_text_to_latex(cells):
    text = exports.latex(Table("A", ("x", "y"), (tuple(cells),), frozenset()))
    row = text.split("\\midrule\n")[1].split("\n\\bottomrule")[0].removesuffix(r" \\")
    assert "\n" not in row
    plain = re.sub(r"\\(?:text[a-z]+\{\}|dots\{\}|[&%$#_{}])|\$[^$]*\$|\{\}", "", row)
    assert plain.count("&") == 1  # between the two cells
    assert not set(plain.replace("&", "")) & set("\\%$#_{}~^|`<>")
    assert not re.search(r"--|''|,,", row)
    assert all(letter.isprintable() for letter in row)
    assert ("lualatex" in text) == any(letter > "\u024f" for letter in row)


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "=", "-x", "+"])
def test_a_cell_of_text_is_no_formula_to_a_spreadsheet(text):
    frame = pd.DataFrame({"arm": [text, "plain"], "=x": [-1.5, 2.0], "level": ["-0.1", "+5"]})
    read = pd.read_csv(io.BytesIO(atomic.csv(frame)), dtype=str)
    assert list(read.columns) == ["arm", "'=x", "level"]
    assert list(read["arm"]) == ["'" + text.replace("\r", "\n"), "plain"]
    assert list(read["'=x"]) == ["-1.5", "2"]
    assert list(read["level"]) == ["-0.1", "+5"]


@pytest.mark.parametrize(("validation", "said_of"), [(4, "Of 4 validation images"), (64, "Of 64 "), (900, "Of 64 ")])
def test_a_caption_counts_the_images_that_were_looked_at(runs, validation, said_of):
    for seed in (1, 2, 3):
        for arm in HEADS["head"]:
            rewrite(runs[0], arm, seed, data={"validation": validation})
    captions = [entry.caption for _, entry in list_figures(analyse(runs[0])) if entry.name.startswith("inside")]
    assert captions
    assert all(said_of in caption for caption in captions)


@pytest.mark.usefixtures("one_figure")
def test_runs_that_cannot_be_read_are_rows_and_the_others_are_reported(runs, capsys):
    for name, content in (("broken", "{"), ("empty", "")):
        place = Path("results") / name
        place.mkdir()
        (place / "study.yaml").write_text(content)
    (Path("results/other/plan.csv")).unlink()
    os.mkfifo("results/other/plan.csv")
    status = said("status")
    assert re.search(r"broken .*no results folder", status)
    assert re.search(r"one +6 +6 completed", status)
    assert re.search(r"other .*plan.csv: it is no regular file", status)
    result = CliRunner().invoke(main.app, ["report"])
    assert result.exit_code == 2
    assert "Report: results/one/report.html" in result.stdout
    assert f"one/{trial_id('wide', 2)}" in said("show", trial_id("wide", 2))


@pytest.mark.usefixtures("one_figure")
def test_what_is_damaged_beside_records_costs_its_own_part_of_the_report(runs):
    study = runs[0] / "study.yaml"
    study.write_text(
        study.read_text().replace("margin:", "margin: wide #").replace("baseline: linear", "baseline: [x]")
    )
    (runs[0] / "landscape.csv").write_text("arm,seed,x,y,loss\nwide,1,zero,,1.0\n")
    (runs[0] / "tuning").mkdir()
    (runs[0] / "tuning" / "searches.csv").write_text("arm,search\n")
    (runs[0] / "effects.csv").mkdir()
    with pytest.raises(RecordError, match=r"cannot write the report .*effects.csv"):
        said("report", "one", "--force")
    (runs[0] / "effects.csv").rmdir()
    result = CliRunner().invoke(main.app, ["report", "one"])
    assert result.exit_code == 0
    text = (runs[0] / "README.md").read_text()
    for message in (
        r"study.yaml:\d+: margin is 'wide', expected a number",
        r"study.yaml:\d+: baseline is .*, expected text",
        r"landscape.csv is damaged: row 2 has 'zero' for x",
        r"searches.csv cannot be read as a table",
    ):
        assert re.search(message, result.output.replace("\n", " ")), message
        assert re.search(message.replace(r"\d+", ".*"), text.replace("\\", ""))
    assert "linear" in text


@pytest.mark.parametrize(
    "bomb",
    [
        "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "a: &a [*a]\n",
        "[" * 100_000,
        "a: &a {x: 1}\n" + "".join(
            f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "x: " + "y" * 2_000_000,
    ],
    ids=["aliases", "itself", "depth", "merges", "size"],
)  # fmt: skip
def test_a_study_that_would_fill_the_memory_is_refused(runs, bomb):
    (runs[0] / "study.yaml").write_text(bomb)
    for words in (("report", "one"), ("status", "one")):
        with pytest.raises(RecordError, match="no readable study"):
            said(*words)


@pytest.mark.parametrize("seed", ["1e400", "1.5", "nan", "", "9" * 30, "one", "-inf"])
def test_a_seed_in_the_plan_that_is_none_is_named_with_its_row(runs, seed):
    path = runs[0] / "plan.csv"
    rows = path.read_text().splitlines()
    cells = rows[2].split(",")
    path.write_text("\n".join([*rows[:2], ",".join([*cells[:2], seed, *cells[3:]]), *rows[3:]]) + "\n")
    with pytest.raises(RecordError, match=r"plan.csv has a seed that is no number, in row 3"):
        said("report", "one")


def test_a_link_out_of_a_run_is_refused(runs):
    (runs[0] / "landscape.csv").symlink_to("/etc/hostname")
    with pytest.raises(RecordError, match=r"landscape.csv in results/one is a link to /etc/hostname"):
        said("report", "one")


@pytest.mark.usefixtures("one_figure")
def test_old_records_are_read_and_said_to_be_unchecked(runs):
    for path in runs[0].glob("trials/*/record.json"):
        values = json.loads(path.read_text())
        del values["digests"]
        path.write_text(json.dumps({**values, "schema_version": 1}))
    said("report", "one")
    text = (runs[0] / "README.md").read_text()
    assert text.count("Unchecked records: 6 of 6") == 1
    assert "before records had digests" in said("show", f"one/{trial_id('wide', 1)}")
    said("report", "other")
    assert "Unchecked" not in (runs[1] / "README.md").read_text()
    assert "digests" not in said("show", f"other/{trial_id('wide', 5)}")


def test_a_metric_that_no_record_has_is_told(runs):
    path = runs[0] / "study.yaml"
    path.write_text(path.read_text().replace("metric: test_top1", "metric: test_top7"))
    result = CliRunner().invoke(main.app, ["report", "one", "-f", "csv"])
    assert result.exit_code == 0
    assert "metric is 'test_top7', which no completed trial has" in result.output.replace("\n", " ")
