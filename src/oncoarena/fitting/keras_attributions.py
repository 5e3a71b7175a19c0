"""Gradients of Keras models by what they are given: batched heads by their scores, networks by their tracks."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from oncoarena.fitting.attributions import mean_gradient
from oncoarena.fitting.keras_members import WideDeepMembers

# Samples of a step: the activations of every layer are held for the way back.
HEAD_SAMPLES = 1024
TRACK_SAMPLES = 32

Gradient = Callable[[np.ndarray], np.ndarray]


def uses_deep_heads(members: WideDeepMembers, coefficients: np.ndarray) -> bool:
    """Tell whether a deep head has weight; without one the logits are linear in the scores."""
    n_views, _, n_heads, _ = members.head_shape
    return bool(coefficients.reshape(n_views, n_heads)[:, members.sizes["n_wide"] :].any())


def head_gradient(members: WideDeepMembers, coefficients: np.ndarray, label: int) -> Gradient:
    """Give the gradient of a class's score by the scores of components, (n_samples, n_views, r) both ways.

    Parameters: ``members`` of one copy; ``coefficients`` (n_members,) of their logits.
    """
    shares = tf.constant(coefficients, tf.float64)

    def gradient(scores: np.ndarray) -> np.ndarray:
        out = np.empty(scores.shape)
        for start in range(0, len(scores), HEAD_SAMPLES):
            rows = slice(start, start + HEAD_SAMPLES)
            with tf.GradientTape() as tape:
                x = tf.constant(scores[rows], tf.float32)
                tape.watch(x)
                logits = tf.cast(members(x)[:, 0], tf.float64)  # (batch, n_members, n_classes)
                over_mean = logits[..., label] - tf.reduce_mean(logits, axis=-1)
                total = tf.reduce_sum(over_mean * shares)
            out[rows] = tape.gradient(total, x).numpy()
        return out

    return gradient


def mean_head_gradient(
    members: WideDeepMembers, coefficients: np.ndarray, label: int, start: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """Average ``head_gradient`` over the path from ``start`` (1, n_views, r) to each sample of ``scores``.

    Returns (n_samples, n_views, r); (1, n_views, r) where no deep head has weight, as it is the same everywhere.
    """
    gradient = head_gradient(members, coefficients, label)
    if not uses_deep_heads(members, coefficients):
        return gradient(start)
    return mean_gradient(gradient, start, scores)


def track_gradient(network: keras.Model, of_outputs: Gradient) -> Gradient:
    """Give the gradient of a function of a network's outputs by the tracks that the network is given.

    Parameters: ``network`` (batch, n_places, n_channels) -> (batch, n_outputs); ``of_outputs`` the gradient of the
    function by the outputs.
    """

    # As graphs they take half the time of single operations.
    tracks_given = tf.TensorSpec(network.input_shape, tf.float32)
    gradient_given = tf.TensorSpec(network.output_shape, tf.float32)

    @tf.function(input_signature=[tracks_given])
    def outputs_of(x: tf.Tensor) -> tf.Tensor:
        # A network may compute in half precision.
        return tf.cast(network(x, training=False), tf.float32)

    @tf.function(input_signature=[tracks_given, gradient_given])
    def gradient_of(x: tf.Tensor, towards: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = outputs_of(x)
        return tape.gradient(outputs, x, output_gradients=towards)

    def gradient(tracks: np.ndarray) -> np.ndarray:
        out = np.empty(tracks.shape)
        for start in range(0, len(tracks), TRACK_SAMPLES):
            x = tf.constant(tracks[start : start + TRACK_SAMPLES], tf.float32)
            towards = tf.constant(of_outputs(outputs_of(x).numpy()), tf.float32)
            out[start : start + TRACK_SAMPLES] = gradient_of(x, towards).numpy()
        return out

    return gradient
