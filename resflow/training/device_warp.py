"""The augmented views of `pipeline.transform` as a few TensorFlow operations, for graphs that hold whole epochs.

TensorFlow's own ImageProjectiveTransformV3 does not compile under XLA. This does: coordinates in float32, four gathers
and two interpolations, in the order in which OpenCV 5 takes them and rounded as OpenCV does, half to even. Fewer than
one pixel in a thousand then differs from the host's, by one grey level: where a compiler has rounded a coordinate
otherwise. Measured on CPUs, with XLA and without; on a GPU it has not run yet.
"""

from __future__ import annotations

from typing import Any

from resflow.quiet_tensorflow import tf


def warp(images: Any, rows: Any) -> Any:
    """Return the views `rows`, float32 (n, 6), of uint8 images (n, size, size, 3): whole grey levels in float32.

    Without XLA it holds some seven batches of float32 images at a time: 1.1 GB for 256 images of 224 pixels.
    """
    shape = tf.shape(images)
    size, pixels = images.shape[1], tf.reshape(images, (shape[0], -1, images.shape[3]))
    a, b, e, c, d, f = (rows[:, column, None, None] for column in range(6))
    across = tf.range(size, dtype=tf.float32)
    down = across[:, None]
    x, y = a * across + (b * down + e), c * across + (d * down + f)
    left, top = tf.floor(x), tf.floor(y)
    beside, below = (x - left)[..., None], (y - top)[..., None]  # how far towards the next pixel

    def grey(place_x: Any, place_y: Any) -> Any:
        """Return the pixels at whole places, of which those outside are the nearest on the edge."""
        # In float32, which has every whole number below 2**24, until the last: without XLA, TensorFlow computes with
        # whole numbers of 32 bits on the host, and reshapes them there.
        place = tf.clip_by_value(place_y, 0, size - 1) * size + tf.clip_by_value(place_x, 0, size - 1)
        taken = tf.gather(pixels, tf.cast(tf.reshape(place, (shape[0], -1)), tf.int32), batch_dims=1)
        return tf.cast(tf.reshape(taken, shape), tf.float32)

    first, second = grey(left, top), grey(left, top + 1)
    upper = first + beside * (grey(left + 1, top) - first)
    lower = second + beside * (grey(left + 1, top + 1) - second)
    return tf.round(upper + below * (lower - upper))
