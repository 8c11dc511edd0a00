"""Random changes to training images, so that a network trained on MNIST's scans also reads drawings made with a pen."""

from __future__ import annotations

from digits.training.networks import tf
from digits.training.recipe import Augmentation

_MIDDLE = 13.5  # of an image of 28 x 28 pixels, counted from 0


def augment(images: tf.Tensor, seed: tf.Tensor, how: Augmentation) -> tf.Tensor:
    """Changed copies of `images`, `float32 (n, 28, 28, 1)` in 0..1.

    The same `seed`, `int32 (2,)`, gives the same changes.
    """
    if how.stroke:
        images = _change_strokes(images, seed, how.stroke)
    if how.rotation or how.slant or how.scale or how.shift:
        images = _move(images, seed, how)
    return images


def _move(images: tf.Tensor, seed: tf.Tensor, how: Augmentation) -> tf.Tensor:
    """Rotate, slant, stretch and shift each image, in one go through one interpolation."""
    spread = [how.rotation * 0.0174533, how.slant, how.scale, how.scale, how.shift, how.shift]
    draws = tf.random.stateless_uniform([tf.shape(images)[0], 6], seed, -1.0, 1.0) * tf.constant(spread)
    angle, slant, width, height, right, down = tf.unstack(draws, axis=1)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # The operation asks where each output pixel comes from; all turns about the middle of the image.
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
    """Mix a share of the images with their dilation or their erosion by a cross of 3 x 3 pixels."""
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    thick = thin = images
    for neighbour in (padded[:, 1:-1, :-2], padded[:, 1:-1, 2:], padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]):
        thick, thin = tf.maximum(thick, neighbour), tf.minimum(thin, neighbour)
    # Drawn from -1..1; the middle, where nothing is done, is as wide as the rest of the images.
    draws = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], tf.add(seed, [0, 1]), -1.0, 1.0)
    thicken = tf.maximum(draws - (1 - share), 0.0) / share
    thin_by = tf.maximum(-draws - (1 - share), 0.0) / share
    return images + thicken * (thick - images) + thin_by * (thin - images)
