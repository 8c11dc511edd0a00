"""Random changes to training images, so that a network trained on MNIST's scans also reads pen drawings."""

from __future__ import annotations

from digits.training.recipe import Augmentation
from digits.training.tensorflow import tf

_MIDDLE = 13.5  # of an image of 28 x 28 pixels, counted from 0


def augment(images: tf.Tensor, seed: tf.Tensor, ranges: Augmentation) -> tf.Tensor:
    """Return randomly changed copies of `images`, float32 (n, 28, 28, 1) in 0..1; `seed`, int32 (2,), fixes them."""
    if ranges.stroke:
        images = _change_strokes(images, seed, ranges.stroke)
    if ranges.rotation or ranges.slant or ranges.scale or ranges.shift:
        images = _move(images, seed, ranges)
    return images


def _move(images: tf.Tensor, seed: tf.Tensor, ranges: Augmentation) -> tf.Tensor:
    """Rotate, slant, stretch and shift each image with a single interpolation."""
    spread = [ranges.rotation * 0.0174533, ranges.slant, ranges.scale, ranges.scale, ranges.shift, ranges.shift]
    draws = tf.random.stateless_uniform([tf.shape(images)[0], 6], seed, -1.0, 1.0) * tf.constant(spread)
    angle, slant, width, height, right, down = tf.unstack(draws, axis=1)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # The transform maps each output pixel to its source, and rotates about the middle of the image.
    a, b = cos * (1 + width), (slant * cos - sin) * (1 + width)
    c, d = sin * (1 + height), (slant * sin + cos) * (1 + height)
    x, y = _MIDDLE * (1 - a - b) + right, _MIDDLE * (1 - c - d) + down
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a, b, x, c, d, y, tf.zeros_like(a), tf.zeros_like(a)], axis=1),
        output_shape=[28, 28],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def _change_strokes(images: tf.Tensor, seed: tf.Tensor, share: float) -> tf.Tensor:
    """Blend a share of the images with their dilation or their erosion by a cross of 3 x 3 pixels."""
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    thick = thin = images
    for neighbour in (padded[:, 1:-1, :-2], padded[:, 1:-1, 2:], padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]):
        thick, thin = tf.maximum(thick, neighbour), tf.minimum(thin, neighbour)
    # A draw is in -1..1: the image is thinned near -1, thickened near 1, and unchanged in between.
    draws = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], tf.add(seed, [0, 1]), -1.0, 1.0)
    thicken = tf.maximum(draws - (1 - share), 0.0) / share
    thin_by = tf.maximum(-draws - (1 - share), 0.0) / share
    return images + thicken * (thick - images) + thin_by * (thin - images)
