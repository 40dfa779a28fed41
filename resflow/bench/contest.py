"""A contest: every contender in a process of its own, in turn, several rounds; medians and their ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resflow.bench import process

Say = Callable[[str], object]
Answers = Mapping[str, Sequence[Mapping[str, Any]]]  # by contender, an answer a round


@dataclass(frozen=True)
class Contender:
    """A module of `contenders` and the job that it is given; `python` where it runs in another interpreter."""

    name: str
    module: str
    spec: dict[str, Any]
    python: str | None = None
    variables: Mapping[str, str] | None = None


def ask_in_turn(contenders: Sequence[Contender], rounds: int, say: Say) -> dict[str, list[dict[str, Any]]]:
    """Ask every contender once a round, A B C A B C …; a machine's moods then meet all of them."""
    answers: dict[str, list[dict[str, Any]]] = {contender.name: [] for contender in contenders}
    for number in range(1, rounds + 1):
        for contender in contenders:
            say(f"round {number}/{rounds}: {contender.name}")
            answers[contender.name].append(
                process.ask(contender.module, contender.spec, contender.python, contender.variables)
            )
    return answers


def median(answers: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(statistics.median(answer[key] for answer in answers))


def ratio(value: float, other: float | None) -> float | None:
    return None if other is None else round(value / other, 3)


def list_rounds(answers: Answers, key: str) -> dict[str, list[float]]:
    """Return one figure of every round by contender, of those that give it."""
    return {name: [round(a[key], 2) for a in rounds] for name, rounds in answers.items() if key in rounds[0]}
