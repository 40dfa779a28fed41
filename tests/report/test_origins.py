"""Photos that were enlarged and weights that were altered are labelled wherever a run is shown, and their origin is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from support.fake_run import rewrite, trial_id, write_run

from resflow.analysis.analyse import analyse
from resflow.analysis.labels import labels
from resflow.errors import RecordError
from resflow.records.record import read_record
from resflow.report.run_details import how
from resflow.report.write import write_index, write_report
from resflow.study.split_notes import SplitNotes

ARMS = {"head": {"linear": "linear", "wide": "wide"}}
SCRIPT = "<script>alert(1)</script>"
THUMBNAILS = {"image_size": 224, "originals": {"smallest": 60, "median": 64, "largest": 500}}
WEIGHTS = {
    "weights": "net.safetensors",
    "weights_digest": "0123456789ab" + 52 * "0",
    "weights_origin": "a server",
    "weights_note": SCRIPT,
    "weights_altered": "stored in 8 bits",
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("resflow.report.write.draw_figures", lambda analysis: [])
    return write_run(tmp_path / "run", ARMS, lambda levels: (0.8, 0.95), seeds=(1, 2), epochs=2)


def change(run: Path, arms: tuple[str, ...] = ("linear", "wide"), **facts: dict[str, Any]) -> None:
    for arm in arms:
        for seed in (1, 2):
            rewrite(run, arm, seed, **facts)


def words(run: Path) -> dict[str, str]:
    return {label.word: label.text for label in labels(analyse(run))}


def test_records_that_say_nothing_are_reported_without_a_label(run: Path) -> None:
    assert not {"enlarged photos", "altered weights"} & words(run).keys()
    assert "Originals" not in dict(how(analyse(run)))
    change(run, network={"weights": "net.safetensors", "weights_digest": "ab" * 32})
    assert dict(how(analyse(run)))["Weights"] == f"net.safetensors (sha256 {'ab' * 6})"
    assert "altered weights" not in words(run)


def test_photos_are_enlarged_where_half_of_them_are_smaller_than_the_input(run: Path) -> None:
    for size, label in ((64, False), (63, False), (65, True)):
        change(run, data={**THUMBNAILS, "image_size": size})
        assert ("enlarged photos" in words(run)) == label
    assert dict(how(analyse(run)))["Originals"] == "shorter side 60 to 500 pixels, median 64"


def test_each_size_that_photos_were_enlarged_to_is_told(run: Path) -> None:
    change(run, data=THUMBNAILS)
    change(run, ("wide",), data={"image_size": 96})
    assert "64 pixels are enlarged to 96 and 224" in words(run)["enlarged photos"]


def test_one_arm_that_starts_from_altered_weights_is_enough(run: Path) -> None:
    change(run, ("wide",), network=WEIGHTS)
    text = words(run)["altered weights"]
    assert f"net.safetensors: stored in 8 bits. Its file says: “{SCRIPT}”." in text
    said = dict(how(analyse(run)))["Weights"]
    assert said == f"net.safetensors (sha256 0123456789ab), origin: a server, note: {SCRIPT}, altered: stored in 8 bits"


def test_what_a_split_hides_is_labelled_once_and_a_sound_one_has_no_label(run: Path) -> None:
    notes = SplitNotes(("validation",), {"test": 3, "validation": 1}, {"test": ("lily", SCRIPT)})
    before = words(run)
    change(run, data={"split": "partly-drawn", "split_notes": notes.as_json()})
    said = words(run)
    assert "lacks validation, drawn from its training images by split_seed" in said["partly drawn split"]
    assert "as well, pixel for pixel: 3 test images and 1 validation image." in said["photos in two parts"]
    assert f"lily, {SCRIPT}: the split has no test image of them" in said["classes without test images"]
    assert len(labels(analyse(run))) == len(said) == len(before) + 3
    change(run, data={"split_notes": SplitNotes(joined=True).as_json()})
    assert words(run).keys() - before.keys() == {"no validation images"}
    assert SplitNotes().as_json() == {}
    assert SplitNotes.from_json(notes.as_json()) == notes


def test_page_readme_and_index_show_it_as_text(run: Path) -> None:
    change(run, data=THUMBNAILS, network=WEIGHTS)
    page = write_report(run).read_text("utf-8")
    readme = MarkdownIt("commonmark").enable("table").render((run / "README.md").read_text("utf-8"))
    index = write_index([run]).read_text("utf-8")
    for shown in (page, readme, index):
        assert "enlarged photos" in shown
        assert "altered weights" in shown
        assert SCRIPT not in shown
    for shown in (page, readme):
        assert "64 pixels are enlarged to 224" in shown
        assert "shorter side 60 to 500 pixels, median 64" in shown
        assert "origin: a server" in shown


@pytest.mark.parametrize(
    "changed",
    [
        {"data": {"originals": {"smallest": 65, "median": 64, "largest": 500}}},
        {"data": {"originals": {"smallest": 0, "median": 64, "largest": 500}}},
        {"data": {"originals": {"smallest": 64, "median": 64}}},
        {"data": {"originals": [64, 64, 64]}},
        {"network": {"weights_note": 5}},
        {"data": {"split_notes": {"leaks": {"test": "3"}}}},
        {"data": {"split_notes": {"drawn": "test"}}},
    ],
    ids=str,
)
def test_sizes_and_texts_that_cannot_be_are_refused(run: Path, changed: dict[str, Any]) -> None:
    rewrite(run, "wide", 1, **changed)
    with pytest.raises(RecordError, match="no valid record"):
        read_record(run / "trials" / trial_id("wide", 1))
