"""Keras networks built from the tables in `resflow.architectures`."""

from resflow.models.build import build, build_backbone, build_head, fold, initialise, stage_of

__all__ = ["build", "build_backbone", "build_head", "fold", "initialise", "stage_of"]
