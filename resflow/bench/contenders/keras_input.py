"""The opponent of resflow's input: the article's ImageDataGenerator, fed from memory.

Its own folders of JPEG files would cost it more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from resflow.bench import process
from resflow.bench.clock import time_training
from resflow.data.dataset import load_dataset


def job(spec: dict[str, Any]) -> dict[str, Any]:
    """Time whole epochs of the training images of `folder`, augmented by `augmentation` (the generator's own words)."""
    dataset = load_dataset(Path(spec["folder"]))
    images, labels = dataset.images[dataset.train].astype(np.float32), dataset.labels[dataset.train]
    generator = tf.keras.preprocessing.image.ImageDataGenerator(**spec["augmentation"])
    batches = generator.flow(images, labels, batch_size=spec["batch_size"], seed=1)

    def train(steps: int) -> None:
        for _ in range(steps):
            next(batches)

    return time_training(train, spec["batch_size"], spec["seconds"], len(images) // spec["batch_size"])


if __name__ == "__main__":
    process.answer(job)
