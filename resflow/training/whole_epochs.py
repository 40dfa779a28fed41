"""Whole epochs and whole evaluations as one call each: loops over the batches of images that lie on the device.

Small networks leave a GPU waiting for Python, which starts their steps, and for the host, which makes their batches.
Here neither takes part between an epoch's first step and its last: what the host draws, the order and the views, goes
along as tables, and gathering, augmenting and the step itself are in one graph. Tested on CPUs; on a GPU neither its
numbers nor its speed have been measured yet.
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
        batches = [source, places, tf.TensorSpec((None, None, 6), tf.float32), tf.TensorSpec((), tf.int64)]
        steps = [places, tf.TensorSpec((None,), tf.float32), tf.TensorSpec((None,), tf.bool)]

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
        losses, norms = self._call(
            graph, batches, tf.constant(labels), tf.constant(rates, tf.float32), tf.constant(watched)
        )
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
                graph(*tables, tf.constant(0, tf.int64), *more)
            self.compiled.add(kind)
        return graph(*tables, tf.constant(len(batches.places), tf.int64), *more)

    def _take_steps(
        self,
        phase: str,
        warped: bool,
        source: Any,
        places: Any,
        views: Any,
        count: Any,
        labels: Any,
        rates: Any,
        watched: Any,
    ) -> Any:
        learner = self.learner

        def step(number: Any, losses: Any, norms: Any) -> Any:
            learner.watch.assign(watched[number])
            loss = learner.take_step(phase, _take(warped, source, places, views, number), labels[number], rates[number])
            return number + 1, _put(losses, number, loss), _put(norms, number, learner.norms.value())

        steps = tf.shape(places)[0]
        results = tf.zeros(steps), tf.zeros((steps, len(learner.kernels)))
        _, losses, norms = _loop(count, step, results)
        learner.watch.assign(False)
        return losses, norms

    def _compute_logits(self, warped: bool, source: Any, places: Any, views: Any, count: Any) -> Any:
        def batch(number: Any, logits: Any) -> Any:
            return number + 1, _put(logits, number, self.learner.infer(_take(warped, source, places, views, number)))

        _, logits = _loop(count, batch, (tf.zeros((*tf.unstack(tf.shape(places)), self.learner.classes)),))
        return logits


def _loop(count: Any, body: Callable[..., Any], results: tuple[Any, ...]) -> Any:
    """Run `body` for the numbers below `count`, one after the other: a step needs the weights of the one before."""
    start = tf.constant(0, tf.int64)
    return tf.while_loop(lambda number, *_: number < count, body, (start, *results), parallel_iterations=1)


def _take(warped: bool, source: Any, places: Any, views: Any, number: Any) -> Any:
    batch = tf.gather(source, places[number])
    return warp(batch, views[number]) if warped else batch


def _put(table: Any, number: Any, row: Any) -> Any:
    """Return a small table with another row. XLA knows no growing ones, and scattering has no fixed order on GPUs."""
    here = tf.range(tf.shape(table, tf.int64)[0]) == number
    return tf.where(tf.reshape(here, (-1, *(1 for _ in table.shape[1:]))), row, table)
