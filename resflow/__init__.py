"""resflow: ablations of residual networks on flower photos, with intervals that can be trusted.

What a notebook needs is here: load_study, plan, run, load_run, analyse, write_report (see `resflow.workflow.api`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from resflow.models.hypermodel import ResNetHyperModel
    from resflow.tuning.oracle_searcher import OracleSearcher
    from resflow.workflow.api import (
        Plan,
        Reporter,
        Result,
        Run,
        RunOptions,
        analyse,
        load_run,
        load_study,
        plan,
        run,
        write_report,
    )

_HOME = {"OracleSearcher": "resflow.tuning.oracle_searcher", "ResNetHyperModel": "resflow.models.hypermodel"}
__all__ = [
    "OracleSearcher",
    "Plan",
    "Reporter",
    "ResNetHyperModel",
    "Result",
    "Run",
    "RunOptions",
    "analyse",
    "load_run",
    "load_study",
    "plan",
    "run",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import what is public when it is asked for: it takes pandas, TensorFlow or Ray, and `import resflow` none."""
    if name not in __all__:
        raise AttributeError(f"module 'resflow' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOME.get(name, "resflow.workflow.api")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
