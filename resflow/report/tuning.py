"""A tuning phase as tables: what each arm was allotted and used, what it chose, and what its hyperparameters do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from resflow.report.formatting import duration, number, one_unit
from resflow.report.tables import Table
from resflow.study.search_space import Choice, Parameter
from resflow.tuning.phase import Phase, TriedCandidate, winners_at_ends

Naming = Callable[[str], str]
FEWEST = 5  # completed candidates of which a correlation is told


def tables(phase: Phase, space: Mapping[str, Parameter], name_of: Naming = str) -> list[Table]:
    """Return the ledger, the chosen settings, and each hyperparameter's part; `name_of` names arms for readers."""
    return [ledger(phase, name_of), chosen(phase, space, name_of), sensitivity(phase, space, name_of)]


def ledger(phase: Phase, name_of: Naming = str) -> Table:
    """Tabulate what each arm was allotted and what it used."""
    rows, ledger_rows = [], phase.ledger().to_dict("records")
    times = one_unit([duration(row["device_seconds"]) for row in ledger_rows])
    for row, time in zip(ledger_rows, times, strict=True):
        rows.append(
            (
                name_of(row["arm"]),
                f"{row['candidates']} of {row['allotted']}",
                *(str(row[word]) for word in ("completed", "pruned", "diverged", "failed")),
                str(row["epochs"]),
                f"{row['epochs_used']:,}",
                time,
            )
        )
    oracles = ", ".join(dict.fromkeys(phase.table["oracle"]))
    unfair = phase.unfair()
    note = f"Oracle: {oracles}. Epochs are the most of one candidate. Time is that of workers, summed. " + (
        f"Unfair, the arms were not tuned alike: {'; '.join(unfair)}."
        if unfair
        else "Every arm was allotted the same candidates, epochs and space."
    )
    if phase.left_out:
        note += f" {phase.left_out} record(s) of candidates belong to other searches and are left out."
    header = (
        "Arm",
        "Candidates",
        "Completed",
        "Pruned",
        "Diverged",
        "Failed",
        "Epochs",
        "Epochs used",
        "Time",
    )
    return Table("Tuning: what each arm was given", header, tuple(rows), frozenset({"Arm"}), note)


def chosen(phase: Phase, space: Mapping[str, Parameter], name_of: Naming = str) -> Table:
    """Tabulate winners, a row an arm, with what lies at an end of its range."""
    names = list(space) or sorted({name for mine in phase.tried.values() for one in mine for name in one.values})
    rows, at_edge, ends = [], [], winners_at_ends(phase, space)
    for arm in phase.table["arm"]:
        won = phase.winner(arm)
        if won is None:
            rows.append((name_of(arm), *["–"] * (len(names) + 2)))
            continue
        near = ends.get(arm, {})
        at_edge += [f"{name} of {name_of(arm)} ({end} end)" for name, end in near.items()]
        cells = [_value(won.values.get(name)) + (f" ({near[name]} end)" if name in near else "") for name in names]
        rows.append((name_of(arm), str(won.number), *cells, number(100 * won.score)))
    note = "By validation top-1 in per cent, of candidates that trained for all epochs. " + (
        f"At an end of the range that was searched, beyond which better values may lie: {', '.join(at_edge)}."
        if at_edge
        else "No winner lies at an end of a range that was searched."
    )
    header = ("Arm", "Candidate", *names, "Validation top-1")
    choices = {name for name, parameter in space.items() if isinstance(parameter, Choice)}
    return Table("Tuning: what each arm chose", header, tuple(rows), frozenset({"Arm", *choices}), note)


def sensitivity(phase: Phase, space: Mapping[str, Parameter], name_of: Naming = str) -> Table:
    """Tabulate how scores go with each hyperparameter: rank correlation of a range, means by label of a choice."""
    rows = []
    for arm in phase.table["arm"]:
        for name, parameter in space.items():
            points = scores(phase.tried.get(arm, []), name)
            if len(points) < FEWEST:
                text = f"too few candidates ({len(points)})"
            elif isinstance(parameter, Choice):
                means = points.groupby("value", sort=False)["score"].agg(["mean", "size"])
                text = ", ".join(f"{label} {number(100 * mean)} ({size})" for label, mean, size in means.itertuples())
            elif points["score"].nunique() < 2 or points["value"].nunique() < 2:
                text = "all alike"
            else:
                ranks = points[["value", "score"]].astype(float).rank()
                text = f"ρ {number(ranks['value'].corr(ranks['score']), signed=True)} ({len(points)})"  # Spearman's
            rows.append((name_of(arm), name, text))
    note = (
        "Spearman's rank correlation ρ of a range with validation top-1, or the mean by choice; in brackets how many "
        "candidates. A peak inside a range gives a ρ near 0: see the figure."
    )
    if phase.ledger()["pruned"].any():
        note += " Of candidates that ended early the score is what they had reached."
    return Table(
        "Tuning: what each hyperparameter does",
        ("Arm", "Hyperparameter", "Effect"),
        tuple(rows),
        frozenset({"Arm", "Hyperparameter", "Effect"}),
        note,
    )


def scores(candidates: list[TriedCandidate], name: str) -> pd.DataFrame:
    """Return `value` and `score` of the candidates for which a hyperparameter counted, and whose score is known."""
    rows = [(one.values[name], one.score) for one in candidates if name in one.values and np.isfinite(one.score)]
    return pd.DataFrame(rows, columns=["value", "score"])


def _value(value: object) -> str:
    return "–" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
