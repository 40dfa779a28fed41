"""A report stands alone, says what the records say, escapes what they hold, and repeats to the byte."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from support.fake_run import DEPTHS, trial_id, write_run

from resflow.errors import RecordError
from resflow.report import figure_list, formatting
from resflow.report.write import SCRIPT as SCRIPT_OF_THE_PAGE
from resflow.report.write import write_index, write_report

HEADS = {"head": {"linear": "linear", "wide": "wide"}}
SCRIPT = "<script>alert(1)</script>"
HOSTILE = {"opt <b>": {SCRIPT: 1, 'a "q", | [x](y)': 2}}


def good(levels):
    return 0.8, 0.95


class Page(HTMLParser):
    """Tags, attributes and the text that a browser would show."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.links, self.ids, self.texts = set(), [], [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        self.links += [v for name, v in attributes if name in ("href", "src", "xlink:href", "srcset", "action")]
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def depth(tmp_path_factory):
    statuses = {("plain-50", 2): "failed", ("residual-101", 3): "not run"}
    folder = write_run(tmp_path_factory.mktemp("depth"), statuses=statuses, epochs=3)
    return write_report(folder)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    write_run(folder, HOSTILE, good, seeds=(1, 2), epochs=2, name="<img src=x>", question="Is </title> & | safe?")
    return write_report(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("small"), HEADS, good, seeds=(1, 2), epochs=2)
    write_report(folder)
    return folder


@pytest.fixture
def no_figures(monkeypatch):
    """For what figures have no part in: they take most of a report's time."""
    monkeypatch.setattr("resflow.report.write.draw_figures", lambda analysis: [])


def only_our_script(report):
    """The page has one script, resflow's own, and its policy lets no other run and nothing be fetched."""
    html = report.read_text(encoding="utf-8")
    assert re.findall(r"<script[^>]*>", html) == ["<script>"]
    script = html.split("<script>")[1].split("</script>")[0]
    assert script == SCRIPT_OF_THE_PAGE
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"


def outputs(folder):
    paths = [path for path in folder.rglob("*") if path.is_file() and "trials" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_the_page_stands_alone(depth):
    page = Page(depth.read_text(encoding="utf-8"))
    assert not page.tags & {"img", "iframe", "object", "embed", "form"}
    only_our_script(depth)
    for link in page.links:
        inside = link.startswith("#") and link[1:] in page.ids
        assert inside or link == "data:," or (depth.parent / link).exists(), link
    urls = set(re.findall(r"https?://[^\s\"')]+", depth.read_text(encoding="utf-8")))
    assert urls <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in depth.read_text(encoding="utf-8")
    assert len(page.ids) == len(set(page.ids))


def test_the_page_follows_the_readers_scheme_width_and_printer(depth):
    html = depth.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert 'name="viewport"' in html
    for name in ("--muted", "--grid"):  # colours that the figures ask for
        assert f"var({name})" in html
        assert f"{name}:" in html


def test_the_question_comes_first_then_the_answer_then_the_figure(depth):
    html = depth.read_text(encoding="utf-8")
    marks = ("Does depth help", "So far 22 of 24", "accuracy-figure", 'id="arms"', 'id="effects"',
             'id="curves"', 'id="costs"', 'id="trials"', 'id="how"', 'id="limits"')  # fmt: skip
    places = [html.index(mark, html.index("<h1>")) for mark in marks]
    assert places == sorted(places)


def test_files_hold_fractions_of_every_trial_and_the_page_per_cent(depth):
    table = pd.read_csv(depth.parent / "trials.csv")
    assert len(table) == 24
    assert table["test_top1"].dropna().between(0, 1).all()
    assert table["test_top1"].notna().sum() == (table["status"] == "completed").sum() == 22
    text = Page(depth.read_text(encoding="utf-8")).text
    assert all(formatting.level(METRIC, value) in text for value in table["test_top1"].dropna())
    assert "ResourceExhaustedError: out of memory" in text
    assert trial_id("residual-101", 3) in text


METRIC = formatting.Metric("test_top1", "test top-1", "%", "points", 100.0)


def test_the_page_gives_the_verdicts_of_effects_csv(depth):
    effects = pd.read_csv(depth.parent / "effects.csv")
    html = depth.read_text(encoding="utf-8")
    for verdict, rows in effects.groupby("verdict"):
        of_arms = (rows["contrast_group"] == "baseline").sum()  # these stand in the table of arms as well
        assert html.count(f'<span class="word {verdict}">') == len(rows) + of_arms


def test_the_readme_renders_on_a_forge(depth):
    source = (depth.parent / "README.md").read_text(encoding="utf-8")
    html = MarkdownIt("commonmark").enable("table").render(source)
    effects = pd.read_csv(depth.parent / "effects.csv")
    # Beside the contrasts: arms, training error, epochs to an error, the paper's claims, the hardest classes.
    assert html.count("<table>") == 5 + effects["contrast_group"].nunique()
    rows = len(effects) + len(DEPTHS) * 2 + 6 + len(DEPTHS) * 2 + 12 + 10
    assert html.count("<tr>") == html.count("<table>") + rows
    images = re.findall(r'<img src="([^"]+)"', html)
    assert "figures/accuracy.png" in images
    assert all((depth.parent / unquote(path)).is_file() for path in images)


def test_whatever_records_hold_is_shown_and_never_run(hostile):
    page = Page(hostile.read_text(encoding="utf-8"))
    assert "img" not in page.tags
    only_our_script(hostile)
    assert SCRIPT in page.text
    assert "Is </title> & | safe?" in page.text
    source = (hostile.parent / "README.md").read_text(encoding="utf-8")
    rendered = MarkdownIt("commonmark").enable("table").render(source)
    shown = Page(rendered)
    assert "script" not in shown.tags
    assert SCRIPT in shown.text
    assert 'a "q", | [x](y)' in shown.text
    assert pd.read_csv(hostile.parent / "trials.csv")["arm"].nunique() == 2


def test_reporting_again_changes_no_byte(small):
    before = outputs(small)
    assert {"report.html", "README.md", "trials.csv", "effects.csv", "figures/accuracy.svg"} <= set(before)
    for name in before:
        if name not in ("plan.csv", "study.yaml"):
            (small / name).unlink()
    write_report(small)
    assert outputs(small) == before


def test_figures_that_no_longer_hold_are_removed_and_others_kept(tmp_path, no_figures):
    run = write_run(tmp_path, HEADS, good, seeds=(1,), epochs=2)
    (run / "figures").mkdir()
    for name in ("training_by_depth.png", "accuracy.svg", "mine.png"):
        (run / "figures" / name).write_bytes(b"")
    write_report(run)
    assert [path.name for path in (run / "figures").iterdir()] == ["mine.png"]


def test_a_new_figure_is_a_function_and_a_row_that_says_its_section(tmp_path, monkeypatch):
    def gaps(analysis):
        yield figure_list.Entry("gaps", "gaps between seeds", "A caption.", lambda width: Figure((width, 2)))

    monkeypatch.setattr(figure_list, "KINDS", (figure_list.Kind("costs", "gaps", gaps),))
    run = write_run(tmp_path, HEADS, good, seeds=(1, 2), epochs=2)
    html = write_report(run).read_text(encoding="utf-8")
    assert "Gaps between seeds" in html[html.index('id="costs"') : html.index('id="trials"')]
    assert html.count("<h3>Gaps between seeds<") == 1
    assert "figures/gaps.svg" in (run / "README.md").read_text(encoding="utf-8")
    monkeypatch.setattr(figure_list, "KINDS", (figure_list.Kind("costs", "gaps", lambda analysis: iter(())),))
    write_report(run)
    assert not list((run / "figures").iterdir())


@pytest.mark.parametrize("template", ["report.html.j2", "README.md.j2"])
def test_every_section_of_a_figure_stands_in_the_report(template):
    text = (Path(figure_list.__file__).parent / "templates" / template).read_text(encoding="utf-8")
    shown = set(re.findall(r"for f in figures\.(\w+)", text))
    assert shown == set(figure_list.SECTIONS) == {kind.section for kind in figure_list.KINDS}


def test_a_run_that_has_only_begun_says_so(tmp_path):
    statuses = {(arm, seed): "not run" for arm in ("linear", "wide") for seed in (1, 2)}
    text = Page(write_report(write_run(tmp_path, HEADS, good, (1, 2), statuses)).read_text("utf-8")).text
    assert "No answer yet: none of 4 trials has completed." in text
    assert "4 of 4 trials not run" in text
    assert not (tmp_path / "figures").exists()


def test_a_run_in_which_all_failed_shows_the_reasons(tmp_path, no_figures):
    statuses = {(arm, seed): "failed" for arm in ("linear", "wide") for seed in (1, 2)}
    text = Page(write_report(write_run(tmp_path, HEADS, good, (1, 2), statuses)).read_text("utf-8")).text
    assert "4 of 4 trials failed" in text
    assert text.count("ResourceExhaustedError: out of memory") == 4


def test_a_foreign_folder_is_reported(tmp_path, no_figures):
    text = Page(write_report(write_run(tmp_path, HEADS, good, (1, 2), foreign=True)).read_text("utf-8")).text
    assert "no study" in text
    assert "wide − linear" in text


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RecordError, match="no results folder"):
        write_report(tmp_path)
    with pytest.raises(RecordError, match="no results folder at"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(RecordError, match="at least one"):
        write_index([])


def test_a_folder_that_cannot_be_written_is_one_clear_message(tmp_path, no_figures):
    run = write_run(tmp_path, HEADS, good, seeds=(1, 2), epochs=2)
    (run / "effects.csv").mkdir()
    with pytest.raises(RecordError, match="make the folder writable"):
        write_report(run, force=True)
    assert not list(run.glob(".*"))  # no draft is left behind


def test_twins_of_other_sizes_are_called_unpaired_with_the_difference(depth, tmp_path, no_figures):
    report = write_report(write_run(tmp_path, seeds=(1, 2), epochs=2, projections=3_000))
    for text in (Page(report.read_text("utf-8")).text, (tmp_path / "README.md").read_text("utf-8")):
        assert "unpaired: +3,000 parameters (+1.5 %)" in text.replace("\\", "")
        assert "203,000" in text  # the arms' parameters, to the digit
    assert "+3,000 parameters (+1.5 %)" in (tmp_path / "effects.csv").read_text("utf-8")
    assert "unpaired" not in Page(depth.read_text("utf-8")).text


def test_the_index_links_every_report(depth, hostile, tmp_path):
    page = Page(write_index([depth.parent, hostile.parent], tmp_path).read_text(encoding="utf-8"))
    links = [(tmp_path / unquote(link)).resolve() for link in page.links if link != "data:,"]
    assert list(dict.fromkeys(link for link in links if link.suffix == ".html")) == [depth.resolve(), hostile.resolve()]
    assert all(link.is_file() for link in links)
    assert "Is </title> & | safe?" in page.text
    assert "22 of 24 trials completed" in page.text
    assert "script" not in page.tags


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.34, "+12.3"), (-0.049, "−0.05"), (0.001, "0.0"), (-0.001, "0.0"), (0.996, "+1.0"), (float("nan"), "–")],
)
def test_points_have_a_sign_and_no_signed_zero(value, text):
    assert formatting.number(value, signed=True) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(269_722, "270 k"), (11_689_512, "11.7 M"), (1_814_000_000, "1.81 G"), (999_900, "1000 k"), (12, "12")],
)
def test_counts_are_short(value, text):
    assert formatting.count(value) == text


def test_a_loss_is_shown_in_nats(tmp_path, no_figures):
    text = Page(write_report(write_run(tmp_path, HEADS, good, (1, 2), metric="test_loss")).read_text("utf-8")).text
    assert "Effect (nats)" in text
    assert "Test loss (nats)" in text


@pytest.mark.long
def test_of_very_many_trials_the_report_shows_what_seeds_span(tmp_path, monkeypatch):
    monkeypatch.setattr("resflow.atomic.sync", lambda path: None)  # 248 records
    folder = write_run(tmp_path, seeds=range(1, 32), epochs=2)
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "wide lines span the middle nine tenths of an arm's seeds (more than 200 trials)" in page.text
    assert "A shade spans the middle nine tenths of the seeds" in page.text
    assert "Small marks are seeds" not in page.text
    assert "Paired differences by seed" not in page.text  # as wide as there are seeds
    assert page.text.count("completed") >= 248  # every trial is in the table
    assert (folder / "report.html").stat().st_size < 3_000_000
