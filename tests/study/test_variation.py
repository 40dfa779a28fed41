"""What seeds vary: what follows them, what is held, and seeds that vary one stream alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resflow.errors import StudyError
from resflow.study.load import load_study
from resflow.study.trial import DataFacts, Trial, expand_trials
from resflow.study.variation import STREAMS, Parts, Streams, Vary, expand, follow, name_seed, tell

STUDY: dict[str, Any] = {
    "name": "mine",
    "question": "Does depth help?",
    "baseline": "18",
    "factors": {"depth": [18, 34]},
    "execution": {"device": "cpu"},
    "seeds": 4,
}
NAMED = st.lists(st.sampled_from(STREAMS), min_size=1, unique=True)
SEEDS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6, unique=True)


def drawn(streams: Streams) -> dict[str, int]:
    """Return the seed that each stream is drawn from."""
    held = {stream: streams.held.get(stream, streams.seed) for stream in ("init", "order")}
    return {**held, "split": streams.split_seed}


def trials(**changes: Any) -> list[Trial]:
    def facts(data: Any, split_seed: int) -> DataFacts:
        return DataFacts("photos", f"{split_seed:064x}", 10, (800, 200, 1000))

    return expand_trials(load_study({**STUDY, **changes}), facts, gpus=0)


@given(NAMED, SEEDS, st.integers(0, 2**32 - 1))
def test_what_is_named_follows_the_seed_and_the_rest_is_as_under_the_first(
    named: Any, seeds: list[int], split_seed: int
) -> None:
    first, *others = map(drawn, expand(named, seeds, len(seeds), split_seed))
    assert first == {"init": seeds[0], "order": seeds[0], "split": split_seed}
    for seed, other in zip(seeds[1:], others, strict=True):
        assert {stream for stream in STREAMS if other[stream] != first[stream]} == set(named)
        assert all(other[stream] == seed for stream in named if stream != "split")
    assert len({tuple(one.values()) for one in (first, *others)}) == len(seeds)


@given(NAMED.filter(lambda named: len(named) > 1), SEEDS, st.data())
def test_a_part_varies_one_stream_alone_at_a_cost_that_adds_up(named: Any, seeds: list[int], data: Any) -> None:
    least = data.draw(st.integers(1, len(seeds)))
    every = expand(Parts(parts=named), seeds, least, 0)
    own = [one for one in every if not one.varies]
    assert own == list(expand(named, seeds, least, 0))
    assert len(every) == len(seeds) + len(named) * (least - 1)
    assert len({tuple(drawn(one).values()) for one in every}) == len(every)
    first = drawn(own[0])
    for one in every[len(own) :]:
        assert [stream for stream in STREAMS if drawn(one)[stream] != first[stream]] == [one.varies]
        assert drawn(one)[one.varies] == drawn(own[seeds.index(one.seed)])[one.varies]


def test_without_the_key_seeds_vary_initialisation_and_order_and_no_id_changes() -> None:
    usual = trials()
    assert all(one.init_seed == one.order_seed == one.seed and one.split_seed == 0 for one in usual)
    assert [one.id for one in trials(vary=["order", "init"])] == [one.id for one in usual]
    assert tell(load_study(STUDY).streams, ["init", "order"]) == ""


def test_a_part_has_the_trials_of_the_study_that_varies_it_alone() -> None:
    parts = trials(vary={"parts": ["init", "order", "split"]})
    assert len({one.id for one in parts}) == len(parts) == 2 * (4 + 3 * 3)
    first = {one.id for one in trials(seeds=1)}
    for stream in STREAMS:
        assert {one.id for one in parts if one.varies == stream} | first == {one.id for one in trials(vary=[stream])}
    assert {one.id for one in parts if not one.varies} == {one.id for one in trials(vary=list(STREAMS))}


def test_arms_of_a_seed_share_its_streams_and_their_data() -> None:
    seen: dict[tuple[int, str], set[Any]] = {}
    for one in trials(vary={"parts": ["init", "split"]}):
        seen.setdefault((one.seed, one.varies), set()).add((one.init_seed, one.order_seed, one.split_seed, one.data))
    assert all(len(shared) == 1 for shared in seen.values())
    assert len({one.fingerprint for one in trials(vary=["split"])}) == 4


def test_the_seeds_that_are_added_have_no_parts_of_their_own() -> None:
    study = load_study({**STUDY, "seeds": {"at_least": 3, "at_most": 6}, "vary": {"parts": ["init", "order"]}})
    assert [one.seed for one in study.streams if one.varies] == [2, 3, 2, 3]
    assert study.optional_seeds == (4, 5, 6)


@pytest.mark.parametrize(
    ("vary", "text"),
    [
        (["init"], "Seeds vary initialisation alone; order is that of seed 1."),
        (["split"], "Seeds vary the split alone; initialisation and order are those of seed 1."),
        (["split", "init", "order"], "Seeds vary initialisation, order and the split."),
        (
            {"parts": ["order", "init"]},
            "Seeds vary initialisation and order. Each of initialisation and order varies alone under 3 more seeds.",
        ),
    ],
)
def test_a_plan_says_what_its_seeds_vary(vary: Any, text: str) -> None:
    study = load_study({**STUDY, "vary": vary})
    assert tell(study.streams, study.file.vary) == text
    again = load_study(study.resolved())
    assert (again.streams, follow(again.file.vary)) == (study.streams, follow(study.file.vary))


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ([], "at least 1 item"),
        (["init", "init"], "listed twice"),
        (["inti"], "'init'"),
        ("init", "vary"),
        ({"parts": ["init"]}, "at least 2 items"),
        ({"parts": ["init", "init"]}, "listed twice"),
        ({"part": ["init", "order"]}, "'parts'"),
    ],
)
def test_a_mistake_is_told(vary: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        load_study({**STUDY, "vary": vary})


def test_a_study_that_tunes_has_one_split() -> None:
    tune = {"space": {"learning_rate": {"low": 0.01, "high": 1.0}}, "candidates": 2}
    with pytest.raises(StudyError, match="choose settings in one split are test images of another"):
        load_study({**STUDY, "tune": tune, "vary": ["init", "split"]})
    assert len(load_study({**STUDY, "tune": tune, "vary": ["init"]}).streams) == 4


@pytest.mark.parametrize(("seed", "varies", "name"), [(3, "", "3"), (3, "init", "3 (init)"), (None, "", "")])
def test_a_seed_is_named_with_what_varies_alone(seed: int | None, varies: str, name: str) -> None:
    assert name_seed(seed, varies) == name


def test_of_one_seed_there_is_nothing_to_vary() -> None:
    every: Vary = Parts(parts=["init", "order"])
    assert expand(every, [7], 1, 3) == (Streams(7, 3),)
