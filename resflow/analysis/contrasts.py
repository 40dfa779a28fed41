"""Contrasts, the arms that a study compares: with its baseline, within each factor, differences of differences.

    baseline          every arm against the baseline
    FACTOR            each factor's levels at fixed levels of all others
    FACTOR:FACTOR     interactions: how a difference between two levels changes with another factor's level

A study declares the contrast groups that answer its question (`contrasts`); without that it makes the first two, and
the interaction where exactly two factors vary.
"""

from __future__ import annotations

from dataclasses import dataclass

from resflow.analysis.design import Design
from resflow.study.contrast_families import BASELINE, TIMES


@dataclass(frozen=True)
class Contrast:
    """`arm` minus `reference`, and of an interaction minus the difference of the pair `less`.

    `context` are the levels that hold: those that all arms share, and in an interaction what is set against what.
    """

    group: str
    arm: str
    reference: str
    context: dict[str, str]
    less: tuple[str, str] | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """The arms compared, in whichever group: equal for two contrasts that are one."""
        return (self.arm, self.reference, *(self.less or ()))

    @property
    def terms(self) -> dict[str, int]:
        """Arm -> its coefficient in the difference."""
        second = {self.less[0]: -1, self.less[1]: 1} if self.less else {}
        return {self.arm: 1, self.reference: -1, **second}

    @property
    def text(self) -> str:
        """The contrast as a formula of arms."""
        pair = f"{self.arm} − {self.reference}"
        return f"({pair}) − ({self.less[0]} − {self.less[1]})" if self.less else pair


def contrasts(design: Design) -> list[Contrast]:
    """Return all declared contrasts, group by group."""
    return [contrast for group in group_names(design) for contrast in _in_group(design, group)]


def group_names(design: Design) -> list[str]:
    """Name the contrast groups that a study declares, or by default every one that it can make of up to two factors."""
    if design.contrasts is not None:
        return list(design.contrasts)
    groups = [BASELINE] if design.baseline is not None else []
    if len(design.varied) > 1 or design.baseline is None:
        groups += design.varied
    if len(design.varied) == 2:
        groups.append(TIMES.join(design.varied))
    return groups


def _in_group(design: Design, group: str) -> list[Contrast]:
    if group == BASELINE:
        reference = design.baseline
        return [Contrast(BASELINE, arm, reference, {}) for arm in design.arms if reference and arm != reference]
    factors = [group] if group in design.varied else group.split(TIMES)
    if len(factors) > 2 or not set(factors) <= set(design.varied):
        return []  # declared, but in this profile it does not vary
    return interactions(design, *factors) if len(factors) == 2 else within(design, group)


def within(design: Design, factor: str) -> list[Contrast]:
    """Return the contrasts between the levels of one factor at fixed levels of all others.

    The reference is the baseline's level where the arms compared have it, else their first level.
    """
    others = design.others(factor)
    alike: dict[tuple[str, ...], list[str]] = {}
    for arm, levels in design.arms.items():
        alike.setdefault(tuple(levels.get(name, "") for name in others), []).append(arm)
    order = {label: place for place, label in enumerate(design.factors[factor])}
    preferred = design.arms[design.baseline].get(factor) if design.baseline else None
    pairs = []
    for shared, arms in alike.items():
        arms = sorted(arms, key=lambda arm: order[design.arms[arm][factor]])
        reference = next((arm for arm in arms if design.arms[arm][factor] == preferred), arms[0])
        context = dict(zip(others, shared, strict=True))
        pairs += [Contrast(factor, arm, reference, context) for arm in arms if arm != reference]
    return pairs


def interactions(design: Design, factor: str, by: str) -> list[Contrast]:
    """Contrasts of how the differences within `factor` change along `by`.

    Each is set against the lowest level of `by` that has the same pair.
    """
    group, pairs = f"{factor}{TIMES}{by}", within(design, factor)
    order = {label: place for place, label in enumerate(design.factors[by])}
    alike: dict[tuple[str, ...], list[Contrast]] = {}
    for pair in pairs:
        levels = (design.arms[pair.arm][factor], design.arms[pair.reference][factor])
        rest = tuple(label for name, label in pair.context.items() if name != by)
        alike.setdefault((*levels, *rest), []).append(pair)
    changes = []
    for pairs_alike in alike.values():
        first, *further = sorted(pairs_alike, key=lambda pair: order[pair.context[by]])
        for pair in further:
            context = {**pair.context, by: f"{pair.context[by]} against {first.context[by]}"}
            changes.append(Contrast(group, pair.arm, pair.reference, context, (first.arm, first.reference)))
    return changes
