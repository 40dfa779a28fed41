"""TensorFlow and Keras without what their C++ says of itself. Every module has them from here: one of them is first."""

import sys

from resflow import provenance

# Keras imports these where they are installed, for wrappers and pictures that nothing here uses: two fifths of the
# time that every worker takes to start.
UNUSED = [name for name in ("IPython", "matplotlib", "sklearn") if name not in sys.modules]

with provenance.quiet_import():
    sys.modules.update(dict.fromkeys(UNUSED))  # type: ignore[arg-type]  # None: an ImportError, which Keras expects
    try:
        import keras
        import tensorflow as tf
    finally:
        for name in UNUSED:
            del sys.modules[name]

    tf.config.list_physical_devices("GPU")  # where there is none, CUDA has a line of its own

__all__ = ["keras", "tf"]
