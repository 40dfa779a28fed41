"""An opponent of resflow's epochs: PyTorch on augmented batches, with both evaluations after the steps of an epoch.

Images come from a DataLoader with worker processes, or lie on the device, where they are augmented batch by batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from resflow.bench import process
from resflow.bench.clock import EVALUATION_BATCH, input_wait, time_passes
from resflow.bench.contenders.torch_step import Trainer

MEAN, DEVIATION = 128.0, 64.0


class Photos(Dataset):
    """Images in memory, uint8 (n, 3, size, size), each flipped and cropped by its worker as it is taken."""

    def __init__(self, images: Any, labels: Any, padding: int, augmented: bool) -> None:
        self.images, self.labels, self.padding, self.augmented = images, labels, padding, augmented

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = self.images[index], self.labels[index]
        if not self.augmented:
            return image, label
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        size, padding = image.shape[-1], self.padding
        wide = nn.functional.pad(image[None].float(), (padding,) * 4, mode="replicate")[0].to(torch.uint8)
        top, left = torch.randint(0, 2 * padding + 1, (2,)).tolist()
        return wide[:, top : top + size, left : left + size], label


def augment(images: Any, padding: int) -> Any:
    """Return a batch on the device, each image flipped and cropped by draws of its own."""
    count, _, size, _ = images.shape
    device = images.device
    wide = nn.functional.pad(images.float(), (padding,) * 4, mode="replicate")
    top, left = torch.randint(0, 2 * padding + 1, (2, count, 1), device=device)
    steps = torch.arange(size, device=device)
    columns = torch.where(torch.rand(count, 1, device=device) < 0.5, steps.flip(0), steps) + left
    rows = torch.arange(count, device=device)[:, None, None]
    return wide.permute(0, 2, 3, 1)[rows, (top + steps)[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class Epochs:
    """The epochs of one training; `fed` tells whether a DataLoader feeds them."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.trainer, self.spec, self.fed = Trainer(spec), spec, bool(spec["workers"])
        train, validation = spec["counts"]
        draw = torch.Generator().manual_seed(0)
        size, count = spec["size"], train + validation
        images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=draw)
        labels = torch.randint(0, spec["classes"], (count,), generator=draw)
        parts = {"train": slice(0, train), "validation": slice(train, count)}
        self.steps_seconds: list[float] = []
        if self.fed:
            self.training = self._loader(images[:train], labels[:train], spec["batch_size"], augmented=True)
            self.evaluated = {
                name: self._loader(images[part], labels[part], EVALUATION_BATCH, augmented=False)
                for name, part in parts.items()
            }
        else:
            images, labels = images.to(self.trainer.device), labels.to(self.trainer.device)
            self.parts = {name: (images[part], labels[part]) for name, part in parts.items()}

    def _loader(self, images: Any, labels: Any, batch_size: int, augmented: bool) -> Any:
        return DataLoader(
            Photos(images, labels, self.spec["padding"], augmented),
            batch_size,
            shuffle=augmented,
            drop_last=augmented,
            num_workers=self.spec["workers"],
            pin_memory=self.trainer.device.type == "cuda",
            persistent_workers=True,
        )

    def run(self) -> None:
        """Train for an epoch and evaluate both parts."""
        start = time.perf_counter()
        self.trainer.model.train()
        for images, labels in self._training_batches():
            self.trainer.step(self._prepare(images), labels)
        self.trainer.wait()
        self.steps_seconds.append(time.perf_counter() - start)
        self.trainer.model.eval()
        for part in ("train", "validation"):
            self._evaluate(part)

    def _training_batches(self) -> Iterator[tuple[Any, Any]]:
        if self.fed:
            yield from self._to_device(self.training)
            return
        images, labels = self.parts["train"]
        batch_size = self.spec["batch_size"]
        order = torch.randperm(len(images), device=images.device)
        for step in range(len(images) // batch_size):
            chosen = order[step * batch_size : (step + 1) * batch_size]
            yield augment(images[chosen], self.spec["padding"]), labels[chosen]

    def _to_device(self, loader: Any) -> Iterator[tuple[Any, Any]]:
        for images, labels in loader:
            yield tuple(tensor.to(self.trainer.device, non_blocking=True) for tensor in (images, labels))

    def _prepare(self, images: Any) -> Any:
        return ((images.float() - MEAN) / DEVIATION).to(memory_format=self.trainer.layout)

    @torch.no_grad()
    def _evaluate(self, part: str) -> tuple[float, float]:
        """Return the mean loss and the top-1 of a part."""
        batches = self._to_device(self.evaluated[part]) if self.fed else zip(*self._split(part), strict=True)
        total = torch.zeros(2, device=self.trainer.device)
        for images, labels in batches:
            with self.trainer.narrow:
                logits = self.trainer.forward(self._prepare(images)).float()
            total[0] += nn.functional.cross_entropy(logits, labels, reduction="sum")
            total[1] += (logits.argmax(1) == labels).sum()
        loss, right = total.tolist()
        count = self.spec["counts"][part == "validation"]
        return loss / count, right / count

    def _split(self, part: str) -> list[Any]:
        return [tensor.split(EVALUATION_BATCH) for tensor in self.parts[part]]

    def time_steps_alone(self) -> float:
        """Return the seconds of an epoch's steps on one batch that lies on the device, augmented and all."""
        self.trainer.model.train()
        images, labels = next(self._training_batches())
        self.trainer.wait()
        start = time.perf_counter()
        for _ in range(self.spec["counts"][0] // self.spec["batch_size"]):
            self.trainer.step(self._prepare(images), labels)
        self.trainer.wait()
        return time.perf_counter() - start


def job(spec: dict[str, Any]) -> dict[str, Any]:
    """Train whole epochs for a while, by `workers` of a DataLoader, or by none and with the images on the device."""
    epochs = Epochs(spec)
    timed = time_passes(epochs.run, spec["counts"][0], spec["seconds"])
    wait = input_wait(epochs.time_steps_alone(), epochs.steps_seconds) if epochs.fed else {}
    return {**timed, **wait, **epochs.trainer.facts()}


if __name__ == "__main__":
    process.answer(job)
