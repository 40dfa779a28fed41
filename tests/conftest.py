"""Fixtures of every test: a cache of its own, and TensorFlow set up once for the process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# XLA's cache on disk stays off but where a test asks for it: TensorFlow reads this when it is imported.
os.environ.setdefault("TF_XLA_FLAGS", "--tf_xla_persistent_cache_directory=")

# Tests that import Ray before resflow.runner does: it must not phone home from them either.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# Each test that reads a table sets its width; pytest-xdist sets one for all, which a console keeps for good.
os.environ.pop("COLUMNS", None)

# Files whose tests wait for processes of Ray for minutes: begun last, they would run alone at the end.
FIRST = ("bench/test_chaos", "runner/test_execute", "runner/test_cluster", "tuning/test_phase", "report/test_browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long (the Makefile's --no-loadscope-reorder keeps this order)."""

    def place(item: pytest.Item) -> int:
        name = f"{item.path.parent.name}/{item.path.stem}"
        return FIRST.index(name) if name in FIRST else len(FIRST)

    items.sort(key=place)


# Time limits are the run's (pytest-timeout): on a shared machine one slow example is no failure.
settings.register_profile("resflow", deadline=None)
settings.load_profile("resflow")


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test touches the user's cache; a test's own RESFLOW_CACHE stands over this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESFLOW_CACHE", str(tmp_path_factory.mktemp("session-cache")))
        yield


@pytest.fixture(scope="session")
def tensorflow_on_one_thread() -> None:
    """TensorFlow's threads belong to the process: the first test that computes settles them for all."""
    from resflow.study.settings import Execution
    from resflow.training import train

    train.configure(Execution(device="cpu"))
