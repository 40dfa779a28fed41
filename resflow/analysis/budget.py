"""Arms whose training ended too soon to compare what they come to: their training curves say so."""

from __future__ import annotations

from math import ceil

import pandas as pd

LIMIT = 0.5  # training top-1 below which an arm was not trained to the end
RISE = 0.05  # more than this in the last quarter of its epochs, and it still rises


def gains(histories: pd.DataFrame) -> pd.Series:
    """Return arm -> what training top-1 gained in the last quarter of the epochs, the mean over completed trials."""
    done = histories[histories["status"] == "completed"]
    if done.empty or "train_top1" not in done:
        return pd.Series(dtype=float)
    late = {}
    for trial, epochs in done.sort_values("epoch").groupby("id", sort=False):
        values = epochs["train_top1"].astype(float)
        late[trial] = values.iloc[-1] - values.iloc[max(0, ceil(0.75 * len(values)) - 1)]
    trials = done.drop_duplicates("id")
    return trials.assign(gain=trials["id"].map(late)).groupby("arm")["gain"].mean()


def limited(arms: pd.DataFrame, histories: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Name the arms that end below LIMIT, and those of the others that still rise. `arms` is `effects.arm_table`.

    What collapsed is told elsewhere: no budget mends it.
    """
    sound = arms[(arms["n"] > 0) & (arms["collapsed"] < arms["n"])]
    low = list(sound.loc[sound["train_top1"] < LIMIT, "arm"])
    rising = gains(histories)
    return low, [arm for arm in sound["arm"] if arm not in low and rising.get(arm, 0.0) > RISE]
