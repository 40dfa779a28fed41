"""How many seeds, by simulation: the power that a plan promises, and seeds that are added until all is decided."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resflow.analysis import holm, power, seed_statistics
from resflow.analysis.holm import ALPHA
from resflow.analysis.power import Variation
from resflow.bench.contest import Say

Sampler = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]
PLANNED_SEEDS, DECLARED = (3, 5, 8, 12), (1, 6)  # seeds of a plan, comparisons of a study
PRIOR_SEEDS, TRUE_EFFECT = (3, 5, 10), 1.0  # seeds of a prior run; a true difference, in spreads
LEAST, MOST = 3, 20  # seeds of a sequential design
EFFECTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # true differences of sequential designs, in spreads
PEEKED = 10  # seeds up to which a t test is repeated
ARMS = 7  # a baseline and six that equal it
MARGIN = 2.0  # spreads
SHARE = 10  # of the draws, for what takes a test after every seed
IMAGES = 0.2  # the variance that images give a difference, where the spread over seeds is 1


def _moderately_skewed(draw: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Gamma of shape 4, skewness 1."""
    return (draw.gamma(4, 1, shape) - 4) / 2


def _discrete(draw: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A few images more or less: five values, so that seeds often agree."""
    return draw.binomial(4, 0.5, shape).astype(np.float64) - 2


def run(draws: int, say: Say, samplers: Mapping[str, Sampler]) -> dict[str, Any]:
    """Return shares of simulated studies, of normal differences but for those of `samplers` and two more kinds."""
    say("the power of planned seeds")
    known = [_known(n, declared, draws) for n in PLANNED_SEEDS for declared in DECLARED]
    few = max(100, draws // SHARE)
    estimated = [_estimated(prior, declared, few) for prior in PRIOR_SEEDS for declared in DECLARED]
    kinds = {**samplers, "moderately skewed": _moderately_skewed, "discrete": _discrete}
    wrong = []
    for place, (kind, sampler) in enumerate(kinds.items()):
        say(f"seeds added until all is decided: {kind} differences")
        wrong.append({"differences": kind, **_wrong(sampler, np.random.default_rng([place, MOST]), draws)})
    say("seeds added until all is decided: how many")
    numbers = [_numbers(effect, declared, few) for declared in DECLARED for effect in EFFECTS]
    return {"planned": known, "planned_by_prior": estimated, "sequential": wrong, "sequential_seeds": numbers}


def _share(events: Sequence[bool]) -> float:
    return round(sum(events) / len(events), 4)


def _known(n: int, declared: int, draws: int) -> dict[str, float]:
    """Try the smallest difference that a plan promises to find with n seeds, its spread being known."""
    level = holm.first_level(declared)
    draw = np.random.default_rng([n, declared])
    samples = draw.normal(power.smallest_effect(n, level), 1, (draws, n))
    return {
        "seeds": n,
        "comparisons": declared,
        "found": _share([seed_statistics.t_test(row) < level for row in samples]),
    }


def _estimated(prior: int, declared: int, draws: int) -> dict[str, float]:
    """Try the seeds that a plan asks for by the spread of a prior run, and those that its point estimate would."""
    level = holm.first_level(declared)
    draw = np.random.default_rng([prior, declared, 1])
    spreads = draw.normal(0, 1, (draws, prior)).std(axis=1, ddof=1)
    row: dict[str, float] = {"prior_seeds": prior, "comparisons": declared, "studies": draws}
    for name, variations in (
        ("upper", [Variation(float(sd)).upper(prior) for sd in spreads]),
        ("point", [Variation(float(sd)) for sd in spreads]),
    ):
        asked = [min(power.seeds_to_find(TRUE_EFFECT, one, level), power.MOST_SEEDS) for one in variations]
        samples = (draw.normal(TRUE_EFFECT, 1, int(n)) for n in asked)
        row[f"{name}_found"] = _share([seed_statistics.t_test(sample) < level for sample in samples])
        row |= {f"{name}_seeds_{tail}": float(np.quantile(asked, tail / 100)) for tail in (5, 50, 95)}
    return row


def _wrong(sampler: Sampler, draw: np.random.Generator, draws: int) -> dict[str, float]:
    """Count false verdicts of sequential designs whose differences are alike in truth, and of a t test at each look."""
    samples = sampler(draw, (draws, MOST))
    few = samples[: max(100, draws // SHARE)]
    peeks = [any(seed_statistics.t_test(row[:n]) < ALPHA for n in range(LEAST, PEEKED + 1)) for row in few]
    equal = [seed_statistics.tost(row + MARGIN, MARGIN, sequential=True) < ALPHA for row in few]
    shifted = few + np.sqrt(IMAGES) * draw.normal(size=(len(few), 1))
    return {
        "one_comparison": _share([seed_statistics.t_test(row, sequential=True) < ALPHA for row in samples]),
        "any_of_six": _share(list(_families(sampler, draw, max(100, draws // ARMS)))),
        "equivalent_at_margin": _share(equal),
        "with_images": _share([seed_statistics.t_test(row, IMAGES, sequential=True) < ALPHA for row in shifted]),
        "t_test_at_each_look": _share(peeks),
    }


def _families(sampler: Sampler, draw: np.random.Generator, studies: int) -> Iterator[bool]:
    for study in sampler(draw, (studies, MOST, ARMS)):
        p = [seed_statistics.t_test(study[:, arm] - study[:, 0], sequential=True) for arm in range(1, ARMS)]
        yield bool((holm.adjust(p) < ALPHA).any())


def _numbers(effect: float, declared: int, draws: int) -> dict[str, float]:
    """Count the seeds that a sequential design takes, and those of the fixed design that decides as often."""
    level = holm.first_level(declared)
    samples = np.random.default_rng([round(100 * effect), declared]).normal(effect, 1, (draws, MOST))
    ends = [_decided_after(row, level) for row in samples]
    decided = float(np.mean([end <= MOST for end in ends]))
    goal = min(decided, 1 - 1 / draws)  # what so many draws cannot tell from all
    equal = next((n for n in range(2, power.MOST_SEEDS) if power.power(effect, n, level) >= goal), 0) if effect else 0
    return {
        "effect": effect,
        "comparisons": declared,
        "studies": draws,
        "decided": round(decided, 4),
        "mean_seeds": round(float(np.mean(np.minimum(ends, MOST))), 2),
        **({"fixed_seeds": equal} if equal else {}),
    }


def _decided_after(row: NDArray[np.float64], level: float) -> int:
    """Return after how many seeds a difference is found, MOST + 1 where it never is: p only falls."""
    low, high = LEAST - 1, MOST + 1
    while high - low > 1:
        middle = (low + high) // 2
        found = seed_statistics.t_test(row[:middle], sequential=True) < level
        low, high = (low, middle) if found else (middle, high)
    return high


def rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each figure of a result that has some: its name, and the figure."""
    lines = []
    for row in result.get("planned", []):
        what = f"the smallest difference that {row['seeds']} seeds are said to find, {_of(row)}"
        lines.append([what, f"found in {row['found']:.1%} (promised: {power.POWER:.0%})"])
    for row in result.get("planned_by_prior", []):
        seeds = {name: "/".join(f"{row[f'{name}_seeds_{tail}']:.0f}" for tail in (5, 50, 95)) for name in _BOTH}
        what = f"seeds by the spread of {row['prior_seeds']} prior seeds, {_of(row)} ({row['studies']:,} studies)"
        told = (f"by {_BOTH[name]} found in {row[f'{name}_found']:.1%} with {seeds[name]} seeds" for name in _BOTH)
        lines.append([what, f"{'; '.join(told)} (5 %/median/95 %)"])
    for row in result.get("sequential", []):
        what = f"{row['differences']} differences, seeds added from {LEAST} to {MOST} until decided"
        text = (
            f"wrong {row['one_comparison']:.1%} of one comparison, {row['any_of_six']:.1%} of any of six, "
            f"{row['equivalent_at_margin']:.1%} equivalent at the margin, {row['with_images']:.1%} over images as "
            f"well; a t test at each look up to {PEEKED} seeds {row['t_test_at_each_look']:.1%}"
        )
        lines.append([what, text])
    for row in result.get("sequential_seeds", []):
        fixed = f"; {row['fixed_seeds']} fixed seeds find it as often" if "fixed_seeds" in row else ""
        what = f"a difference of {row['effect']:g} spreads, seeds added, {_of(row)} ({row['studies']:,} studies)"
        lines.append([what, f"decided in {row['decided']:.1%} after {row['mean_seeds']:.1f} seeds on average{fixed}"])
    return lines


_BOTH = {"upper": "the upper limit", "point": "the estimate itself"}


def _of(row: Mapping[str, Any]) -> str:
    return f"{row['comparisons']} comparison{'s' if row['comparisons'] > 1 else ''}"
