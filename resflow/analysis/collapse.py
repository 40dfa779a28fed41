"""Networks that trained to the end and collapsed on the way: a mark that is derived from records.

*Diverged* is a loss that is not finite, and such a trial has no result. A collapsed network has one, and its accuracy
counts in every effect, or degradation itself would be censored; but what its layers do says nothing about layers.
A trial is collapsed where, at the end of its training,

    it shows no skill on its own training images: in none of its last END evaluations does Wilson's interval of training
    top-1 lie above 1/classes; a training of fewer than BRIEF epochs says nothing yet
    the mean |gamma| of its batch norms, which begin at 1 or near it, lies outside SCALES
    the mean standard deviation of their outputs, about 1 by construction, lies outside RESPONSES

A high loss in one epoch is not enough. The ranges lie between what was measured on 40 depth trials of 64-pixel photos
(results/depth-cpu-oxford_flowers102): plain nets of 101 layers end with mean |gamma| 15 to 31 and responses of 59 to
71, all others with 0.99 to 1.00 and 0.5 to 4.7. Below them there is room for pretrained scales, which are small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from resflow.analysis import image_statistics
from resflow.records.record import Record
from resflow.records.run import Run

SCALES, RESPONSES = (0.01, 10.0), (0.01, 30.0)
END, BRIEF = 3, 5  # evaluations, epochs
RANGES = {"bn_scale": ("mean |gamma|", SCALES), "response_sd": ("mean response", RESPONSES)}


def reasons(run: Run, histories: pd.DataFrame, diagnostics: pd.DataFrame | None) -> dict[str, str]:
    """Return trial -> why it is collapsed, of completed trials. `diagnostics` is None of a run that is too large."""
    completed = {record.id: record for record in run.records if record.status == "completed"}
    found: dict[str, list[str]] = {}
    done = histories[histories["id"].isin(list(completed))]
    for trial in _unskilled(done, completed) if "train_top1" in done else ():
        found[trial] = ["no skill on its training images"]
    for trial, reason in _out_of_range(diagnostics) if diagnostics is not None and len(diagnostics) else ():
        found.setdefault(trial, []).append(reason)
    return {trial: ", ".join(reasons) for trial, reasons in found.items()}


def _unskilled(histories: pd.DataFrame, records: Mapping[str, Record]) -> Iterator[str]:
    """Yield the trials of which none of the last END evaluations shows skill on the training images."""
    of_trial = histories[histories["train_top1"].notna()].sort_values("epoch").groupby("id", sort=False)
    ends = of_trial.tail(END)[["id", "train_top1"]].astype({"train_top1": float})
    best = ends.groupby("id", sort=False)["train_top1"].max()  # the higher the share, the higher its interval
    for trial, share, epochs in zip(best.index, best, of_trial["epoch"].max().loc[best.index], strict=True):
        images, classes = (records[trial].data.get(key) for key in ("train", "classes"))
        if epochs >= BRIEF and images and classes and image_statistics.wilson(share, images)[0] <= 1 / classes:
            yield str(trial)


def _out_of_range(diagnostics: pd.DataFrame) -> Iterator[tuple[str, str]]:
    table = diagnostics[diagnostics["kind"].isin(list(RANGES))]
    last = table[table["epoch"] == table.groupby(["id", "kind"])["epoch"].transform("max")]
    means = last.assign(value=last["value"].abs()).groupby(["id", "kind"], as_index=False)["value"].mean()
    for trial, kind, value in means[["id", "kind", "value"]].itertuples(index=False):
        what, (low, high) = RANGES[kind]
        if not low <= value <= high:
            yield str(trial), f"{what} outside {low:g} to {high:g}"
