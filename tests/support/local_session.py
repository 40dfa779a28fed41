"""A driver of a local Ray with one actor that is stopped, so that it hears of nobody's death: prints its session."""

from __future__ import annotations

import os
import signal
import sys
import time

import ray

import resflow.runner  # noqa: F401 -- sets what Ray reads when it is imported
from resflow.runner import local_ray, ray_session


class Stubborn:
    def number(self) -> int:
        return os.getpid()


def main() -> None:
    with local_ray.start(1, ray_session.OPTIONS, ray_session.WORKERS):
        stubborn = ray.remote(num_cpus=0)(Stubborn).remote()
        os.kill(ray.get(stubborn.number.remote()), signal.SIGSTOP)
        print(ray.get_runtime_context().get_temp_dir(), flush=True)
        time.sleep(600)


if __name__ == "__main__":
    sys.exit(main())
