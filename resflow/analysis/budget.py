"""Arms whose training ended too soon to compare what they come to: their training curves say so."""

from __future__ import annotations

import numpy as np
import pandas as pd

LIMIT = 0.5  # training top-1 below which an arm was not trained to the end
RISE = 0.05  # more than this in the last quarter of its epochs, and it still rises


def gains(histories: pd.DataFrame) -> pd.Series:
    """Return arm -> what training top-1 gained in the last quarter of the epochs, the mean over completed trials.

    Between epochs with an evaluation it is taken to have grown evenly.
    """
    done = histories[histories["status"] == "completed"]
    if done.empty or "train_top1" not in done:
        return pd.Series(dtype=float)
    ordered = done.sort_values(["id", "epoch"])
    of_trial = ordered.groupby("id", sort=False)
    place, epochs = of_trial.cumcount() + 1, of_trial["epoch"].transform("size")
    values = ordered.set_index("id")["train_top1"].astype(float)
    if values.isna().any():
        values = values.groupby(level="id", sort=False).transform(pd.Series.interpolate)
    gain = values[(place == epochs).to_numpy()] - values[(place == np.ceil(0.75 * epochs)).to_numpy()]
    return gain.groupby(done.drop_duplicates("id").set_index("id")["arm"]).mean()


def limited(arms: pd.DataFrame, histories: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Name the arms that end below LIMIT, and those of the others that still rise. `arms` is `effects.arm_table`.

    What collapsed is told elsewhere: no budget mends it.
    """
    sound = arms[(arms["n"] > 0) & (arms["collapsed"] < arms["n"])]
    low = list(sound.loc[sound["train_top1"] < LIMIT, "arm"])
    rising = gains(histories)
    return low, [arm for arm in sound["arm"] if arm not in low and rising.get(arm, 0.0) > RISE]
