"""No command replaces what resflow did not write, unless `--force` says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import fake_run
from support.direct import raised, said

from resflow.errors import ResflowError
from resflow.report import write
from resflow.report.figure_list import RenderedFigure
from resflow.report.write import write_index, write_report

MINE = "written by somebody else, over weeks\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


FIGURE = RenderedFigure(
    "accuracy", "answer", "Accuracy", "By hand.", {"pair": "<svg/>"}, {"svg": b"<svg/>", "png": b"PNG"}
)


@pytest.fixture
def run(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(write, "draw_figures", lambda analysis: [FIGURE])  # a report's own take seconds
    folder = here / "results" / "depth"
    fake_run.write_run(folder, {"shortcut": {"plain": "none"}, "depth": {"18": 18, "34": 34}}, seeds=(1, 2))
    return folder


def mine(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(MINE)
    return path


def refused_then_forced(path: Path, *words: str) -> None:
    """Run a command that would replace a file, and then as it may."""
    with pytest.raises(ResflowError, match=f"{path.name}.* would be replaced.*--force"):
        raised(*words)
    assert path.read_text() == MINE
    said(*words, "--force")
    assert path.read_bytes() != MINE.encode()


@pytest.mark.parametrize("name", ["README.md", "report.html", "effects.csv", "figures/accuracy.svg"])
def test_a_first_report_replaces_nothing(run: Path, name: str) -> None:
    refused_then_forced(mine(run / name), "report", "depth")


def test_a_report_is_made_again_without_being_asked(run: Path) -> None:
    said("report", "depth")
    first = (run / "report.html").read_bytes()
    said("report", "depth")
    (run / "report.html").unlink()  # too large for somebody's repository
    said("report", "depth")
    assert (run / "report.html").read_bytes() == first


def test_a_report_that_was_cut_off_is_made_again(run: Path) -> None:
    write_report(run)
    whole = (run / "README.md").read_bytes()
    (run / "README.md").unlink()
    write_report(run)
    assert (run / "README.md").read_bytes() == whole


def test_an_index_replaces_no_page_of_somebody(run: Path, here: Path) -> None:
    page = mine(here / "results" / "index.html")
    with pytest.raises(ResflowError, match=r"index\.html"):
        write_index([run])
    assert page.read_text() == MINE
    write_index([run], force=True)
    write_index([run])


def test_exports_replace_nothing_but_what_is_equal(run: Path, here: Path) -> None:
    said("report", "depth", "--format", "csv")  # into the run's own folder
    said("report", "depth", "--format", "csv")
    words = ("report", "depth", "--format", "csv", "--out", "paper")
    said(*words)
    said(*words)
    refused_then_forced(mine(here / "paper" / "effects.csv"), *words)


def test_a_contact_sheet_replaces_nothing(here: Path) -> None:
    path = mine(here / "sheet.png")
    with pytest.raises(ResflowError, match=r"sheet\.png"):
        raised("data", "info", "synthetic", "--contact-sheet", "sheet.png")
    assert path.read_text() == MINE


def test_init_replaces_nothing(here: Path) -> None:
    refused_then_forced(mine(here / "mine.yaml"), "init", "mine.yaml")


def test_pretrain_replaces_nothing_and_says_so_before_it_trains(here: Path) -> None:
    path = mine(here / "net.safetensors")
    with pytest.raises(ResflowError, match=r"net\.safetensors"):
        raised("pretrain", "--data", "synthetic", "--out", "net.safetensors")
    assert path.read_text() == MINE


@pytest.mark.parametrize("name", ["README.md", "results.json"])
def test_a_benchmark_is_kept_among_benchmarks_alone_and_that_is_told_before_it_runs(here: Path, name: str) -> None:
    mine(here / "bench" / name)
    with pytest.raises(ResflowError, match=name):
        raised("bench", "chaos", "--out", "bench")


def test_a_dangling_link_is_somebodys_too(here: Path) -> None:
    (here / "mine.yaml").symlink_to("nowhere")
    with pytest.raises(ResflowError, match=r"mine\.yaml"):
        raised("init", "mine.yaml")
