"""Keras networks, built from the tables in `resflow.architectures`."""
