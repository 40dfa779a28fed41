"""What a reader must know where a seed does not vary all that it usually does."""

from __future__ import annotations

from resflow.analysis.design import Design
from resflow.study.variation import USUAL, name_streams

DRAWS = {"init": "Initial values", "order": "The order of batches, augmentation and dropout"}


def tell(design: Design) -> tuple[str, str] | None:
    """Return the word and the text of a label; None where initialisation and order both follow the seed."""
    held = [DRAWS[stream] for stream in USUAL if stream not in design.follows]
    if not held:
        return None
    text = f"{' and '.join(held)} are those of the first seed in every trial: intervals and tests cover no others."
    return f"over {name_streams(design.follows)}", text
