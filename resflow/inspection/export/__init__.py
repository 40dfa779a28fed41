"""Trained networks as files that other programs open: Keras, PyTorch, ONNX, each with a model card."""
