"""An opponent of resflow's step: the same network in PyTorch, trained on tensors in memory, of the GPU if on one.

It runs in any Python that has PyTorch: the modules of resflow that it imports are pure Python.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from resflow.architectures import Architecture, Block, Conv, blocks, feature_channels, stem_conv
from resflow.bench import process
from resflow.bench.clock import BATCHES, time_training


def _conv_bn(conv: Conv) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(conv.inputs, conv.outputs, conv.kernel, conv.stride, conv.kernel // 2, bias=False),
        nn.BatchNorm2d(conv.outputs),
    )


class _Residual(nn.Module):
    """One block: its convolutions, and the shortcut around them."""

    def __init__(self, table: Block) -> None:
        super().__init__()
        parts: list[nn.Module] = [_conv_bn(table.convs[0])]
        for conv in table.convs[1:]:
            parts += [nn.ReLU(inplace=True), _conv_bn(conv)]
        self.body = nn.Sequential(*parts)
        self.kind, self.stride = table.shortcut, table.stride
        self.shortcut = _conv_bn(table.shortcut) if isinstance(table.shortcut, Conv) else nn.Identity()
        self.extra = table.convs[-1].outputs - table.convs[0].inputs

    def forward(self, x: Any) -> Any:
        y = self.body(x)
        if self.kind == "zero_pad":
            front = self.extra // 2
            thinned = x[:, :, :: self.stride, :: self.stride]
            y = y + nn.functional.pad(thinned, (0, 0, 0, 0, front, self.extra - front))
        elif self.kind != "none":
            y = y + self.shortcut(x)
        return nn.functional.relu(y, inplace=True)


def build_network(arch: Architecture, classes: int) -> nn.Module:
    """Build the tables of `architectures`: images (n, 3, size, size) to logits (n, classes)."""
    stem: list[nn.Module] = [_conv_bn(stem_conv(arch)), nn.ReLU(inplace=True)]
    if arch.stem == "imagenet":
        stem.append(nn.MaxPool2d(3, 2, 1))
    body = [_Residual(table) for table in blocks(arch)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(feature_channels(arch), classes)]
    return nn.Sequential(*stem, *body, *head)


class Trainer:
    """A network on its device with what trains it, tuned as PyTorch's users tune it there.

    Of `spec`, `channels_last` chooses the layout in memory and `compile` the mode of torch.compile; stock is neither.
    On a GPU cuDNN chooses by measuring, float32 products may use TF32, and SGD is one fused kernel.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        torch.set_num_threads(spec["threads"])
        torch.manual_seed(0)
        on_gpu = spec.get("device") == "gpu"
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high" if on_gpu else "highest")
        self.device = torch.device("cuda" if on_gpu else "cpu")
        self.layout = torch.channels_last if spec.get("channels_last") else torch.contiguous_format
        self.model = build_network(Architecture(**spec["arch"]), spec["classes"])
        self.model.to(self.device, memory_format=self.layout)
        self.forward = torch.compile(self.model, mode=spec["compile"]) if spec.get("compile") else self.model
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01, momentum=0.9, fused=on_gpu or None)
        self.narrow = torch.autocast(self.device.type, torch.bfloat16, enabled=spec["precision"] == "mixed_bfloat16")

    def step(self, images: Any, labels: Any) -> None:
        self.optimizer.zero_grad()
        with self.narrow:
            loss = nn.functional.cross_entropy(self.forward(images), labels)
        loss.backward()
        self.optimizer.step()

    def wait(self) -> None:
        """Return when the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def facts(self) -> dict[str, Any]:
        return {"parameters": sum(p.numel() for p in self.model.parameters()), "torch": torch.__version__}


def job(spec: dict[str, Any]) -> dict[str, Any]:
    """Train for a while on batches that lie on the device."""
    trainer = Trainer(spec)
    batch_size, size, classes = spec["batch_size"], spec["size"], spec["classes"]
    batches = [
        (
            torch.randn(batch_size, 3, size, size, device=trainer.device).to(memory_format=trainer.layout),
            torch.randint(0, classes, (batch_size,), device=trainer.device),
        )
        for _ in range(BATCHES)
    ]

    def train(steps: int) -> None:
        for images, labels in batches[:steps]:
            trainer.step(images, labels)
        trainer.wait()

    return {**time_training(train, batch_size, spec["seconds"]), **trainer.facts()}


if __name__ == "__main__":
    process.answer(job)
