"""The report in a browser: what records hold is shown and never run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from fake_run import write_run

from resflow.report import write_report

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
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")


def shown(page: Path) -> str:
    """The page as a browser has it after its scripts, if there are any, have run."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
    assert "onload=" not in page.replace("&lt;svg onload=", "")
    figure = run / "figures" / "accuracy.svg"
    assert "owned" in figure.read_text(encoding="utf-8")
    assert "<script>document" not in shown(figure)
