"""The order of trials: the longest first, but a process stays with the graph that it has."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny

from resflow.runner.queue import TrialQueue, same_graph
from resflow.study.settings import Augmentation, Head
from resflow.study.trial import Trial


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.prepare()


def study(folder: Path, seeds: int, epochs: tuple[int, ...]) -> list[Trial]:
    return [tiny.trial(folder, seed, epochs=number) for seed in range(1, seeds + 1) for number in epochs]


def builds(trials: list[Trial], processes: int, draw: random.Random) -> int:
    """How many graphs are built where so many processes run all trials, each ending at random."""
    dispatch, built = TrialQueue(trials), 0
    running: dict[int, Trial | None] = dict.fromkeys(range(processes))
    graphs: dict[int, object] = {}
    free = list(running)
    while len(dispatch) or any(running.values()):
        for process in free:
            if len(dispatch):
                trial = dispatch.next()
                built += graphs.get(process) != same_graph(trial)
                running[process], graphs[process] = trial, same_graph(trial)
        ended = draw.choice([process for process, trial in running.items() if trial])
        dispatch.ended(running[ended].id)
        running[ended], free = None, [ended]
    return built


def test_the_longest_starts_first_and_processes_start_with_different_arms(folder: Path) -> None:
    dispatch = TrialQueue(study(folder, 2, (1, 3, 2)))
    first, second = dispatch.next(), dispatch.next()
    assert [first.recipe.epochs, second.recipe.epochs] == [3, 2]
    dispatch.ended(second.id)
    assert dispatch.next().recipe.epochs == 2  # its twin of the other seed
    dispatch.ended(first.id)
    assert dispatch.next().recipe.epochs == 3


def test_an_arm_is_built_once_where_there_are_more_arms_than_processes(folder: Path) -> None:
    trials = study(folder, 5, (1, 2, 3, 4))
    for number in range(50):
        assert 4 <= builds(trials, 2, random.Random(number)) <= 5  # the last arm may be helped out with


@given(seeds=st.integers(1, 4), arms=st.integers(1, 4), processes=st.integers(1, 5), draw=st.randoms())
def test_every_trial_is_handed_out_once(seeds: int, arms: int, processes: int, draw: random.Random) -> None:
    trials = study(tiny.prepare(), seeds, tuple(range(1, arms + 1)))
    dispatch, seen, running = TrialQueue(trials), [], []
    while len(dispatch) or running:
        if len(dispatch) and len(running) < processes and draw.random() < 0.7:
            running.append(dispatch.next().id)
            seen.append(running[-1])
        elif running:
            ended = running.pop(draw.randrange(len(running)))
            dispatch.ended(ended)
            dispatch.ended(ended)
    assert sorted(seen) == sorted(trial.id for trial in trials)
    with pytest.raises(IndexError):
        dispatch.next()


def test_trials_of_shared_features_keep_to_their_group(folder: Path, tmp_path: Path) -> None:
    """Another seed's views are other files: a group's are made together, and may leave the disk when it has ended."""
    weights = tiny.pretrained(tmp_path / "backbone.safetensors")
    views = Augmentation(flip=True)
    trials = [
        tiny.trial(folder, seed, pretrained=weights, finetune="frozen", augmentation=views, head=Head(hidden=(width,)))
        for width in (4, 8, 16)
        for seed in (1, 2)
    ]
    dispatch, seeds = TrialQueue(trials), []
    while len(dispatch):
        trial = dispatch.next()
        seeds.append(trial.seed)
        dispatch.ended(trial.id)
    assert seeds in ([1, 1, 1, 2, 2, 2], [2, 2, 2, 1, 1, 1])
