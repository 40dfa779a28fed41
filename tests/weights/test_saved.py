"""Kept networks: the epoch that was asked for, whole or not at all, and never a part of what a trial is."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from support import direct, tiny
from support.direct import said

from resflow import atomic
from resflow.errors import StudyError, WeightsError
from resflow.records.record import Outcome, Record
from resflow.records.run import finished_records, load_run
from resflow.report import write
from resflow.runner import execute, record_writer
from resflow.study import trial
from resflow.study.load import load_study
from resflow.study.settings import Head
from resflow.study.trial import Trial
from resflow.training import fit, scoring, train
from resflow.training.learner import Learner, forget_graphs, graph_key, prepare_learner
from resflow.weights import files, load, saved
from resflow.weights.saved import read_network, trials_to_run, trials_without_network
from resflow.workflow.plan import make_plan
from resflow.workspace import network_path

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")
LOSSES = [3.0, 1.0, 2.0]  # the second epoch is the best one, the third the last
STUDY = """\
name: mine
question: q
baseline: none
factors: {shortcut: [none, zero_pad]}
network: {family: cifar, depth: 8, width: 0.125}
data: {source: "folder:photos", image_size: 16}
recipe: {epochs: 1, batch_size: 8, learning_rate: 0.05}
execution: {device: cpu}
seeds: 1
profiles: {keeping: {keep_weights: best}}
"""


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.prepare()


def asked(folder: Path, keep: str, **settings: Any) -> Trial:
    return replace(tiny.trial(folder, **settings), keep_weights=keep)


def tensors(values: list[np.ndarray], net: Learner) -> dict[str, np.ndarray]:
    names = [f"{layer.name}/{weight.name}" for layer in net.model.layers for weight in layer.weights]
    return dict(zip(names, values, strict=True))


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def same_record(one: Outcome, other: Outcome) -> bool:
    changing = {"seconds", "shared", "provenance"}
    pd.testing.assert_frame_equal(one.history.drop(columns="seconds"), other.history.drop(columns="seconds"))
    assert (one.predictions is None) == (other.predictions is None)
    if one.predictions is not None:
        pd.testing.assert_frame_equal(one.predictions, other.predictions, check_exact=True)
    return one.record.model_dump(exclude=changing) == other.record.model_dump(exclude=changing)


# --- asking for them


def test_keeping_is_no_part_of_a_trial_or_of_a_runs_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(STUDY.replace('"folder:photos"', "synthetic"))
    none = make_plan("./mine.yaml", prepare=False)
    for options in ({"settings": {"keep_weights": "last"}}, {"profile": "keeping"}):
        some = make_plan(load_study("./mine.yaml", **options), prepare=False)
        assert [t.id for t in some.trials] == [t.id for t in none.trials]
        assert [t.settings() for t in some.trials] == [t.settings() for t in none.trials]
        assert {t.keep_weights for t in some.trials} == {"best" if "profile" in options else "last"}
    assert {t.keep_weights for t in none.trials} == {"none"}
    named = make_plan(load_study("./mine.yaml", settings={"keep_weights": "last"}), prepare=False)
    assert named.run == none.run
    assert "--set 'keep_weights=\"last\"'" in named.command
    assert named.study.resolved()["keep_weights"] == "last"


@pytest.mark.parametrize("value", ["first", "true", "null", "[best, last]"])
def test_what_cannot_be_kept_is_refused_with_its_line(value: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"{STUDY}keep_weights: {value}\n")
    with pytest.raises(StudyError, match=r"mine\.yaml:11: keep_weights: expected 'none', 'best' or 'last'"):
        load_study(str(path))


# --- what is kept


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, np.ndarray]]:
    """The network after each epoch, whose validation loss is prescribed."""
    seen: list[dict[str, np.ndarray]] = []
    real = fit._evaluate

    def evaluate(net: Learner, *args: Any) -> dict[str, float]:
        seen.append(tensors(net.model.get_weights(), net))
        return {**real(net, *args), "validation_loss": LOSSES[len(seen) - 1]}

    monkeypatch.setattr(fit, "_evaluate", evaluate)
    return seen


@pytest.mark.parametrize(("keep", "epoch"), [("best", 2), ("last", 3)])
@pytest.mark.parametrize("test", ["best", "last"])
def test_the_epoch_that_was_asked_for_is_kept_whichever_is_tested(
    folder: Path, tmp_path: Path, epochs: list[dict[str, np.ndarray]], keep: str, epoch: int, test: str
) -> None:
    path = tmp_path / "weights" / "net.safetensors"
    settings = {"epochs": 3, "test_weights": test, "learning_rate": 0.5}
    with_it = train.train_trial(asked(folder, keep, **settings), folder, keep=path)
    assert with_it.record.status == "completed", with_it.record.reason
    assert equal(load_file(path), epochs[epoch - 1])
    assert not equal(epochs[1], epochs[2])
    trained = read_network(path).network.trained
    assert (trained.epoch, trained.kept) == (epoch, keep)
    epochs.clear()
    assert same_record(with_it, train.train_trial(tiny.trial(folder, **settings), folder, keep=tmp_path / "none"))
    assert [p.name for p in tmp_path.rglob("*")] == ["weights", path.name]


def test_the_file_tells_all_that_the_network_is_built_from(folder: Path, tmp_path: Path) -> None:
    head = Head(hidden=(5,), dropout=0.25, pooling="flatten")
    trained = asked(folder, "last", epochs=1, head=head, normalisation="raw", seed=3)
    outcome = train.train_trial(trained, folder, keep=tmp_path / "net.safetensors")
    found = read_network(tmp_path / "net.safetensors")
    assert found.network.architecture == trained.architecture
    assert found.network.head == head
    assert found.network.classes == ("a", "b", "c")
    assert found.network.image_size == 16
    assert (found.network.normalisation.mean, found.network.normalisation.deviation) == ((0, 0, 0), (1, 1, 1))
    assert found.network.trained.model_dump() == {
        "trial": trained.id, "study": "tiny", "arm": trained.arm, "seed": 3, "epoch": 1, "kept": "last",
        "source": "synthetic", "finetune": "scratch",
    }  # fmt: skip
    assert "keep" not in json.dumps(outcome.record.model_dump())


def test_an_odd_end_keeps_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.safetensors"
    failed = train.train_trial(asked(folder, "last", batch_size=29), folder, keep=path)
    monkeypatch.setattr(fit, "learning_rate", lambda *args: 1e38)
    diverged = train.train_trial(asked(folder, "best"), folder, keep=path)
    assert (failed.record.status, diverged.record.status) == ("failed", "diverged")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_refuses_costs_the_network_and_not_the_record(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "weights").write_text("a file where a folder should be")
    outcome = train.train_trial(asked(folder, "last"), folder, keep=tmp_path / "weights" / "net.safetensors")
    assert same_record(outcome, train.train_trial(tiny.trial(folder), folder))
    assert "its network is not kept: cannot write" in caplog.text


def test_an_interruption_leaves_no_half_file_and_what_was_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.safetensors"
    train.train_trial(asked(folder, "last", epochs=1), folder, keep=path)
    before = path.read_bytes()

    def half(draft: Path, *args: Any) -> None:
        draft.write_bytes(before[: len(before) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_safetensors", half)
    with pytest.raises(KeyboardInterrupt):
        train.train_trial(asked(folder, "last", seed=2, epochs=1), folder, keep=path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("a.safetensors", ".a.safetensors.0123abcd", ".b.safetensors.ffff0000"):
        (folder / name).touch()
    atomic.sweep(folder)
    assert [path.name for path in folder.iterdir()] == ["a.safetensors"]
    atomic.sweep(tmp_path / "nowhere")


# --- starting from them


@pytest.fixture
def started(folder: Path, tmp_path: Path) -> tuple[Trial, Path]:
    """A trial that kept its network in the run `first`, and the folder of states."""
    first = asked(folder, "last", seed=5)
    train.train_trial(first, folder, keep=network_path(tmp_path / "first", first.id))
    return first, tmp_path


def test_another_study_starts_from_a_kept_backbone(folder: Path, started: tuple[Trial, Path]) -> None:
    first, state = started
    found = load.find_weights(f"run:first/{first.id}", "cifar", 8, state)
    assert found.path == network_path(state / "first", first.id)
    second = replace(tiny.trial(folder, seed=6), pretrained=found)
    forget_graphs()
    net = prepare_learner(second, np.zeros(3, np.float32), np.ones(3, np.float32))
    now, then = tensors(net.model.get_weights(), net), load_file(found.path)
    assert now.keys() == then.keys()
    assert [name for name in now if not np.array_equal(now[name], then[name])] == ["head/kernel", "head/bias"]


@pytest.mark.parametrize("head", [Head(), Head(hidden=(4,), pooling="flatten")], ids=["linear", "hidden"])
def test_a_head_on_shared_features_is_kept_with_its_backbone(
    folder: Path, started: tuple[Trial, Path], head: Head
) -> None:
    from resflow.inspection.network import rebuild_network

    first, state = started
    found = load.find_weights(f"run:first/{first.id}", "cifar", 8, state)
    frozen = replace(asked(folder, "last", finetune="frozen", head=head), pretrained=found)
    assert frozen.shares_features
    path = state / "frozen.safetensors"
    outcome = train.train_trial(frozen, folder, keep=path)
    assert outcome.record.status == "completed", outcome.record.reason
    backbone = {name: values for name, values in load_file(found.path).items() if not name.startswith("head")}
    now = load_file(path)
    assert equal({name: now[name] for name in now if not name.startswith("head")}, backbone)
    data = tiny.dataset()
    logits = rebuild_network(read_network(path)).logits(data.images[data.test]).numpy()
    assert outcome.predictions is not None
    shown = scoring.predictions(logits, data)
    pd.testing.assert_frame_equal(shown, outcome.predictions, rtol=1e-5)


# --- what is trained again


def completed(trial: Trial, status: str = "completed") -> Record:
    return execute.tune_adapters.make_failed_record(trial, "a test").model_copy(update={"status": status})


def test_what_is_not_kept_as_asked_runs_again(folder: Path, tmp_path: Path) -> None:
    last = asked(folder, "last", epochs=1)
    best, none = replace(last, keep_weights="best"), replace(last, keep_weights="none")
    path = network_path(tmp_path, last.id)

    def again(trial: Trial, status: str = "completed") -> bool:
        found = trials_without_network([trial], {trial.id: completed(trial, status)}, tmp_path) == [trial]
        assert trials_to_run([trial], {trial.id: completed(trial, status)}, tmp_path) == [trial][: int(found)]
        return found

    assert (again(last), again(best), again(none)) == (True, True, False)
    assert not again(last, "failed")  # they have no network to keep
    assert not again(last, "diverged")
    assert trials_to_run([last], {}, tmp_path) == [last]
    assert trials_without_network([last], {}, tmp_path) == []
    train.train_trial(last, folder, keep=path)
    assert (again(last), again(best), again(none)) == (False, True, False)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert again(last)  # damaged
    other = asked(folder, "last", epochs=1, seed=2)
    network_path(tmp_path, other.id).write_bytes(whole)
    assert trials_without_network([other], {other.id: completed(other)}, tmp_path) == [other]  # another trial's


def test_a_failure_the_second_time_leaves_the_record_of_the_first(folder: Path, tmp_path: Path) -> None:
    one, recorder = tiny.trial(folder), record_writer.RecordWriter(str(tmp_path), str(tmp_path / "state"))
    failed = Outcome(execute.tune_adapters.make_failed_record(one, "the second time"))
    recorder.write(Outcome(completed(one)))
    recorder.write(failed)
    assert finished_records(tmp_path)[one.id].status == "completed"
    other = tiny.trial(folder, 2)
    recorder.write(Outcome(execute.tune_adapters.make_failed_record(other, "the first time")))
    recorder.write(Outcome(execute.tune_adapters.make_failed_record(other, "the second time")))
    assert finished_records(tmp_path)[other.id].reason == "the second time"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study of ten photos of each of three classes; trials run in this process, without Ray."""
    tiny.photos(tmp_path / "photos")
    (tmp_path / "mine.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(execute, "execute", direct.execute)
    monkeypatch.setattr(write, "write_report", lambda run: run / "report.html")  # figures take seconds
    return tmp_path


def test_a_study_that_asks_later_trains_again_and_says_so(here: Path) -> None:
    first = said("study", "./mine.yaml")
    (run,) = Path("results").iterdir()
    before = load_run(run)
    files = {record.id: run / "trials" / record.id / "predictions.parquet" for record in before.records}
    tables = {key: path.read_bytes() for key, path in files.items()}
    assert "ran before" not in first
    assert not Path(".resflow").exists()
    assert "2 trials, 0 to run" in said("plan", "./mine.yaml")
    assert "2 trials, 2 to run" in said("plan", "./mine.yaml", "--set", "keep_weights=last")

    second = said("study", "./mine.yaml", "--set", "keep_weights=last")
    assert "2 trials of them ran before and kept no whole network: trained again for it" in second
    assert list(Path("results").iterdir()) == [run]
    after = load_run(run)
    changing = {"seconds", "shared", "provenance"}
    assert [r.model_dump(exclude=changing) for r in after.records] == [
        r.model_dump(exclude=changing) for r in before.records
    ]
    assert {key: path.read_bytes() for key, path in files.items()} == tables
    held = {path.stem for path in (Path(".resflow") / run.name / "weights").iterdir()}
    assert held == {record.id for record in after.records}
    third = said("study", "./mine.yaml", "--set", "keep_weights=last")
    assert "2 of them done before" in third
    assert "trained again" not in third


def test_a_study_says_that_it_could_not_keep_what_it_should(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **more: Any) -> None:
        raise WeightsError("the disk is full")

    monkeypatch.setattr(saved, "save_weights", refuse)
    shown = said("study", "./mine.yaml", "--profile", "keeping", code=1)
    assert "2 completed" in shown
    assert re.search(
        r"2 trials kept no network: the logs in \.resflow/mine-keeping-folder_photos-\w{6}/logs say", shown
    )


@pytest.mark.long
@pytest.mark.timeout(600)
def test_kept_through_ray(folder: Path, tmp_path: Path) -> None:
    trials = [tiny.trial(folder, 1), tiny.trial(folder, 2)]
    run, folders = tmp_path / "results" / "run", {t.id: folder for t in trials}
    place = execute.RunPlace(run, tmp_path / "state")
    execute.execute(place, trials, folders, lambda progress: None)
    before = finished_records(run)
    asked = [replace(t, keep_weights="last") for t in trials]
    again = execute.execute(place, asked, folders, lambda progress: None)
    changing = {"seconds", "shared", "provenance"}
    assert {r.id: r.model_dump(exclude=changing) for r in again} == {
        r.id: r.model_dump(exclude=changing) for r in before.values()
    }
    assert finished_records(run) == {r.id: r for r in again}
    for t in trials:
        path = tmp_path / "direct" / f"{t.id}.safetensors"
        train.train_trial(replace(t, keep_weights="last"), folder, keep=path)
        assert equal(load_file(path), load_file(network_path(tmp_path / "state", t.id)))
    assert trials_to_run(asked, finished_records(run), tmp_path / "state") == []


# --- what files say


def test_files_of_others_and_damaged_ones_are_told(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    train.train_trial(asked(folder, "last", epochs=1), folder, keep=path)
    with safe_open(path, framework="np") as file:
        about = {key: text for key, text in file.metadata().items() if key != files.OWN_DIGEST}  # edited by hand
    values = load_file(path)
    other = tmp_path / "other.safetensors"
    changes: dict[str, tuple[dict[str, str | None], str]] = {
        "nothing said": (dict.fromkeys(about), "does not say of which network"),
        "no classes": ({"classes": None}, r"does not say of which network \(classes missing\)"),
        "no text": ({"head": "{"}, "makes no sense"),
        "no network": ({"network": "3"}, "network: expected an object with depth, family"),
        "an odd network": ({"network": about["network"].replace("zero_pad", "magic")}, "expected 'none'.*magic"),
        "a newer network": ({"network": about["network"].replace("{", '{"groups": 2, ', 1)}, "unknown key 'groups'"),
        "an endless network": ({"network": about["network"].replace('"depth": 8', '"depth": 6000000002')}, "2000"),
        "a large network": ({"network": about["network"].replace('"depth": 8', '"depth": 110')}, "is too small for"),
        "no normalisation": ({"input": None}, "does not say how pixels are normalised"),
        "an odd head": ({"head": '{"pooling": "max"}'}, "head.pooling"),
        "no class": ({"classes": "[]"}, "classes"),
        "a huge image": ({"image_size": "100000"}, "image_size"),
    }  # fmt: skip
    for what, (changed, message) in changes.items():
        save_file(values, other, {key: text for key, text in {**about, **changed}.items() if text is not None})
        with pytest.raises(WeightsError, match=message):
            pytest.fail(f"{what}: {read_network(other)}")


def test_no_part_of_a_file_is_taken_for_the_whole(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    train.train_trial(asked(folder, "last", epochs=1), folder, keep=path)
    whole = path.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match="no readable"):
            read_network(path)


def test_trials_share_a_graph_whatever_they_keep(folder: Path) -> None:
    assert trial.NUMERICS_VERSION  # raised by no setting of this file
    assert graph_key(asked(folder, "best")) == graph_key(tiny.trial(folder))


# --- damage


@pytest.fixture(scope="module")
def kept_bytes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("kept") / "net.safetensors"
    train.train_trial(asked(folder, "last", epochs=1), folder, keep=path)
    return path.read_bytes()


@settings(max_examples=60)
@given(st.floats(0, 1), st.integers(0, 7), st.booleans())
def test_a_flipped_bit_is_noticed_or_changes_nothing(
    kept_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, place: float, bit: int, header: bool
) -> None:
    path, whole = (
        tmp_path_factory.mktemp("flip") / "net.safetensors",
        tmp_path_factory.mktemp("whole") / "net.safetensors",
    )
    start = 8 + int.from_bytes(kept_bytes[:8], "little")
    content = bytearray(kept_bytes)
    content[int(place * (start - 1)) if header else start + int(place * (len(content) - start - 1))] ^= 1 << bit
    path.write_bytes(content)
    whole.write_bytes(kept_bytes)
    try:
        network, found = read_network(path).network, files.read(path)
    except WeightsError:
        return
    assert header  # of the tensors every bit is noticed; of the header those of a key that nobody asks for are not
    assert network == read_network(whole).network
    assert equal(found.tensors, files.read(whole).tensors)


def test_the_digest_of_a_kept_network_is_that_of_the_file_without_it(kept_bytes: bytes, tmp_path: Path) -> None:
    """So the ids of studies that start from it are those from before a file said its digest."""
    path, before = tmp_path / "net.safetensors", tmp_path / "before.safetensors"
    path.write_bytes(kept_bytes)
    header = json.loads(kept_bytes[8 : 8 + int.from_bytes(kept_bytes[:8], "little")])
    assert header["__metadata__"].pop(files.OWN_DIGEST) == files.digest(path)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    tensors = kept_bytes[8 + int.from_bytes(kept_bytes[:8], "little") :]
    before.write_bytes(len(text).to_bytes(8, "little") + text + tensors)
    assert hashlib.sha256(before.read_bytes()).hexdigest() == files.digest(before) == files.digest(path)
    assert files.states_digest(path)
    assert not files.states_digest(before)
    assert read_network(before).network == read_network(path).network  # old files are read


def test_a_damaged_network_is_kept_again(folder: Path, tmp_path: Path) -> None:
    one = asked(folder, "last", epochs=1)
    path = network_path(tmp_path, one.id)
    record = train.train_trial(one, folder, keep=path).record
    assert trials_without_network([one], {one.id: record}, tmp_path) == []
    path.write_bytes(path.read_bytes()[:-1] + b"\x99")
    assert trials_without_network([one], {one.id: record}, tmp_path) == [one]
