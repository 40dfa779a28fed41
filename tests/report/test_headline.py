"""The answer in five seconds: the word follows the verdicts, the sentence is short, the scope is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from ruamel.yaml import YAML
from support.fake_run import DEPTH_FACTORS, degrading, write_run

from resflow.analysis.analyse import Analysis, analyse
from resflow.errors import StudyError
from resflow.report import answer, figure_titles
from resflow.report.headline import DEPENDS, MOST_WORDS, NO, RESULT, UNDECIDED, YES, Headline, _word, headline
from resflow.report.write import GALLERY_BEGIN, GALLERY_END, write_index, write_report
from resflow.study.load import load_study

BUILT_IN = Path(__file__).parents[2] / "studies"
PLAIN_NETS = {"name": "plain nets", "where": "without shortcuts"}
RESIDUAL_NETS = {"name": "residual nets", "where": "with shortcuts"}
NETS = {"levels": {"plain": PLAIN_NETS, "residual": RESIDUAL_NETS}}
TITLES = {"shortcut": NETS, "depth": {"unit": "layers", "more": "deeper nets"}}
SEEDS = (1, 2, 3, 4, 5)


def claim(*needs: dict[str, Any]) -> dict[str, Any]:
    return {"claim": {"text": "Depth hurts without shortcuts", "needs": list(needs)}, "titles": TITLES}


PLAIN = {"comparison": "depth", "at": {"shortcut": "plain"}, "verdict": "hurts"}


def told(folder: Path, *needs: dict[str, Any], **asked: Any) -> Headline:
    return headline(analyse(write_run(folder, DEPTH_FACTORS, seeds=SEEDS, epochs=3, **asked, **claim(*needs))))


def test_a_claim_that_holds_is_yes_in_one_plain_sentence(tmp_path: Path) -> None:
    found = told(tmp_path, PLAIN)
    assert (found.word, found.claim) == (YES, "Depth hurts without shortcuts")
    assert found.sentence.startswith("Without shortcuts, deeper nets are worse than 18 layers: −")
    assert " at 34, −" in found.sentence
    assert (
        found.scope
        == "ten classes of Oxford 102 Flowers, official split, 100 training images, 64 pixels, width 0.25, 3 epochs, "
        "5 seeds, CPU"
    )


def test_one_of_a_thing_is_told_as_one(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"head": {"linear": "linear"}}, lambda levels: (0.5, 0.6), seeds=(1,), epochs=1)
    assert headline(analyse(run)).scope.endswith("1 epoch, 1 seed, CPU")


def test_the_opposite_is_no(tmp_path: Path) -> None:
    assert told(tmp_path, {**PLAIN, "verdict": ["helps", "equivalent"]}).word == NO


def test_where_one_part_holds_and_another_fails_it_depends(tmp_path: Path) -> None:
    found = told(tmp_path, PLAIN, {**PLAIN, "at": {"shortcut": "residual"}})
    assert found.word == DEPENDS
    assert "without shortcuts" in found.sentence.lower()


def test_a_run_that_is_not_finished_is_undecided_and_says_how_far_it_is(tmp_path: Path) -> None:
    found = told(tmp_path, PLAIN, statuses={("plain-18", 1): "not run"})
    assert found.word == UNDECIDED
    assert found.sentence == "So far 39 of 40 trials have completed; nothing is decided before 1 more has run."


def test_without_a_claim_it_is_a_result(tmp_path: Path) -> None:
    found = headline(analyse(write_run(tmp_path, DEPTH_FACTORS, seeds=SEEDS, epochs=3)))
    assert (found.word, found.claim) == (RESULT, "")
    assert "Shortcut residual is better than shortcut plain at depth 34" in found.sentence


@given(st.lists(st.sampled_from([YES, NO, DEPENDS, UNDECIDED]), min_size=1, max_size=5), st.randoms())
def test_the_word_on_a_claim_knows_no_order_and_is_never_surer_than_its_parts(outcomes: list[str], random: Any) -> None:
    word = _word(outcomes)
    assert word == _word(random.sample(outcomes, len(outcomes)))
    assert (word == YES) == (set(outcomes) == {YES})
    assert (word == NO) == (set(outcomes) == {NO})
    if UNDECIDED in outcomes and word != UNDECIDED:
        assert word == DEPENDS


def everywhere(levels: Any) -> tuple[float, float]:
    test, train = degrading(levels)
    return (test, train) if levels["shortcut"] == "plain" else (test - 0.1, train)


@pytest.mark.parametrize("truth", [degrading, everywhere, lambda levels: (0.5, 0.9)])
def test_every_headline_is_short_and_every_sentence_is_one(tmp_path: Path, truth: Any) -> None:
    found: Analysis = analyse(write_run(tmp_path, DEPTH_FACTORS, truth, seeds=SEEDS, epochs=3, **claim(PLAIN)))
    assert len(headline(found).sentence.split()) <= MOST_WORDS
    for sentence in (headline(found).sentence, *answer.answer(found)):
        assert sentence[0].isupper() or not sentence[0].isalpha()
        assert sentence.endswith(".")
        for jargon in ("the rest equal", "less 18", "shortcut plain", "undefined", "None", "nan"):
            assert jargon not in sentence


def test_what_could_not_be_shown_is_said_so(tmp_path: Path) -> None:
    found = analyse(
        write_run(tmp_path, DEPTH_FACTORS, lambda levels: (0.5, 0.9), seeds=SEEDS, epochs=3, **claim(PLAIN))
    )
    assert headline(found).word == UNDECIDED
    text = " ".join(answer.answer(found))
    assert "no difference of deeper nets from 18 layers could be shown" in text
    assert "could be shown with depth" in text


@pytest.mark.usefixtures("one_figure")
def test_page_readme_and_index_begin_with_the_three_lines(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", DEPTH_FACTORS, seeds=SEEDS, epochs=3, profile="demo", **claim(PLAIN))
    found, page = headline(analyse(run)), write_report(run).read_text(encoding="utf-8")
    order = (found.claim, found.word, found.sentence, found.scope, "<svg", "<table")
    places = [page.index(text) for text in ("A demonstration, not a result", *order)]
    assert places == sorted(places)
    readme = (run / "README.md").read_text(encoding="utf-8")
    assert readme.index("demonstration") < readme.index("**Yes.**") < readme.index("figures/accuracy.png")
    index = write_index([run]).read_text(encoding="utf-8")
    assert found.sentence in index
    assert found.scope in index


@pytest.mark.parametrize("name", sorted(path.stem for path in BUILT_IN.glob("*.yaml")))
def test_built_in_studies_claim_something_and_name_their_factors(name: str) -> None:
    study = load_study(name)
    assert study.file.claim is not None
    assert set(study.file.titles) == set(study.file.factors)
    for profile in study.file.profiles:
        load_study(name, profile)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"claim": {"text": "x", "needs": [{"comparison": "width", "verdict": "helps"}]}}, "width"),
        (
            {"claim": {"text": "x", "needs": [{"comparison": "depth", "at": {"heads": "a"}, "verdict": "helps"}]}},
            "heads",
        ),
        ({"claim": {"text": "x", "needs": [{"comparison": "depth", "verdict": "wins"}]}}, "verdict"),
        ({"titles": {"heads": {"title": "heads"}}}, "heads"),
    ],
)
def test_a_claim_or_a_title_of_what_is_not_there_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    yaml = YAML()
    study = yaml.load((BUILT_IN / "depth.yaml").read_text(encoding="utf-8"))
    study.update(change)
    with (tmp_path / "mine.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(study, file)
    with pytest.raises(StudyError, match=said):
        load_study(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    "damage", [5, [], {"text": 3}, {"text": "x", "needs": 5}, {"needs": [None, {"comparison": 4}]}]
)
def test_a_damaged_claim_costs_the_claim_alone(tmp_path: Path, damage: Any) -> None:
    titles = {"depth": 7, "shortcut": {"levels": 3}}
    run = write_run(tmp_path, DEPTH_FACTORS, seeds=SEEDS, epochs=3, claim=damage, titles=titles)
    assert headline(analyse(run)).word == RESULT


def test_a_folder_of_runs_has_a_gallery_and_so_has_its_readme_where_it_asks_for_one(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", DEPTH_FACTORS, seeds=SEEDS, epochs=3, **claim(PLAIN))
    (run / "figures").mkdir()
    (run / "figures" / "accuracy.png").write_bytes(b"a picture")
    readme = tmp_path / "README.md"
    readme.write_text("Mine.\n", encoding="utf-8")
    index, found = write_index([run]).read_text(encoding="utf-8"), headline(analyse(run))
    assert 'src="run/figures/accuracy.png"' in index
    assert readme.read_text(encoding="utf-8") == "Mine.\n"
    readme.write_text(f"Mine.\n{GALLERY_BEGIN}\nold\n{GALLERY_END}\nAlso mine.\n", encoding="utf-8")
    write_index([run])
    write_index([run])
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("Mine.\n")
    assert text.endswith("Also mine.\n")
    assert "old" not in text
    assert text.count("run/figures/accuracy.png") == text.count("run/README.md") == 1
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert html.count("<tr>") == 2
    assert found.word in html


@pytest.mark.parametrize(
    ("arms", "gain", "said"),
    [
        (2, 0.0, "the difference in test top-1 is undecided"),
        (2, 0.3, "the difference in test top-1 is decided"),
        (3, 0.0, "none of 2 differences in test top-1 is decided"),
        (3, 0.3, "1 of 2 differences in test top-1 is decided"),
    ],
)
def test_the_title_of_differences_counts_as_one_says_it(tmp_path: Path, arms: int, gain: float, said: str) -> None:
    heads = {"head": {name: name for name in ("linear", "wide", "deep")[:arms]}}
    accuracy = {"linear": 0.5, "wide": 0.5 + gain, "deep": 0.5}
    folder = write_run(tmp_path, heads, lambda levels: (accuracy[levels["head"]], 0.95), epochs=2, seeds=SEEDS)
    assert figure_titles.effects(analyse(folder)) == said
