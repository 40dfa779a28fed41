"""A signal ends a program with its own exit code and one line, wherever the program stands."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import signalled

from resflow import interruption

CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
STUDY = """
name: short
question: Does a signal end it?
baseline: pad
factors: {shortcut: {pad: zero_pad}}
network: {family: cifar, depth: 8, width: 0.125}
data: {source: synthetic, image_size: 16}
recipe: {epochs: 20, batch_size: 64}
execution: {device: cpu}
seeds: 1
"""


def run_program(body: str, *before: str) -> subprocess.CompletedProcess[str]:
    """Run a program of a few lines in a process of its own, with its signals as a terminal would set them."""
    start = (
        "import signal, sys, time\n"
        "from resflow import interruption\n"
        "sys.argv[:] = ['resflow', 'study', 'x', '--fresh']\n"
    )
    return subprocess.run(
        [*before, sys.executable, "-c", start + body], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("name", CODES)
def test_a_program_ends_with_the_signals_exit_code_and_the_command_to_go_on(name: str) -> None:
    done = run_program(f"with interruption.program():\n    signal.raise_signal(signal.{name})\n    time.sleep(30)\n")
    assert done.returncode == CODES[name]
    assert done.stderr == f"Stopped by {name}. Go on with: resflow study x\n"


def test_an_interrupt_that_is_swallowed_comes_again() -> None:
    body = (
        "class Swallows:\n"
        "    def __del__(self):\n"
        "        signal.raise_signal(signal.SIGINT)\n"  # Python prints and drops what is raised here
        "with interruption.program():\n"
        "    Swallows()\n"
        "    print('goes on', flush=True)\n"
        "    time.sleep(30)\n"
    )
    done = run_program(body)
    assert done.returncode == 130
    assert done.stdout == "goes on\n"
    assert done.stderr.endswith("Stopped by SIGINT. Go on with: resflow study x\n")


def test_cleaning_up_is_not_interrupted_again() -> None:
    body = (
        "with interruption.program():\n"
        "    try:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    finally:\n"
        f"        time.sleep({3 * interruption.AGAIN_S})\n"
        "        print('cleaned', flush=True)\n"
    )
    done = run_program(body)
    assert (done.returncode, done.stdout) == (130, "cleaned\n")


def test_a_second_signal_ends_at_once() -> None:
    body = (
        "with interruption.program():\n"
        "    try:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    finally:\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "        print('never', flush=True)\n"
    )
    done = run_program(body)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "Stopped at once by SIGTERM. Go on with: resflow study x\n"


def test_who_listens_is_not_interrupted() -> None:
    body = (
        "heard = []\n"
        "with interruption.program():\n"
        "    with interruption.listening(heard.append):\n"
        "        signal.raise_signal(signal.SIGHUP)\n"
        "        print(heard[0].name, interruption.command_to_go_on(), flush=True)\n"
        "    sys.exit(1)\n"
    )
    done = run_program(body)
    assert (done.returncode, done.stdout, done.stderr) == (129, "SIGHUP resflow study x\n", "")


def test_what_nohup_ignores_stays_ignored() -> None:
    body = "with interruption.program():\n    signal.raise_signal(signal.SIGHUP)\n"
    assert run_program(body, "nohup").returncode == 0


def test_an_error_is_no_interrupt() -> None:
    done = run_program("with interruption.program():\n    raise ValueError('mine')\n")
    assert done.returncode == 1
    assert "ValueError: mine" in done.stderr


def interrupt(place: Path, moment: str, name: str, times: int = 1) -> subprocess.CompletedProcess[str]:
    (place / "short.yaml").write_text(STUDY)
    words = [sys.executable, signalled.__file__, moment, name, str(times), "study", "./short.yaml"]
    return subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize(
    ("moment", "name"),
    [("import", "SIGINT"), ("decoding", "SIGINT"), ("planning", "SIGHUP"), ("Ray's start", "SIGTERM")]
    + [
        pytest.param(moment, name, marks=pytest.mark.long)
        for moment in (signalled.IMPORT, *signalled.MOMENTS)
        for name in CODES
    ],
)
@pytest.mark.timeout(300)
def test_a_study_ends_in_good_order_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, name: str
) -> None:
    if moment == "decoding":
        monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))
    done = interrupt(tmp_path, moment, name)
    said = done.stdout + done.stderr
    assert done.returncode == CODES[name], said
    assert "Traceback" not in said
    assert said.count("Go on with: resflow study") == 1
    runs = list((tmp_path / "results").glob("*/plan.csv"))
    assert len(runs) == (moment not in (signalled.IMPORT, "decoding"))
    assert all(run.with_name("report.html").is_file() for run in runs)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", ["Ray's start", "training", "the report"])
def test_a_second_ctrl_c_ends_a_study_at_once(tmp_path: Path, moment: str) -> None:
    done = interrupt(tmp_path, moment, "SIGINT", times=2)
    assert done.returncode == 128 + signal.SIGINT
    assert "Stopped at once by SIGINT. Go on with: resflow study ./short.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_inside_another_gives_signals_back() -> None:
    before = {number: signal.getsignal(number) for number in (*interruption.SIGNALS, signal.SIGALRM)}
    for end in (None, SystemExit(2), ValueError()):
        try:
            with interruption.program():
                assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
                if end is not None:
                    raise end
        except (SystemExit, ValueError):
            pass
        assert {number: signal.getsignal(number) for number in before} == before
