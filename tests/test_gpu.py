"""What only a GPU can answer: `pytest -m gpu`, or `make gpu`. Nothing here runs where there is none.

TensorFlow's settings, and its share of a GPU's memory, belong to a process: each answer comes from one of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resflow import provenance

TESTS, DEVICE = Path(__file__).parent, "gpu"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(provenance.count_gpus() == 0, reason="the NVIDIA driver shows no GPU here"),
]
BEGIN = """
import json, sys
import numpy as np
sys.path.insert(0, {tests!r})
from support import tiny
from resflow.study.settings import Augmentation, Execution
from resflow.training import gpu_memory, train
from resflow.quiet_tensorflow import tf

ALL = Augmentation(flip=True, rotation=15, shear=0.1, zoom=0.2, crop_padding=4)

def trial(folder, precision="float32", **settings):
    execution = Execution(device={device!r}, jit=True, lowering="native", inputs="device", precision=precision)
    return tiny.trial(folder, execution=execution, augmentation=ALL, **settings)

def numbers(outcome):
    assert outcome.record.status == "completed", outcome.record.reason
    history = outcome.history.drop(columns="seconds").to_dict("list")
    return [history, outcome.record.metrics, outcome.predictions.probability.tolist()]

folder, share = tiny.prepare(32, (64, 32, 32)), {share}
"""


def begin(code: str, share: float = 1.0) -> subprocess.Popen[str]:
    """Start some lines of Python that print JSON, on a share of the GPU."""
    text = BEGIN.format(tests=str(TESTS), share=share, device=DEVICE) + code
    return subprocess.Popen([sys.executable, "-c", text], text=True, stdout=subprocess.PIPE, env=dict(os.environ))


def answer(process: subprocess.Popen[str]) -> Any:
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


TRAIN = """
one = trial(folder, epochs=3, precision={precision!r})
train.configure(one.execution, share)
print(json.dumps(numbers(train.train_trial(one, folder))))
"""


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_trial_repeats_to_the_bit_alone_and_beside_another(precision: str) -> None:
    code = TRAIN.format(precision=precision)
    alone = answer(begin(code))
    beside = [begin(code, share=0.4) for _ in range(2)]
    assert [answer(process) for process in beside] == [alone, alone]


def test_mixed_precision_learns() -> None:
    history, *_ = answer(begin(TRAIN.replace("epochs=3", "epochs=30").format(precision="mixed_bfloat16")))
    assert history["train_loss"][-1] < 0.5 * history["train_loss"][0]


@pytest.mark.parametrize("size", [32, 64, 224])
def test_images_that_the_gpu_augments_are_those_of_the_host(size: int) -> None:
    """One grey level in fewer than one pixel of a thousand."""
    code = f"""
from resflow.data import pipeline
from resflow.training.device_warp import warp
train.configure(trial(folder).execution)
images = np.random.default_rng(0).integers(0, 256, (64, {size}, {size}, 3), dtype=np.uint8)
rows = pipeline.views(ALL, 1, 1, 64, {size})
host = pipeline.transform(images, rows).astype(int)
gpu = tf.function(warp, jit_compile=True)(tf.constant(images), tf.constant(rows)).numpy().astype(int)
print(json.dumps([int(np.abs(host - gpu).max()), float((host != gpu).mean())]))
"""
    most, part = answer(begin(code))
    assert most <= 1
    assert part < 1e-3


def test_a_share_bounds_the_memory_that_tensorflow_takes() -> None:
    code = """
train.configure(trial(folder).execution, share)
given = []
for part in (0.5, 1.1):
    try:
        with tf.device("GPU"):
            tf.zeros((int(part * gpu_memory.megabytes(share)), 2**18)).numpy()
        given.append(part)
    except tf.errors.ResourceExhaustedError:
        pass
print(json.dumps(given))
"""
    assert answer(begin(code, share=0.1)) == [0.5]


def test_xla_compiles_whole_epochs_and_whole_evaluations() -> None:
    """XLA refuses a graph of which it cannot compile every part; so a trial that completes was compiled whole."""
    code = """
one = trial(folder, epochs=2)
train.configure(one.execution)
numbers(train.train_trial(one, folder))
from resflow.training.learner import graphs
(learner,) = graphs.values()
print(json.dumps([learner.jit, len(learner.whole.compiled) > 0]))
"""
    assert answer(begin(code)) == [True, True]
