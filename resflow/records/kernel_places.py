"""Where the kernels of a part of a network stand, in records that count them from the first that trained."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from resflow.architectures import STEMS, Architecture, kernels
from resflow.errors import StudyError
from resflow.records.record import Record


def from_input_on(table: pd.DataFrame, records: Mapping[str, Record]) -> pd.DataFrame:
    """Return diagnostics of trials, by `id`, with the places of all kernels counted from the input on.

    The last kernel is a network's last, whatever of it trained. Newer records are as they should be.
    """
    gradients = table["kind"] == "gradient_norm"
    last = table[gradients].groupby("id")["place"].max()
    below = {trial_id: _below(records[str(trial_id)], int(place)) for trial_id, place in last.items()}
    table.loc[gradients, "place"] += table.loc[gradients, "id"].map(below)
    return table


def _below(record: Record, last: int) -> int:
    """Return how many kernels lie below those that a record counts up to `last`."""
    if record.settings.get("recipe", {}).get("finetune") not in ("partial", "frozen"):
        return 0
    try:
        network = record.settings["network"]
        kind = (network["family"], network["depth"], network["shortcut"], network["variant"])
        total = kernels(Architecture(*kind, width=1.0, stem=STEMS[0]), network["head"]["hidden"])
    except (KeyError, TypeError, StudyError):  # a network that this resflow does not know
        return 0
    return max(0, total - 1 - last)
