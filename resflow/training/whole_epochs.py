"""Whole epochs and whole evaluations as one call each: loops over the batches of images that lie on the device.

Small networks leave a GPU waiting for Python, which starts their steps, and for the host, which makes their batches.
Here neither takes part between an epoch's first step and its last: what the host draws, the order and the views, goes
along as tables, and gathering, augmenting and the step itself are in one graph. What steers its loops (their counter,
which steps are watched) are whole numbers of 32 bits, which TensorFlow keeps on the host: a loop that asked the device
would wait for it in each step. Tested on CPUs; on a GPU neither its numbers nor its speed have been measured yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from resflow.quiet_tensorflow import tf
from resflow.training.device_warp import warp

if TYPE_CHECKING:
    from resflow.training.learner import Learner


@dataclass(frozen=True)
class Batches:
    """The batches of one pass over images that lie on the device, a row each."""

    inputs: Any  # what they are taken from, a tensor on the device: (n, …)
    places: np.ndarray  # int64 (batches, size): positions in `inputs`
    views: np.ndarray | None = None  # float32 (batches, size, 6): a row of `pipeline.views` an image

    @property
    def warped(self) -> bool:
        return self.views is not None

    def tables(self) -> tuple[Any, ...]:
        """Return all of it as a graph takes it."""
        views = np.zeros((*self.places.shape, 6), np.float32)[:0] if self.views is None else self.views
        return self.inputs, tf.constant(self.places), tf.constant(views)


class WholeEpochs:
    """The calls of a learner that take all steps of an epoch, or compute all logits of a part."""

    def __init__(self, learner: Learner, image: Any) -> None:
        self.learner = learner
        self.compiled: set[Any] = set()  # graphs and shapes that were called before
        source, places = tf.TensorSpec((None, *image.shape[1:]), image.dtype), tf.TensorSpec((None, None), tf.int64)
        batches = [tf.TensorSpec((), tf.bool), source, places, tf.TensorSpec((None, None, 6), tf.float32)]
        steps = [places, tf.TensorSpec((None,), tf.float32), tf.TensorSpec((None,), tf.int32)]

        def graph(function: Callable[..., Any], signature: list[Any]) -> Any:
            return tf.function(function, signature, autograph=False, jit_compile=learner.jit)

        self.epochs = {
            (phase, warped): graph(partial(self._take_steps, phase, warped), [*batches, *steps])
            for phase in learner.steps
            for warped in (False, True)
        }
        self.parts = {warped: graph(partial(self._compute_logits, warped), batches) for warped in (False, True)}

    def train(
        self, batches: Batches, labels: np.ndarray, rates: list[float], watched: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Take a step a batch; return the steps' losses, and their gradients' norms (steps, kernels).

        `labels` are int64 (steps, size). Norms mean something where `watched`, bool (steps,), asks for them.
        """
        graph = self.epochs[self.learner.phase, batches.warped]
        steps = tf.constant(labels), tf.constant(rates, tf.float32), tf.constant(watched, tf.int32)
        losses, norms = self._call(graph, batches, *steps)
        return losses.numpy(), norms.numpy()

    def predict(self, batches: Batches, count: int) -> np.ndarray:
        """Return logits of the first `count` images in inference mode, float32 (count, classes)."""
        logits: np.ndarray = self._call(self.parts[batches.warped], batches).numpy()
        return logits.reshape(-1, logits.shape[-1])[:count]

    def _call(self, graph: Any, batches: Batches, *more: Any) -> Any:
        """Call a graph; the first call of its kind, which takes no batch and compiles, is work that trials share."""
        tables = batches.tables()
        kind = (id(graph), *(tensor.shape for tensor in (*tables, *more)))
        if kind not in self.compiled:
            with self.learner.work.computing():
                graph(switch(False), *tables, *more)
            self.compiled.add(kind)
        return graph(switch(True), *tables, *more)

    def _take_steps(
        self, phase: str, warped: bool, on: Any, source: Any, places: Any, views: Any, labels: Any, *more: Any
    ) -> Any:
        learner, (rates, watched) = self.learner, more

        def step(number: Any, losses: Any, norms: Any) -> Any:
            images = _take(warped, source, places, views, number)
            loss = learner.take_step(phase, images, labels[number], rates[number], watched[number] > 0)
            return number + 1, _put(losses, number, loss), _put(norms, number, learner.norms.value())

        steps = tf.shape(places)[0]
        return _loop(on, places, step, (tf.zeros(steps), tf.zeros((steps, len(learner.kernels)))))

    def _compute_logits(self, warped: bool, on: Any, source: Any, places: Any, views: Any) -> Any:
        def batch(number: Any, logits: Any) -> Any:
            return number + 1, _put(logits, number, self.learner.infer(_take(warped, source, places, views, number)))

        batches, size = tf.unstack(tf.shape(places))
        return _loop(on, places, batch, (tf.zeros((batches, size, self.learner.classes)),))[0]


def switch(on: bool) -> Any:
    """Return a truth value that lies on the host, where graphs decide what they do next."""
    with tf.device("/CPU:0"):
        return tf.constant(on)


def _loop(on: Any, places: Any, body: Callable[..., Any], results: tuple[Any, ...]) -> Any:
    """Return `results` as `body` leaves them for each row of `places`; as they are where the loop is not `on`.

    One row after the other: a step needs the weights of the one before. That their count is asked for where it is
    needed lets XLA know it from the shapes, and not ask the device before each row.
    """

    def loop() -> Any:
        start = (tf.constant(0), *results)
        return tf.while_loop(lambda number, *_: number < tf.shape(places)[0], body, start, parallel_iterations=1)[1:]

    return tf.cond(on, loop, lambda: results)


def _take(warped: bool, source: Any, places: Any, views: Any, number: Any) -> Any:
    batch = tf.gather(source, places[number])
    return warp(batch, views[number]) if warped else batch


def _put(table: Any, number: Any, row: Any) -> Any:
    """Return a small table with another row. XLA knows no growing ones, and scattering has no fixed order on GPUs."""
    here = tf.range(tf.shape(table)[0]) == number
    return tf.where(tf.reshape(here, (-1, *(1 for _ in table.shape[1:]))), row, table)
