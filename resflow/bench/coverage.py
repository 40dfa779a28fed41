"""The coverage of intervals and the errors of tests, by simulation: also where seeds are not normal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from resflow.analysis import crossed, holm, image_statistics, mixed_model, seed_statistics
from resflow.analysis.contrasts import Contrast
from resflow.analysis.design import Design
from resflow.analysis.variance_parts import deviation
from resflow.bench import seed_counts
from resflow.bench.contest import Say
from resflow.records.metrics import metric

SEEDS = (3, 5, 8, 12)
ARMS = 7  # of the studies whose false verdicts are counted: a baseline and six that equal it
MARGIN = 0.02
SD = 0.01  # of differences over seeds
MIXED_DRAWS = 1000  # a fit takes some 30 ms
ACCURACIES = ((0.05, 0.05), (0.5, 0.5), (0.97, 0.97), (0.97, 0.99))  # of an arm and of its reference
CROSSED_SEEDS, SPREADS = (3, 5, 8), (0.0, 0.15)
CROSSED_DRAWS = {43: 4000, 52: 4000, 1020: 4000, 6149: 1000}  # images -> studies
HARD, HARD_FOR_ONE, LUCK = 2.0, 0.7, 0.5  # deviations, on the logit scale, of images, images in an arm, one answer
SPREAD_OF_SEEDS = 0.3  # deviation of an arm's accuracy over seeds on that scale: 7.5 points at 50 %
Sampler = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]


def _normal(draw: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return draw.normal(0, 1, shape)


def _skewed(draw: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Log-normal of sigma 1, skewness 6.2: most seeds a little better, some much worse."""
    values = -np.exp(draw.normal(0, 1, shape))
    return (values + np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)


def _outliers(draw: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Student's t with 3 degrees of freedom: symmetric, with seeds that fall far out."""
    return draw.standard_t(3, shape) / np.sqrt(3)


def _collapsing(draw: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """One seed in ten fails to train and lies ten standard deviations below the others."""
    fallen = draw.random(shape) < 0.1
    values = draw.normal(0, 1, shape) - 10 * fallen + 1
    return values / np.sqrt(1 + 100 * 0.1 * 0.9)


KINDS: dict[str, Sampler] = {
    "normal": _normal,
    "skewed": _skewed,
    "outliers": _outliers,
    "collapsing": _collapsing,
}


def run(draws: int, say: Say) -> dict[str, Any]:
    """Simulate `draws` samples of each kind and size; return the shares that intervals cover and tests reject.

    All have mean 0 and standard deviation SD; a wrong rejection is of that mean being 0.
    """
    rows = []
    for place, (kind, sampler) in enumerate(KINDS.items()):
        for n in SEEDS:
            say(f"{kind} differences, {n} seeds")
            draw = np.random.default_rng([place, n])
            rows.append({"differences": kind, "seeds": n, **_rates(SD * sampler(draw, (draws, n)))})
            rows[-1]["any_false_verdict"] = _false_verdicts(sampler, draw, draws // ARMS, n)
            rows[-1]["any_false_equivalent"] = _false_equivalents(sampler, draw, draws // ARMS, n)
    say("mixed models")
    fits = [_mixed(n, min(draws, MIXED_DRAWS)) for n in SEEDS]
    say("intervals over images")
    over_images = [_images(n, draws) for n in (43, 300, 1020, 6149)]
    over_both = []
    for images, accuracies, n, spread in product(CROSSED_DRAWS, ACCURACIES, CROSSED_SEEDS, SPREADS):
        say(f"over seeds and images: {n} seeds, {images:,} images, {accuracies[0]:.0%} and {accuracies[1]:.0%}")
        over_both.append(_both(images, accuracies, n, spread, min(draws, CROSSED_DRAWS[images])))
    of_one = []
    for images, accuracies in product(CROSSED_DRAWS, ACCURACIES):
        say(f"intervals over images of one seed: {images:,} images, {accuracies[0]:.0%} and {accuracies[1]:.0%}")
        of_one.append(_one_seed(images, accuracies, min(draws, CROSSED_DRAWS[images])))
    levels = [_levels(accuracy, n, draws) for accuracy in (0.05, 0.5, 0.97) for n in SEEDS]
    return {
        "benchmark": "coverage",
        "over_seeds": rows,
        "mixed_model": fits,
        "over_images": over_images,
        "over_both": over_both,
        "over_images_of_one_seed": of_one,
        "accuracies": levels,
        **seed_counts.run(draws, say, KINDS),
        "settings": {
            "rounds": 1,
            "draws": draws,
            "arms": ARMS,
            "margin": MARGIN,
            "mixed_draws": min(draws, MIXED_DRAWS),
            "crossed_draws": {str(images): min(draws, most) for images, most in CROSSED_DRAWS.items()},
        },
    }


def _rates(samples: NDArray[np.float64]) -> dict[str, float]:
    means = [seed_statistics.mean_interval(row) for row in samples]
    smallest = seed_statistics.smallest_sign_flip(samples.shape[1])
    level = max(seed_statistics.ALPHA, smallest)
    return {
        "t_interval_covers": _share([mean.includes(0.0) for mean in means]),
        "deviation_covers": _share([one.low <= SD <= one.high for one in map(deviation, samples)]),
        "t_test_wrong": _share([seed_statistics.t_test(row) < seed_statistics.ALPHA for row in samples]),
        "sign_flip_wrong": _share([seed_statistics.sign_flip(row) <= level for row in samples[: len(samples) // 4]]),
        "sign_flip_level": level,
        "tost_wrong_at_margin": _share(
            [seed_statistics.tost(row + MARGIN, MARGIN) < seed_statistics.ALPHA for row in samples]
        ),
    }


def _share(events: Any) -> float:
    return round(float(np.mean(events)), 4)


def _false_verdicts(sampler: Sampler, draw: np.random.Generator, studies: int, n: int) -> float:
    """Return the share of studies, all arms equal, in which Holm leaves any contrast with the baseline below 5 %."""
    values = SD * sampler(draw, (studies, n, ARMS))
    wrong = 0
    for study in values:
        p = [seed_statistics.t_test(study[:, arm] - study[:, 0]) for arm in range(1, ARMS)]
        wrong += bool((holm.adjust(p) < seed_statistics.ALPHA).any())
    return round(wrong / studies, 4)


def _false_equivalents(sampler: Sampler, draw: np.random.Generator, studies: int, n: int) -> float:
    """Return the share of studies, all arms MARGIN above the baseline, in which Holm leaves any TOST below 5 %."""
    wrong = 0
    for study in SD * sampler(draw, (studies, n, ARMS)):
        p = [seed_statistics.tost(study[:, arm] - study[:, 0] + MARGIN, MARGIN) for arm in range(1, ARMS)]
        wrong += bool((holm.adjust(p) < seed_statistics.ALPHA).any())
    return round(wrong / studies, 4)


def _mixed(n: int, draws: int) -> dict[str, float]:
    """Fit three arms over n seeds that share a shift, two trials missing; the truth is a difference of 0.03."""
    arms = ("a", "b", "c")
    design = Design({"arm": arms}, {arm: {"arm": arm} for arm in arms}, "a", metric("test_top1"))
    pair = [Contrast("baseline", "b", "a", {})]
    draw, covered, fitted = np.random.default_rng(n), 0, 0
    names, seeds = np.repeat(arms, n), np.tile(np.arange(n), len(arms))
    for _ in range(draws):
        values = np.repeat((0.5, 0.53, 0.5), n) + np.tile(draw.normal(0, 0.02, n), 3) + draw.normal(0, 0.01, 3 * n)
        values[[n, 2 * n + 1]] = np.nan  # b's first seed and c's second
        row = mixed_model.estimates(pd.DataFrame({"arm": names, "seed": seeds, "test_top1": values}), design, pair)[0]
        if row["mixed_note"] == "":
            fitted += 1
            covered += bool(float(str(row["mixed_low"])) <= 0.03 <= float(str(row["mixed_high"])))
    return {"seeds": n, "covers": round(covered / max(fitted, 1), 4), "converged": round(fitted / draws, 4)}


def _images(n: int, draws: int) -> dict[str, float]:
    """Try Wilson's interval over shares drawn evenly, and McNemar's test of two nets that are equally good."""
    draw = np.random.default_rng(n)
    shares = draw.uniform(0.02, 0.98, draws)
    counts = draw.binomial(n, shares)
    limits = {int(count): image_statistics.wilson(count / n, n) for count in np.unique(counts)}
    covered = [limits[int(k)][0] <= p <= limits[int(k)][1] for k, p in zip(counts, shares, strict=True)]
    differing = draw.binomial(n, 0.2, draws)
    first = draw.binomial(differing, 0.5)
    p = [image_statistics.mcnemar(int(one), int(other)) for one, other in zip(first, differing - first, strict=True)]
    return {"images": n, "wilson_covers": _share(covered), "mcnemar_wrong": _share(np.array(p) < seed_statistics.ALPHA)}


Accuracies = tuple[float, float]


def _answers(
    draw: np.random.Generator, images: int, accuracies: Accuracies, seeds: int, spread: float
) -> Iterator[NDArray[np.float64]]:
    """Yield tables of the differences of two arms' answers, (seeds, images), whose seeds and images are both drawn.

    An answer is right with a probability whose logit is the sum of the image's difficulty, its difficulty for the arm,
    the arm's luck with the seed (deviation `spread`), and chance; `accuracies` are the arms' over all of that.
    """
    deviation = np.sqrt(HARD**2 + HARD_FOR_ONE**2 + LUCK**2 + spread**2)
    levels = [_level(accuracy, deviation) for accuracy in accuracies]
    while True:
        difficulty, right = HARD * draw.normal(size=images), []
        for level in levels:
            logits = (
                level + difficulty + HARD_FOR_ONE * draw.normal(size=images) + LUCK * draw.normal(size=(seeds, images))
            )
            logits += spread * draw.normal(size=(seeds, 1))
            right.append(draw.random((seeds, images)) < special.expit(logits))
        yield right[0].astype(float) - right[1]


def _both(images: int, accuracies: Accuracies, seeds: int, spread: float, draws: int) -> dict[str, float]:
    """Try intervals of the difference of two arms over seeds and images, and how often their test is wrong."""
    draw = np.random.default_rng([images, *(round(1000 * one) for one in accuracies), seeds, round(1000 * spread)])
    truth, covered, widths = accuracies[0] - accuracies[1], {"both": 0, "seeds": 0, "images": 0}, []
    for table in islice(_answers(draw, images, accuracies, seeds, spread), draws):
        values, variance = table.mean(axis=1), crossed.image_variance(table)
        both = seed_statistics.mean_interval(values, image_variance=variance)
        same = not np.isfinite(both.low)  # the same difference in every seed has no interval, and decides nothing
        alone = image_statistics.over_images(table > 0, table < 0)
        covered["both"] += same or both.includes(truth)
        covered["seeds"] += same or seed_statistics.mean_interval(values).includes(truth)
        covered["images"] += alone.low <= truth <= alone.high
        widths.append(both.high - both.low)
    shares = {f"{name}_covers": round(count / draws, 4) for name, count in covered.items()}
    return (
        {"images": images, "accuracy": accuracies[0], "reference": accuracies[1], "seeds": seeds, "spread": spread}
        | shares
        | {"width": round(float(np.nanmean(widths)), 5)}
    )


def _one_seed(images: int, accuracies: Accuracies, draws: int) -> dict[str, float]:
    """Try the interval over images of two trained networks, whose images are drawn."""
    draw = np.random.default_rng([images, *(round(1000 * one) for one in accuracies)])
    truth, covered, widths = accuracies[0] - accuracies[1], 0, []
    for table in islice(_answers(draw, images, accuracies, 1, 0.0), draws):
        alone = image_statistics.over_images(table > 0, table < 0)
        covered += alone.low <= truth <= alone.high
        widths.append(alone.high - alone.low)
    return {
        "images": images,
        "accuracy": accuracies[0],
        "reference": accuracies[1],
        "covers": round(covered / draws, 4),
        "width": round(float(np.mean(widths)), 5),
    }


def _levels(accuracy: float, seeds: int, draws: int) -> dict[str, float]:
    """Try the interval of an arm's accuracy over seeds, which spread on the logit scale by SPREAD_OF_SEEDS."""
    draw = np.random.default_rng([round(1000 * accuracy), seeds])
    level = _level(accuracy, SPREAD_OF_SEEDS)
    values = special.expit(level + SPREAD_OF_SEEDS * draw.normal(size=(draws, seeds)))
    intervals = [seed_statistics.level_interval(row) for row in values]
    return {
        "accuracy": accuracy,
        "seeds": seeds,
        "covers": _share([one.includes(accuracy) for one in intervals]),
        "width": round(float(np.mean([one.high - one.low for one in intervals])), 5),
    }


def _level(accuracy: float, deviation: float) -> float:
    """Return the logit around which answers lie that are right with a mean probability of `accuracy`."""
    places = deviation * special.ndtri((np.arange(2000) + 0.5) / 2000)
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if special.expit(middle + places).mean() < accuracy else (low, middle)
    return (low + high) / 2
