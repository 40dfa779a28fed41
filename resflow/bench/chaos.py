"""The losses of a small study that is disturbed again and again, and goes on by the same command.

Each disturbance meets a run at a random moment. Afterwards nothing that is kept of the run may differ from the
undisturbed one, and in the end all of it has to be there.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from resflow import workspace
from resflow.bench import process
from resflow.bench.contest import Say
from resflow.bench.disturbances import CLOCK, KINDS, MARK, PIPE, RECORD_CUT, CannotError, Running, find_marked
from resflow.errors import RecordError, ResflowError
from resflow.records import run as runs
from resflow.records.record import Record, read_record
from resflow.workspace import trial_folder

STUDY = Path(__file__).with_name("chaos.yaml")
MAIN = "from resflow.__main__ import main; main()"
PATIENCE_S = 45  # of the watchdog; a busy machine takes more than 15 to start TensorFlow
LONGEST_S = 600  # that one command may take; longer is stuck
DISK_MB = 200
CHANGING = {"seconds", "shared", "provenance", "digests"}  # of a record
TRIES = 5  # of a disturbance whose run ended before its moment came


class Result(NamedTuple):
    """Files of a trial: its record, its history without times, its tables where it kept them."""

    record: Record
    history: pd.DataFrame
    predictions: pd.DataFrame | None
    diagnostics: pd.DataFrame | None


@dataclass
class Tally:
    """Counts of disturbances and of their damage. `lost` and the like name trials, each with the last disturbance."""

    attempts: Counter[str] = field(default_factory=Counter)
    not_tried: dict[str, str] = field(default_factory=dict)  # kind -> why
    runs: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)  # processes that outlived their driver by ten seconds


def run(
    interruptions: int, seed: int, kinds: Mapping[str, Any], say: Say, settings: Sequence[str] = ()
) -> dict[str, Any]:
    """Disturb runs so many times, each kind in turn at moments drawn from `seed`; finish each run and compare.

    `settings` change the study, as KEY=VALUE. Raises ResflowError where the undisturbed run itself fails.
    """
    start, draw = time.monotonic(), random.Random(seed)
    study = ["study", str(STUDY), *(word for setting in settings for word in ("--set", setting))]
    with tempfile.TemporaryDirectory() as base, _mount_disk(Path(base)) as place:
        say("the undisturbed run")
        campaign = Campaign(place, study, draw, say)
        campaign.run_undisturbed()
        order = _draw_order(list(kinds), interruptions, draw)
        while order:
            campaign.run_disturbed(order)
    tally = campaign.tally
    return {
        "benchmark": "chaos",
        "interruptions": sum(tally.attempts.values()),
        "by_kind": dict(sorted(tally.attempts.items())),
        "not_tried": tally.not_tried,
        "runs": tally.runs,
        "trials": len(campaign.reference) * tally.runs,
        "lost": len(tally.lost),
        "duplicated": len(tally.duplicated),
        "differing": len(tally.differing),
        "stuck": len(tally.stuck),
        "left_behind": len(tally.left_behind),
        "left_behind_after": tally.left_behind,
        "trouble": [*tally.lost, *tally.duplicated, *tally.differing, *tally.stuck],
        "wall_s": round(time.monotonic() - start, 1),
        "settings": {"interruptions": interruptions, "seed": seed, "trials": len(campaign.reference), "rounds": 1},
    }


def _draw_order(kinds: list[str], count: int, draw: random.Random) -> list[str]:
    """Return every kind as often as any other, in a random order."""
    order: list[str] = []
    while len(order) < count:
        order += draw.sample(kinds, len(kinds))
    return order[:count]


@contextmanager
def _mount_disk(base: Path) -> Iterator[Path]:
    """Mount a small disk where this user may, else make a folder."""
    place = base / "place"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "resflow", str(place)]
    mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield place
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)


@dataclass
class Campaign:
    """Runs of one study in one place: the undisturbed one, then those that are disturbed."""

    place: Path
    study: list[str]  # the words of its command
    draw: random.Random
    say: Say
    tally: Tally = field(default_factory=Tally)
    reference: dict[str, Result] = field(default_factory=dict)  # of the undisturbed run
    usual: float = 0.0  # the seconds of the fastest complete command so far
    early: Counter[str] = field(default_factory=Counter)  # kinds whose run ended before their moment came

    def run_undisturbed(self) -> None:
        start = time.monotonic()
        if self._start("reference", self.study).driver.wait(timeout=LONGEST_S):
            raise ResflowError("the undisturbed run of the chaos study failed: run `resflow study` on it to see why.")
        self.usual, self.reference = time.monotonic() - start, read_results(self._run("reference"))

    def run_disturbed(self, order: list[str]) -> None:
        """Disturb one run until it is complete, or `order` is empty; then let it end, and compare."""
        self.tally.runs += 1
        name, last = f"run{self.tally.runs}", "nothing"
        run = self._run(name)
        finished: dict[str, int] = {}  # id -> bytes of its log, of trials that are not to run again
        while order:
            last = order.pop(0)
            self.say(f"{name}: {last} ({len(order)} to come)")
            complete = self._disturb(name, last, order)
            compare(run, last, self.reference, finished, self.tally)
            if complete:
                break
        for words in (self.study, ["retry", name]):  # the failed trial of a worker without memory is to run again
            if self.reference.keys() == read_results(run).keys():
                break
            running = self._start(name, words)
            try:
                running.driver.wait(timeout=LONGEST_S)
            except subprocess.TimeoutExpired:
                self.tally.stuck.append(f"{name}, going on after {last}")
            _end(running)
        compare(run, last, self.reference, finished, self.tally)
        missing = self.reference.keys() - read_results(run).keys()
        self.tally.lost += [
            f"{name}/{trial_id} after {last}: {_explain(run, trial_id)}" for trial_id in sorted(missing)
        ]
        for folder in (run, _state(run)):
            shutil.rmtree(folder, ignore_errors=True)

    def _disturb(self, name: str, kind: str, order: list[str]) -> bool:
        """Start the run, disturb it at a random moment, wait for its end; True where it is complete.

        A kind whose moment did not come goes back to the front of `order`.
        """
        start = time.monotonic()
        faked = kind == CLOCK and bool(shutil.which("faketime"))
        running = self._start(name, self.study, faked, piped=kind == PIPE)
        code = -1
        try:
            with suppress(subprocess.TimeoutExpired):
                running.driver.wait(timeout=self.draw.uniform(0.1, 1.0) * self.usual)
            if running.driver.poll() is None:
                try:
                    KINDS[kind](running, self.draw)
                    self.tally.attempts[kind] += 1
                except CannotError as error:
                    self.tally.not_tried[kind] = str(error)
            else:
                self.usual = min(self.usual, time.monotonic() - start)
                self.early[kind] += 1
                if self.early[kind] < TRIES:
                    order.insert(0, kind)
                else:
                    self.tally.not_tried[kind] = f"{TRIES} times the run had ended before"
            code = running.driver.wait(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            self.tally.stuck.append(f"{name}, {kind}")
        self.tally.left_behind += [f"{kind}: {line[:120]}" for line in _end(running)]
        return code == 0

    def _start(self, name: str, words: Sequence[str], faked: bool = False, piped: bool = False) -> Running:
        mark = uuid.uuid4().hex
        place = ["--out", f"{workspace.RESULTS}/{name}"] if words[0] == "study" else []
        command = [sys.executable, "-c", MAIN, *words, *place]
        variables = {**process.environment(), MARK: mark, "RESFLOW_PATIENCE_S": str(PATIENCE_S)}
        variables |= {"RESFLOW_CACHE": str(self.place.parent / "cache")}
        if faked:
            (self.place / "clock").write_text("+0d\n")
            variables |= {"FAKETIME_TIMESTAMP_FILE": str(self.place / "clock"), "FAKETIME_NO_CACHE": "1"}
            variables |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
            command = ["faketime", "-f", "+0d", *command]
        with (self.place.parent / "last.log").open("wb") as log:
            out = subprocess.PIPE if piped else log  # a run says less than a pipe holds
            driver = subprocess.Popen(
                command, cwd=self.place, env=variables, stdout=out, stderr=log, start_new_session=True
            )
        return Running(driver, mark, self.place, self._run(name))

    def _run(self, name: str) -> Path:
        return self.place / workspace.RESULTS / name


def _explain(run: Path, trial_id: str) -> str:
    """Say what there is in place of a trial's record."""
    try:
        record = read_record(trial_folder(run, trial_id))
    except RecordError as error:
        return str(error)
    return f"{record.status}, {record.reason}"


def _end(running: Running) -> list[str]:
    """Wait for the processes of a driver that is gone, end those that stay, and return their command lines."""
    deadline = time.monotonic() + 10
    while (pids := find_marked(running.mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return list(pids.values())


def read_results(run: Path) -> dict[str, Result]:
    """Read every record with its history and its tables; failed and broken ones are left out, since they run again."""
    try:
        records = runs.load_run(run).records
    except RecordError:
        return {}
    results = {}
    for record in records:
        if record.status != "failed":
            folder = trial_folder(run, record.id)
            history = pd.read_csv(folder / "history.csv").drop(columns="seconds")
            tables = (folder / f"{name}.parquet" for name in ("predictions", "diagnostics"))
            results[record.id] = Result(
                record, history, *(pd.read_parquet(path) if path.is_file() else None for path in tables)
            )
    return results


def compare(run: Path, kind: str, reference: Mapping[str, Result], finished: dict[str, int], tally: Tally) -> None:
    """Note what differs from the undisturbed run, what went missing, and what ran though it had a record.

    `finished` holds the trials that had a record the last time, and is brought up to date.
    """
    results, name = read_results(run), run.name
    logs = _state(run) / workspace.LOGS
    for trial_id, result in results.items():
        if not are_equal(result, reference[trial_id]):
            tally.differing.append(f"{name}/{trial_id} after {kind}")
    for trial_id in finished.keys() - results.keys():
        if kind != RECORD_CUT:  # which itself takes one away
            tally.lost.append(f"{name}/{trial_id} by {kind}")
        finished.pop(trial_id)
    for trial_id in results:
        log = logs / f"{trial_id}.log"
        size = log.stat().st_size if log.is_file() else 0
        if trial_id in finished and size != finished[trial_id]:
            tally.duplicated.append(f"{name}/{trial_id} after {kind}")
        finished[trial_id] = size


def _state(run: Path) -> Path:
    """Return the ignored folder of a run below its place's results."""
    return run.parents[1] / workspace.STATE / run.name


def are_equal(one: Result, other: Result) -> bool:
    """Return True where two trials are equal to the bit, but for times and machines."""
    return one.record.model_dump(exclude=CHANGING) == other.record.model_dump(exclude=CHANGING) and all(
        (a is None and b is None) or (a is not None and b is not None and a.equals(b))
        for a, b in zip(one[1:], other[1:], strict=True)
    )
