"""Pretrained weights and kept networks: finding and checking them, loading them by name and shape, keeping them.

imagenet          timm's resnet18/34/50/101.tv_in1k from the Hugging Face hub (`hub`)
FILE              .safetensors, .npz or .weights.h5 (`files`), under PyTorch's, keras.applications' or
                  resflow's own names (`names`), with metadata that says how to take them (`metadata`)
run:RUN/TRIAL     the network that a trial of another study kept (`saved`, `description`)
"""
