"""What a reader must know where seeds were added by what others showed: as the design has it, or after a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resflow.analysis.design import Design
from resflow.records.looks import Look


def tell(design: Design, study: Mapping[str, Any], looks: Sequence[Look], seeds: int) -> tuple[str, str] | None:
    """Return the word and the text of a label; None where the seeds were all chosen before the first one ran."""
    if design.sequential:
        least, most = (study["seeds"].get(key, "?") for key in ("at_least", "at_most"))
        text = (
            f"Seeds were added, from {least} up to {most} at most, until every comparison was decided; {seeds} are "
            "here. Intervals and tests hold at every look (Lai's t mixture) and are wider than t intervals."
        )
        return "sequential design", text
    earlier = [str(count) for count in sorted({look.seeds for look in looks if look.seeds < seeds})]
    if not earlier:
        return None
    text = (
        f"A report was seen after {', '.join(earlier)} of these {seeds} seeds. Where seeds are added until a test "
        "says so, more verdicts are false than it promises; a study with `seeds: {at_least: …, at_most: …}` allows it."
    )
    return "seeds added after a report", text
