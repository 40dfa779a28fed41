"""Learning rates by hand and by property; patience."""

from __future__ import annotations

from math import cos, pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resflow.study.settings import Recipe
from resflow.training.schedule import Patience, learning_rate

SCHEDULES = ("constant", "cosine", "step", "plateau")


def rates(steps: int, drops: int = 0, **settings: object) -> list[float]:
    recipe = Recipe(**settings)  # type: ignore[arg-type]
    return [learning_rate(recipe, step, steps, drops) for step in range(recipe.epochs * steps)]


def test_constant() -> None:
    assert rates(2, schedule="constant", learning_rate=0.3, epochs=3, drops=4) == [0.3] * 6


def test_warmup_is_linear_and_ends_at_the_peak() -> None:
    got = rates(2, schedule="constant", learning_rate=0.4, epochs=3, warmup_epochs=2)
    assert got == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_cosine_starts_at_the_peak_after_warmup() -> None:
    got = rates(2, schedule="cosine", learning_rate=1.0, epochs=3, warmup_epochs=1)
    assert got == pytest.approx([0.5, 1.0, *(0.5 * (1 + cos(pi * k / 4)) for k in range(4))])
    assert rates(1, schedule="cosine", learning_rate=1.0, epochs=4)[2] == pytest.approx(0.5)


def test_steps_fall_at_their_milestones() -> None:
    got = rates(2, schedule="step", learning_rate=1.0, epochs=4, milestones=(0.5, 0.75), decay_factor=0.1)
    assert got == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert rates(2, schedule="step", learning_rate=1.0, epochs=2, milestones=()) == [1.0] * 4


def test_he_et_als_cifar_steps() -> None:
    """32k and 48k of 64k iterations."""
    recipe = Recipe(schedule="step", learning_rate=0.1, epochs=64)
    got = [learning_rate(recipe, step, 1000) for step in (31_999, 32_000, 47_999, 48_000, 63_999)]
    assert got == pytest.approx([0.1, 0.01, 0.01, 0.001, 0.001])


def test_plateau_falls_with_the_drops_it_is_told() -> None:
    settings = {"schedule": "plateau", "learning_rate": 1.0, "epochs": 2, "decay_factor": 0.5}
    assert rates(1, **settings) == [1.0, 1.0]
    assert rates(1, **settings, drops=3) == [0.125, 0.125]


@given(
    schedule=st.sampled_from(SCHEDULES),
    peak=st.floats(1e-6, 10),
    epochs=st.integers(1, 60),
    warmup=st.integers(0, 59),
    steps=st.integers(1, 40),
    milestones=st.lists(st.floats(0, 1), max_size=3),
    factor=st.floats(0.01, 0.99),
    drops=st.integers(0, 5),
)
def test_no_rate_is_negative_or_above_the_peak(
    schedule: str, peak: float, epochs: int, warmup: int, steps: int, milestones: list[float], factor: float, drops: int
) -> None:
    warmup = min(warmup, epochs - 1)
    got = rates(
        steps,
        drops,
        schedule=schedule,
        learning_rate=peak,
        epochs=epochs,
        warmup_epochs=warmup,
        milestones=tuple(milestones),
        decay_factor=factor,
    )
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in got)
    rising, falling = got[: warmup * steps], got[warmup * steps :]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    if schedule == "cosine":
        left = len(falling)
        assert falling[0] == peak
        assert falling[-1] <= peak * (pi / 2 / left) ** 2 * (1 + 1e-9)  # 1 - cos x <= x^2 / 2, at x = pi / left


def test_patience_counts_epochs_without_a_lower_loss() -> None:
    patience = Patience(2)
    assert [patience.update(loss) for loss in (3.0, 2.0, 2.0, 1.0, 1.5, 1.0, 0.5, 1.0, 1.0)] == [
        False, False, False, False, False, True, False, False, True,
    ]  # fmt: skip


def test_patience_starts_again_after_it_ran_out() -> None:
    patience = Patience(2)
    assert [patience.update(1.0) for _ in range(6)] == [False, False, True, False, True, False]


@given(st.lists(st.floats(0, 10), max_size=30))
def test_no_patience_never_runs_out(losses: list[float]) -> None:
    patience = Patience(None)
    assert not any(patience.update(loss) for loss in losses)
