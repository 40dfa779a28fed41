"""The test images: how far they alone could carry a difference, and which classes are hard."""

from __future__ import annotations

import numpy as np

from resflow.analysis import image_statistics
from resflow.analysis.analyse import Analysis
from resflow.analysis.chance import ABOVE, UNKNOWN
from resflow.analysis.predictions import Predictions
from resflow.report.formatting import interval, known, number, p_value
from resflow.report.tables import Table

HARDEST = 10


def sampled(analysis: Analysis) -> Table | None:
    """Tabulate what another sample of test images could change, by contrast. None without predictions."""
    predictions = analysis.predictions
    if predictions is None or analysis.effects.empty:
        return None
    rows = []
    once = analysis.effects[analysis.effects["less"] == ""].drop_duplicates(["arm", "reference"])
    for arm, reference in once[["arm", "reference"]].itertuples(index=False):
        pair = predictions.pair(arm, reference)
        if pair is None:
            continue
        p = dict.fromkeys((p_value(pair.p_low), p_value(pair.p_high)))
        rows.append(
            (
                f"{analysis.design.display_name(arm)} − {analysis.design.display_name(reference)}",
                str(pair.seeds),
                f"{pair.first_only:.0f}",
                f"{pair.second_only:.0f}",
                " to ".join(p),
                number(100 * pair.difference, signed=True),
                interval(100 * pair.low, 100 * pair.high, signed=True)
                + (": no image tells the arms apart" if pair.identical else ""),
            )
        )
    if not rows:
        return None
    header = (
        *("Contrast", "Seeds", "Images right in the first alone", "In the second alone", "McNemar p, seed by seed"),
        *("Test top-1 (points)", "95 % interval over images"),
    )
    return Table("Sampling of test images", header, tuple(rows), frozenset({"Contrast"}), _note(analysis, predictions))


def _note(analysis: Analysis, predictions: Predictions) -> str:
    images = len(predictions.labels)
    text = (
        f"Test top-1 on {images:,} images that all seeds share. This says what another sample of images could do to "
        "these very networks; verdicts rest on seeds and images together. McNemar: exact, of one seed's pair of "
        "networks (smallest to largest over seeds). Interval over images: Tango's, of the seeds' mean difference."
    )
    baseline = analysis.design.baseline
    rights = [predictions.right(trial) for trial in predictions.of_arm.get(baseline or "", {}).values()]
    if rights:
        share = float(np.mean(rights))
        low, high = image_statistics.wilson(share, images)
        text += (
            f" For scale: {analysis.design.display_name(baseline or '')}'s {100 * share:.1f} % has a Wilson interval"
        )
        text += f" of {100 * low:.1f} to {100 * high:.1f} %."
    if predictions.left_out:
        text += f" {len(predictions.left_out)} trials have no predictions on these images and are left out."
    return text


def shown_arms(analysis: Analysis) -> list[str]:
    """Name the arms whose classes are looked at: the best mean's and the baseline, if they show skill."""
    arms = analysis.arms[(analysis.arms["n"] > 0) & analysis.arms["chance"].isin((ABOVE, UNKNOWN))]
    if arms.empty:
        return []
    values = arms.set_index("arm")["mean"]
    best = str(values.idxmax() if analysis.design.metric.higher_is_better else values.idxmin())
    baseline = analysis.design.baseline
    return [best, baseline] if baseline is not None and baseline in values.index and baseline != best else [best]


def class_names(analysis: Analysis, count: int) -> list[str]:
    """Return names from the records, or of a source whose names resflow knows; else numbers, from 1."""
    data = [record.data for record in analysis.records]
    named = next((one["class_names"] for one in data if isinstance(one.get("class_names"), list)), None)
    if named is None and any(str(one.get("source", "")).startswith("oxford_flowers") for one in data):
        from resflow.data.sources.oxford import class_names as official

        named = list(official())
    if named is None or len(named) < count:
        return [f"class {number}" for number in range(1, count + 1)]
    return [str(name) for name in named[:count]]


def hardest(analysis: Analysis) -> Table | None:
    """Tabulate the classes that the best arm gets wrong most often, and its answers. None without predictions."""
    predictions, arms = analysis.predictions, shown_arms(analysis)
    arms = [arm for arm in arms if predictions is not None and arm in predictions.of_arm]
    if predictions is None or not arms:
        return None
    best = arms[0]
    shares = {arm: predictions.by_class(arm) for arm in arms}
    names = class_names(analysis, predictions.classes(best))
    counts = np.bincount(predictions.labels, minlength=len(names))
    order = [int(number) for number in np.argsort(shares[best], kind="stable") if known(float(shares[best][number]))]
    rows = []
    for number_ in order[:HARDEST]:
        wrong = predictions.answers(best, number_)
        wrong[number_] = 0
        taken = int(wrong.argmax())
        rows.append(
            (
                names[number_],
                f"{counts[number_]}",
                *(f"{100 * shares[arm][number_]:.1f}" for arm in arms),
                f"{names[taken]} ({100 * wrong[taken]:.0f} %)" if wrong[taken] > 0 else "–",
            )
        )
    header = (
        "Class",
        "Test images",
        *(f"{analysis.design.display_name(arm)} (%)" for arm in arms),
        "Most often taken for",
    )
    note = (
        f"Test top-1 by class, means over seeds; {analysis.design.display_name(best)} has the best mean. The "
        "hardest of many classes are partly the unluckiest: with so few images a class, look at the counts."
    )
    return Table("Hardest classes", header, tuple(rows), frozenset({"Class", "Most often taken for"}), note)
