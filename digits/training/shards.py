"""The gradient of a batch, computed in shards, so that any number of workers gets the same one, bit for bit.

A batch is cut into a fixed number of shards. A worker computes the gradients of its share of them, gets the others'
from the other workers, and adds all in one fixed order. Importing this module imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable

from digits.training.tensorflow import keras, tf
from digits.training.workers import Group

_CONCURRENT = 2  # shards that a worker computes at the same time


Vary = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
Score = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
Compute = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[list[tf.Tensor], tf.Tensor]]


def gradients(network: keras.Model, vary: Vary, score: Score, shards: int, group: Group) -> Compute:
    """Return a function of a batch's images, uint8, its labels, int32, and the training step's number, int32.

    It returns the gradient of each trainable variable, and the sums of loss and correct answers, float32 (2,). It also
    updates the network's other variables: each becomes the mean of what the shards make of it.

    `vary` returns the network's input, given the images of a shard, the step's number and the shard's number in the
    whole training. `score` returns their mean loss and the two sums, given logits and labels.
    """
    # TensorFlow would otherwise add the shards' gradients in another order, which differs with the number of workers.
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    weights, others = network.trainable_variables, network.non_trainable_variables
    averaged = [variable for variable in others if variable.dtype == "float32"]
    parts = [*weights, *averaged]
    sizes = [*(int(tf.size(variable)) for variable in parts), 2]

    def compute_shard(images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """Return all results of a shard in one tensor, float32 (sum of sizes,)."""
        values = [tf.convert_to_tensor(weight) for weight in weights]
        # The others are the states of random numbers: a seed and a counter, which is the shard's number here.
        before = [
            tf.convert_to_tensor(each) if each.dtype == "float32" else tf.stack([each[0], tf.cast(number, each.dtype)])
            for each in others
        ]
        batch = vary(images, step, number)
        with tf.GradientTape() as tape:
            tape.watch(values)
            logits, after = network.stateless_call(values, before, batch, training=True)
            loss, sums = score(logits, labels)
        changed = [value for value, each in zip(after, others, strict=True) if each.dtype == "float32"]
        return tf.concat([tf.reshape(each, [-1]) for each in (*tape.gradient(loss, values), *changed, sums)], 0)

    own = tf.range(group.index * shards // group.count, (group.index + 1) * shards // group.count)

    def compute_batch(images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        divided = [tf.reshape(each, [shards, -1, *each.shape[1:]]) for each in (images, labels)]
        results = tf.map_fn(
            lambda shard: compute_shard(divided[0][shard], divided[1][shard], step, step * shards + shard),
            own,
            fn_output_signature=tf.TensorSpec([sum(sizes)], tf.float32),
            parallel_iterations=_CONCURRENT,
        )
        total = _add(tf.unstack(tf.ensure_shape(group.gather(results), [shards, sum(sizes)])))
        *means, sums = tf.split(total, sizes)
        means = [tf.reshape(mean / shards, each.shape) for mean, each in zip(means, parts, strict=True)]
        for variable, mean in zip(averaged, means[len(weights) :], strict=True):
            variable.assign(mean)
        return means[: len(weights)], sums

    return compute_batch


def _add(values: list[tf.Tensor]) -> tf.Tensor:
    """Return the sum, added in pairs, then in pairs of pairs. The number of values is a power of 2."""
    while len(values) > 1:
        values = [left + right for left, right in zip(values[::2], values[1::2], strict=True)]
    return values[0]
