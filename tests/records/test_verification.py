"""A record is believed as far as it fits its digests, its ranges and its own tables."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny
from support.fake_run import rewrite, trial_id, write_run

from resflow.errors import RecordError
from resflow.records import verification
from resflow.records.metrics import METRICS
from resflow.records.packing import set_aside, take_over
from resflow.records.record import (
    PREDICTION_COLUMNS,
    Outcome,
    make_record,
    read_record,
    write_record,
)
from resflow.records.run import load_run
from resflow.workspace import trial_folder

HEADS = {"head": {"linear": "linear", "wide": "wide"}}
TRIAL = trial_id("linear", 1)
FILES = ("record.json", "history.csv", "predictions.parquet", "diagnostics.parquet")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of one trial."""
    run = write_run(tmp_path_factory.mktemp("run"), HEADS, lambda levels: (0.6, 0.9), seeds=(1,), epochs=3)
    return {name: (trial_folder(run, TRIAL) / name).read_bytes() for name in FILES}


@pytest.fixture
def folder(files: dict[str, bytes], tmp_path: Path) -> Path:
    """A run of one trial; its record's folder."""
    return put(files, tmp_path / "run" / "trials" / TRIAL)


def put(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def change(folder: Path, edit: Callable[[dict[str, Any]], Any], *, sealed: bool = False) -> None:
    """Edit a record; it is then one of before there were digests, or keeps those it had."""
    path = folder / "record.json"
    values = json.loads(path.read_text())
    edit(values)
    if not sealed:
        values = {key: value for key, value in values.items() if key != "digests"} | {"schema_version": 1}
    path.write_text(json.dumps(values))


def refused(folder: Path) -> str:
    with pytest.raises(RecordError) as error:
        read_record(folder)
    assert "Traceback" not in str(error.value)
    return str(error.value)


@given(data=st.data())
def test_every_flipped_bit_is_noticed(
    data: st.DataObject, files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = data.draw(st.sampled_from(FILES))
    changed, place = bytearray(files[name]), data.draw(st.integers(0, 8 * len(files[name]) - 1))
    changed[place // 8] ^= 1 << place % 8
    folder = put({**files, name: bytes(changed)}, tmp_path_factory.mktemp("flip") / TRIAL)
    try:
        found = read_record(folder)
    except RecordError:
        return
    # Such as an E for an e: nothing that is read has changed.
    assert name == "record.json"
    assert found == read_record(put(files, tmp_path_factory.mktemp("whole") / TRIAL))


@pytest.mark.parametrize("sealed", [False, True], ids=["old", "sealed"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("test_top1", 0.887),
        ("test_top1", 37.5),
        ("test_top1", float("nan")),
        ("test_top1", -0.1),
        ("test_top5", 0.2),
        ("test_mean_class_accuracy", 0.99),
        ("test_loss", 0.001),
        ("test_loss", float("inf")),
        ("train_top1", 0.123),
        ("validation_loss", 9.0),
        ("another", float("nan")),
    ],
)
def test_an_edited_metric_is_not_believed(folder: Path, name: str, value: float, sealed: bool) -> None:
    change(folder, lambda record: record["metrics"].update({name: value}), sealed=sealed)
    message = refused(folder)
    assert str(folder) in message
    if not sealed:
        assert name in message or METRICS[name].label in message


def test_what_contradicts_what_is_named(folder: Path) -> None:
    change(folder, lambda record: record["metrics"].update(test_top1=0.187))
    assert "predictions.parquet: it gives a test top-1 of 0." in refused(folder)
    assert "where its record says 0.187" in refused(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("best_epoch", 4),
        ("best_epoch", -1),
        ("epochs_run", -1),
        ("seconds", -1.0),
        ("seconds", float("nan")),
        ("seed", 2**70),
        ("data", {"classes": 0}),
        ("data", {"classes": "ten"}),
        ("data", {"test": 499}),
        ("data", {"class_names": "rose"}),
        ("data", {"normalisation": {"mean": ["x"]}}),
        ("network", {"parameters": "many"}),
        ("provenance", {"versions": ["keras"]}),
    ],
)
def test_a_value_out_of_its_range_is_refused(folder: Path, field: str, value: Any) -> None:
    def edit(record: dict[str, Any]) -> None:
        record[field] = {**record[field], **value} if isinstance(value, dict) else value

    change(folder, edit)
    assert str(folder) in refused(folder)


def frame_of(folder: Path, name: str = "predictions.parquet") -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO((folder / name).read_bytes()))


@pytest.mark.parametrize("sealed", [False, True], ids=["old", "sealed"])
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("predicted", 1_000_000, "1000000 for predicted, of 10 classes"),
        ("predicted", -1, "-1 for predicted"),
        ("label", 10, "10 for label"),
        ("rank", 10, "10 for rank"),
        ("probability", 1.5, "between 0 and 1"),
        ("probability", np.nan, "between 0 and 1"),
        ("predicted", 3.5, "expected whole numbers"),
        ("predicted", "rose", "expected whole numbers"),
        ("image", 5, "expected text"),
    ],
)
def test_a_prediction_that_cannot_be_is_named(
    folder: Path, column: str, value: Any, message: str, sealed: bool
) -> None:
    frame = frame_of(folder)
    frame[column] = [value] * len(frame)
    frame.to_parquet(folder / "predictions.parquet")
    change(folder, lambda record: None, sealed=sealed)
    assert message in refused(folder)


def test_predictions_that_are_all_right_contradict_a_record_that_says_less(folder: Path) -> None:
    frame = frame_of(folder)
    frame.assign(predicted=frame["label"], rank=0).to_parquet(folder / "predictions.parquet", index=False)
    assert "it gives a test top-1 of 1 where its record says 0." in refused(folder)


def test_outcomes_that_contradict_themselves_are_refused_though_their_digests_fit(folder: Path, tmp_path: Path) -> None:
    record = read_record(folder)
    lied = record.model_copy(update={"metrics": {**record.metrics, "test_top1": 0.99}})
    history = pd.read_csv(folder / "history.csv")
    write_record(tmp_path / "other", Outcome(lied, history, frame_of(folder)))
    assert "where its record says 0.99" in refused(trial_folder(tmp_path / "other", TRIAL))


def test_a_table_of_very_many_rows_is_refused_before_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 3_000_000
    zeros = {name: pa.array(np.zeros(rows, np.int8)) for name in ("label", "predicted", "rank", "probability")}
    pq.write_table(pa.table({"image": pa.array(["a"] * rows).dictionary_encode(), **zeros}), folder / FILES[2])
    assert (folder / FILES[2]).stat().st_size < 1_000_000
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("it was read"))
    change(folder, lambda record: None)
    assert "says that it has 3,000,000 rows, and at most 500 are expected" in refused(folder)


def test_a_long_text_that_cells_share_is_refused_before_it_is_multiplied(folder: Path) -> None:
    frame = frame_of(folder)
    frame["image"] = pd.Categorical(["x" * 1_000_000] * len(frame))
    frame.to_parquet(folder / "predictions.parquet")
    change(folder, lambda record: None)
    with pytest.raises(RecordError, match="more than 4,096 bytes"):
        load_run(folder.parents[1]).predictions_of(TRIAL)


@pytest.mark.parametrize("text", ["text", "1_000", "0.1,0.2", "٣x", "-1", "nan_"])
def test_text_in_a_numbers_place_is_named_with_its_line(folder: Path, text: str) -> None:
    path = folder / "history.csv"
    lines = path.read_text().splitlines()
    lines[2] = ",".join([*lines[2].split(",")[:3], text, *lines[2].split(",")[4:]])
    path.write_text("\n".join(lines) + "\n")
    change(folder, lambda record: None)
    message = refused(folder)
    assert str(path) in message
    assert "line 3" in message or "train_loss is not 0 or more" in message


def test_text_in_diagnostics_and_epochs_that_never_were_are_named(folder: Path) -> None:
    frame = frame_of(folder, "diagnostics.parquet")
    change(folder, lambda record: None)
    for bad, message in (
        (frame.assign(value="x"), "value holds .*expected numbers"),
        (frame.assign(epoch=9), "none of its record's 3"),
        (frame.drop(columns="layer"), "lacks the columns layer"),
    ):
        bad.to_parquet(folder / "diagnostics.parquet")
        with pytest.raises(RecordError, match=message):
            read_record(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file_is_one_row_that_is_named(folder: Path, name: str, make: Callable[[Path], Any]) -> None:
    (folder / name).unlink()
    make(folder / name)
    run = load_run(folder.parents[1])
    if os.path.lexists(folder / name) and not (folder / name).exists() and name in FILES[2:]:
        assert "is lost" in run.faults[0]
    else:
        assert name in run.broken[TRIAL]


@pytest.mark.parametrize("part", ["", "record.json", "history.csv"])
def test_what_nobody_may_read_is_one_row_that_is_named(files: dict[str, bytes], part: str) -> None:
    with tempfile.TemporaryDirectory() as place:  # not pytest's, which is its user's alone
        Path(place).chmod(0o755)
        folder = put(files, Path(place) / "trials" / TRIAL)
        (folder / part).chmod(0)
        user = os.geteuid()
        try:
            if user == 0:  # who may read everything
                os.seteuid(65534)
            run = load_run(Path(place))
        finally:
            os.seteuid(user)
            (folder / part).chmod(0o755)
    assert "ermission denied" in run.broken[TRIAL]


@pytest.mark.parametrize("name", FILES[2:])
def test_a_file_that_is_lost_is_told_and_the_record_stands(folder: Path, name: str) -> None:
    (folder / name).unlink()
    run = load_run(folder.parents[1])
    assert len(run.records) == 1
    assert run.faults == (f"{folder / name} is lost: its record was written with it.",)


def test_a_file_that_came_later_is_not_the_trials(folder: Path) -> None:
    def without(record: dict[str, Any]) -> None:
        del record["digests"]["predictions.parquet"]
        record["digests"]["record.json"] = verification._own_digest(record)

    change(folder, without, sealed=True)
    assert "was not written with its record" in refused(folder)


def test_a_record_without_its_digests_is_none_of_before_there_were_any(folder: Path) -> None:
    change(folder, lambda record: record.pop("digests"), sealed=True)
    assert "does not fit its own digest" in refused(folder)


@pytest.mark.parametrize("old", [False, True])
def test_a_record_that_is_taken_over_or_set_aside_is_as_checked_as_it_was(
    folder: Path, tmp_path: Path, old: bool
) -> None:
    if old:
        change(folder, lambda record: None)
    trial = replace(tiny.trial(tiny.prepare()), id=TRIAL, study="other", arm="mine", levels={"x": "mine"})
    taken = take_over(tmp_path / "new", trial, folder.parents[1])
    assert read_record(taken).sealed is not old
    assert read_record(taken).arm == "mine"
    assert {name: (taken / name).read_bytes() for name in FILES[1:]} == {
        name: (folder / name).read_bytes() for name in FILES[1:]
    }
    aside = set_aside(tmp_path / "new", [TRIAL], tmp_path / "aside")
    assert read_record(aside / TRIAL).sealed is not old


def test_a_damaged_record_counts_as_missing_for_a_verdict(tmp_path: Path) -> None:
    from resflow.analysis.analyse import analyse

    run = write_run(tmp_path, HEADS, lambda levels: (0.8 if levels["head"] == "wide" else 0.5, 0.9), seeds=(1, 2, 3, 4))
    assert analyse(run).effects["n"].tolist() == [4]
    path = trial_folder(run, trial_id("wide", 2)) / "record.json"
    path.write_text(path.read_text().replace('"test_top1": 0.', '"test_top1": 0.9'))
    damaged = analyse(run).effects.iloc[0]
    assert (damaged["n"], damaged["missing"]) == (3, 1)


def test_a_record_that_was_rewritten_whole_is_read(tmp_path: Path) -> None:
    """The helper of other tests writes what is believed."""
    run = write_run(tmp_path, HEADS, lambda levels: (0.5, 0.9), seeds=(1,), epochs=2)
    rewrite(run, "wide", 1, metrics={"test_top1": 0.1234}, data={"split": "other"})
    record = read_record(trial_folder(run, trial_id("wide", 1)))
    assert (record.metrics["test_top1"], record.data["split"]) == (0.1234, "other")


def test_weights_that_give_no_number_have_diverged(tmp_path: Path) -> None:
    trial = replace(tiny.trial(tiny.prepare()), id=TRIAL)
    record = make_record(trial, status="completed", metrics={"test_loss": float("nan"), "test_top1": 0.1}, best_epoch=0)
    assert (record.status, record.metrics, record.best_epoch) == ("diverged", {}, None)
    assert record.reason == "test_loss of the tested weights: no number"
    none = pd.DataFrame([["a", 0, 0, np.nan, 0]], columns=PREDICTION_COLUMNS)
    folder = write_record(tmp_path, Outcome(record, predictions=none))
    assert read_record(folder) == record
    assert not (folder / "predictions.parquet").exists()


@pytest.mark.parametrize(
    "make", [os.mkfifo, Path.touch, lambda path: path.symlink_to("nowhere"), lambda path: path.symlink_to(path.parent)]
)
def test_a_trial_runs_again_whatever_lies_in_its_folders_place(
    folder: Path, tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    outcome = Outcome(read_record(folder), pd.read_csv(folder / "history.csv"), frame_of(folder))
    place = tmp_path / "other" / "trials" / TRIAL
    place.parent.mkdir(parents=True)
    make(place)
    with pytest.raises(RecordError):
        read_record(place)
    write_record(tmp_path / "other", outcome)
    assert read_record(place).status == "completed"
