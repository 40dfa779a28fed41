"""A published figure beside a study's arms: what so few images can show of it, and what they cannot."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

from scipy import special

from resflow.analysis import image_statistics
from resflow.analysis.analyse import Analysis
from resflow.analysis.crossed import CONFIDENCE
from resflow.analysis.design import BASE
from resflow.report.formatting import known
from resflow.report.tables import Table

PARTS = {"validation_top1": "validation", "test_top1": "test"}


@dataclass(frozen=True)
class Published:
    """`study.published` as a run's study.yaml holds it."""

    what: str
    metric: str
    correct: int
    images: int

    @property
    def share(self) -> float:
        """The fraction of images that were classified correctly."""
        return self.correct / self.images

    @property
    def text(self) -> str:
        """The figure in words, with its Wilson interval."""
        low, high = image_statistics.wilson(self.share, self.images)
        return (
            f"{self.correct} of {self.images} ({_percent(self.share)} %, Wilson {_percent(low)} to {_percent(high)} %)"
        )


def published(analysis: Analysis) -> Published | None:
    """Read the figure that a run's study declares; None where it has none or is not as resflow writes it."""
    declared = analysis.run.study.get("published")
    if not isinstance(declared, dict):
        return None
    try:
        figure = Published(
            str(declared["what"]), str(declared["metric"]), int(declared["correct"]), int(declared["images"])
        )
    except (KeyError, TypeError, ValueError):
        return None
    return figure if figure.metric in PARTS and 0 <= figure.correct <= figure.images and figure.images else None


def table(analysis: Analysis) -> Table | None:
    """Tabulate each arm's images that were classified correctly, seed by seed, beside the published ones."""
    figure = published(analysis)
    if figure is None:
        return None
    rows = [_row(analysis, arm, figure) for arm in analysis.design.arms]
    part = PARTS[figure.metric]
    header: tuple[str, ...] = ("Arm", f"{part} images, by seed", f"Mean (% of {part})", "Wilson interval")
    header += ("One more run (images)", "Beside it")
    header += ("Test (%)",) if part != "test" else ()
    cells = tuple(tuple(row[name] for name in header) for row in rows)
    text = note(figure, splits_vary="split" in analysis.design.follows) + _selected(analysis, figure)
    text += _other_images(analysis, figure)
    return Table(f"Beside {figure.what}: {figure.text}", header, cells, frozenset({"Arm", "Beside it"}), text)


def answer(analysis: Analysis) -> list[str]:
    """Say in a sentence how the baseline stands beside the published figure; nothing where there is no such figure."""
    figure, baseline = published(analysis), analysis.design.baseline
    if figure is None or baseline is None:
        return []
    row, part = _row(analysis, baseline, figure), PARTS[figure.metric]
    name = "The baseline" if row["Arm"] == BASE else row["Arm"]
    if row["Beside it"] == "not run":
        return [f"{name} has not run: nothing stands beside {figure.what}, {figure.text}."]
    verdict = {
        "reaches it": "their mean reaches",
        "not told apart": "on so few images not told apart from",
        "above": "above",
        "below": "below",
    }[row["Beside it"]]
    return [
        f"{name} has {row[f'{part} images, by seed']} {part} images right (mean "
        f"{row[f'Mean (% of {part})']} %, Wilson {row['Wilson interval']} %), {verdict} {figure.what}: {figure.text}."
        f"{_other_images(analysis, figure)}"
    ]


def note(figure: Published, splits_vary: bool = False) -> str:
    """Say what so many images can tell apart; the binomial's standard error, normal approximation."""
    images = "on as many images, of which each seed has its own" if splits_vary else "on these images, which all share"
    error = math.sqrt(figure.share * (1 - figure.share) / figure.images)
    apart = float(special.ndtri((1 + CONFIDENCE) / 2)) * math.sqrt(2) * error
    return (
        f"One image is {100 / figure.images:.1f} points. Two nets that each see {figure.images} images at about "
        f"{_percent(figure.share)} % must differ by some {100 * apart:.0f} points before the images alone tell them "
        "apart: smaller differences are beyond this part of the data, whatever the seeds say. Wilson intervals (95 %) "
        f"are of the mean over seeds {images}; the published figure is one run on its own. Above or below: Newcombe's "
        "interval of the difference of the two shares excludes 0. One more run: the 95 % prediction interval of "
        "another seed's images, from the spread of these."
    )


def _selected(analysis: Analysis, figure: Published) -> str:
    """Warn where the images that are counted also chose the weights."""
    chosen = {record.settings.get("recipe", {}).get("test_weights") for record in analysis.records}
    if not figure.metric.startswith("validation") or "best" not in chosen:
        return ""
    return " The best epoch was chosen on these validation images, which flatters every arm here."


def _other_images(analysis: Analysis, figure: Published) -> str:
    """Warn where the images that are counted cannot be the figure's: there are more of them, or fewer."""
    written = [record.data.get(PARTS[figure.metric]) for record in analysis.records]
    counts = {count for count in written if isinstance(count, int) and count != figure.images}
    if not counts:
        return ""
    return (
        f" That figure is of {figure.images} images and these are {' or '.join(map(str, sorted(counts)))}, so not the "
        "same ones: whether they are as hard nobody knows, and which net is better does not follow."
    )


def _row(analysis: Analysis, arm: str, figure: Published) -> dict[str, str]:
    trials = analysis.trials[(analysis.trials["arm"] == arm) & (analysis.trials["status"] == "completed")]
    part = PARTS[figure.metric]
    records = {record.id: record for record in analysis.records}
    shares = [float(value) for value in trials.get(figure.metric, []) if known(value)]
    images = [records[trial].data.get(part) for trial in trials["id"]]
    counts = ", ".join(
        f"{share * size:.0f}" for share, size in zip(shares, images, strict=False) if isinstance(size, int)
    )
    same = images[0] if images and isinstance(images[0], int) and len(set(images)) == 1 else None
    mean = sum(shares) / len(shares) if shares else math.nan
    low, high = image_statistics.wilson(mean, same) if shares and same else (math.nan, math.nan)
    tests = [float(value) for value in trials.get("test_top1", []) if known(value)]
    return {
        "Arm": analysis.design.display_name(arm),
        f"{part} images, by seed": f"{counts} of {same}" if same else "–",
        f"Mean (% of {part})": _percent(mean),
        "Wilson interval": f"{_percent(low)} to {_percent(high)}" if same else "–",
        "One more run (images)": _one_more(shares, same) if same else "–",
        "Beside it": beside(mean, same, figure) if same else "not run",
        "Test (%)": _percent(sum(tests) / len(tests)) if tests else "–",
    }


def _one_more(shares: list[float], images: int) -> str:
    """Return the prediction interval of one more seed's images, t over seeds; a dash of fewer than three."""
    if len(shares) < 3:
        return "–"
    mean, sd = statistics.mean(shares), statistics.stdev(shares)
    half = float(special.stdtrit(len(shares) - 1, (1 + CONFIDENCE) / 2)) * sd * math.sqrt(1 + 1 / len(shares))
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return f"{images * low:.1f} to {images * high:.1f}"


def beside(mean: float, images: int, figure: Published) -> str:
    """Say how an arm's share of so many images stands beside the figure's, by the interval of their difference."""
    low, high = image_statistics.newcombe(mean, images, figure.share, figure.images)
    if low <= 0 <= high:
        return "reaches it" if mean >= figure.share else "not told apart"
    return "above" if mean > figure.share else "below"


def _percent(share: Any) -> str:
    return f"{100 * share:.1f}" if known(share) else "–"
