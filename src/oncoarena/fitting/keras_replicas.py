"""What makes a Keras model trained on several devices (MirroredStrategy) the one that a single device trains.

Keras adds up the gradients of the devices. Left to the model are: shares of a batch that differ by a sample, terms of
the loss that are no sum over samples, masks of dropout, clipped gradients, and data that lie on the devices all along.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

PACKAGE = "oncoarena"


def n_replicas() -> int:
    """Return on how many devices the variables of this scope lie."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def on_every_device(values: np.ndarray) -> tf.Tensor | tf.Variable:
    """Put an array where a model is trained: once on each device."""
    tensor = ops.convert_to_tensor(values, "float32")
    return tensor if n_replicas() == 1 else tf.Variable(tensor, trainable=False)


def for_every_device(rows: np.ndarray) -> np.ndarray:
    """Repeat each batch (n_batches, batch_size) so that ``model.fit`` hands the whole of it to every device.

    Devices then take their ``own_share``; what Keras deals out itself has to be the same number of samples each.
    """
    return np.tile(rows, (1, n_replicas()))


def own_share(batch: tf.Tensor) -> tf.Tensor:
    """Take the samples of a whole batch (n_samples, ...) that are this device's."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return batch
    n_samples, number, n = tf.shape(batch)[0], context.replica_id_in_sync_group, context.num_replicas_in_sync
    return batch[n_samples * number // n : n_samples * (number + 1) // n]


@keras.saving.register_keras_serializable(PACKAGE)
class SharedDropout(keras.layers.Dropout):
    """Dropout whose mask is drawn for the whole batch, of which every device takes the rows of its samples."""

    def call(self, inputs, training=False):
        context = tf.distribute.get_replica_context()
        if not training or self.rate == 0 or context is None or context.num_replicas_in_sync == 1:
            return super().call(inputs, training=training)
        number = context.replica_id_in_sync_group
        n_rows = tf.shape(inputs)[0]
        n_rows_of = context.all_gather(n_rows[None], axis=0)  # (n_replicas,)
        shape = tf.concat([tf.reduce_sum(n_rows_of)[None], tf.shape(inputs)[1:]], axis=0)
        ones = tf.ones(shape, inputs.dtype)
        mask = keras.random.dropout(ones, self.rate, seed=self.seed_generator)
        first = tf.reduce_sum(n_rows_of[:number])
        return inputs * mask[first : first + n_rows]


class SharedSteps(keras.Model):
    """Steps of a network with a clipped mean loss: the mean of the whole batch, clipped once it is added up."""

    def __init__(self, network: keras.Model, loss: keras.losses.Loss, batch_size: int, clip_norm: float):
        """``loss`` gives one value a sample (reduction None); ``clip_norm`` is that of each variable's gradient."""
        super().__init__(name="shared_steps")
        self.network, self.loss_of_samples = network, loss
        self.batch_size, self.clip_norm = batch_size, clip_norm

    def call(self, inputs, training=False):
        return self.network(inputs, training=training)

    def train_step(self, data):
        inputs, targets = map(own_share, data)
        context = tf.distribute.get_replica_context()
        n = context.num_replicas_in_sync
        with tf.GradientTape() as tape:
            losses = self.loss_of_samples(targets, self(inputs, training=True))
            total = tf.reduce_sum(losses) / self.batch_size + tf.add_n(self.network.losses) / n
        variables = self.network.trainable_variables
        gradients = context.all_reduce("SUM", tape.gradient(total, [v.value for v in variables]))
        # The optimizer adds up what the devices hand it.
        gradients = [tf.clip_by_norm(gradient, self.clip_norm) / n for gradient in gradients]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return {"loss": total}
