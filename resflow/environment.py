"""The surroundings that a process of resflow may see: the same trial id means the same numbers, whatever is set.

Many a variable changes what TensorFlow, XLA, oneDNN, Keras or OpenCV compute. Those families are cleared by their
prefix, so that one which nobody has heard of is cleared too; what says where things lie, how they are logged or how a
GPU's memory is taken passes, and so does all else: PYTHONPATH, LD_LIBRARY_PATH, CUDA_VISIBLE_DEVICES. What decides
numbers is the execution spec, which is part of a trial's id. `tests/fixtures/variables.csv` lists the variables and
where each was found.

Variables are read when a library is imported. So `settle` runs first: in the command line before anything else, in
`runner` and `training` before they import Ray and TensorFlow, and with them in every worker, whose variables come from
the machine that it runs on.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

CLEARED = (  # prefixes of what can change a number
    "AUTOGRAPH_", "CUBLAS_", "CUDNN_", "DNNL_", "EIGEN_", "KERAS_", "KMP_", "MKL_", "NPY_", "NVIDIA_TF32", "OMP_",
    "ONEDNN_", "OPENCV_", "TF2_", "TF_", "TENSORFLOW_", "XLA_", "ZENDNN_",
)  # fmt: skip
PASSING = (  # among those: logs, paths, memory, and where several machines take part
    "CUDNN_LOG", "KERAS_HOME", "ONEDNN_VERBOSE", "OPENCV_LOG_LEVEL", "TF_CPP_", "TF_DUMP_GRAPH", "TF_FORCE_GPU_ALLOW",
    "TF_GPU_ALLOCATOR", "TF_LOG",
    "TF_CLI_", "TF_DATA_DIR", "TF_PLUGIN", "TF_VAR_", "TF_WORKSPACE",  # Terraform's
)  # fmt: skip
# What XLA needs to compute the same twice on GPUs: kernels that add in one order, and none that is chosen because it
# was faster today. TensorFlow's own kernels do as much by `enable_op_determinism`.
GPU_FLAGS = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")
FLAGS = {  # variables of many flags: those that say where files lie, and resflow's own
    "TF_XLA_FLAGS": ("--tf_xla_persistent_cache_directory",),
    "XLA_FLAGS": ("--xla_gpu_cuda_data_dir", "--xla_dump_to", *GPU_FLAGS),
}
OWN = {
    "KERAS_BACKEND": "tensorflow",
    # TensorFlow leaves oneDNN off on CPUs without AVX-512 VNNI, where its own backward convolutions make a training
    # step several times slower (results/bench/).
    "TF_ENABLE_ONEDNN_OPTS": "1",
}
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2"}  # unless the user has set it
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",  # it phones home unless told otherwise; resflow has no telemetry
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # trials on CPUs hide the GPUs from TensorFlow
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # records are resflow's own
    "RAY_AIR_NEW_OUTPUT": "0",  # the screen is resflow's own
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # and so is what Ctrl-C does (runner/stopping.py)
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # not every report has what ASHA looks at
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # not one worker starts after the other: the searcher says how many
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",  # a run goes on from its records, not from Tune's snapshots
}

overruled: dict[str, str] = {}  # variable -> what this process found in it and does not follow


def settle() -> None:
    """Clear this process of what changes numbers, and set what resflow decides; `overruled` tells what it found."""
    for name, value in list(os.environ.items()):
        if name in FLAGS:
            kept = " ".join(flag for flag in value.split() if flag.startswith(FLAGS[name]))
            _put(name, value, kept or None)
        elif name in OWN:
            _put(name, value, OWN[name])
        elif name.startswith(CLEARED) and not name.startswith(PASSING):
            _put(name, value, None)
    os.environ.update(OWN)
    if cache := os.environ.get("RESFLOW_CACHE"):  # workers stand in other folders
        os.environ["RESFLOW_CACHE"] = str(Path(cache).absolute())
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def settle_gpu() -> None:
    """Have XLA compute on GPUs what it computed before. It reads its flags when it first compiles."""
    found = os.environ.get("XLA_FLAGS", "").split()
    os.environ["XLA_FLAGS"] = " ".join([*found, *(flag for flag in GPU_FLAGS if flag not in found)])


def _put(name: str, value: str, own: str | None) -> None:
    if value == own:
        return
    overruled.setdefault(name, value)
    if own is None:
        del os.environ[name]
    else:
        os.environ[name] = own


def settle_program() -> None:
    """Settle a program of resflow's own, as the command line and a worker are: nobody else draws or imports in it.

    The working folder is not searched for modules unless PYTHONPATH says so: a file there that is called like a package
    is harmless. matplotlib draws to files.
    """
    settle()
    if os.environ.get("MPLBACKEND", "agg") != "agg":
        overruled.setdefault("MPLBACKEND", os.environ["MPLBACKEND"])
    os.environ["MPLBACKEND"] = "agg"
    leave_folder_out(Path.cwd())


def too_late() -> list[str]:
    """Return the variables that NumPy has followed already: a cluster's worker imports it before they are cleared."""
    return sorted(name for name in overruled if name.endswith("_CPU_FEATURES") and "numpy" in sys.modules)


def leave_folder_out(folder: Path) -> None:
    """Take a folder off the places where modules are searched for, unless PYTHONPATH names it."""
    named = {os.path.realpath(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place}
    here = os.path.realpath(folder)
    if here not in named:
        sys.path[:] = [place for place in sys.path if place and os.path.realpath(place) != here]


def prepare_ray() -> None:
    """Set what Ray reads when it is imported; what the user has set stands, since it changes no number."""
    settle()
    for name, value in RAY.items():
        os.environ.setdefault(name, value)
