"""The report in a browser: what records hold is shown and never run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from support.fake_run import write_run

from resflow.analysis.analyse import analyse
from resflow.report.write import write_report

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
ATTACKS = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    '"><svg onload="document.title=\'owned\'">',
    "</style><script>document.title='owned'</script>",
    "javascript:document.title='owned'",
    "{{ 7 * 7 }}",
)
WIDTHS = (360, 768, 1440)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a study with all that a page can show: a failed trial, one not run, few classes, two factors."""
    statuses = {("plain-50", 2): "failed", ("residual-101", 3): "not run", ("plain-18", 1): "diverged"}
    folder = tmp_path_factory.mktemp("browser")
    return write_report(write_run(folder, statuses=statuses, seeds=(1, 2, 3), epochs=6, margin=0.02))


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    opened = context.new_page()
    opened.goto(report.as_uri())
    yield opened
    context.close()


def test_the_page_asks_no_network_and_reports_no_error(browser: Browser, report: Path) -> None:
    context = browser.new_context()
    opened, said, asked = context.new_page(), [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(report.as_uri())
    opened.wait_for_timeout(300)
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]


def cells(page: Page, column: int) -> list[str]:
    return page.locator(f"#trials tbody tr:not([hidden]) > :nth-child({column})").all_inner_texts()


def test_a_click_on_a_header_sorts_by_value_and_a_second_one_turns_it(page: Page) -> None:
    heads = page.locator("#trials thead th").all_inner_texts()
    column = next(place for place, name in enumerate(heads, 1) if name.startswith("Test top-1"))
    head = page.locator(f"#trials thead th:nth-child({column})")
    head.locator("button").click()
    rising = cells(page, column)
    known = [float(text) for text in rising if text != "–"]
    assert known == sorted(known)
    assert rising[len(known) :] == ["–"] * 3
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")  # by keyboard as well
    falling = cells(page, column)
    assert [float(text) for text in falling[: len(known)]] == sorted(known, reverse=True)
    assert falling[len(known) :] == ["–"] * 3


def test_times_are_sorted_across_units_and_seeds_as_numbers(page: Page) -> None:
    heads = page.locator("#trials thead th").all_inner_texts()
    column = heads.index("Time") + 1
    page.locator(f"#trials thead th:nth-child({column}) button").click()
    units = {"s": 1, "min": 60, "h": 3600}
    times = [float(text.split()[0]) * units[text.split()[1]] for text in cells(page, column) if text != "–"]
    assert times == sorted(times)


def test_words_filter_the_trials(page: Page) -> None:
    page.get_by_label("Filter trials").fill("plain failed")
    assert page.locator("#trials tbody tr:visible").count() == 1
    assert page.locator(".filter output").inner_text() == "1 of 24"
    page.get_by_label("Filter trials").fill("")
    assert page.locator("#trials tbody tr:visible").count() == 24


def test_pointing_at_a_curve_names_its_arm_and_seed(page: Page) -> None:
    lines = page.locator("#curves figure").first.locator(".pair .hover")
    titles = [line.locator("title").text_content() for line in lines.all()]
    place = next(n for n, title in enumerate(titles) if title.startswith("plain-101, seed 2"))
    lines.nth(place).scroll_into_view_if_needed()
    path = lines.nth(place).locator("path").first
    x, y = path.evaluate(
        """path => { const p = path.getPointAtLength(0.6 * path.getTotalLength()).matrixTransform(path.getScreenCTM());
        return [p.x, p.y] }"""
    )
    page.mouse.move(x, y)
    assert page.locator(".tip").is_visible()
    assert page.locator(".tip").inner_text() in titles
    page.mouse.move(5, 5)
    assert not page.locator(".tip").is_visible()


def test_arrow_keys_read_curves_at_an_epoch_in_every_panel(page: Page, report: Path) -> None:
    drawing = page.locator("#figure-training_by_depth .pair")
    drawing.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    epoch, *told = page.locator(".tip").inner_text().splitlines()
    assert epoch == "at 3"
    found = analyse(report.parent)
    done = found.histories[(found.histories["status"] == "completed") & (found.histories["epoch"] == 3)]
    errors = 100 * (1 - done.groupby("arm")["train_top1"].mean())
    values = {name: float(value) for name, value in (line.split(": ") for line in told)}
    assert values == pytest.approx({arm: errors[arm] for arm in values}, abs=0.2)
    assert len(values) == len(errors)
    assert drawing.locator(".cross").count() == 4
    page.keyboard.press("Escape")
    assert drawing.locator(".cross").count() == 0


def test_a_level_that_is_switched_off_is_not_drawn_and_stays_so(page: Page) -> None:
    button = page.locator("#curves .show button").get_by_text("plain", exact=True)
    lines = page.locator("#figure-training_by_depth .pair .hover")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    shown = [line.locator("title").text_content() for line in lines.all() if line.is_visible()]
    assert shown
    assert all(title.startswith("residual") for title in shown)
    page.wait_for_timeout(300)  # Chromium stores it in its own time, later where the machine is busy
    page.reload()
    assert (
        page.locator("#curves .show button").get_by_text("plain", exact=True).get_attribute("aria-pressed") == "false"
    )
    assert not any(
        line.is_visible() for line in lines.all() if line.locator("title").text_content().startswith("plain")
    )


def test_what_is_folded_is_open_on_paper_and_contents_stay_in_sight(page: Page) -> None:
    folded = page.locator("details:not([open])").count()
    assert folded
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == folded
    page.locator("nav a[href='#trials']").click()
    assert page.locator("nav").bounding_box()["y"] < 5
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()


@pytest.mark.parametrize(("width", "media", "across"), [(1440, "screen", 2), (700, "print", 2), (360, "screen", 1)])
def test_paired_figures_stand_side_by_side_where_there_is_room(
    browser: Browser, report: Path, width: int, media: Any, across: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    opened = context.new_page()
    opened.emulate_media(media=media)
    opened.goto(report.as_uri())
    tops = [box["y"] for figure in opened.locator("#curves figure").all() if (box := figure.bounding_box())]
    assert len(tops) == 4
    assert len(set(tops)) == len(tops) // across
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows(browser: Browser, report: Path, width: int, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    opened = context.new_page()
    opened.goto(report.as_uri())
    for summary in opened.locator("summary").all():
        summary.click()
    wide = opened.evaluate(
        """() => [...document.querySelectorAll("body *")].filter(e => !e.closest("svg") && !e.closest(".scroll table")
        && !e.closest("[hidden]") && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
        .map(e => e.outerHTML.slice(0, 80))"""
    )
    assert wide == []
    assert opened.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    shown = opened.locator("figure > div:visible").count()
    assert shown == opened.locator("figure").count()  # each figure once, wide or narrow
    context.close()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (360, "dark"),
        (1440, "light"),
        *(pytest.param(*more, marks=pytest.mark.long) for more in ((360, "light"), (1440, "dark"))),
    ],
)
def test_contrast_labels_and_structure_pass_axe(browser: Browser, report: Path, width: int, scheme: Any) -> None:
    # bypass_csp: axe is a script of the test, which the page's own policy would rightly refuse
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce"
    )
    opened = context.new_page()
    opened.goto(report.as_uri())
    for summary in opened.locator("summary").all():
        summary.click()
    found = Axe().run(opened)
    said = [f"{v['id']}: {v['nodes'][0]['html'][:120]}" for v in found.response["violations"]]
    assert said == []
    context.close()


@pytest.mark.long
def test_a_hundred_trials_fit_into_a_mail(tmp_path: Path) -> None:
    run = write_run(tmp_path, seeds=tuple(range(1, 14)), epochs=60)
    assert len(list((run / "trials").iterdir())) == 104
    assert write_report(run).stat().st_size < 5e6


def shown(page: Path) -> str:
    """The page as a browser has it after its scripts, if there are any, have run."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def attributes(page: str) -> set[str]:
    """The names of all attributes of a page."""
    names: set[str] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            names.update(name for name, _ in attrs)

    Reader(convert_charrefs=True).feed(page)
    return names


def test_hostile_names_are_text(tmp_path: Path) -> None:
    factors = {ATTACKS[0]: {attack: number for number, attack in enumerate(ATTACKS)}}
    run = write_run(
        tmp_path / "run",
        factors,
        lambda levels: (0.8, 0.95),
        statuses={(ATTACKS[1], 1): "failed"},
        seeds=(1, 2),
        epochs=2,
        name=ATTACKS[1],
        question=ATTACKS[2],
        profile=ATTACKS[3],
        command=ATTACKS[0],
    )
    page = shown(write_report(run))
    assert "owned" in page
    title = page.split("<title>")[1].split("</title>")[0]
    assert title != "owned"
    assert "49" not in title
    assert "&lt;script&gt;document.title='owned'&lt;/script&gt;" in page
    assert "<img src=" not in page
    assert not {name for name in attributes(page) if name.startswith("on")}
    figure = run / "figures" / "accuracy.svg"
    assert "owned" in figure.read_text(encoding="utf-8")
    assert "<script>document" not in shown(figure)
