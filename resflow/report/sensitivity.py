"""Tables beside the verdicts, which take no part in them: other tests, seeds one by one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from resflow.analysis import power, seed_statistics
from resflow.analysis.analyse import Analysis
from resflow.analysis.contrasts import contrasts
from resflow.analysis.design import Design
from resflow.analysis.effects import seed_differences
from resflow.report.formatting import interval, known, number, p_value, signed_interval
from resflow.report.resolution import seed_count
from resflow.report.tables import Table, make_table, pair

MOST_SEEDS = 30  # that have a column each


def robustness(analysis: Analysis) -> Table:
    """Tabulate what takes no part in each verdict: another test, the share of seeds, seeds needed."""
    metric, design, rows = analysis.design.metric, analysis.design, []

    def between(row: Mapping[Hashable, Any], name: str) -> str:
        return signed_interval(row[f"{name}_low"], row[f"{name}_high"], metric.scale)

    for row in _once(analysis):
        smallest = f" (≥ {p_value(row['p_sign_flip_smallest'])})" if known(row["p_sign_flip_smallest"]) else ""
        better = interval(100 * row["better_low"], 100 * row["better_high"]) if known(row["better_low"]) else "–"
        rows.append(
            {
                "Contrast": _label(row, design),
                "p over seeds": p_value(row["p_seeds"]),
                "Sign-flip p": p_value(row["p_sign_flip"]) + smallest,
                "Better in": f"{row['seeds_better']} of {row['seeds_apart']}",
                "P(better) (%)": better,
                "Correlation": f"{row['correlation']:+.2f}".replace("-", "−") if known(row["correlation"]) else "",
                "Seeds to resolve it": seed_count(row["seeds_needed"]),
                "With missing at worst and best": signed_interval(
                    row["missing_low"], row["missing_high"], metric.scale
                ),
                "Verdict then": row["missing_verdicts"],
                "Mixed model": number(metric.scale * row["mixed"], signed=True) if known(row["mixed"]) else "",
                "Its 95 % interval": signed_interval(row["mixed_low"], row["mixed_high"], metric.scale)
                or row["mixed_note"],
            }
        )
    test = "the sequential test" if design.sequential else "the paired t test"
    note = (
        f"The verdicts do not use these. p over seeds: {test} over seeds alone. Sign-flip: exact, assumes symmetry "
        "only; in brackets the smallest p that so many seeds allow. P(better): Clopper and Pearson's 95 % interval "
        f"from the signs. Seeds to resolve it: for a power of {100 * power.POWER:.0f} % at p < "
        f"{seed_statistics.ALPHA:g} after Holm, were the difference as seen, by the upper "
        f"{100 * power.ASSURANCE:.0f} % confidence limit of its spread."
    )
    correlation = analysis.effects["correlation"].dropna()
    if len(correlation):
        note += (
            f" Correlation: of the two arms' values over seeds, above 0 in {int((correlation > 0).sum())} of "
            f"{len(correlation)}; where it is not, pairing by seed gains nothing. It never chooses the test."
        )
    if (analysis.effects["missing"] > 0).any():
        note += (
            " Missing trials: once set to the lowest value of the study (or chance) and once to the highest, against "
            "the arm and for it. Mixed model: arm and a random seed, by REML, over all completed trials."
        )
    return make_table("Sensitivity", rows, {"Contrast", "Verdict then"}, note)


def seeds(analysis: Analysis) -> Table | None:
    """Tabulate every contrast's difference seed by seed; None of more seeds than a page is wide."""
    design = analysis.design
    if analysis.trials["seed"].nunique() > MOST_SEEDS:
        return None
    once = list({contrast.key: contrast for contrast in contrasts(design)}.values())
    frame = seed_differences(analysis.trials, design, once)
    rows = []
    for row, values in zip(_once(analysis), frame.to_numpy(), strict=True):
        cells = {"Contrast": _label(row, design)}
        cells |= {
            f"seed {seed}": number(design.metric.scale * float(value), signed=True)
            for seed, value in zip(frame.columns, values, strict=True)
        }
        rows.append(
            cells | {"Mean": number(design.metric.scale * seed_statistics.mean_interval(values).mean, signed=True)}
        )
    unit = design.metric.difference_unit
    note = f"In {unit}. " if unit else ""
    return make_table(
        "Paired differences by seed", rows, {"Contrast"}, f"{note}– where one of its trials did not complete."
    )


def looks(analysis: Analysis) -> Table | None:
    """Tabulate what each look of a sequential design found; None of fixed seeds."""
    if not analysis.design.sequential:
        return None
    rows = [{"After": f"{one.seeds} seeds", "Decided": f"{one.decided} of {one.comparisons}"} for one in analysis.looks]
    note = "Seeds are added until every comparison is decided; p and intervals allow for as many looks as there are."
    return make_table("Looks", rows, {"After"}, note) if rows else None


def _once(analysis: Analysis) -> list[dict[Hashable, Any]]:
    """Every contrast, those of two groups once."""
    return analysis.effects.drop_duplicates(["arm", "reference", "less"]).to_dict("records")


def _label(row: Mapping[Hashable, Any], design: Design) -> str:
    return f"{pair(row, design)}, {row['context']}" if row["less"] else pair(row, design)
