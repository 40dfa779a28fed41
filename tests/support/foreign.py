"""Exported files in other programs: `python foreign.py JOBS` prints the logits of each as JSON. Knows no resflow.

JOBS is a JSON list of {"kind", "folder", "name"}. The kind is torch (model.py), torchvision or timm (their network
`name`) or onnx; the folder has the exported files and images.npy, uint8 (images, size, size, 3).
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def torch_logits(folder: Path, images: np.ndarray) -> Any:
    import torch

    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    with torch.no_grad():
        return module.load()(torch.from_numpy(images).permute(0, 3, 1, 2))


def public_logits(library: str, name: str, folder: Path, images: np.ndarray) -> Any:
    import torch
    from safetensors.torch import load_file

    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    classes = len(about["classes"])
    if library == "timm":
        import timm

        model = timm.create_model(name, num_classes=classes)
    else:
        import torchvision

        model = getattr(torchvision.models, name)(num_classes=classes)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    mean, deviation = (torch.tensor(about["normalisation"][key]).view(3, 1, 1) for key in ("mean", "deviation"))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.no_grad():
        return model.eval()((pixels - mean) / deviation)


def onnx_logits(folder: Path, images: np.ndarray) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": images.astype(np.float32)})[0]


def answer(kind: str, folder: Path, name: str) -> list[list[float]]:
    images = np.load(folder / "images.npy")
    if kind == "onnx":
        logits = onnx_logits(folder, images)
    elif kind == "torch":
        logits = torch_logits(folder, images)
    else:
        logits = public_logits(kind, name, folder, images)
    return np.asarray(logits).tolist()


if __name__ == "__main__":
    jobs = json.loads(sys.argv[1])
    print(json.dumps([answer(job["kind"], Path(job["folder"]), job["name"]) for job in jobs]))
