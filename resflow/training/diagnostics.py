"""Figures from inside a network: gradients while it trains, responses once it has.

    gradient_norm   L2 norm of the loss' gradient by each kernel, without weight decay: at the first step (epoch 0) and
                    at the last step of an epoch, on that step's own batch
    response_sd     standard deviation of a batch norm's outputs over images, places and channels, which is before ReLU
                    and addition (He et al. 2015, Figure 7)
    bn_scale        mean absolute gamma of a batch norm
    dead_units      share of a ReLU's outputs (place and channel) that are zero for every probe image
    shortcut_share  norm of a block's shortcut over the sum of the norms of both its branches, where they are added

All but the gradients are of the tested weights, in inference mode, on the first PROBE validation images. They cost one
forward pass at a trial's end and a few norms an epoch, and change no number of the trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Any

import numpy as np
import pandas as pd

from resflow.architectures import kernels
from resflow.data.dataset import Dataset
from resflow.models.layers import BatchNorm
from resflow.quiet_tensorflow import keras
from resflow.records.record import DIAGNOSTIC_COLUMNS, PROBE
from resflow.study.trial import Trial
from resflow.training.learner import Learner

WATCHED = 40  # epochs whose gradients are kept; of more, evenly spaced ones
PIXELS = 64 * 64 * 32  # of images that are looked at at a time: all maps of a network are in memory at once


Row = tuple[str, str, int, int, float]


def steps_watched(epoch: int, epochs: int, steps: int) -> dict[int, int]:
    """Return the steps of an epoch, from 0, whose gradients are kept, and the epoch that they stand for."""
    last = {steps - 1: epoch} if epoch == epochs or epoch % ceil(epochs / WATCHED) == 0 else {}
    return {0: 0, **last} if epoch == 1 else last


def diagnose(
    learner: Learner, trial: Trial, dataset: Dataset, gradients: Sequence[Sequence[Any]], epoch: int
) -> pd.DataFrame:
    """Return a trial's DIAGNOSTIC_COLUMNS.

    `gradients` has (epoch, a norm for each of the learner's kernels) as it trained; the rest is of the network as it
    is, which is that of `epoch`.
    """
    below = kernels(trial.architecture, trial.network.head.hidden) - len(learner.kernels)  # of a network in part frozen
    rows = [
        ("gradient_norm", layer, place, watched, norm)
        for watched, norms in gradients
        for place, ((layer, _), norm) in enumerate(zip(learner.kernels, norms, strict=True), below)
    ]
    probed = dataset.validation if len(dataset.validation) else dataset.train
    images = dataset.images[np.sort(probed[:PROBE])]
    rows += look(learner.model, learner.prepared, images, epoch)
    return pd.DataFrame(rows, columns=list(DIAGNOSTIC_COLUMNS))


def look(model: keras.Model, prepared: Callable[[Any], Any], images: np.ndarray, epoch: int) -> Iterator[Row]:
    """Run `images`, uint8 (n, size, size, 3), through a network and yield the figures of its layers, kind by kind.

    `prepared` normalises images. Nothing is yielded for a head alone, which has none of these layers.
    """
    norms = [layer for layer in model.layers if isinstance(layer, BatchNorm)]
    relus = [layer for layer in model.layers if isinstance(layer, keras.layers.ReLU)]
    sums = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    if not norms:
        return
    outputs = {
        "norms": [layer.output for layer in norms],
        "relus": [layer.output for layer in relus],
        "sums": [tensor for layer in sums for tensor in layer.input],
    }
    probe = keras.Model(model.input, outputs)
    at_a_time = max(1, PIXELS // (images.shape[1] * images.shape[2]))
    responses = np.zeros((len(norms), 3))  # count, sum, sum of squares
    squares = np.zeros((len(sums), 2))
    alive: list[Any] = [False] * len(relus)
    for start in range(0, len(images), at_a_time):
        maps = probe(prepared(images[start : start + at_a_time]), training=False)
        for place, values in enumerate(maps["norms"]):
            x = np.asarray(values, dtype=np.float64)
            responses[place] += (x.size, x.sum(), np.square(x).sum())
        for place, values in enumerate(maps["relus"]):
            alive[place] = alive[place] | (np.asarray(values) > 0).any(axis=0)
        for place in range(len(sums)):
            branches = maps["sums"][2 * place : 2 * place + 2]  # the blocks add [their convolutions, their shortcut]
            squares[place] += [np.square(np.asarray(branch, dtype=np.float64)).sum() for branch in branches]
    for place, (layer, (count, total, square)) in enumerate(zip(norms, responses, strict=True)):
        yield "response_sd", layer.name, place, epoch, float(np.sqrt(max(0.0, square / count - (total / count) ** 2)))
    for place, layer in enumerate(norms):
        yield "bn_scale", layer.name, place, epoch, float(np.abs(layer.gamma.numpy()).mean())
    for place, layer in enumerate(relus):
        yield "dead_units", layer.name, place, epoch, float(1 - np.mean(alive[place]))
    for place, layer in enumerate(sums):
        convolved, shortcut = np.sqrt(squares[place])
        share = shortcut / (shortcut + convolved) if shortcut + convolved > 0 else np.nan
        yield "shortcut_share", layer.name, place, epoch, float(share)
