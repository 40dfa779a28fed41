"""The table of metrics has every one that a study may name."""

from __future__ import annotations

from typing import get_args

import pytest

from resflow.records.metrics import METRICS
from resflow.study.schema import Published, StudyFile


@pytest.mark.parametrize("model", [StudyFile, Published])
def test_a_study_names_metrics_of_the_table(model: type[StudyFile] | type[Published]) -> None:
    assert set(get_args(model.model_fields["metric"].annotation)) <= set(METRICS)
