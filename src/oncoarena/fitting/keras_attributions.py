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

    def gradient(tracks: np.ndarray) -> np.ndarray:
        out = np.empty(tracks.shape)
        for start in range(0, len(tracks), TRACK_SAMPLES):
            rows = slice(start, start + TRACK_SAMPLES)
            with tf.GradientTape() as tape:
                x = tf.constant(tracks[rows], tf.float32)
                tape.watch(x)
                # A network may compute in half precision.
                outputs = tf.cast(network(x, training=False), tf.float32)
            towards = tf.cast(of_outputs(outputs.numpy()), tf.float32)
            out[rows] = tape.gradient(outputs, x, output_gradients=towards).numpy()
        return out

    return gradient
