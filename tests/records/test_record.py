"""The reader of records takes what was written, and refuses everything else with one clear error."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny, work

from resflow.errors import RecordError
from resflow.records import verification
from resflow.records.packing import take_over
from resflow.records.record import (
    DIAGNOSTIC_COLUMNS,
    HISTORY_COLUMNS,
    PREDICTION_COLUMNS,
    Outcome,
    Record,
    read_record,
    write_record,
)
from resflow.records.run import load_run
from resflow.records.trial_tables import _read_parquet

EPOCHS = 3
TRIAL = "0123456789ab"
FILES = ("record.json", "history.csv", "predictions.parquet", "diagnostics.parquet")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of one record."""
    run = tmp_path_factory.mktemp("run")
    made = work.outcome(replace(tiny.trial(tiny.prepare()), id=TRIAL))
    rows = [[epoch, *[0.1 + 0.2 * epoch] * (len(HISTORY_COLUMNS) - 1)] for epoch in range(1, EPOCHS + 1)]
    predicted = pd.DataFrame([["a.jpg", 1, 1, 0.5, 0], ["b.jpg", 0, 1, 0.5, 1]], columns=PREDICTION_COLUMNS)
    inside = pd.DataFrame([["response_sd", "bn", 0, EPOCHS, 0.5]], columns=DIAGNOSTIC_COLUMNS)
    metrics = {**verification.answer_scores(*(predicted[name].to_numpy() for name in ("label", "rank", "probability")))}
    data = {"classes": 2, "test": 2, "class_names": ["été", "花"]}
    record = made.record.model_copy(update={"epochs_run": EPOCHS, "metrics": metrics, "data": data})
    folder = write_record(run, Outcome(record, pd.DataFrame(rows, columns=HISTORY_COLUMNS), predicted, inside))
    return {name: (folder / name).read_bytes() for name in FILES}


def written(place: Path, files: dict[str, bytes], name: str = TRIAL) -> Path:
    folder = place / name
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def read(folder: Path) -> Record | None:
    try:
        return read_record(folder)
    except RecordError:
        return None


@given(data=st.data())
def test_any_file_that_is_cut_short_is_found_out(
    data: st.DataObject, whole: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = data.draw(st.sampled_from(FILES))
    kept = data.draw(st.integers(0, len(whole[name]) - 1))
    folder = written(tmp_path_factory.mktemp("cut"), {**whole, name: whole[name][:kept]})
    record = read(folder)
    if name == "record.json" and kept == len(whole[name]) - 1:  # its last line feed says nothing
        assert record is not None
    else:
        assert record is None


def test_what_was_written_is_read(whole: dict[str, bytes], tmp_path: Path) -> None:
    folder = written(tmp_path, whole)
    assert read_record(folder).epochs_run == EPOCHS
    (folder / "history.csv").unlink()
    with pytest.raises(RecordError, match=f"{folder}.* has 0 whole rows, its record is of 3 epochs"):
        read_record(folder)


@pytest.mark.parametrize("network", [{}, {"shared_features": False}])
def test_a_record_from_before_shared_costs_were_told_apart_has_all_in_its_own_seconds(
    whole: dict[str, bytes], tmp_path: Path, network: dict[str, bool]
) -> None:
    record = old_record(whole, tmp_path, network)
    assert record.shared_seconds == 0
    assert record.spent_seconds == record.seconds == 606


def test_an_old_record_that_used_features_does_not_say_what_they_cost(whole: dict[str, bytes], tmp_path: Path) -> None:
    record = old_record(whole, tmp_path, {"shared_features": True})
    assert math.isnan(record.shared_seconds)
    assert record.spent_seconds == record.seconds == 606


def old_record(whole: dict[str, bytes], place: Path, network: dict[str, bool]) -> Record:
    said = json.loads(whole["record.json"]) | {"schema_version": 1, "network": network, "seconds": 606.0}
    del said["digests"], said["shared"]
    return read_record(written(place, {**whole, "record.json": json.dumps(said).encode()}))


def test_a_record_in_another_trials_folder_is_told(whole: dict[str, bytes], tmp_path: Path) -> None:
    """Ids become paths: one that climbs out of the run must not."""
    said = json.loads(whole["record.json"])
    folder = written(tmp_path, {**whole, "record.json": json.dumps({**said, "id": "../../secret"}).encode()})
    with pytest.raises(RecordError, match=r"the record of another trial, '../../secret'"):
        read_record(folder)


@given(data=st.data())
def test_any_value_in_a_record_is_understood_or_refused(
    data: st.DataObject, whole: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    said: dict[str, Any] = json.loads(whole["record.json"]) | {"schema_version": 1}  # which had no digests yet
    del said["digests"]
    assert read(written(tmp_path_factory.mktemp("even"), {**whole, "record.json": json.dumps(said).encode()}))
    for name in data.draw(st.lists(st.sampled_from(sorted(said)), max_size=3)):
        said[name] = data.draw(JSON)
    for name in data.draw(st.lists(st.sampled_from(sorted(said)), max_size=2)):
        said.pop(name, None)
    folder = written(tmp_path_factory.mktemp("odd"), {**whole, "record.json": json.dumps(said).encode()})
    record = read(folder)
    assert record is None or record.epochs_run == EPOCHS


@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_understood_or_refused(
    content: bytes, whole: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert read(written(tmp_path_factory.mktemp("bytes"), {**whole, "record.json": content})) is None


@given(content=st.binary(max_size=100))
def test_a_table_of_nonsense_is_told(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("table") / "predictions.parquet"
    path.write_bytes(b"PAR1" + content + b"PAR1")
    with pytest.raises(RecordError, match="cannot be read as a table"):
        _read_parquet(path, verification.PREDICTION_KINDS)


def test_a_broken_record_is_one_message_and_the_others_are_read(whole: dict[str, bytes], tmp_path: Path) -> None:
    trials = tmp_path / "run" / "trials"
    written(trials, whole)
    written(trials, {**whole, "history.csv": whole["history.csv"][:-5]}, "cut")
    other = json.loads(whole["record.json"]) | {"id": "cut"}
    (trials / "cut" / "record.json").write_text(json.dumps(other))
    run = load_run(tmp_path / "run")
    assert len(run.records) == 1
    assert run.broken.keys() == {"cut"}
    assert len(run.histories()) == EPOCHS


def test_a_record_of_the_same_trial_is_taken_over_under_its_new_names(tmp_path: Path) -> None:
    trial = tiny.trial(tiny.prepare())
    frame = pd.DataFrame({name: [0.1 + 0.2, 1 / 3] for name in HISTORY_COLUMNS})
    made = work.outcome(trial)
    made = replace(made, record=made.record.model_copy(update={"epochs_run": 2}), history=frame)
    folder = write_record(tmp_path / "old", made)
    renamed = replace(trial, study="other", arm="mine-untuned", levels={"x": "mine"})
    taken = take_over(tmp_path / "new", renamed, tmp_path / "old")
    before, after = read_record(folder), read_record(taken)
    assert (after.study, after.arm, after.levels) == ("other", "mine-untuned", {"x": "mine"})
    assert after.provenance == {**before.provenance, "taken_over": "old"}
    same = {"study", "arm", "levels", "provenance"}
    assert after.model_dump(exclude=same) == before.model_dump(exclude=same)
    assert (taken / "history.csv").read_bytes() == (folder / "history.csv").read_bytes()
