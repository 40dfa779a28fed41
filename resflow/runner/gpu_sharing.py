"""The sharing of a GPU: what share the next trial gets, how many run at a time, and who has to run again alone.

Tune asks for a trial's resources with its configuration in hand. So a run whose shares change stays one run of Tune,
and no trial is ended to measure another number of them: who is handed out next decides how many there are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from resflow import gpu_driver
from resflow.errors import TrainingError
from resflow.records.gpu_choice import GpuChoice, read_choice
from resflow.study import costs
from resflow.study.memory import estimate_memory, gpu_share
from resflow.study.resources import ROUNDING, TrialResources
from resflow.study.trial import Trial

COUNTS = (1, 2, 4, 8)  # of trials a GPU that are measured, as far as its memory goes
TRIES = 3  # of a measurement that a trial's end disturbs
MEMORY = "gpu_memory"  # of an epoch's report: the bytes that TensorFlow has had at most


class Sharing:
    """The sharing of GPUs by trials whose study says what share each gets; of trials on CPUs, none.

    A trial that runs out of its share's memory runs once more, alone on its GPU, before it has failed. Once main memory
    has run short, fewer run at a time.
    """

    def __init__(self, resources: TrialResources) -> None:
        self.resources = resources  # of the next trial
        self.running: set[str] = set()
        self.again: dict[str, Trial] = {}  # trials that wait to run again
        self.alone: set[str] = set()  # ids of those that do so alone
        self.bound: int | None = None  # of trials at a time, by main memory

    @property
    def arm(self) -> str | None:
        """The arm that the next trial should be of; None for whichever is due."""
        return None

    def places(self, nodes: Sequence[Mapping[str, float]], left: int) -> int:
        """Return how many trials may run at a time on some machines; `left` are those that have not ended yet."""
        if self.alone & (self.running | self.again.keys()):
            return 1
        fit = self.resources.places(nodes)
        return fit if self.bound is None else min(self.bound, fit)

    def retry(self) -> Trial | None:
        """Hand out a trial that is to run again; None where none waits."""
        return self.again.popitem()[1] if self.again else None

    def config(self, trial: Trial) -> dict[str, float]:
        """Return what a worker is told of its share, and Tune of the resources to keep: a share of a GPU."""
        if not self.resources.gpus:
            return {}
        return {"gpus": 1.0 if trial.id in self.alone else self.resources.gpus}

    def begin(self, trial_id: str) -> None:
        """Take note that a worker begins a trial."""
        self.running.add(trial_id)

    def hear(self, trial_id: str, row: Mapping[str, Any]) -> None:
        """Take note of an epoch of a trial."""

    def ran_out(self, trial: Trial) -> None:
        """Take note that a trial has run out of its GPU's memory: it is to run again, alone."""
        self.again[trial.id] = trial
        self.alone.add(trial.id)

    def ran_short(self, trial: Trial) -> int | None:
        """Take note that main memory ran short and cost a trial its worker: return how many run at a time from now on.

        It is to run again, as soon as there is room. None where nothing else ran, so that there is nothing to lower.
        """
        others = len(self.running - {trial.id})
        if not others:
            return None
        self.bound = others if self.bound is None else min(self.bound, others)
        self.again[trial.id] = trial
        return self.bound

    def end(self, trial_id: str) -> None:
        """Take note that a worker has left a trial; more than once does no harm."""
        self.running.discard(trial_id)


def request_resources(resources: TrialResources, config: Mapping[str, Any]) -> dict[str, float]:
    """Return the resources that Ray keeps for a trial, by its configuration, in the names of a bundle."""
    amounts = replace(resources, gpus=config.get("gpus", resources.gpus)).as_ray()
    return {{"cpu": "CPU", "gpu": "GPU"}.get(name, name): amount for name, amount in amounts.items()}


class MeasuredSharing(Sharing):
    """The sharing of GPUs by trials of `gpus: auto`: as many a GPU as are fastest together.

    The first trial gets the share that it is estimated to need; its peak then decides the share of all others. First
    one trial runs, then two, four and eight, as memory and cores allow. Each number is measured by epochs that lie
    wholly in a time in which so many ran and none built its graph; the first number that is no faster ends it.
    """

    def __init__(
        self,
        resources: TrialResources,
        choice: GpuChoice,
        trials: Mapping[str, Trial],
        on_choice: Callable[[GpuChoice], Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`trials` are all that may run, by id; `on_choice` is called with the choice once it is made."""
        super().__init__(resources)
        self.choice, self.trials, self.on_choice, self.clock = choice, trials, on_choice, clock
        self.is_settled = bool(choice.throughput)  # by an earlier process
        self.measured = dict(choice.throughput)
        self.count = COUNTS[0]
        self.tries = 0
        self.warm: set[str] = set()  # trials whose graphs are built
        self.since: float | None = None  # when the measurement began
        self.rates: dict[str, float] = {}  # multiply-adds a second by trial, in the measurement
        self.nodes: Sequence[Mapping[str, float]] = ()
        self._set_share(choice.peak_bytes or choice.estimated_bytes)

    @property
    def arm(self) -> str | None:
        """While it is measured, that of those that run: what takes turns on the GPU is then alike."""
        known = [self.trials[trial_id].arm for trial_id in sorted(self.running) if trial_id in self.trials]
        return known[0] if known and not self.is_settled else None

    def places(self, nodes: Sequence[Mapping[str, float]], left: int) -> int:
        self.nodes = nodes
        if not self.is_settled and min(left, self._most) < self.count:  # it will never be measured
            self._settle()
        share, most = self.choice.share, self.count  # on one GPU: Ray fills it before it takes the next
        if self.is_settled and self._gpus > 1:
            share, most = max(share, 1 / self.count), self.count * self._gpus
        self.resources = replace(self.resources, gpus=share)
        return min(most, super().places(nodes, left))

    def begin(self, trial_id: str) -> None:
        super().begin(trial_id)
        self.warm.discard(trial_id)
        self._disturb()

    def end(self, trial_id: str) -> None:
        if trial_id not in self.running:
            return
        super().end(trial_id)
        self._disturb()
        self.tries += 1
        if self.tries >= TRIES and not self.is_settled:
            self._settle()

    def hear(self, trial_id: str, row: Mapping[str, Any]) -> None:
        if MEMORY in row and (self.choice.peak_bytes is None or trial_id in self.alone):
            self._learn(trial_id, row[MEMORY])
        if not self.is_settled and trial_id in self.running:
            self._measure(trial_id, row["seconds"])

    def _learn(self, trial_id: str, peak: int) -> None:
        """Let a trial's peak decide the shares of those to come: the largest takes as much more as it is estimated."""
        scale = self.choice.estimated_bytes / estimate_memory(self.trials[trial_id]).peak
        self.choice.peak_bytes = max(self.choice.peak_bytes or 0, math.ceil(peak * scale))
        self._set_share(self.choice.peak_bytes)

    def _set_share(self, peak: int) -> None:
        self.choice.share = gpu_share(peak, self.choice.context_bytes, self.choice.gpu["memory"])
        if self.is_settled:
            self.count = self._fastest
        self.resources = replace(self.resources, gpus=self.choice.share)

    def _disturb(self) -> None:
        self.since, self.rates = None, {}

    def _measure(self, trial_id: str, seconds: float) -> None:
        now = self.clock()
        self.warm.add(trial_id)
        if self.since is None:
            if len(self.running) == self.count and self.warm >= self.running:
                self.since = now
        elif seconds > 0 and now - seconds >= self.since:
            self.rates[trial_id] = costs.epoch_work(self.trials[trial_id]) / seconds
            if self.rates.keys() == self.running:
                self._conclude(sum(self.rates.values()))

    def _conclude(self, throughput: float) -> None:
        """Take down what so many trials are worth, and go on to the next number, or choose."""
        fastest = throughput > max(self.measured.values(), default=0.0)
        self.measured[self.count] = throughput
        more = [count for count in COUNTS if self.count < count <= self._most]
        self._disturb()
        self.tries = 0
        if fastest and more:
            self.count = more[0]
        else:
            self._settle()

    def _settle(self) -> None:
        self.is_settled = True
        self.count = self._fastest
        self.choice.trials_per_gpu = self.count
        self.choice.throughput = self.measured
        self.on_choice(self.choice)

    @property
    def _fastest(self) -> int:
        """The number of trials that was the fastest of those that fit."""
        fit = math.floor(1 / self.choice.share + ROUNDING)
        return max((n for n in self.measured if n <= fit), key=lambda n: self.measured[n], default=COUNTS[0])

    @property
    def _gpus(self) -> int:
        return max(1, sum(int(node.get("GPU", 0)) for node in self.nodes))

    @property
    def _most(self) -> int:
        """The most trials that one GPU, and the cores and memory of its machine, have room for."""
        fit = max((self.resources.fit({**node, "GPU": 1}) for node in self.nodes), default=1)
        return fit if self.bound is None else min(self.bound, fit)


def make_sharing(like: Sequence[Trial], trials: Mapping[str, Trial], run: Path, address: str | None = None) -> Sharing:
    """Return how trials such as those in `like` share GPUs. Raises TrainingError where that cannot be measured.

    `trials` are those that will run, by id; it grows.
    """
    resources = TrialResources.from_trial(like[0])
    if not resources.gpus or like[0].resources.gpus != "auto":
        return Sharing(resources)
    if address:
        raise TrainingError(
            "gpus: auto measures the GPU of this machine, and trials of a cluster run on others: say a share, such as "
            "--set gpus=0.25, or --set gpus=1."
        )
    choice = examine_gpu(like)
    return MeasuredSharing(resources, find_choice(run, choice) or choice, trials, lambda made: made.write(run))


def find_choice(run: Path, choice: GpuChoice) -> GpuChoice | None:
    """Return the choice that a run has made for the GPU of `choice`, and for trials no smaller; None without one."""
    known = read_choice(run)
    return known if known and known.gpu == choice.gpu and known.estimated_bytes >= choice.estimated_bytes else None


def examine_gpu(trials: Iterable[Trial]) -> GpuChoice:
    """Return what is known of sharing a GPU before a trial has run. Raises TrainingError."""
    try:
        context = gpu_driver.context_memory()
    except gpu_driver.DriverError as error:
        raise TrainingError(
            f"gpus: auto has to know the memory of the GPU, and the NVIDIA driver does not tell it ({error}). "
            "`resflow doctor` tells what is seen; --set gpus=1 gives a trial a GPU of its own."
        ) from error
    largest = max(estimate_memory(trial).peak for trial in trials)
    return GpuChoice(gpu=gpu_driver.describe(), context_bytes=context, estimated_bytes=largest)
