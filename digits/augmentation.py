"""Random changes to training images, so that a network trained on MNIST's scans also reads drawings made with a pen."""

from __future__ import annotations

from dataclasses import dataclass

from digits.model import tf


@dataclass(frozen=True)
class Augmentation:
    """How far images are changed; each range is symmetric and drawn evenly, for each image by itself."""

    rotation: float = 0.0  # degrees
    shear: float = 0.0  # slant: pixels to the side for each pixel down
    scale: float = 0.0  # of each axis by itself, as a share
    shift: float = 0.0  # pixels, each axis
    stroke: float = 0.0  # share of the images whose strokes are made thicker or thinner

    def __call__(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Changed copies of `images`, `float32 (n, 28, 28, 1)` in 0..1; the same `seed` (int32 (2,)) gives the same."""
        if self.stroke:
            images = _change_strokes(images, self.stroke, tf.add(seed, [0, 1]))
        if self.rotation or self.shear or self.scale or self.shift:
            images = self._move(images, seed)
        return images

    def _move(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        n = tf.shape(images)[0]
        spread = tf.constant(
            [self.rotation * 3.14159265 / 180, self.shear, self.scale, self.scale, self.shift, self.shift]
        )
        draws = tf.random.stateless_uniform([n, 6], seed, -1.0, 1.0) * spread
        angle, shear, wide, high, right, down = tf.unstack(draws, axis=1)
        cos, sin = tf.cos(angle), tf.sin(angle)
        # Output pixel to input pixel, about the middle of the image.
        a, b = cos * (1 + wide), (shear * cos - sin) * (1 + wide)
        c, d = sin * (1 + high), (shear * sin + cos) * (1 + high)
        middle = 13.5
        zero = tf.zeros_like(a)
        transforms = tf.stack(
            [a, b, middle - (a + b) * middle + right, c, d, middle - (c + d) * middle + down, zero, zero], axis=1
        )
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=transforms,
            output_shape=[28, 28],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )


def _change_strokes(images: tf.Tensor, share: float, seed: tf.Tensor) -> tf.Tensor:
    """Mix each image with its dilation or erosion by a cross of 3 x 3 pixels."""
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    around = [padded[:, 1:-1, :-2], padded[:, 1:-1, 2:], padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]]
    thick, thin = images, images
    for neighbour in around:
        thick, thin = tf.maximum(thick, neighbour), tf.minimum(thin, neighbour)
    draws = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed, -1.0, 1.0)
    amount = tf.sign(draws) * tf.maximum(0.0, (tf.abs(draws) - (1 - share)) / share)
    return images + tf.maximum(amount, 0.0) * (thick - images) + tf.maximum(-amount, 0.0) * (thin - images)
