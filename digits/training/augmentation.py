"""Random changes to training images, so that a network also recognises pictures made in other ways."""

from __future__ import annotations

from digits.training.recipe import Augmentation
from digits.training.tensorflow import tf

_UNIT = 28  # pixels of a side, to which the ranges refer


def augment(images: tf.Tensor, seed: tf.Tensor, ranges: Augmentation) -> tf.Tensor:
    """Return randomly changed copies of `images`, float32 (n, height, width, channels) in 0..1.

    `seed`, int32 (2,), fixes the changes.
    """
    if ranges.stroke:
        images = _change_strokes(images, seed, ranges.stroke)
    if ranges.rotation or ranges.slant or ranges.scale or ranges.shift:
        images = _move(images, seed, ranges)
    if ranges.flipped or ranges.light or ranges.contrast:
        images = _relight(images, seed, ranges)
    return images


def _move(images: tf.Tensor, seed: tf.Tensor, ranges: Augmentation) -> tf.Tensor:
    """Rotate, slant, stretch and shift each image with a single interpolation."""
    height, width = images.shape[1:3]
    shifts = [ranges.shift * (width / _UNIT), ranges.shift * (height / _UNIT)]
    spread = [ranges.rotation * 0.0174533, ranges.slant, ranges.scale, ranges.scale, *shifts]
    draws = tf.random.stateless_uniform([tf.shape(images)[0], 6], seed, -1.0, 1.0) * tf.constant(spread)
    angle, slant, wider, higher, right, down = tf.unstack(draws, axis=1)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # The transform maps each output pixel to its source, and rotates about the middle of the image.
    a, b = cos * (1 + wider), (slant * cos - sin) * (1 + wider)
    c, d = sin * (1 + higher), (slant * sin + cos) * (1 + higher)
    across, along = (width - 1) / 2, (height - 1) / 2
    x, y = across * (1 - a - b * (along / across)) + right, along * (1 - c * (across / along) - d) + down
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a, b, x, c, d, y, tf.zeros_like(a), tf.zeros_like(a)], axis=1),
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST" if ranges.repeats_edges else "CONSTANT",
    )


def _relight(images: tf.Tensor, seed: tf.Tensor, ranges: Augmentation) -> tf.Tensor:
    """Change light and contrast of each image, and mirror half of them."""
    draws = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1, 3], tf.add(seed, [0, 1]), -1.0, 1.0)
    light, contrast, mirrored = tf.unstack(draws, axis=4)
    if ranges.flipped:
        images = tf.where(mirrored > 0, images[:, :, ::-1], images)
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    changed = mean + (images - mean) * (1 + ranges.contrast * contrast) + ranges.light * light
    return tf.clip_by_value(changed, 0.0, 1.0)


def _change_strokes(images: tf.Tensor, seed: tf.Tensor, share: float) -> tf.Tensor:
    """Blend a share of the images with their dilation or their erosion by a cross of 3 x 3 pixels.

    The strokes of an image smaller than 28 pixels are thinner, and so is the change.
    """
    strength = min(1.0, min(images.shape[1:3]) / _UNIT)
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    thick = thin = images
    for neighbour in (padded[:, 1:-1, :-2], padded[:, 1:-1, 2:], padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]):
        thick, thin = tf.maximum(thick, neighbour), tf.minimum(thin, neighbour)
    # A draw is in -1..1: the image is thinned near -1, thickened near 1, and unchanged in between.
    draws = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], tf.add(seed, [0, 1]), -1.0, 1.0)
    thicken = tf.maximum(draws - (1 - share), 0.0) / share * strength
    thin_by = tf.maximum(-draws - (1 - share), 0.0) / share * strength
    return images + thicken * (thick - images) + thin_by * (thin - images)
