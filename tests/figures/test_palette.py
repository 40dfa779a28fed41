"""Arms are told apart in every figure that has them, by all readers; verdicts' colours mean nothing else."""

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.vision import SIGHTS, difference, lab, linear, rgb

from resflow.analysis.design import Design
from resflow.figures.palette import (
    HELPS,
    HURTS,
    RAMPS,
    SEED_ALPHA,
    VERDICTS,
    arm_styles,
    series,
    series_styles,
    tuned_styles,
)
from resflow.figures.style import MOST_NAMED
from resflow.records.metrics import metric
from resflow.study.contrast_families import TUNING, TUNING_LEVELS
from resflow.study.load import builtin_studies, load_study

PAGES = ("#ffffff", "#0d1117")
TOLD_APART = 5.0  # CIEDE2000 of lines and marks; 1 is just noticed side by side
TOLD_APART_THIN = 3.0  # of a seed's line or mark, as it is blended with the page
FAR_APART = 15.0  # of the first two series, and of an arm from a verdict


def design_of(factors, arms=None):
    arms = arms or {"-".join(labels): dict(zip(factors, labels, strict=True)) for labels in product(*factors.values())}
    return Design(
        {name: tuple(labels) for name, labels in factors.items()}, arms, next(iter(arms)), metric("test_top1")
    )


def builtin_designs():
    for name in builtin_studies():
        for profile in [None, *load_study(name).origin.document.values.get("profiles", {})]:
            study = load_study(name, profile)
            factors = {factor: list(levels) for factor, levels in study.factors.items()}
            arms = {arm.name: dict(arm.levels) for arm in study.arms}
            if study.file.tune is not None:
                factors[TUNING] = list(TUNING_LEVELS)
                arms = {f"{arm}-{t}": {**levels, TUNING: t} for arm, levels in arms.items() for t in TUNING_LEVELS}
            yield pytest.param(design_of(factors, arms), id=f"{name} {profile}")


DESIGNS = list(builtin_designs())


def pairs(design):
    """Pairs of arms that stand in one panel: all do in that of costs."""
    return combinations(design.arms, 2)


def apart(one, other, alpha=1.0):
    """The least difference of two colours over all sights and pages, blended with the page."""
    return min(
        difference(*(lab(alpha * rgb(color) + (1 - alpha) * rgb(page), sight) for color in (one, other)))
        for page in PAGES
        for sight in SIGHTS
    )


@pytest.mark.parametrize("design", DESIGNS)
def test_arms_of_every_built_in_study_are_told_apart(design):
    looks, groups = arm_styles(design), series(design)
    of_series = {arm: name for name, members in groups.items() for arm in members}
    for one, other in pairs(design):
        a, b = looks[one], looks[other]
        assert a.color != b.color
        if (a.marker, a.dashes) == (b.marker, b.dashes) and of_series[one] == of_series[other]:
            assert apart(a.color, b.color) >= TOLD_APART
            assert apart(a.color, b.color, SEED_ALPHA) >= TOLD_APART_THIN
        else:
            assert a.marker != b.marker
            assert a.dashes != b.dashes


@pytest.mark.parametrize("design", DESIGNS)
def test_series_have_a_hue_each_and_their_levels_a_ramp(design):
    looks, groups = arm_styles(design), series(design)
    assert [arm for members in groups.values() for arm in members if arm not in looks] == []
    for name, members in groups.items():
        lightness = [lab(rgb(looks[arm].color))[0] for arm in members]
        assert lightness == sorted(lightness, reverse=True)
        assert series_styles(design)[name].dashes in {looks[arm].dashes for arm in members}


def test_the_first_two_series_are_far_apart_to_people_who_see_two_hues():
    looks = arm_styles(design_of({"shortcut": ["plain", "residual"], "depth": ["18", "34", "50", "101"]}))
    plain, residual = ([look.color for arm, look in looks.items() if arm.startswith(w)] for w in ("plain", "residual"))
    for (one, other), sight in product(product(plain, residual), ("normal", "protan", "deutan")):
        assert difference(lab(rgb(one), sight), lab(rgb(other), sight)) >= FAR_APART


@given(st.integers(1, 40), st.integers(1, 12))
def test_colours_never_recycle_in_silence(nets, depths):
    factors = {"net": [f"n{i}" for i in range(nets)], "depth": [str(i) for i in range(1, depths + 1)]}
    design = design_of(factors)
    looks, groups = arm_styles(design), series(design)
    if len(groups) > MOST_NAMED:  # grey, since a legend cannot name them either
        assert len(set(looks.values())) == 1
        return
    for name, members in groups.items():
        assert len({(looks[arm].color, looks[arm].marker, looks[arm].dashes) for arm in members}) == len(members), name
    for level in design.factors["depth"] if design.scale else ():
        same = [looks[arm] for arm in design.arms if design.arms[arm]["depth"] == level]
        assert len({(look.color, look.marker, look.dashes) for look in same}) == len(same)
    if not design.scale:
        assert len({(look.color, look.marker, look.dashes) for look in looks.values()}) == len(looks)


@given(st.integers(2, 12))
def test_levels_that_share_dashes_are_told_apart_by_colour(depths):
    looks = list(arm_styles(design_of({"depth": [str(i) for i in range(1, depths + 1)]})).values())
    for one, other in combinations(looks, 2):
        if one.dashes == other.dashes:
            assert apart(one.color, other.color) >= TOLD_APART


@pytest.mark.parametrize("color", [end for ramp in RAMPS for end in ramp])
def test_arms_look_like_no_verdict(color):
    for verdict in (HELPS, HURTS):
        assert difference(lab(rgb(color)), lab(rgb(verdict))) >= FAR_APART


@pytest.mark.parametrize("color", [*(end for ramp in RAMPS for end in ramp), HELPS, HURTS])
@pytest.mark.parametrize("page", PAGES)
def test_every_colour_stands_out_on_light_and_dark_pages(color, page):
    light, dark = sorted((float(SIGHTS["grey"][0] @ linear(rgb(c))) for c in (color, page)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3  # WCAG 2.2, 1.4.11: graphical objects


def test_verdicts_differ_in_their_markers_too():
    assert len({marker for _, marker in VERDICTS.values()}) == len(VERDICTS)


def test_an_arm_looks_the_same_while_it_is_tuned():
    factors = {"depth": ["18", "50"], TUNING: list(TUNING_LEVELS)}
    design = design_of(factors)
    assert tuned_styles(design, ["18", "50"]) == {
        d: arm_styles(design)[f"{d}-{TUNING_LEVELS[1]}"] for d in ("18", "50")
    }


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0000),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ],
)
def test_the_difference_of_colours_is_that_of_its_paper(one, other, expected):
    assert difference(one, other) == pytest.approx(expected, abs=1e-4)  # Sharma, Wu and Dalal 2005, Table 1
