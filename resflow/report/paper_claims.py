"""Claims of He et al. 2015 (arXiv 1512.03385) about plain and residual nets, one by one, against a run's records.

A claim is one paired difference over seeds. It is `reproduced` where the difference lies on the claimed side and the
t test says so after Holm over all claims, `not reproduced` where it lies as clearly on the other, else `undecided`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from resflow.analysis import design as designs
from resflow.analysis import seed_statistics
from resflow.analysis.analyse import Analysis
from resflow.analysis.degradation import DEPTH, depth_series, epochs_to, paired
from resflow.report.formatting import interval, known, number, p_value
from resflow.report.tables import Table

HEALTHY = 100.0  # times: first and last layers' gradients that lie further apart are called vanishing or exploding here


@dataclass(frozen=True)
class Claim:
    """`values` are signed so that the claim holds where their mean is above 0; `margin` makes it one of equality."""

    text: str
    where: str  # in the paper
    what: str  # was measured
    values: np.ndarray
    unit: str
    scale: float = 1.0
    margin: float | None = None


def table(analysis: Analysis) -> Table | None:
    """Tabulate every claim that the run can speak to; None where it compares no plain with residual nets by depth."""
    claims = list(_claims(analysis))
    if not claims:
        return None
    p = seed_statistics.holm([seed_statistics.t_test(claim.values) for claim in claims])
    rows = tuple(_row(claim, float(adjusted)) for claim, adjusted in zip(claims, p, strict=True))
    header = ("Claim", "In the paper", "Measured", "Difference", "95 % interval", "Holm p", "Here")
    note = (
        "Signed so that the claim holds where the difference is above 0. Their nets saw ImageNet or CIFAR-10 for "
        "hundreds of thousands of steps: what is not reproduced here is not refuted, and what is undecided may lack "
        "seeds."
    )
    return Table(
        "What He et al. 2015 claim", header, rows, frozenset({"Claim", "In the paper", "Measured", "Here"}), note
    )


def _row(claim: Claim, p: float) -> tuple[str, ...]:
    mean = seed_statistics.mean_interval(claim.values)
    return (
        claim.text,
        claim.where,
        claim.what,
        f"{number(claim.scale * mean.mean, signed=True)} {claim.unit}" if known(mean.mean) else "–",
        interval(claim.scale * mean.low, claim.scale * mean.high, signed=True),
        p_value(p),
        verdict(claim, mean, p),
    )


def verdict(claim: Claim, mean: seed_statistics.Mean, p: float) -> str:
    """Return `reproduced`, `not reproduced` or `undecided`; `p` is Holm-adjusted."""
    clear = p < seed_statistics.ALPHA and not np.isnan(mean.low) and not mean.includes(0.0)
    if claim.margin is not None:
        if claim.margin > 0 and seed_statistics.tost(claim.values, claim.margin) < seed_statistics.ALPHA:
            return "reproduced"
        return "not reproduced" if clear else "undecided"
    return ("reproduced" if mean.mean > 0 else "not reproduced") if clear else "undecided"


def _claims(analysis: Analysis) -> Iterator[Claim]:
    pair = _pair(analysis)
    if pair is None:
        return
    plain, residual = pair
    trials, depth = analysis.trials, analysis.design.arms
    shallow, deep = depth[plain[0]][DEPTH], depth[plain[-1]][DEPTH]
    error = f"training error, {deep} less {shallow}"

    def difference(column: str, arm: str, reference: str) -> np.ndarray:
        if column not in trials:
            return np.array([])
        return paired(designs.by_seed(trials, analysis.design, column), arm, reference)

    yield Claim(
        "Deeper plain nets train worse",
        "section 1, Figure 4",
        f"plain: {error}",
        -difference("train_top1", plain[-1], plain[0]),
        "points",
        100,
    )
    yield Claim(
        "Deeper residual nets train better",
        "section 4.1, Figure 4",
        f"residual: {error}, reversed",
        difference("train_top1", residual[-1], residual[0]),
        "points",
        100,
    )
    yield Claim(
        "Deeper residual nets are more accurate",
        "Tables 2 and 3",
        f"residual: test top-1, {deep} less {shallow}",
        difference("test_top1", residual[-1], residual[0]),
        "points",
        100,
    )
    yield Claim(
        "Shallow plain and residual nets are equally accurate",
        "Table 2, 18 layers",
        f"test top-1 at {shallow}, residual less plain" + ("" if analysis.design.margin else " (no margin declared)"),
        difference("test_top1", residual[0], plain[0]),
        "points",
        100,
        margin=analysis.design.margin or 0.0,
    )
    yield Claim(
        "Shallow residual nets converge sooner",
        "section 4.1",
        f"epochs to a training error that both reach at {shallow}, plain less residual",
        _epochs_saved(analysis, plain[0], residual[0]),
        "epochs",
    )
    yield from _inside(analysis, plain, residual)


def _pair(analysis: Analysis) -> tuple[list[str], list[str]] | None:
    """The arms of the first plain series and of its residual twin, from shallow to deep, over the same depths."""
    design, shortcut = analysis.design, designs.shortcuts(analysis.run)
    every = depth_series(design)
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
    table, arms = analysis.diagnostics, analysis.design.arms
    if table is None or table.empty:
        return
    shallow, deep = arms[plain[0]][DEPTH], arms[plain[-1]][DEPTH]
    gradients = table[(table["kind"] == "gradient_norm") & (table["arm"] == plain[-1])].dropna(subset=["value"])
    yield Claim(
        "Gradients keep healthy norms in deep plain nets",
        "section 4.1",
        f"plain {deep}: decades by which first and last layers' gradients stay within a factor of {HEALTHY:g}, at the "
        "first step or at the end, whichever is worse",
        np.array([_health(one) for _, one in gradients.groupby("seed")]),
        "decades",
    )
    responses = table[table["kind"] == "response_sd"].groupby(["arm", "seed"])["value"].mean().unstack("arm")
    for text, arm, reference, what in (
        ("Residual nets respond less", residual[-1], plain[-1], f"at {deep}, plain less residual"),
        (
            "Residual nets respond less, the deeper they are",
            residual[-1],
            residual[0],
            f"residual, {shallow} less {deep}",
        ),
    ):
        values = np.array([])
        if {arm, reference} <= set(responses.columns):
            values = (responses[reference] - responses[arm]).dropna().to_numpy(dtype=float)
        yield Claim(text, "Figure 7", f"mean standard deviation after batch norm, {what}", values, "")


def _health(gradients: pd.DataFrame) -> float:
    """Return the decades that are left before the first and the last third of layers differ by HEALTHY.

    By geometric means; below 0 gradients vanish or explode. Of the first and the last moment on record, the worse.
    """
    moments = (gradients["epoch"].min(), gradients["epoch"].max())
    apart = [_apart(gradients[gradients["epoch"] == moment]) for moment in moments]
    return float(np.log10(HEALTHY) - max(apart))


def _apart(gradients: pd.DataFrame) -> float:
    """Return how many decades lie between the first third of layers' gradients and the last third's."""
    logs = np.log10(np.maximum(gradients.sort_values("place")["value"].to_numpy(dtype=float), 1e-30))
    third = max(1, len(logs) // 3)
    return abs(float(logs[:third].mean() - logs[-third:].mean()))
