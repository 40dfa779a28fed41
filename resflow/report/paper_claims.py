"""Claims of He et al. 2015 (arXiv 1512.03385) about plain and residual nets, one by one, against a run's records.

A claim is one paired difference over seeds. It is `reproduced` where the difference lies on the claimed side and the
t test says so after Holm over all claims, `not reproduced` where it lies as clearly on the other, else `undecided`. One
of equality is `reproduced` where two one-sided tests put the difference within its margin, `not reproduced` where a
test puts it outside. Nothing is decided in a run that is not finished, or where failed trials could change the word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from resflow.analysis import design as designs
from resflow.analysis import holm, seed_statistics
from resflow.analysis.analyse import Analysis
from resflow.analysis.degradation import DEPTH, depth_series, epochs_to, paired, span
from resflow.analysis.missing import stands
from resflow.report.formatting import interval, known, number, p_value
from resflow.report.tables import Table
from resflow.study.contrast_families import TUNING, UNTUNED

HEALTHY = 100.0  # times: first and last layers' gradients that lie further apart are called vanishing or exploding here
REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "undecided"


@dataclass(frozen=True)
class Claim:
    """`values` are signed so that the claim holds where their mean is above 0; `margin` makes it one of equality.

    `absent` seeds have no value, and what they could have had lies between ±`span`; NaN where nothing says.
    """

    text: str
    where: str  # in the paper
    what: str  # was measured
    values: np.ndarray
    unit: str
    scale: float = 1.0
    margin: float | None = None
    absent: int = 0
    span: float = np.nan
    sequential: bool = False  # whether seeds were added by what those before them showed


def table(analysis: Analysis) -> Table | None:
    """Tabulate every claim that the run can speak to; None where it compares no plain with residual nets by depth."""
    claims = [replace(claim, sequential=analysis.design.sequential) for claim in _claims(analysis)]
    if not claims:
        return None
    p = [test(claim, claim.values) for claim in claims]
    words = _words(claims, p) if not designs.unfinished(analysis.trials) else [UNDECIDED] * len(claims)
    rows = tuple(_row(*one) for one in zip(claims, holm.adjust(p), words, strict=True))
    header = ("Claim", "In the paper", "Measured", "Difference", "95 % interval", "Holm p", "Here")
    note = (
        "Signed so that the claim holds where the difference is above 0, and one of equality where it is near 0. Each "
        "interval is over seeds, and for itself. Their nets saw ImageNet or CIFAR-10 for "
        "hundreds of thousands of steps: what is not reproduced here is not refuted, and what is undecided may lack "
        "seeds."
    )
    if designs.unfinished(analysis.trials):
        note += " The run is not finished, and nothing is decided."
    return Table(
        "What He et al. 2015 claim", header, rows, frozenset({"Claim", "In the paper", "Measured", "Here"}), note
    )


def _words(claims: list[Claim], p: list[float]) -> list[str]:
    def word(place: int, values: np.ndarray) -> str:
        replaced = [*p[:place], test(claims[place], values), *p[place + 1 :]]
        return verdict(claims[place], values, float(holm.adjust(replaced)[place]))

    words = [word(place, claim.values) for place, claim in enumerate(claims)]
    return [
        said if stands(said, claim.values, claim.absent, claim.span, partial(word, place)) else UNDECIDED
        for place, (claim, said) in enumerate(zip(claims, words, strict=True))
    ]


def _row(claim: Claim, p: float, word: str) -> tuple[str, ...]:
    mean = seed_statistics.mean_interval(claim.values, sequential=claim.sequential)
    gone = f"; {claim.absent} of {claim.absent + mean.n} pairs did not complete" if claim.absent else ""
    return (
        claim.text,
        claim.where,
        claim.what + gone,
        f"{number(claim.scale * mean.mean, signed=True)} {claim.unit}" if known(mean.mean) else "–",
        interval(claim.scale * mean.low, claim.scale * mean.high, signed=True),
        p_value(p),
        word,
    )


def test(claim: Claim, values: np.ndarray) -> float:
    """Return p of the test that decides a claim: of no difference, or of its lying within the margin or outside."""
    margin, sequential = claim.margin, claim.sequential
    if not margin:
        return seed_statistics.t_test(values, sequential=sequential)
    return min(one(values, margin, sequential=sequential) for one in (seed_statistics.tost, seed_statistics.beyond))


def verdict(claim: Claim, values: np.ndarray, p: float) -> str:
    """Return `reproduced`, `not reproduced` or `undecided`; `p` is Holm-adjusted."""
    if not p < seed_statistics.ALPHA:
        return UNDECIDED
    mean = float(values.mean())
    if claim.margin is None:
        return REPRODUCED if mean > 0 else NOT_REPRODUCED
    return REPRODUCED if abs(mean) < claim.margin else NOT_REPRODUCED


def _claims(analysis: Analysis) -> Iterator[Claim]:
    pair = _pair(analysis)
    if pair is None:
        return
    plain, residual = pair
    trials, depth = analysis.trials, analysis.design.arms
    shallow, deep = depth[plain[0]][DEPTH], depth[plain[-1]][DEPTH]
    error = f"training error, {deep} against {shallow}"

    def claim(
        text: str, where: str, what: str, column: str, arms: tuple[str, str], margin: float | None = None
    ) -> Claim:
        if column not in trials:
            return Claim(text, where, what, np.array([]), "points")
        wide = designs.by_seed(trials, analysis.design, column)
        values, absent = paired(wide, *arms)
        return Claim(text, where, what, values, "points", 100, margin, absent, span(wide))

    yield claim(
        "Deeper plain nets train worse",
        "section 1, Figure 4",
        f"plain: {error}",
        "train_top1",
        (plain[0], plain[-1]),
    )
    yield claim(
        "Deeper residual nets train better",
        "section 4.1, Figure 4",
        f"residual: {error}, reversed",
        "train_top1",
        (residual[-1], residual[0]),
    )
    yield claim(
        "Deeper residual nets are more accurate",
        "Tables 2 and 3",
        f"residual: test top-1, {deep} against {shallow}",
        "test_top1",
        (residual[-1], residual[0]),
    )
    yield claim(
        "Shallow plain and residual nets are equally accurate",
        "Table 2, 18 layers",
        f"test top-1 at {shallow}, residual against plain"
        + ("" if analysis.design.margin else " (no margin declared)"),
        "test_top1",
        (residual[0], plain[0]),
        margin=analysis.design.margin or 0.0,
    )
    saved = _epochs_saved(analysis, plain[0], residual[0])
    yield Claim(
        "Shallow residual nets converge sooner",
        "section 4.1",
        f"epochs to a training error that both reach at {shallow}, plain against residual",
        saved,
        "epochs",
        absent=trials["seed"].nunique() - len(saved),
    )
    yield from _inside(analysis, plain, residual)


def _pair(analysis: Analysis) -> tuple[list[str], list[str]] | None:
    """The arms of the first plain series and of its residual twin, from shallow to deep, over the same depths.

    Of a tuned study they are the tuned ones: what an untuned recipe does to a depth is no claim of the paper.
    """
    design, shortcut = analysis.design, designs.shortcuts(analysis.run)
    series = depth_series(design).items()
    every = dict(sorted(series, key=lambda one: design.arms[one[1][0]].get(TUNING) == UNTUNED))
    kind = {
        name: {shortcut.get(arm, "") != designs.NO_SHORTCUT for arm in arms if arm in shortcut}
        for name, arms in every.items()
    }
    twins = designs.twins(analysis.run, design)
    for name, plain in every.items():
        for other, residual in every.items():
            same = [design.arms[arm][DEPTH] for arm in plain] == [design.arms[arm][DEPTH] for arm in residual]
            if kind[name] == {False} and kind[other] == {True} and same and (plain[0], residual[0]) in twins:
                return plain, residual
    return None


def _epochs_saved(analysis: Analysis, plain: str, residual: str) -> np.ndarray:
    histories = analysis.histories[analysis.histories["arm"].isin((plain, residual))]
    done = histories[histories["status"] == "completed"]
    if done.empty or "train_top1" not in done:
        return np.array([])
    lowest = 1 - done.groupby("id")["train_top1"].max().astype(float)  # what each trial came to
    wide = epochs_to(done, float(lowest.max())).pivot_table(index="seed", columns="arm", values="epochs")
    if not {plain, residual} <= set(wide.columns):
        return np.array([])
    return (wide[plain] - wide[residual]).dropna().to_numpy(dtype=float)


def _inside(analysis: Analysis, plain: list[str], residual: list[str]) -> Iterator[Claim]:
    table, arms, trials = analysis.diagnostics, analysis.design.arms, analysis.trials
    if table is None or table.empty:
        return
    collapsed = trials[trials["collapsed"] != ""]
    trained = table[~table["id"].isin(list(collapsed["id"]))]
    seeds = trials["seed"].nunique()

    def gone(*names: str) -> tuple[int, str]:
        """How many seeds lack a trial that completed, and what is said of those that collapsed."""
        done = trials[(trials["status"] == "completed") & trials["arm"].isin(names)]
        absent = seeds - int((done.groupby("seed").size() == len(names)).sum())
        count = int(collapsed["arm"].isin(names).sum())
        return absent, f" ({count} collapsed networks left out)" if count else ""

    gradients = table[table["kind"] == "gradient_norm"].dropna(subset=["value"])
    sound = [arm for arm in plain if arm in set(trained["arm"])]
    for moment, arm, rows in (
        ("at the first step", plain[-1], gradients[gradients["epoch"] == 0]),
        ("at the end", sound[-1] if sound else plain[-1], gradients[gradients["id"].isin(list(trained["id"]))]),
    ):
        rows = rows[rows["arm"] == arm]
        rows = rows[rows["epoch"] == rows.groupby("id")["epoch"].transform("max")]
        deeper = plain[plain.index(arm) + 1 :] if moment == "at the end" else []
        absent, left_out = gone(arm) if moment == "at the end" else (gone(arm)[0], "")
        if deeper:
            left_out += f"; every plain net of {', '.join(arms[one][DEPTH] for one in deeper)} layers collapsed"
        yield Claim(
            f"Gradients keep healthy norms in deep plain nets, {moment}",
            "section 4.1",
            f"plain {arms[arm][DEPTH]}: decades from the last third of layers up to the first, healthy within "
            f"±{np.log10(HEALTHY):g}{left_out}",
            np.array([_decades(one) for _, one in rows.groupby("seed")]),
            "decades",
            margin=float(np.log10(HEALTHY)),
            absent=absent,
        )
    responses = trained[trained["kind"] == "response_sd"].groupby(["arm", "seed"])["value"].mean().unstack("arm")
    shallow, deep = arms[residual[0]][DEPTH], arms[residual[-1]][DEPTH]
    pairs = [
        (f"Residual nets respond less, at {arms[arm][DEPTH]} layers", arm, reference, "plain against residual")
        for reference, arm in zip(plain, residual, strict=True)
    ]
    pairs.append(
        ("Residual nets respond less, the deeper they are", residual[-1], residual[0], f"{shallow} against {deep}")
    )
    for text, arm, reference, what in pairs:
        absent, left_out = gone(arm, reference)
        values = np.array([])
        if {arm, reference} <= set(responses.columns):
            values = (responses[reference] - responses[arm]).dropna().to_numpy(dtype=float)
        what = f"mean standard deviation after batch norm, {what}{left_out}"
        yield Claim(text, "Figure 7", what, values, "", absent=absent)


def _decades(gradients: pd.DataFrame) -> float:
    """Return by how many decades gradients grow from the last third of layers to the first, by geometric means.

    Above 0 they explode towards the input, below they vanish.
    """
    logs = np.log10(np.maximum(gradients.sort_values("place")["value"].to_numpy(dtype=float), 1e-30))
    third = max(1, len(logs) // 3)
    return float(logs[:third].mean() - logs[-third:].mean())
