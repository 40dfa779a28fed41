"""Estimates of the device memory that a trial takes, in closed form, before anything has run.

With n images a batch, s bytes a value of the precision (4, or 2 in mixed precision), P parameters of which T train, and
maps counted in values of one image:

    weights      4 P, and 2 P more for the copies that mixed precision computes with, and the batch norms' statistics
    gradients    4 T
    slots        4 T for each value that the optimiser keeps of a parameter: sgd 1, adam and adamw 2
    activations  s n times the maps that the backward pass needs: of each trained convolution its output, which batch
                 norm goes back by, and the ReLU's output beside it, which ReLU and the next convolution go back by;
                 of a strided one its padded input as well, and so of the stem's pooling
    images       5 n for each value of an image: as it comes, and normalised
    transient    s n times twice the largest map: a layer's input and output, or their gradients
    evaluation   of a batch of 256 the images, and s times three times the largest map: nothing is kept, but a block's
                 input waits for its sum
    data         what stays on the device of the images, one byte a value, or of a frozen backbone's features, four; and
                 where images are augmented there by TensorFlow's own kernels, 28 bytes for each value of a batch

The peak is weights + gradients + slots + data + the larger of activations + images + transient and evaluation. It
leaves out what libraries take: CUDA's context, which the driver tells, and the workspace that cuDNN asks for. The
first trial of a run measures both (`runner.gpu_sharing`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from resflow import architectures
from resflow.study import placement
from resflow.study.settings import Augmentation
from resflow.study.trial import Trial

EVALUATION_BATCH = 256
MARGIN = 1.15  # a share holds so many times what was measured
GRAINS = 10_000  # of a GPU: Ray's finest share
SLOTS = {"sgd": 1, "adam": 2, "adamw": 2}  # values that an optimiser keeps of a parameter, beside it
FLOAT, HALF, BYTE = 4, 2, 1
WARP = 28  # bytes of each value that is warped: four neighbours, their weights, and sums


@dataclass(frozen=True)
class DeviceMemory:
    """The memory of a trial on its device, in bytes, by what it is for."""

    weights: int
    gradients: int
    slots: int
    activations: int
    images: int
    transient: int
    evaluation: int
    data: int

    @cached_property
    def peak(self) -> int:
        """The most that is in use at a time."""
        lasting = self.weights + self.gradients + self.slots + self.data
        return lasting + max(self.activations + self.images + self.transient, self.evaluation)


def estimate_memory(trial: Trial) -> DeviceMemory:
    """Estimate the device memory of a trial."""
    size, batch, arch = trial.data.image_size, trial.recipe.batch_size, trial.architecture
    value = FLOAT if trial.execution.policy == "float32" else HALF
    convs = list(architectures.convolution_sizes(arch, size))
    largest = max(_values(conv.outputs, side) for conv, _, side in convs)
    first = first_trained_stage(trial)
    trained = [entry for entry in convs if _stage(entry[0]) >= first]
    head = _head_parameters(trial)
    training = head + sum(_parameters(conv) for conv, _, _ in trained)
    pixels = 3 * size**2
    dense = sum(trial.network.head.hidden) + trial.classes + architectures.feature_channels(arch)
    kept = sum(_kept(conv, before, side) for conv, before, side in trained)
    if arch.stem == "imagenet" and first == 0:
        kept += _padded(convs[0][0].outputs, convs[0][2], 1) + _values(convs[0][0].outputs, convs[1][1])
    statistics = 2 * FLOAT * sum(conv.norm_channels for conv, _, _ in convs)
    return DeviceMemory(
        weights=trial.parameters * (FLOAT + (HALF if value == HALF else 0)) + statistics,
        gradients=FLOAT * training,
        slots=FLOAT * SLOTS[trial.recipe.optimizer] * training,
        activations=batch * (value * kept + FLOAT * dense),
        images=batch * (BYTE + FLOAT) * pixels,
        transient=2 * batch * value * largest,
        evaluation=EVALUATION_BATCH * (3 * value * largest + (BYTE + FLOAT) * pixels),
        data=_data(trial) if trial.execution.inputs == "device" else 0,
    )


def _data(trial: Trial) -> int:
    """Return the bytes of inputs that stay on the device, and of making a batch's views there."""
    lying = placement.input_bytes(trial, trial.counts, trial.execution)
    is_still = trial.shares_features or trial.execution.jit is True or trial.recipe.augmentation == Augmentation()
    return lying + (0 if is_still else WARP * trial.recipe.batch_size * 3 * trial.data.image_size**2)


def gpu_share(peak: int, context: int, total: int) -> float:
    """Return the share of a GPU of `total` bytes for a trial that takes `peak`, and CUDA `context` beside it."""
    return min(1.0, math.ceil(MARGIN * (peak + context) / total * GRAINS) / GRAINS)


def first_trained_stage(trial: Trial) -> float:
    """Return the first stage whose layers train, 0 for the stem; infinity where the head trains alone."""
    if trial.recipe.finetune == "frozen":
        return math.inf
    if trial.recipe.finetune == "partial":
        count = len(architectures.stages(trial.architecture.family, trial.architecture.depth)[1])
        return count + 1 - trial.recipe.unfrozen_stages
    return 0


def _stage(conv: architectures.Conv) -> int:
    return 0 if conv.name == "stem" else int(conv.name.removeprefix("stage").partition("_")[0])


def _values(channels: int, side: int) -> int:
    return channels * side**2


def _parameters(conv: architectures.Conv) -> int:
    return conv.kernel**2 * conv.inputs * conv.outputs + 2 * conv.norm_channels


def _head_parameters(trial: Trial) -> int:
    """Return the parameters of the head, and in v2 of the batch norm before it."""
    return trial.parameters - sum(map(_parameters, architectures.convolutions(trial.architecture)))


def _kept(conv: architectures.Conv, before: int, side: int) -> int:
    """Return the values of one image that the backward pass needs of a convolution, its batch norm and its ReLU."""
    output = _values(conv.outputs, side)
    if conv.name.endswith("_shortcut"):  # no ReLU of its own; in v2 no batch norm either, and a sum needs nothing
        return output if conv.norm == "after" else 0
    relu = {"after": output, "before": _values(conv.inputs, before), "none": 0}[conv.norm]
    padded = _padded(conv.inputs, before, conv.kernel // 2) if conv.stride > 1 and conv.kernel > 1 else 0
    return output + relu + padded


def _padded(channels: int, side: int, padding: int) -> int:
    return _values(channels, side + 2 * padding)
