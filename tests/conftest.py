"""Fixtures of every test: a cache of its own, and TensorFlow set up once for the process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# XLA's cache on disk stays off but where a test asks for it: TensorFlow reads this when it is imported.
os.environ.setdefault("TF_XLA_FLAGS", "--tf_xla_persistent_cache_directory=")

# Tests that import Ray before resflow.runner does: it must not phone home from them either.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# Each test that reads a table sets its width; pytest-xdist sets one for all, which a console keeps for good.
os.environ.pop("COLUMNS", None)

TESTS = Path(__file__).parent

# Files that take more than a few seconds, the longest first. They are begun first, since the last ones would run alone
# at the end; `--quick` (make quick) leaves them out.
SLOW = (
    "bench/test_chaos",
    "models/test_build",
    "runner/test_execute",
    "runner/test_cluster",
    "runner/test_local_ray",
    "cli/test_fuzz",
    "tuning/test_phase",
    "workflow/test_api",
    "training/test_train",
    "training/test_finetune",
    "report/test_browser",
    "cli/test_damaged_runs",
    "test_environment",
    "test_interruption",
    "cli/test_study",
    "records/test_packing",
    "inspection/test_network",
    "inspection/test_export",
    "weights/test_saved",
    "training/test_whole_epochs",
    "inspection/test_inspect_run",
    "training/test_checkpoints",
    "training/test_learner",
    "cli/test_main",
    "report/test_write",
    "cli/test_report",
    "training/test_diagnostics",
    "training/test_inputs",
    "weights/test_load",
    "figures/test_figures",
    "records/test_verification",
    "workflow/test_tracking",
    "trackers/test_process",
    "trackers/test_tensorboard",
    "cli/test_log",
    "bench/test_frozen",
    "bench/test_contests",
    "bench/test_study",
    "tuning/test_oracle_searcher",
    "report/test_published",
    "analysis/test_levels_in_frames",
    "workflow/test_vary",
    "weights/test_files",
    "workflow/test_looks",
    "report/test_headline",
    "cli/test_bad_input",
    "analysis/test_effects",
    "data/test_folder",
    "analysis/test_seed_statistics",
    "data/test_oxford",
    "runner/test_gpu_sharing",
    "analysis/test_over_images",
    "training/test_gpu_memory",
    "study/test_load",
    "cli/test_status",
    "study/test_memory",
    "analysis/test_sparse_evaluations",
    "data/test_metadata",
    "workflow/test_resolution",
)
assert all((TESTS / f"{name}.py").is_file() for name in SLOW), "SLOW names a file that is gone"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out the files that take long (tests/conftest.py)")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --quick leave the slow files out, before they import anything."""
    return True if config.getoption("quick") and _name(collection_path) in SLOW else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow files (the Makefile's --no-loadscope-reorder keeps this order)."""
    places = {name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: places.get(_name(item.path), len(SLOW)))


def _name(path: Path) -> str:
    """Return a file's name in SLOW."""
    return Path(os.path.relpath(path, TESTS)).with_suffix("").as_posix()


# Time limits are the run's (pytest-timeout): on a shared machine one slow example is no failure.
settings.register_profile("resflow", deadline=None, max_examples=50)
settings.load_profile("resflow")


@pytest.fixture(scope="session", autouse=True)
def terminal_signals() -> None:
    """Signals are as a terminal sets them: nohup and shells that begin something behind them have some ignored."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    for number, handler in usual.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


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


@pytest.fixture
def one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have reports draw their first figure alone, for what the others have no part in: they take most of the time."""
    from resflow.report import figure_list

    monkeypatch.setattr(figure_list, "KINDS", figure_list.KINDS[:1])
