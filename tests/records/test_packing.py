"""A packed run says what it said before, whatever interrupts its packing, and its damage is noticed."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny
from support.fake_run import trial_id, write_run

from resflow import atomic, workspace
from resflow.analysis.analyse import analyse
from resflow.errors import RecordError, WeightsError
from resflow.records import archive, rounding, verification
from resflow.records.packing import find_record, pack, set_aside, take_over
from resflow.records.record import Outcome, read_record, write_record
from resflow.records.run import finished_records, load_run
from resflow.runner.stopping import exclusive_run
from resflow.weights.saved import locate_network
from resflow.workflow.upgrade import upgrade_run
from resflow.workspace import archive_path, trial_folder

ROOT = Path(__file__).parents[2]
HEADS = {"head": {"linear": "linear", "wide": "wide"}}
TRIAL, OTHER = trial_id("linear", 1), trial_id("wide", 2)
MISSING = {("wide", 1): "failed", ("linear", 3): "diverged", ("wide", 3): "not run"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with records of every status, one of them from before there were digests."""
    run = write_run(
        tmp_path_factory.mktemp("written") / "run",
        HEADS,
        lambda levels: (0.6 if levels["head"] == "wide" else 0.5, 0.9),
        statuses=MISSING,
        epochs=3,
    )
    path = trial_folder(run, trial_id("linear", 2)) / workspace.RECORD
    values = {key: value for key, value in json.loads(path.read_text()).items() if key != "digests"}
    path.write_text(json.dumps(values | {"schema_version": 1}))
    return run


@pytest.fixture
def run(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "run"))


@pytest.fixture(scope="module")
def once_packed(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Path(shutil.copytree(written, tmp_path_factory.mktemp("packed") / "run"))
    pack(run)
    return run


@pytest.fixture
def packed(once_packed: Path, tmp_path: Path) -> Path:
    """The same run, packed."""
    return Path(shutil.copytree(once_packed, tmp_path / "packed"))


def said(run: Path) -> dict[str, Any]:
    """Everything that a run says, by name; probabilities as archives keep them."""
    found = load_run(run)
    predictions = found.predictions
    return {
        "records": [record.model_dump_json() for record in found.records],
        "sealed": [record.sealed for record in found.records],
        "broken": set(found.broken),
        "trials": found.trials.to_csv(),
        "epochs": found.epochs.to_csv(),
        "diagnostics": found.diagnostics.to_csv(),
        "predictions": predictions.assign(probability=rounding.encode(predictions["probability"])).to_csv(),
        "types": [frame.dtypes.map(str).to_dict() for frame in (found.trials, found.epochs, predictions)],
    }


def reported(run: Path) -> dict[str, bytes]:
    """The tables that a report is made of."""
    found = analyse(run)
    return {name: atomic.csv(getattr(found, name)) for name in ("trials", "arms", "effects", "histories")}


@given(st.floats(0, 1))
def test_a_probability_comes_back_within_its_precision_and_then_stays(probability: float) -> None:
    (back,) = rounding.decode(rounding.encode([probability]))
    if probability >= 2 ** -((rounding.LAST - 1) / rounding.STEPS):
        assert abs(back / probability - 1) <= rounding.PRECISION + 1e-12
        assert abs(np.log(back / probability)) <= rounding.LOSS_PRECISION + 1e-12
    else:
        assert abs(back - probability) < 2**-31
    assert rounding.decode(rounding.encode([back])) == [back]
    assert rounding.is_rounded(np.array([back, back * (1 - 1e-15)]))  # another machine may round otherwise
    assert not rounding.is_rounded(np.array([back, 0.3]))


@pytest.mark.parametrize("value", [np.nan, -0.5, np.inf, -np.inf, 1.5])
def test_what_is_no_probability_is_none_from_an_archive(value: float) -> None:
    assert not rounding.is_rounded(np.array([0.5, value]))


def test_a_packed_run_says_what_it_said(run: Path) -> None:
    before, tables = said(run), reported(run)
    assert pack(run) == 5
    assert [path.name for path in (run / "trials").iterdir()] == [workspace.ARCHIVE]
    assert said(run) == before
    assert reported(run) == tables
    assert workspace.is_run(run)
    content = archive_path(run).read_bytes()
    assert (pack(run), archive_path(run).read_bytes()) == (0, content)


# a demonstration, or a run that goes on, is none of them
LISTED = subprocess.run(["git", "ls-files", "results/*/study.yaml"], cwd=ROOT, capture_output=True, text=True).stdout
COMMITTED = pytest.mark.parametrize("name", sorted(Path(line).parent.name for line in LISTED.splitlines()))


@COMMITTED
def test_a_committed_run_is_light(name: str) -> None:
    """A repository keeps whatever was ever in it: a megabyte for forty trials of six thousand test images."""
    run = ROOT / "results" / name
    packed = archive_path(run)
    assert list((run / "trials").iterdir()) == [packed], f"pack it: resflow upgrade results/{name}"
    assert packed.stat().st_size < 1e6 * max(1, len(load_run(run).records) / 40)
    assert (run / "report.html").stat().st_size < 1e6


@pytest.mark.long
@COMMITTED
def test_a_committed_run_says_what_it_said(name: str, tmp_path: Path) -> None:
    run = Path(shutil.copytree(ROOT / "results" / name, tmp_path / name))
    before, tables = said(run), reported(run)
    upgrade_run(run)
    assert (said(run), reported(run)) == (before, tables)


@settings(max_examples=3)
@given(parts=st.lists(st.sets(st.integers(0, 4), min_size=1), max_size=3))
def test_trials_that_come_one_after_the_other_are_packed_as_all_at_once(
    parts: list[set[int]], written: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("parts")
    whole, run = Path(shutil.copytree(written, place / "whole")), Path(shutil.copytree(written, place / "run"))
    pack(whole)
    waiting = sorted((run / "trials").iterdir())
    shutil.move(run / "trials", place / "later")
    (run / "trials").mkdir()
    before = said(written)
    for part in [*parts, set(range(5))]:
        for number in part:
            if (place / "later" / waiting[number].name).exists():
                shutil.move(place / "later" / waiting[number].name, run / "trials")
        beside = load_run(run).records
        pack(run)
        assert load_run(run).records == beside
    assert said(run) == before
    assert archive_path(run).read_bytes() == archive_path(whole).read_bytes()


class Killed(BaseException):
    """What ends a process, wherever it is."""


@pytest.mark.parametrize("step", [0, 1, 2, 9])
def test_packing_may_end_anywhere_and_be_done_again(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A step is one of what changes names on the disk; half of a removal is that of a hidden folder."""
    before, calls = said(run), iter(range(step))
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    pack(whole)

    def killed(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(calls, None) is None:
                raise Killed
            return original(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed(Path.replace))
        patched.setattr(Path, "rename", killed(Path.rename))
        patched.setattr(shutil, "rmtree", killed(shutil.rmtree))
        with pytest.raises(Killed):
            pack(run)
    for draft in (f".{workspace.ARCHIVE}.0123abcd.zip", f".{TRIAL}.0123abcd"):  # a killed process removes none
        shutil.copytree(whole / "trials", run / "trials" / draft)
    assert said(run) == before
    pack(run)
    assert said(run) == before
    assert [path.name for path in (run / "trials").iterdir()] == [workspace.ARCHIVE]
    assert archive_path(run).read_bytes() == archive_path(whole).read_bytes()


def test_a_trial_that_ran_again_counts_once_and_as_it_ran_last(packed: Path) -> None:
    failed = find_record(packed, trial_id("wide", 1))
    write_record(packed, Outcome(failed.model_copy(update={"reason": "again", "epochs_run": 0})))
    records = load_run(packed).records
    assert [record.reason for record in records if record.id == failed.id] == ["again"]
    assert len(records) == 5
    pack(packed)
    assert find_record(packed, failed.id).reason == "again"
    assert len(load_run(packed).records) == 5


def test_a_trial_that_fails_where_it_ran_for_its_network_alone_keeps_its_packed_record(
    packed: Path, tmp_path: Path
) -> None:
    from resflow.runner.record_writer import RecordWriter

    completed, writer = find_record(packed, TRIAL), RecordWriter(str(packed), str(tmp_path / "state"))
    writer.write(Outcome(completed.model_copy(update={"status": "failed", "metrics": {}, "best_epoch": None})))
    assert find_record(packed, TRIAL) == completed
    assert not trial_folder(packed, TRIAL).exists()


def test_a_stranger_reads_an_archive_with_numpy_alone(packed: Path) -> None:
    file = np.load(archive_path(packed))
    records = [json.loads(line) for line in file["records.jsonl"].splitlines()]
    place = json.loads(file["predictions/id.json"]).index(TRIAL)
    mine = file["predictions/id"] == place
    images = np.array(json.loads(file["predictions/image.json"]))[file["predictions/image"][mine]]
    known = load_run(packed).predictions_of(TRIAL)
    assert images.tolist() == known["image"].tolist()
    assert np.allclose(0.5 ** (file["predictions/probability_code"][mine] / 8), known["probability"])
    top1 = {record["id"]: record["metrics"].get("test_top1") for record in records}
    assert (file["predictions/rank"][mine] == 0).mean() == top1[TRIAL]


def test_packed_trials_are_set_aside_and_taken_over_as_they_were(run: Path, tmp_path: Path) -> None:
    source, original = Path(shutil.copytree(run, tmp_path / "source")), read_record(trial_folder(run, TRIAL))
    pack(source)
    pack(run)
    aside = set_aside(run, [TRIAL, OTHER], tmp_path / "aside")
    assert {path.name for path in aside.iterdir()} == {TRIAL, OTHER}
    assert read_record(aside / TRIAL) == original
    assert {TRIAL, OTHER}.isdisjoint(record.id for record in load_run(run).records)
    trial = replace(tiny.trial(tiny.prepare()), id=TRIAL, study="depth", arm="linear", levels={"head": "linear"})
    taken = read_record(take_over(run, trial, source))
    assert taken.provenance == {**original.provenance, "taken_over": "source"}
    assert taken.metrics == original.metrics
    mine, theirs = load_run(run), load_run(source)
    assert mine.predictions_of(TRIAL).equals(theirs.predictions_of(TRIAL))
    assert mine.histories([TRIAL]).equals(theirs.histories([TRIAL]))
    assert mine.diagnostics_of([TRIAL]).equals(theirs.diagnostics_of([TRIAL]))
    set_aside(run, [record.id for record in mine.records], tmp_path / "rest")
    assert not list((run / "trials").iterdir())


def test_a_trial_whose_run_is_packed_meanwhile_is_not_taken_over_by_half(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, trial = shutil.copyfile, replace(tiny.trial(tiny.prepare()), id=TRIAL)

    def pack_and_copy(source: Path, target: Path) -> None:
        copy(source, target)
        pack(run)

    monkeypatch.setattr(shutil, "copyfile", pack_and_copy)
    with pytest.raises(RecordError, match="was packed or changed"):
        take_over(tmp_path / "new", trial, run)
    assert not trial_folder(tmp_path / "new", TRIAL).exists()
    take_over(tmp_path / "new", trial, run)
    assert load_run(tmp_path / "new").predictions_of(TRIAL).equals(load_run(run).predictions_of(TRIAL))


def test_what_is_damaged_or_has_lost_a_table_is_not_packed(run: Path) -> None:
    with (trial_folder(run, TRIAL) / workspace.HISTORY).open("a") as file:
        file.write("4,")
    (trial_folder(run, OTHER) / workspace.PREDICTIONS).unlink()
    upgraded = upgrade_run(run)
    assert upgraded.packed == 3
    assert sorted(path.name for path in (run / "trials").iterdir() if path.is_dir()) == sorted([TRIAL, OTHER])
    assert any(OTHER in line for line in upgraded.left)
    assert any(TRIAL in line for line in upgraded.left)


@settings(max_examples=50)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_bit_that_flips_in_an_archive_is_noticed_or_harmless(
    place: float, bit: int, once_packed: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before, content = load_run(once_packed), bytearray(archive_path(once_packed).read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    run = tmp_path_factory.mktemp("flipped")
    (run / "trials").mkdir()
    archive_path(run).write_bytes(content)
    found = load_run(run)
    if found.broken:
        assert str(archive_path(run)) in " ".join(found.broken.values())
    else:
        assert found.records == before.records
        assert found.histories().equals(before.histories())


def edit(run: Path, member: str, change: Callable[[bytes], bytes]) -> None:
    """Change a member of a run's archive, whose checksums fit again."""
    content = archive_path(run).read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    members[member] = change(members[member])
    with zipfile.ZipFile(archive_path(run), "w") as file:
        for name, part in members.items():
            file.writestr(name, part, zipfile.ZIP_LZMA)


def column_with(place: int, step: float) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        values = np.load(io.BytesIO(content))
        values[place] += step
        changed = io.BytesIO()
        np.save(changed, values)
        return changed.getvalue()

    return change


@pytest.mark.parametrize("member", ["history/train_loss", "diagnostics/value", "predictions/rank", "predictions/image"])
def test_a_value_that_was_changed_costs_its_trial_and_no_other(packed: Path, member: str) -> None:
    edit(packed, f"{member}.npy", column_with(0, 1))
    found = load_run(packed)
    assert (len(found.records), len(found.broken)) == (4, 1)
    ((trial, message),) = found.broken.items()
    assert f"its {member.partition('/')[0]} does not fit the digest" in message
    with pytest.raises(RecordError, match="does not fit"):
        find_record(packed, trial)


def test_a_damaged_trial_is_no_hindrance_to_others_and_may_run_again(packed: Path, run: Path, tmp_path: Path) -> None:
    edit(packed, "history/train_loss.npy", column_with(0, 1))
    ((damaged, _),) = load_run(packed).broken.items()
    other = next(record.id for record in load_run(packed).records)
    set_aside(packed, [other], tmp_path / "other")
    shutil.copytree(trial_folder(run, other), trial_folder(packed, other))
    assert pack(packed) == 1
    assert load_run(packed).broken.keys() == {damaged}
    shutil.copytree(trial_folder(run, damaged), trial_folder(packed, damaged))  # as if it had run again
    pack(packed)
    assert said(packed) == said(run)


def test_a_damaged_trial_is_set_aside_as_it_is(packed: Path, tmp_path: Path) -> None:
    edit(packed, "history/train_loss.npy", column_with(0, 1))
    ((damaged, message),) = load_run(packed).broken.items()
    content = archive_path(packed).read_bytes()
    aside = set_aside(packed, load_run(packed).folders, tmp_path / "aside")
    assert (aside / workspace.ARCHIVE).read_bytes() == content
    assert "only that trial will run" in message
    assert not (aside / damaged).exists()
    assert len([read_record(path) for path in aside.iterdir() if path.is_dir()]) == 4
    assert not list((packed / "trials").iterdir())


def test_a_record_that_was_changed_costs_its_trial_and_no_other(packed: Path) -> None:
    edit(packed, "records.jsonl", lambda content: content.replace(b'"seed":1', b'"seed":7', 1))
    found = load_run(packed)
    assert (len(found.records), len(found.broken)) == (4, 1)


@pytest.mark.parametrize("name", ["../../elsewhere", "/tmp/x", ".hidden", ""])
def test_an_archive_cannot_name_a_place_outside_its_run(packed: Path, name: str) -> None:
    edit(packed, "records.jsonl", lambda content: content.replace(TRIAL.encode(), name.encode()))
    assert "is called" in load_run(packed).broken[workspace.ARCHIVE]


def test_trials_do_not_run_again_because_their_archive_is_damaged(packed: Path) -> None:
    archive_path(packed).write_bytes(archive_path(packed).read_bytes()[:-100])
    for call in (finished_records, pack, upgrade_run):
        with pytest.raises(RecordError, match=r"Restore it, from version control say"):
            call(packed)


def test_a_run_that_a_process_has_is_not_upgraded(run: Path) -> None:
    with exclusive_run(run), pytest.raises(RecordError, match="is being run by process"):
        upgrade_run(run)
    assert not archive_path(run).exists()


def test_an_upgrade_packs_a_search_as_well_and_says_what_it_saved(run: Path) -> None:
    shutil.copytree(run / "trials", run / workspace.TUNING / "trials")
    (run / workspace.TUNING / workspace.PLAN).write_bytes((run / workspace.PLAN).read_bytes())
    before = said(run / workspace.TUNING)
    upgraded = upgrade_run(run)
    assert upgraded.packed == 10
    assert said(run / workspace.TUNING) == before
    assert upgraded.after.files == 5  # study.yaml, two plans, two archives
    assert upgraded.after.bytes < upgraded.before.bytes / 2
    assert not upgraded.left


def test_forty_trials_of_the_oxford_test_set_take_less_than_a_megabyte(tmp_path: Path) -> None:
    """Whatever the answers are: these are drawn evenly from 102 classes, which nothing can press."""
    draw, images, trials = np.random.default_rng(1), 6149, 40
    record = {"data": {"class_names": [f"flower {number}" for number in range(102)]}}
    parts = []
    for number in range(trials):
        answers = pd.DataFrame(
            {
                "image": [f"image_{place:05d}.jpg" for place in range(images)],
                "label": np.arange(images) % 102,
                "predicted": draw.integers(0, 102, images),
                "probability": draw.random(images) ** 4,
                "rank": draw.integers(0, 102, images),
            }
        )
        history = pd.DataFrame(draw.random((20, 8)), columns=[f"column {place}" for place in range(8)])
        tables = {archive.PREDICTIONS: answers, archive.HISTORY: history}
        stored = {name: archive.to_stored(name, pa.Table.from_pandas(table)) for name, table in tables.items()}
        parts.append((verification.sealed_rows({**record, "id": f"trial{number}"}, stored), stored))
    archive.write(tmp_path / "packed.zip", archive.make_archive(parts))
    assert (tmp_path / "packed.zip").stat().st_size < 1_000_000
    back = archive.read(tmp_path / "packed.zip").table(archive.PREDICTIONS, "trial39")
    assert back is not None
    assert back.to_pandas().drop(columns="probability").equals(answers.drop(columns="probability"))


def test_a_loss_is_held_against_rounded_probabilities_within_their_precision(packed: Path, tmp_path: Path) -> None:
    """A test loss that no rounding explains is noticed even then."""
    folder = set_aside(packed, [TRIAL], tmp_path / "aside") / TRIAL
    target = trial_folder(packed, TRIAL)
    shutil.copytree(folder, target)
    loss = float(-np.log(load_run(packed).predictions_of(TRIAL)["probability"]).mean())
    for off, fits in ((0.9 * rounding.LOSS_PRECISION, True), (3 * rounding.LOSS_PRECISION, False)):
        path = target / workspace.RECORD
        values = json.loads(path.read_text())
        values["metrics"]["test_loss"] = loss + off
        path.write_text(json.dumps(verification.sealed(values, target)))
        assert (TRIAL not in load_run(packed).broken) is fits


def test_a_packed_trial_is_named_by_the_folder_that_it_had(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"trial {TRIAL} of run packed has kept no network. Train it again"):
        locate_network(str(trial_folder(packed, TRIAL)), tmp_path / "results", tmp_path / "state")
