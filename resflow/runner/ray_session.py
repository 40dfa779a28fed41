"""Ray for the length of a run: on this machine alone, or in a cluster that exists."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from resflow import provenance
from resflow.errors import TrainingError
from resflow.runner import local_ray
from resflow.study.resources import TrialResources

log = logging.getLogger("resflow.runner")
ANSWER_S = 10  # that a cluster may take to answer
OPTIONS: dict[str, Any] = {  # of every ray.init
    "log_to_driver": False,
    "logging_level": logging.CRITICAL,  # what fails stands in records and logs, without the tracebacks of Ray
    "configure_logging": True,
}
WORKERS = {"TF_CPP_MIN_LOG_LEVEL": "2", "RAY_USAGE_STATS_ENABLED": "0", "MPLBACKEND": "agg"}  # variables of theirs


def check_address(address: str) -> None:
    """Raise TrainingError where no cluster can be meant."""
    if address != "auto" and not re.fullmatch(r"[^\s:/]+:\d{1,5}", address):
        raise TrainingError(
            f"--address {address}: expected auto (the cluster that `ray start` made known on this machine), or "
            "HOST:PORT of its head. This command runs on a machine of the cluster; a ray:// address cannot be used."
        )


class RayDied(BaseException):
    """The death of a process of Ray's. No Exception: Tune would tidy up, and ask Ray for it."""


def check_alive() -> None:
    """Raise RayDied where a process of a Ray that was started here has died. Ray ends this one a minute later."""
    if name := local_ray.find_dead():
        raise RayDied(f"Ray's process {name} has died")


@contextmanager
def connect(resources: TrialResources, address: str | None = None) -> Iterator[None]:
    """Start Ray here, or join the cluster at `address`. Raises TrainingError where no trial could ever start."""
    cores = provenance.count_processors()
    if address is None and resources.cpus > cores:
        raise TrainingError(
            f"a trial asks for {resources.cpus:g} CPUs, this machine has {cores}: lower it with --set threads={cores} "
            "(and cpus, where the study sets it)."
        )
    with _cluster(address) if address else local_ray.start(cores, OPTIONS, WORKERS):
        nodes = node_resources()
        if not resources.places(nodes):
            _report_shortage(resources, nodes, address)
        yield


def node_resources() -> list[dict[str, float]]:
    """Return the resources of each living machine, by Ray's names."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def visible_resources(address: str | None = None) -> dict[str, float]:
    """Return the resources that Ray sees on this machine, where it is started, or in a cluster; memory in bytes."""
    with _cluster(address) if address else local_ray.start(provenance.count_processors(), OPTIONS, WORKERS):
        return {key: float(value) for key, value in ray.cluster_resources().items() if key in ("CPU", "GPU", "memory")}


def _report_shortage(resources: TrialResources, nodes: list[dict[str, float]], address: str | None) -> None:
    if resources.gpus and not any(node.get("GPU") for node in nodes):
        problem = "device gpu was asked for, but Ray sees no GPU"
    else:
        most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in ("CPU", "GPU", "memory")}
        problem = (
            f"a trial asks for {resources}, and no machine has that: at most {most['CPU']:g} CPUs, "
            f"{most['GPU']:g} GPUs and {most['memory'] / 1e9:.1f} GB of memory on one"
        )
    if address:  # a machine that has it may join, or an autoscaler may bring one
        log.warning("%s. Trials wait until such a machine joins the cluster.", problem)
        return
    raise TrainingError(
        f"{problem}. `resflow doctor` tells what TensorFlow and Ray see; --set device=cpu trains on the CPU, "
        "--set threads=…, gpus=… or memory=… ask for less."
    )


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    check_address(address)
    try:
        if address != "auto":  # Ray itself asks for minutes before it gives up, and then ends the process
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
        with local_ray.elsewhere(), local_ray.own_handler():
            ray.init(address=address, runtime_env={"env_vars": WORKERS}, **OPTIONS)
    except (RuntimeError, OSError, OverflowError, ValueError) as error:
        raise TrainingError(
            f"no Ray cluster answers at {address}: {local_ray.first_line(error)} Start one with `ray start --head`, "
            "join this machine to it with `ray start --address=HOST:PORT`, or leave --address out to train on this "
            "machine. "
            "A cluster that asks for a token, as one of `ray start` does by itself, wants RAY_AUTH_MODE=token "
            "in this command's environment, and its ~/.ray/auth_token on this machine."
        ) from error
    try:
        yield
    finally:
        with local_ray.own_handler():
            ray.shutdown()
        local_ray.forget_colours()
