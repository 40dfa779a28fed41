"""The surroundings that a process of resflow may see: variables that libraries read when they are imported."""

from __future__ import annotations

import os

RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",  # it phones home unless told otherwise; resflow has no telemetry
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # trials on CPUs hide the GPUs from TensorFlow
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # records are resflow's own
    "RAY_AIR_NEW_OUTPUT": "0",  # the screen is resflow's own
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # and so is what Ctrl-C does (runner/stopping.py)
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # not every report has what ASHA looks at
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",  # a run goes on from its records, not from Tune's snapshots
}
TENSORFLOW = {
    # It leaves oneDNN off on CPUs without AVX-512 VNNI, where its own backward convolutions make a training step
    # several times slower (results/bench/).
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def prepare_ray() -> None:
    """Set what Ray reads when it is imported; what the user has set stands."""
    for name, value in RAY.items():
        os.environ.setdefault(name, value)


def prepare_tensorflow() -> None:
    """Set what TensorFlow reads when it is imported; what the user has set stands."""
    for name, value in TENSORFLOW.items():
        os.environ.setdefault(name, value)
