"""The gradient of a batch in shards."""

import numpy as np

from digits.tasks.task import find
from digits.training import shards
from digits.training.networks import build
from digits.training.tensorflow import keras, tf
from digits.training.workers import ALONE, Group

BATCH = tf.random.stateless_uniform([32, 28, 28, 1], [0, 1])
LABELS = tf.range(32) % 10


def vary(images, step, number):
    """Return the images unchanged."""
    return images


def score(logits, labels):
    """Return the mean loss, and the sums of loss and correct answers."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return tf.reduce_mean(losses), tf.stack([tf.reduce_sum(losses), 0.0])


def compute(name, group, count=8):
    """Return the gradients of a batch, and the network's other variables after it, as arrays."""
    keras.utils.set_random_seed(0)
    network = build(name, find("digits"))
    run = tf.function(shards.gradients(network, vary, score, count, group))
    gradients, sums = run(BATCH, LABELS, tf.constant(0))
    return [each.numpy() for each in (*gradients, sums)], [each.numpy() for each in network.non_trainable_variables]


def test_workers_compute_the_gradient_of_one_worker_bit_for_bit():
    """Two workers that each compute half of the shards and exchange them get what one worker gets."""
    sent = {}

    def record(own, index):
        sent[int(index)] = own
        return own

    for index in (0, 1):
        compute(
            "large",
            Group(
                index, 2, lambda own, index=index: tf.tile(tf.numpy_function(record, [own, index], tf.float32), [2, 1])
            ),
        )
    found = compute("large", Group(0, 2, lambda own: tf.concat([own, sent[1]], 0)))
    for part, expected in zip(found, compute("large", ALONE), strict=True):
        assert all((a == b).all() for a, b in zip(part, expected, strict=True))


def test_the_mean_of_the_shards_is_the_gradient_of_the_batch():
    """Cutting a batch changes its gradient by no more than rounding does."""
    whole, _ = compute("small", ALONE, 1)
    cut, _ = compute("small", ALONE, 8)
    for a, b in zip(whole, cut, strict=True):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-6)
