"""Labels: everything about a run that a reader could mistake for more than it is, by rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resflow.analysis import (
    added_seeds,
    budget,
    devices,
    held_streams,
    predictions,
    times,
    verdicts,
)
from resflow.analysis import chance as chances
from resflow.analysis import design as designs
from resflow.analysis.analyse import Analysis
from resflow.records.run import MANY
from resflow.study.originals import tell_enlarged
from resflow.study.split_notes import tell_splits
from resflow.tuning import phase as tuning

DEMO, SYNTHETIC = "demo", "synthetic"
DEMONSTRATION = "demonstration, not a result"
MOST_NAMES = 12  # of arms in a label


@dataclass(frozen=True)
class Label:
    """A word that a reader must not miss, and what it means here."""

    word: str
    text: str


def labels(analysis: Analysis) -> list[Label]:
    """List everything that a reader could mistake for more than it is, by rule."""
    rules = (_kind, _held_streams, _added_seeds, _parity, _tuning, _quality, _devices, _busy, _gaps)
    return [label for rule in rules for label in rule(analysis)]


def _kind(analysis: Analysis) -> list[Label]:
    notes = []
    if analysis.run.study.get("profile") == DEMO:
        notes.append(Label(DEMONSTRATION, "Run with profile demo: made to show the way, in minutes."))
    sources = {str(record.data.get("source")) for record in analysis.records}
    if SYNTHETIC in sources:
        notes.append(Label("synthetic data", "Flowers drawn from a seed, not photos."))
    notes += _origins(analysis)
    if not analysis.run.study:
        text = "There is no study.yaml: no question, baseline or seeds are declared. Arms come from the records."
        notes.append(Label("no study", text))
    if analysis.run.plan.empty:
        notes.append(Label("no plan", "There is no plan.csv: trials that never started cannot be counted."))
    return notes + _mixed(analysis)


def _mixed(analysis: Analysis) -> list[Label]:
    """Tell of records from different data; of a study that varies its splits, within one of them."""
    notes, splits_vary = [], "split" in analysis.design.follows
    for key, what in (("split_hash", "splits"), ("fingerprint", "versions of the data")):
        values: dict[int, set[str]] = {}
        for record in analysis.records:
            values.setdefault(record.split_seed if splits_vary else 0, set()).add(str(record.data.get(key)))
        most = max(map(len, values.values()), default=0)
        if most > 1:
            text = f"The records come from {most} {what}: differences between them are not paired."
            notes.append(Label(f"different {what}", text))
    return notes


def _origins(analysis: Analysis) -> list[Label]:
    """Tell of photos, splits and weights that are less than they seem, as the records have it."""
    data = [record.data for record in analysis.records if record.data.get("originals")]
    enlarged = tell_enlarged((one["originals"]["median"], one.get("image_size", 0)) for one in data)
    notes = [Label("enlarged photos", enlarged)] if enlarged else []
    notes += [Label(*told) for told in tell_splits(one.data.get("split_notes") for one in analysis.records)]
    altered = {_alteration(one.network) for one in analysis.records if one.network.get("weights_altered")}
    if altered:
        text = f"Networks start from weights that were altered after their training. {' '.join(sorted(altered))}"
        notes.append(Label("altered weights", text))
    return notes


def _alteration(network: dict[str, Any]) -> str:
    quoted = f" Its file says: “{network['weights_note']}”." if network.get("weights_note") else ""
    return f"{network.get('weights')}: {network['weights_altered']}.{quoted}"


def _added_seeds(analysis: Analysis) -> list[Label]:
    told = added_seeds.tell(analysis.design, analysis.run.study, analysis.looks, analysis.trials["seed"].nunique())
    return [Label(*told)] if told else []


def _held_streams(analysis: Analysis) -> list[Label]:
    told = held_streams.tell(analysis.design)
    return [Label(*told)] if told else []


def _parity(analysis: Analysis) -> list[Label]:
    table, name_of = analysis.effects, analysis.design.display_name
    rows = table[table["unpaired"] != ""].to_dict("records") if len(table) else []
    pairs = dict.fromkeys(f"{name_of(row['arm'])} − {name_of(row['reference'])}: {row['unpaired']}" for row in rows)
    text = "These plain and residual arms differ in size as well, so the shortcut is not all that differs."
    return [Label("unpaired", f"{'; '.join(pairs)}. {text}")] if pairs else []


def _tuning(analysis: Analysis) -> list[Label]:
    phase = analysis.tuning
    if phase is None:
        return []
    notes = [Label("unfairly tuned", f"{'; '.join(unfair)}.")] if (unfair := phase.unfair()) else []
    near = tuning.winners_at_ends(phase, analysis.space)
    ends = [f"{name} of {arm} ({end} end)" for arm, some in near.items() for name, end in some.items()]
    if ends:
        text = "Better values may lie outside of what was searched."
        notes.append(Label("winners at an end of the space", f"{join(ends)}. {text}"))
    return notes


def _quality(analysis: Analysis) -> list[Label]:
    arms, design = analysis.arms, analysis.design
    if not len(arms):
        return []
    notes = [*_budget(analysis), *_collapsed(analysis)]
    for word, text in (
        (chances.AT, "No skill is shown, and none of these arms can be called a winner."),
        (chances.UNRESOLVED, "More seeds are needed before any of these arms can be called a winner."),
    ):
        names = list(arms.loc[arms["chance"] == word, "arm"])
        if names:
            notes.append(Label(word, f"{_names(analysis, names)}. {text}"))
    if analysis.completed and (arms["chance"] == chances.UNKNOWN).all():
        notes.append(Label("chance unknown", f"Chance is {analysis.chance.why}; it is not drawn or tested."))
    for count, word, text in (
        (1, "one seed", "no interval and no test can be given, and nothing can be decided."),
        (2, "two seeds", "means have no interval, and a verdict rests on a single degree of freedom."),
    ):
        few = list(arms.loc[arms["n"] == count, "arm"])
        if few:
            who = "Every arm" if len(few) == len(arms) else _names(analysis, few)
            notes.append(Label(word, f"{who}: {text}"))
    if design.metric.column.startswith("validation"):
        text = "Validation images chose what is measured on them, the best epoch at least: such a figure is too high."
        notes.append(Label("selected on its own metric", text))
    if len(analysis.effects) and (analysis.effects["over"] == verdicts.SEEDS).all():
        part = design.metric.label.partition(" ")[0]  # test, validation or training
        notes.append(
            Label("over seeds alone", f"{_why_seeds(analysis)}: other {part} images could give other effects.")
        )
    return notes


def _names(analysis: Analysis, arms: list[str]) -> str:
    """Join arms' names; of many the first few and how many more there are."""
    names = [analysis.design.display_name(arm) for arm in arms]
    more = len(names) - MOST_NAMES + 1
    return join(names if more < 2 else [*names[:-more], f"{more} more"])


def _why_seeds(analysis: Analysis) -> str:
    if analysis.design.metric.column not in predictions.WITHIN:
        return f"Intervals and tests of {analysis.design.metric.label} are over seeds"
    if "split" in analysis.design.follows:
        return "Each seed has test images of its own, drawn from one pool, and intervals and tests are over seeds"
    if len(analysis.trials) > MANY:
        return f"Of more than {MANY} trials no predictions are read, and intervals and tests are over seeds"
    return "Too few trials have predictions on the same images, and intervals and tests are over seeds"


def _budget(analysis: Analysis) -> list[Label]:
    low, rising = budget.limited(analysis.arms, analysis.histories)
    parts = [f"Below {100 * budget.LIMIT:.0f} % training top-1 at the end: {_names(analysis, low)}."] if low else []
    if rising:
        names = _names(analysis, rising)
        parts.append(
            f"Still rising, by more than {100 * budget.RISE:.0f} points in the last quarter of the epochs: {names}."
        )
    text = "Trained for longer, these arms could rank differently."
    return [Label("budget-limited", " ".join([*parts, text]))] if parts else []


def _collapsed(analysis: Analysis) -> list[Label]:
    every = analysis.every_trial
    trials, completed = every[every["collapsed"] != ""], every[every["status"] == "completed"].groupby("arm").size()
    if trials.empty:
        return []
    told = []
    for arm, rows in trials.groupby("arm", sort=False):
        why = "; ".join(dict.fromkeys(rows["collapsed"]))
        told.append(f"{analysis.design.display_name(str(arm))} ({len(rows)} of {completed[arm]} trials: {why})")
    text = "These trials count in every effect; what is said about the inside of networks leaves them out."
    return [Label("collapsed", f"{join(told)}. {text}")]


def _devices(analysis: Analysis) -> list[Label]:
    text = devices.tell_differences(analysis.records)
    return [Label("different devices", text)] if text else []


def _busy(analysis: Analysis) -> list[Label]:
    number, total = len(times.busy(analysis.records)), len(analysis.records)
    text = (
        f"{number} of {total} trials began or ended under a load above {times.BUSY:g} times the machine's cores, or "
        "the run's own threads where these are more: other work made them slower, and their times show it."
    )
    return [Label("busy machine", text)] if number else []


def _gaps(analysis: Analysis) -> list[Label]:
    notes, counts = [], analysis.every_trial["status"].value_counts()
    total = len(analysis.every_trial)
    for status, text in (
        ("failed", "Shown below with their reasons; left out of means and pairs."),
        (
            "diverged",
            "Shown below with their reasons; left out of means and pairs, which flatters their arms.",
        ),
        ("pruned", "Stopped early by choice; left out of means and pairs."),
        (designs.UNREADABLE, "Their records cannot be read; see below."),
        (designs.NOT_RUN, "They have no record yet: the study has not finished, and figures may change."),
    ):
        if counts.get(status):
            notes.append(Label(f"{counts[status]} of {total} trials {status}", text))
    notes += [Label("damaged", message) for message in analysis.faults]
    return notes + [Label("left out", message) for message in analysis.left_out]


def join(words: list[str]) -> str:
    """Join words as in a sentence: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
