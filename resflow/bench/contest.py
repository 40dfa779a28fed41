"""A contest: every contender in a process of its own, in turn, several rounds; medians and their ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resflow.bench import process
from resflow.errors import ResflowError, one_of

Say = Callable[[str], object]
Answers = Mapping[str, Sequence[Mapping[str, Any]]]  # by contender, an answer a round


@dataclass(frozen=True)
class Contender:
    """A module of `contenders` and the job that it is given; `python` where it runs in another interpreter.

    Where an `optional` one fails, or has not ended after `limit` seconds, the contest goes on without it.
    """

    name: str
    module: str
    spec: dict[str, Any]
    python: str | None = None
    variables: Mapping[str, str] | None = None
    optional: bool = False
    limit: float | None = None


def ask_in_turn(contenders: Sequence[Contender], rounds: int, say: Say) -> dict[str, list[dict[str, Any]]]:
    """Ask every contender once a round, A B C A B C …; a machine's moods then meet all of them.

    An optional one that fails has no answer but `failed`, the reason, and is asked no more.
    """
    answers: dict[str, list[dict[str, Any]]] = {contender.name: [] for contender in contenders}
    for number in range(1, rounds + 1):
        for contender in contenders:
            if answers[contender.name] and "failed" in answers[contender.name][0]:
                continue
            say(f"round {number}/{rounds}: {contender.name}")
            try:
                answer = process.ask(
                    contender.module, contender.spec, contender.python, contender.variables, contender.limit
                )
            except ResflowError as error:
                if not contender.optional:
                    raise
                say(f"  {contender.name} is left out: {error}")
                answers[contender.name] = [{"failed": str(error)}]
            else:
                answers[contender.name].append(answer)
    return answers


def choose(contenders: Sequence[Contender], only: Collection[str], always: Collection[str]) -> list[Contender]:
    """Return the contenders that are wanted by name, all where none is named, with those that nothing is told without.

    Raises ResflowError for a name that nobody has.
    """
    names = [contender.name for contender in contenders]
    for name in only:
        if name not in names:
            raise ResflowError(f"--only: {one_of(name, names, 'contender')}")
    return [c for c in contenders if not only or c.name in only or c.name in always]


def split_failed(answers: Answers) -> tuple[dict[str, Sequence[Mapping[str, Any]]], dict[str, str]]:
    """Return the answers of contenders that gave some, and by name why the others gave none."""
    failed = {name: rounds[0]["failed"] for name, rounds in answers.items() if "failed" in rounds[0]}
    return {name: rounds for name, rounds in answers.items() if name not in failed}, failed


def median(answers: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(statistics.median(answer[key] for answer in answers))


def ratio(value: float, other: float | None) -> float | None:
    return None if other is None else round(value / other, 3)


def list_rounds(answers: Answers, key: str) -> dict[str, list[float]]:
    """Return one figure of every round by contender, of those that give it."""
    return {name: [round(a[key], 2) for a in rounds] for name, rounds in answers.items() if key in rounds[0]}
