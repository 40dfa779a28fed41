"""The command line, which is sent a signal at a moment of its work: `python signalled.py MOMENT SIGNAL TIMES WORDS …`.

The moments are calls of functions, so that a test meets each of them whatever the machine's speed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from importlib import abc, import_module
from typing import Any

MOMENTS = {  # where a function is looked up, its name, and the call of it that is met
    "decoding": ("resflow.data.decode", "pixel_digest", 5),
    "planning": ("resflow.workflow.run", "write_plan", 1),
    "Ray's start": ("ray._private.services", "start_raylet", 1),
    "the start of workers": ("resflow.runner.execute", "start_beside_driver", 1),
    "training": ("resflow.runner.tune_adapters", "Watcher._keep_row", 1),
    "the report": ("resflow.workflow.run", "write_report", 1),
}
IMPORT = "import"


def main(moment: str, name: str, times: int, words: list[str]) -> None:
    def send() -> None:
        for _ in range(times):
            os.kill(os.getpid(), signal.Signals[name])

    if moment == IMPORT:
        sys.meta_path.insert(0, _AtImport("typer", send))
    else:
        _wrap(*MOMENTS[moment], send)
    sys.argv = ["resflow", *words]
    from resflow.__main__ import main as command_line

    command_line()


class _AtImport(abc.MetaPathFinder):
    """Finder that finds nothing, and sends when a module is asked for."""

    def __init__(self, module: str, send: Callable[[], None]) -> None:
        self.module, self.send = module, send

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == self.module:
            self.send()


def _wrap(module: str, function: str, call: int, send: Callable[[], None]) -> None:
    """Have a function send before it does its work, at one call of many."""
    import resflow.runner  # noqa: F401 -- sets what Ray reads when it is imported

    place, left = import_module(module), [call]
    *owners, name = function.split(".")
    for owner in owners:
        place = getattr(place, owner)
    inner = getattr(place, name)

    def sends(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            send()
        return inner(*arguments, **named)

    setattr(place, name, sends)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
