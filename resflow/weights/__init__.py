"""Pretrained weights and kept networks: found, checked, loaded by name and shape, saved.

imagenet          timm's resnet18/34/50/101.tv_in1k from the Hugging Face hub (`hub`)
FILE              .safetensors, .npz or .weights.h5 (`files`), under PyTorch's, keras.applications' or
                  resflow's own names (`names`), with what it says of itself (`metadata`)
run:RUN/TRIAL     what a trial of another study kept (`saved`, `description`)
"""
