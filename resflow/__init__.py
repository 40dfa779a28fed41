"""resflow: ablations of residual networks on flower photos, with intervals that can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from resflow.models.hypermodel import ResNetHyperModel
    from resflow.tuning.oracle_searcher import OracleSearcher

_HOME = {"OracleSearcher": "resflow.tuning.oracle_searcher", "ResNetHyperModel": "resflow.models.hypermodel"}
__all__ = ["OracleSearcher", "ResNetHyperModel"]


def __getattr__(name: str) -> Any:
    """Import what is public when it is asked for: it needs TensorFlow or Ray, and most of resflow does not."""
    if name not in _HOME:
        raise AttributeError(f"module 'resflow' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
