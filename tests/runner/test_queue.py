"""The order of trials: the longest first, but a process stays with the graph that it has."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny

from resflow.runner.queue import TrialQueue, affinity_key
from resflow.study.settings import Augmentation, Head
from resflow.study.trial import Trial

pytestmark = pytest.mark.usefixtures("tensorflow_on_one_thread")  # one test draws weights


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.prepare()


def make_trials(folder: Path, seeds: int, epochs: tuple[int, ...]) -> list[Trial]:
    return [tiny.trial(folder, seed, epochs=number) for seed in range(1, seeds + 1) for number in epochs]


def count_builds(trials: list[Trial], processes: int, draw: random.Random) -> int:
    """Return how many graphs are built where so many processes run all trials, each ending at random."""
    queue, built = TrialQueue(trials), 0
    running: dict[int, Trial | None] = dict.fromkeys(range(processes))
    graphs: dict[int, object] = {}
    free = list(running)
    while len(queue) or any(running.values()):
        for process in free:
            if len(queue):
                trial = queue.next()
                built += graphs.get(process) != affinity_key(trial)
                running[process], graphs[process] = trial, affinity_key(trial)
        ended = draw.choice([process for process, trial in running.items() if trial])
        queue.ended(running[ended].id)
        running[ended], free = None, [ended]
    return built


def test_the_longest_starts_first_and_processes_start_with_different_arms(folder: Path) -> None:
    queue = TrialQueue(make_trials(folder, 2, (1, 3, 2)))
    first, second = queue.next(), queue.next()
    assert [first.recipe.epochs, second.recipe.epochs] == [3, 2]
    queue.ended(second.id)
    assert queue.next().recipe.epochs == 2  # its twin of the other seed
    queue.ended(first.id)
    assert queue.next().recipe.epochs == 3


def test_an_arm_is_built_once_where_there_are_more_arms_than_processes(folder: Path) -> None:
    trials = make_trials(folder, 5, (1, 2, 3, 4))
    for number in range(50):
        assert 4 <= count_builds(trials, 2, random.Random(number)) <= 5  # the last arm may be helped out with


@given(seeds=st.integers(1, 4), arms=st.integers(1, 4), processes=st.integers(1, 5), draw=st.randoms())
def test_every_trial_is_handed_out_once(seeds: int, arms: int, processes: int, draw: random.Random) -> None:
    trials = make_trials(tiny.prepare(), seeds, tuple(range(1, arms + 1)))
    queue, ids, running = TrialQueue(trials), [], []
    while len(queue) or running:
        if len(queue) and len(running) < processes and draw.random() < 0.7:
            running.append(queue.next().id)
            ids.append(running[-1])
        elif running:
            ended = running.pop(draw.randrange(len(running)))
            queue.ended(ended)
            queue.ended(ended)
    assert sorted(ids) == sorted(trial.id for trial in trials)
    with pytest.raises(IndexError):
        queue.next()


def test_trials_of_shared_features_keep_to_their_group(folder: Path, tmp_path: Path) -> None:
    """Another seed's views are other files: a group's are made together, and may leave the disk when it has ended."""
    weights = tiny.pretrained(tmp_path / "backbone.safetensors")
    views = Augmentation(flip=True)
    trials = [
        tiny.trial(folder, seed, pretrained=weights, finetune="frozen", augmentation=views, head=Head(hidden=(width,)))
        for width in (4, 8, 16)
        for seed in (1, 2)
    ]
    queue, seeds = TrialQueue(trials), []
    while len(queue):
        trial = queue.next()
        seeds.append(trial.seed)
        queue.ended(trial.id)
    assert seeds in ([1, 1, 1, 2, 2, 2], [2, 2, 2, 1, 1, 1])
