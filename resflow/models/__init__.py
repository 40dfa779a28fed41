"""Keras networks built from the tables in `resflow.architectures`."""

from resflow.models.build import build, initialise

__all__ = ["build", "initialise"]
