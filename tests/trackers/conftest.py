"""A finished run for the trackers' own clients."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import fake_run

from resflow.records.run import load_run
from resflow.report import figure_list
from resflow.report.write import write_report

FAILED = ("34", 2)
SEEDS, EPOCHS = (1, 2), 6


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms on two seeds, of which one trial has failed, with a report of one figure."""
    folder = tmp_path_factory.mktemp("tracked") / "depths"
    factors = {"depth": {"18": 18, "34": 34}}
    fake_run.write_run(
        folder, factors, lambda levels: (0.5, 0.9), seeds=SEEDS, statuses={FAILED: "failed"}, epochs=EPOCHS
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure_list, "KINDS", figure_list.KINDS[:1])
        write_report(folder)
    assert len(load_run(folder).records) == 4
    return folder
