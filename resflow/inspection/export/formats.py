"""The files of an export, by what `resflow export --format` calls them, and what all of them take and give."""

from __future__ import annotations

from resflow import workspace

SAFETENSORS, KERAS, TORCH, ONNX = workspace.SAFETENSORS, ".keras", ".py", ".onnx"
FORMATS = {  # what each writes, beside the model card and model.json
    "keras": (KERAS,),
    "safetensors": (SAFETENSORS,),
    "both": (SAFETENSORS, KERAS),
    "torch": (SAFETENSORS, TORCH),  # tensors, and the network in PyTorch that loads them
    "onnx": (ONNX,),
}
SUFFIXES = tuple(dict.fromkeys(suffix for suffixes in FORMATS.values() for suffix in suffixes))
PREPROCESSING = (
    "decode the first frame, apply its EXIF orientation, put transparency on white, convert to RGB (16-bit grey: "
    "divided by 257)",
    "take the largest centred square",
    "resample it to image_size x image_size by Lanczos, antialiased (Pillow's resize); a photo of that size stays as "
    "it is",
    "take pixels of 0 to 255 as they are: (pixel - mean) / deviation, a channel each, is inside model.keras, model.py "
    "and model.onnx; the bare tensors of model.safetensors want it done before",
)
OUTPUT = "logits, float32 (images, classes) in the order of classes; their softmax is the probabilities"
