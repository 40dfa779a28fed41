"""`resflow bench damage`: nothing is believed that is not what was written, and the count would tell."""

from __future__ import annotations

from typing import Any

import pytest

from resflow.bench import damage


def outcomes(result: dict[str, Any], what: str) -> dict[str, int]:
    rows = [row["outcomes"] for row in result["damages"] if row["what"] == what]
    return {outcome: sum(row[outcome] for row in rows) for outcome in damage.OUTCOMES}


def test_no_damage_is_believed_crashes_or_hangs() -> None:
    result = damage.run(60, 4, 1, lambda text: None)
    for what in damage.MAKERS:
        counts = outcomes(result, what)
        assert counts["silent"] == counts["crashed"] == counts["hung"] == 0
        assert counts["noticed"] + counts["harmless"] == 60 + 4 * len(damage.KINDS)
        assert counts["noticed"] > 60


def test_a_reader_that_notices_nothing_is_counted_as_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "find_problem", lambda *_: "")
    counts = outcomes(damage.run(40, 1, 2, lambda text: None), "decoded images")
    assert counts["silent"] > 3


def test_a_reader_that_fails_or_hangs_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> str:
        raise KeyError("what a reader let through")

    real = damage.find_problem
    calls: list[int] = []

    def fail_later(*given: Any) -> str:
        calls.append(1)
        return fail() if len(calls) % 2 == 0 else real(*given)

    monkeypatch.setattr(damage, "find_problem", fail_later)
    assert outcomes(damage.run(4, 1, 2, lambda text: None), "decoded images")["crashed"] > 0
    monkeypatch.setattr(damage, "PATIENCE_S", 1)
    calls.clear()

    def hang_later(*given: Any) -> str:
        calls.append(1)
        while len(calls) == 2:
            pass
        return real(*given)

    monkeypatch.setattr(damage, "find_problem", hang_later)
    assert outcomes(damage.run(1, 1, 2, lambda text: None), "decoded images")["hung"] == 1
