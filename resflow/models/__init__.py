"""Keras networks, built from the tables in `resflow.architectures`."""

from resflow.environment import settle

settle()
