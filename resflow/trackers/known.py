"""The trackers by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from resflow.errors import MissingExtraError, TrackerError, one_of
from resflow.trackers.tracker import Tracker


@dataclass(frozen=True)
class Known:
    """A tracker: the package that it needs, which is also the extra's name, and where its class is."""

    package: str
    module: str
    name: str
    variables: Mapping[str, str] = field(default_factory=dict)  # of its process, where the user has not set them

    def make(self, state: Path) -> Tracker:
        """Return the tracker; what it keeps on this machine goes into `state` unless its own variables say otherwise.

        Raises whatever the import of its package raises.
        """
        tracker: Tracker = getattr(import_module(self.module), self.name)(state)
        return tracker


TRACKERS = {
    "tensorboard": Known("tensorboard", "resflow.trackers.tensorboard", "TensorBoard"),
    "mlflow": Known(
        "mlflow",
        "resflow.trackers.mlflow",
        "MLflow",
        {
            "MLFLOW_DISABLE_TELEMETRY": "true",  # resflow has none either
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # else minutes go by before it says that nobody answers
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        },
    ),
    "wandb": Known(
        "wandb",
        "resflow.trackers.wandb",
        "WeightsAndBiases",
        {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"},
    ),
}


def require_trackers(names: Iterable[str]) -> None:
    """Raise TrackerError for a name that is none, MissingExtraError where a tracker's package is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise TrackerError(one_of(name, TRACKERS, "tracker"))
        package = TRACKERS[name].package
        if find_spec(package) is None:
            raise MissingExtraError(
                f"{name} needs the package {package}, which is not installed. "
                f"Install it with: pip install 'resflow[{name}]', or '.[{name}]' in a clone."
            )
