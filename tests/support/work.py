"""What workers do in place of training, in tests of scheduling: no TensorFlow."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resflow.records.record import Outcome, make_record
from resflow.study.trial import Trial


def outcome(trial: Trial, **provenance: Any) -> Outcome:
    return Outcome(
        make_record(
            trial,
            status="completed",
            metrics={"test_top1": 0.5},
            provenance=provenance,
        )
    )


def complete(trial: Trial, *given: Any) -> Outcome:
    return outcome(trial)


def meet(trial: Trial, *given: Any, place: Path, count: int) -> Outcome:
    """Wait until so many trials run at a time; tell which GPUs this one sees, and how many it met."""
    (place / trial.id).touch()
    deadline = time.monotonic() + 240
    while len(list(place.iterdir())) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return outcome(trial, met=len(list(place.iterdir())), gpus=os.environ.get("CUDA_VISIBLE_DEVICES"))


def train_or_linger(trial: Trial, folder: Path, on_epoch: Any, *given: Any, mortal: str) -> Outcome:
    """Train a trial, but of one say epochs without an end: its processes are there to be killed."""
    epoch = 0
    while trial.id == mortal:
        epoch += 1
        on_epoch({"epoch": epoch, "seconds": 0.1})
        time.sleep(0.1)
    from resflow.runner.worker import train_in_worker

    return train_in_worker(trial, folder, on_epoch, *given)


def hang_once(trial: Trial, folder: Path, on_epoch: Any, *given: Any, place: Path) -> Outcome:
    """The first process of each trial says one epoch and then nothing any more."""
    mark = place / trial.id
    if not mark.exists():
        mark.write_text(str(os.getpid()))
        on_epoch({"epoch": 1})
        time.sleep(10_000)
    return outcome(trial, hung=int(mark.read_text()), ended=os.getpid())


def scored_once_killed(config: dict[str, Any], marker: str) -> None:
    """Report a score that a candidate's values decide; the first process to start is killed in the middle."""
    import math
    import signal

    from ray import tune

    path = Path(marker)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    for epoch in range(1, 3):
        tune.report({"top1": 1 - abs(math.log10(config["rate"]) + 2) / 4 + epoch / 100})


def planted(trial: Trial, folder: Path, on_epoch: Any, *given: Any, best: dict[str, float], marker: Path) -> Outcome:
    """Score by how far the learning rate is from the arm's own best one; the first process to start is killed.

    Says an epoch's row at a time, the score growing to its end: what prunes can compare.
    """
    import math
    import signal

    import pandas as pd

    from resflow.records.record import HISTORY_COLUMNS

    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    arm = trial.arm.removesuffix("-tuned").removesuffix("-untuned")
    top = 0.9 - 0.2 * abs(math.log10(trial.recipe.learning_rate / best[arm])) + int(trial.id, 16) % 21 / 1000
    rows = []
    for epoch in range(1, trial.epochs + 1):
        row = dict.fromkeys(HISTORY_COLUMNS, 0.5)
        row |= {"epoch": epoch, "validation_top1": top * epoch / trial.recipe.epochs}
        rows.append(row)
        on_epoch(row)
    metrics = {"validation_top1": rows[-1]["validation_top1"], "validation_loss": 1 - top}
    if trial.candidate is None:
        metrics["test_top1"] = top
    record = make_record(
        trial,
        status="completed",
        metrics=metrics,
        data={"classes": 3, "test": 100},
        epochs_run=len(rows),
        seconds=1.0,
    )
    return Outcome(record, pd.DataFrame(rows, columns=list(HISTORY_COLUMNS)))


def share_gpu(trial: Trial, folder: Path, on_epoch: Any, *given: Any, place: Path, hungry: Sequence[str]) -> Outcome:
    """Say epochs that last the longer the more trials run, each 1.1 times as long for every other one.

    The first two trials wait for one another: processes take longer to start than these trials last. The first of
    `hungry` trials has too little memory on a share of a GPU, the second on a whole one too.
    """
    from resflow.runner.gpu_sharing import MEMORY
    from resflow.training.gpu_memory import OUT_OF_MEMORY

    started, share = time.time(), trial.resources.gpus
    (place / trial.id).touch()
    epoch, among, deadline = 0, [], started + 60
    while epoch < 4 or (trial.seed < 2 and among.count(2) < 6 and time.time() < deadline):
        begun, running = time.monotonic(), len(list(place.iterdir()))
        time.sleep(0.1 * 1.1 ** (running - 1))
        epoch, among = epoch + 1, [*among, running]
        on_epoch({"epoch": epoch, "seconds": time.monotonic() - begun, MEMORY: 8 * 10**9})
    (place / trial.id).unlink()
    times = {"span": [started, time.time()], "share": share}
    if trial.id in hungry and (share != 1 or trial.id == hungry[1]):
        reason = f"out of GPU memory with {share}"
        return Outcome(make_record(trial, status="failed", reason=reason, provenance={**times, OUT_OF_MEMORY: 1}))
    return outcome(trial, **times)


def take_memory(trial: Trial, folder: Path, on_epoch: Any, *given: Any, place: Path, most: int) -> Outcome:
    """Wait until two trials have met, then take memory for as long as this one has company; tell of that at the end."""
    mark, met = place / f"{trial.id}.pid", place / "met"
    mark.write_text(str(os.getpid()))
    on_epoch({"epoch": 1, "seconds": 0.1})
    taken: list[bytes] = []
    deadline = time.monotonic() + 240
    while (company := _company(place, mark)) or not (met.exists() or time.monotonic() > deadline):
        if company:
            met.touch()
            taken += [os.urandom(10**6) * 100] if len(taken) * 10**8 < most else []
        time.sleep(0.02)
    mark.unlink()
    return outcome(trial, company=company)


def _company(place: Path, mark: Path) -> int:
    """How many other processes have left a mark and live."""
    return sum(path != mark and Path(f"/proc/{path.read_text()}").exists() for path in place.glob("*.pid"))


def take_all(trial: Trial, *given: Any, most: int) -> Outcome:
    """Take so much memory, if nobody ends this process before."""
    taken: list[bytes] = []
    while len(taken) * 10**8 < most:
        taken.append(os.urandom(10**6) * 100)
        time.sleep(0.02)
    return outcome(trial)
