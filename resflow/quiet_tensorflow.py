"""TensorFlow and Keras without what their C++ says of itself. Every module has them from here: one of them is first."""

from resflow import provenance

with provenance.quiet_import():
    import keras
    import tensorflow as tf

    tf.config.list_physical_devices("GPU")  # where there is none, CUDA has a line of its own

__all__ = ["keras", "tf"]
