"""What a study's seeds vary: initial values, the order of training, the split; together, or one of them at a time.

By default a seed draws initial values and order, and the split is the same for all. `vary` says otherwise: what it does
not name stays as it is under the first seed.

With `parts` each stream has seeds of its own as well, beside those that vary all of them: under these it alone follows
the seed, and the others are those of the first one. So the spread over them is that stream's part, as Bouthillier et
al. (2021, "Accounting for variance in machine learning benchmarks") take sources of variance apart. Of k streams and n
seeds an arm has n + k (n - 1) trials; every stream crossed with every other would take n to the power of k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from resflow.study.settings import Section

Stream = Literal["init", "order", "split"]
STREAMS: tuple[Stream, ...] = get_args(Stream)
USUAL: tuple[Stream, ...] = ("init", "order")  # that follow a trial's seed, unless the study says otherwise
NAMES: Mapping[str, str] = MappingProxyType({"init": "initialisation", "order": "order", "split": "the split"})
SPLIT_SEEDS = 2**32  # there are so many


def _each_once(streams: list[Stream]) -> list[Stream]:
    if len(set(streams)) < len(streams):
        raise ValueError(f"the same is listed twice in [{', '.join(streams)}]")
    return streams


class Parts(Section):
    """Streams that vary together, and each of them alone on seeds of its own."""

    parts: Annotated[list[Stream], Field(min_length=2), AfterValidator(_each_once)] = Field(
        description="as in the list: beside the seeds that vary all of them, others vary one of them alone"
    )


Vary = Annotated[list[Stream], Field(min_length=1), AfterValidator(_each_once)] | Parts


@dataclass(frozen=True)
class Streams:
    """A seed of a study, and what is drawn from another one under it."""

    seed: int
    split_seed: int
    held: dict[str, int] = field(default_factory=dict)  # init or order -> the seed that it is drawn from instead
    varies: str = ""  # the stream that alone follows the seed, where it is beside the study's own seeds


def follow(vary: Vary) -> tuple[Stream, ...]:
    """Return the streams that follow a study's seeds, in the order of STREAMS."""
    named = vary.parts if isinstance(vary, Parts) else vary
    return tuple(stream for stream in STREAMS if stream in named)


def expand(vary: Vary, seeds: Sequence[int], least: int, split_seed: int) -> tuple[Streams, ...]:
    """Return the streams under each of the `seeds`, then under those of each part: the first `least` of them.

    The first seed is the same for all parts and stands once.
    """
    first, named = seeds[0], follow(vary)

    def under(seed: int, following: Sequence[str]) -> Streams:
        held = {stream: first for stream in ("init", "order") if stream not in following and seed != first}
        moved = seed - first if "split" in following else 0
        return Streams(seed, (split_seed + moved) % SPLIT_SEEDS, held)

    together = [under(seed, named) for seed in seeds]
    parts = named if isinstance(vary, Parts) else ()
    return (*together, *(replace(under(seed, [part]), varies=part) for part in parts for seed in seeds[1:least]))


def name_streams(streams: Sequence[str]) -> str:
    """Name some streams: `initialisation alone`, `initialisation, order and split`."""
    names = [NAMES[stream] for stream in streams]
    return f"{names[0]} alone" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def name_seed(seed: int | None, varies: str) -> str:
    """Name a seed, and the stream that alone varies under it: `3`, `3 (init)`; one that nobody knows is empty."""
    return "" if seed is None else f"{seed} ({varies})" if varies else str(seed)


def tell(streams: Sequence[Streams], vary: Vary) -> str:
    """Say in a sentence or two what a study's seeds vary; nothing of what is usual."""
    named = follow(vary)
    if named == USUAL and not isinstance(vary, Parts):
        return ""
    held = [NAMES[stream] for stream in USUAL if stream not in named]
    rest = f"; {' and '.join(held)} {'is that' if len(held) == 1 else 'are those'} of seed {streams[0].seed}"
    text = f"Seeds vary {name_streams(named)}{rest if held else ''}."
    if count := sum(one.varies == named[0] for one in streams):
        text += f" Each of {name_streams(named)} varies alone under {count} more seed{'s' if count > 1 else ''}."
    return text
