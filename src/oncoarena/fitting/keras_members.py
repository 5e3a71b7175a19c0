"""Many small wide-and-deep classifiers as one batched Keras model: every view, head and inner fold in one fit.

A *view* is one (n_samples, n_components) matrix of principal-component scores. A *head* is a penalised
linear map (wide), or a linear map plus one GELU layer (wide and deep: DOI 10.1145/2988450.2988454). A
*copy* is one set of training samples: each inner fold's training part, and the whole training part.
A *member* is a view with a head; all copies of all members share one matrix product a layer.
"""

import math
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from oncoarena.cohort import LabelledCohort
from oncoarena.fitting.components import Components
from oncoarena.fitting.gated_selection import gain_over_patients, is_earned
from oncoarena.fitting.keras_replicas import (
    PACKAGE,
    SharedDropout,
    for_every_device,
    n_replicas,
    on_every_device,
    own_share,
)
from oncoarena.fitting.selection import (
    PROBABILITY_FLOOR,
    fit_temperature,
    greedy_selection,
    inner_folds,
    log_loss,
    softmax,
)

# Samples a batch in which members predict.
PREDICTED_SAMPLES = 1024


@dataclass(frozen=True)
class HeadConfig:
    """The heads that every view gets, how they are trained and how members are chosen out of fold."""

    penalties: tuple[float, ...] = (0.1, 0.02, 0.005, 0.001, 0.0003, 0.0001)
    """L2 penalties of the wide heads: lambda of mean cross-entropy + lambda / 2 x sum of squared weights."""
    deep_units: tuple[int, ...] = (32,)
    """GELU units, one deep head each; () for none."""
    deep_penalty: float = 0.0003
    """L2 penalty of all weights of a deep head."""
    feature_dropout: float = 0.2
    """Fraction of components dropped at the entry of the GELU layer while training."""
    label_smoothing: float = 0.05
    """Probability mass spread evenly over the classes in the training targets."""
    focal_imbalance: float = 5.0
    """Wide heads are offered with focal loss as well once the largest class has this many times the smallest."""
    learning_rate: float = 2.0
    """Start of the cosine schedule; views have unit trace, so 2 is stable whatever the cohort."""
    momentum: float = 0.95
    """Nesterov momentum."""
    steps: int = 300
    """Gradient steps."""
    batch_size: int = 256
    """Samples a step; smaller cohorts take full-batch steps."""
    max_components: int = 512
    """Principal components a view at most; up to 513 samples lose nothing."""
    inner_folds: int = 5
    """Patient-grouped inner folds."""
    inner_repeats: int = 2
    """Repeats of the inner folds for wide heads, in cohorts of fewer than ``many_samples``; one above."""
    many_samples: int = 500
    """Training samples from which one repeat of the inner folds is enough."""
    max_members: int = 12
    """Draws of the greedy selection."""


@keras.saving.register_keras_serializable(PACKAGE)
class WideDeepMembers(keras.Model):
    """Batched heads: scores (batch, n_views, n_components) -> logits (batch, n_full, n_members, n_classes).

    All ``n_copies`` copies have wide heads; the first ``n_full`` have all heads. Members are ordered view by view,
    within a view the wide heads, then the deep ones.
    """

    def __init__(
        self, n_views, n_copies, n_full, n_classes, n_wide, deep_units, feature_dropout, seed, **kwargs
    ):
        super().__init__(**kwargs)
        self.sizes = {"n_views": n_views, "n_copies": n_copies, "n_full": n_full, "n_classes": n_classes}
        self.sizes |= {"n_wide": n_wide, "deep_units": list(deep_units)}
        self.sizes |= {"feature_dropout": feature_dropout, "seed": seed}
        self.head_shape = (n_views, n_full, n_wide + len(deep_units), n_classes)
        self.dropout = SharedDropout(feature_dropout, seed=seed, dtype=self.dtype_policy)

    @property
    def n_components(self) -> int:
        return self.linear.shape[1]

    def build(self, input_shape):
        n_views, n_full, _, n_classes = self.head_shape
        n_components = input_shape[-1]
        n_columns = self.sizes["n_copies"] * self.sizes["n_wide"] * n_classes
        n_columns += n_full * len(self.sizes["deep_units"]) * n_classes
        # One product a view serves every copy, head and class: the columns of the kernel are their product.
        self.linear = self.add_weight((n_views, n_components, n_columns), "zeros", name="linear")
        self.bias = self.add_weight((n_views, 1, n_columns), "zeros", name="bias")
        self.hidden, self.hidden_bias, self.top = [], [], []
        for number, units in enumerate(self.sizes["deep_units"]):
            # A sample's scores have length of about 1, so unit weights give unit pre-activations.
            draw, draw_bias = (
                keras.initializers.RandomNormal(stddev=1.0, seed=self.sizes["seed"] + number + add)
                for add in (1, 101)
            )
            name, shape = f"hidden_{number}", (n_views, n_components, n_full * units)
            self.hidden.append(self.add_weight(shape, draw, name=name))
            self.hidden_bias.append(self.add_weight((n_views, 1, shape[2]), draw_bias, name=f"{name}_bias"))
            shape = (n_views, n_full, units, n_classes)
            self.top.append(self.add_weight(shape, "zeros", name=f"top_{number}"))

    def of_copies(self, scores, training=False):
        """Return the logits (n_views, batch, copies, heads, n_classes) of all wide heads, then of deep ones if any."""
        n_views, n_full, _, n_classes = self.head_shape
        wide_shape = (self.sizes["n_copies"], self.sizes["n_wide"], n_classes)
        deep_shape = (n_full, len(self.hidden), n_classes)
        by_view = ops.transpose(scores, (1, 0, 2))  # (n_views, batch, n_components)
        linear = ops.matmul(by_view, self.linear) + self.bias
        # The gradient of a split joins two parts; that of a slice is a large array of zeros, filled in.
        wide, deep = ops.split(linear, [math.prod(wide_shape)], axis=2)
        of_wide = ops.reshape(wide, (n_views, -1, *wide_shape))
        if not self.hidden:
            return [of_wide]
        dropped = ops.transpose(self.dropout(scores, training=True), (1, 0, 2)) if training else by_view
        tops = []
        for kernel, bias, top in zip(self.hidden, self.hidden_bias, self.top, strict=True):
            units = keras.activations.gelu(ops.matmul(dropped, kernel) + bias)
            n_units = top.shape[2]
            units = ops.transpose(ops.reshape(units, (n_views, -1, n_full, n_units)), (0, 2, 1, 3))
            # Divided by the root of the width, one learning rate suits every width.
            tops.append(ops.matmul(units, top / n_units**0.5))
        tops = ops.transpose(ops.stack(tops, axis=2), (0, 3, 1, 2, 4))
        return [of_wide, ops.reshape(deep, (n_views, -1, *deep_shape)) + tops]

    def call(self, scores, training=False):
        n_views, n_full, n_heads, n_classes = self.head_shape
        of_heads = [logits[:, :, :n_full] for logits in self.of_copies(scores, training)]
        logits = ops.transpose(ops.concatenate(of_heads, axis=3), (1, 2, 0, 3, 4))
        return ops.cast(ops.reshape(logits, (-1, n_full, n_views * n_heads, n_classes)), "float32")

    def penalised_weights(self, penalties, deep_penalty):
        """Sum lambda / 2 times the squared weights over all copies; ``penalties`` one a wide head."""
        n_classes, sizes = self.head_shape[3], self.sizes
        column = np.full(self.linear.shape[2], deep_penalty, np.float32)
        of_wide = np.tile(np.repeat(penalties, n_classes), sizes["n_copies"])
        column[: len(of_wide)] = of_wide
        total = ops.sum(ops.sum(ops.square(self.linear), axis=(0, 1)) * column)
        for kernel in (*self.hidden, *self.top):
            total = total + deep_penalty * ops.sum(ops.square(kernel))
        return 0.5 * total

    def get_config(self):
        return {**super().get_config(), **self.sizes}


class _CopyTrainer(keras.Model):
    """Trains all copies at once; its input is row numbers, so the data lie on the device only once."""

    def __init__(self, members, losses, penalties, deep_penalty, scores, labels, weights):
        super().__init__(name="copies")
        self.members, self.wide_losses = members, losses
        self.penalties, self.deep_penalty = penalties, deep_penalty
        targets = np.eye(members.head_shape[3], dtype=np.float32)[labels]
        self.scores = on_every_device(scores)  # (n_samples, n_views, n_components)
        self.targets = on_every_device(targets)  # (n_samples, n_classes)
        self.sample_weights = on_every_device(weights)  # (n_samples, n_copies)

    def build(self, input_shape):
        self.members.build(self.scores.shape)

    def call(self, rows, training=False):
        scores = ops.take(self.scores, own_share(rows), axis=0)
        return self.members.of_copies(ops.cast(scores, self.compute_dtype), training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        rows = own_share(x)
        targets = ops.take(self.targets, rows, axis=0)[None, :, None, None, :]
        weights = ops.take(self.sample_weights, rows, axis=0)[None, :, :, None]
        # All devices add up their losses; the samples are shared among them, the weights are not.
        total = self.members.penalised_weights(self.penalties, self.deep_penalty) / n_replicas()
        wide, *deep = y_pred
        parts = [*ops.split(wide, len(self.wide_losses), axis=3), *deep]
        # Deep heads have the first loss, cross-entropy.
        for loss, logits in zip([*self.wide_losses, self.wide_losses[0]], parts, strict=False):
            logits = ops.cast(logits, "float32")
            losses = loss(ops.broadcast_to(targets, ops.shape(logits)), logits)
            total = total + ops.sum(weights[:, :, : logits.shape[2]] * losses)
        return total


@dataclass(frozen=True)
class TrainedMembers:
    """All members: out-of-fold logits, and the copy trained on the whole training part."""

    oof_logits: np.ndarray
    """(n_members, n_repeats, n_samples, n_classes) float64."""
    folds: np.ndarray
    """(n_repeats, n_samples) inner fold numbers."""
    view: np.ndarray
    """(n_members,) int: the view a member sees."""
    is_deep: np.ndarray
    """(n_members,) bool."""
    names: tuple[str, ...]
    """What kind of head a member has, e.g. "wide 0.01"."""
    model: WideDeepMembers
    """One copy."""


def train_members(scores: np.ndarray, train: LabelledCohort, config: HeadConfig, seed: int) -> TrainedMembers:
    """Train every head on every view, for all inner folds and the whole training part, in one fit.

    Parameters: ``scores`` (n_samples, n_views, n_components) of the training samples, of unit trace a
    view; ``seed`` of inner folds, dropout, initial weights and the order of samples.
    """
    n_samples, n_views, _ = scores.shape
    labels, n_classes = train.labels, len(train.classes)
    n_repeats = config.inner_repeats if n_samples < config.many_samples else 1
    folds = inner_folds(train, config.inner_folds, n_repeats, seed)
    # The first copy sees all samples, every other one all but an inner fold.
    held_out = [(repeat, fold) for repeat, of in enumerate(folds) for fold in range(of.max() + 1)]
    # A sample's weight in a copy: 0 where it is held out; the weights of a copy sum to 1.
    used = np.ones((n_samples, 1 + len(held_out)), dtype=np.float32)
    for copy, (repeat, fold) in enumerate(held_out, 1):
        used[folds[repeat] == fold, copy] = 0.0
    batch_size = min(n_samples, config.batch_size)
    weights = used / used.sum(axis=0) * (n_samples / batch_size)

    cross_entropy = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=config.label_smoothing, reduction=None
    )
    losses = [cross_entropy]
    names = [f"wide {penalty:g}" for penalty in config.penalties]
    class_sizes = np.bincount(labels)
    if class_sizes.max() >= config.focal_imbalance * class_sizes[class_sizes > 0].min():
        focal = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, from_logits=True, reduction=None)
        losses.append(focal)
        names += [f"wide focal {penalty:g}" for penalty in config.penalties]
    n_wide = len(names)
    names += [f"deep {units}" for units in config.deep_units]
    n_full = 1 + sum(repeat == 0 for repeat, _ in held_out)
    sizes = (n_views, used.shape[1], n_full, n_classes, n_wide)
    members = WideDeepMembers(*sizes, config.deep_units, config.feature_dropout, seed)
    penalties = config.penalties * len(losses)
    trainer = _CopyTrainer(members, losses, penalties, config.deep_penalty, scores, labels, weights)
    trainer.build((None,))
    schedule = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.steps)
    optimizer = keras.optimizers.SGD(schedule, momentum=config.momentum, nesterov=True)
    # Else the step is traced twice.
    optimizer.build(trainer.trainable_variables)
    # All steps at one go spare the way through Python; on several devices Keras can do only one at a time.
    trainer.compile(optimizer, steps_per_execution=config.steps if n_replicas() == 1 else 1)
    rng = np.random.default_rng(seed)
    n_passes = -(-config.steps * batch_size // n_samples)
    rows = np.concatenate([rng.permutation(n_samples).astype(np.int32) for _ in range(n_passes)])
    batches = for_every_device(rows[: config.steps * batch_size].reshape(config.steps, batch_size))
    trainer.fit(batches.reshape(-1), batch_size=batches.shape[1], epochs=1, shuffle=False, verbose=0)

    oof = np.empty((n_views, len(names), *folds.shape, n_classes))
    # Batch by batch: the logits of all copies of all samples are many.
    for first in range(0, n_samples, PREDICTED_SAMPLES):
        of_batch = slice(first, first + PREDICTED_SAMPLES)
        batch = ops.convert_to_tensor(scores[of_batch], "float32")
        wide, *deep = map(ops.convert_to_numpy, members.of_copies(batch))
        for copy, (repeat, fold) in enumerate(held_out, 1):
            rows = np.flatnonzero(folds[repeat, of_batch] == fold)
            oof[:, :n_wide, repeat, first + rows] = wide[:, rows, copy].swapaxes(1, 2)
            # Deep heads, dear beside wide ones, are held out in the first repeat only: it stands for all.
            for logits in deep if repeat == 0 else []:
                oof[:, n_wide:, :, first + rows] = logits[:, rows, copy].swapaxes(1, 2)[:, :, None]
    return TrainedMembers(
        oof_logits=oof.reshape(-1, *oof.shape[2:]),
        folds=folds,
        view=np.repeat(np.arange(n_views), len(names)),
        is_deep=np.tile(np.arange(len(names)) >= n_wide, n_views),
        names=tuple(names) * n_views,
        model=take_copy(members, copy=0, views=np.arange(n_views)),
    )


def take_copy(members: WideDeepMembers, copy: int, views: np.ndarray) -> WideDeepMembers:
    """Build the model of one copy that has all heads, and of some views (integer positions), in float32."""
    n_copies, n_full = members.sizes["n_copies"], members.sizes["n_full"]
    sizes = members.sizes | {"n_views": len(views), "n_copies": 1, "n_full": 1}
    taken = WideDeepMembers(**sizes, dtype="float32")
    taken.build((None, len(views), members.n_components))
    n_wide_columns = n_copies * sizes["n_wide"] * sizes["n_classes"]

    def of_copy(weight, n_of=n_full):
        """Take the copy's columns of those of ``n_of`` copies, (n_views, ..., n_of x n_columns)."""
        return np.split(ops.convert_to_numpy(weight)[views], n_of, axis=-1)[copy]

    for new, old in ((taken.linear, members.linear), (taken.bias, members.bias)):
        wide, deep = np.split(ops.convert_to_numpy(old), [n_wide_columns], axis=-1)
        new.assign(np.concatenate([of_copy(wide, n_copies), of_copy(deep)], axis=-1))
    for new, old in zip(taken.hidden + taken.hidden_bias, members.hidden + members.hidden_bias, strict=True):
        new.assign(of_copy(old))
    for new, old in zip(taken.top, members.top, strict=True):
        new.assign(ops.convert_to_numpy(old)[views, copy : copy + 1])
    return taken


def member_logits(members: WideDeepMembers, scores: np.ndarray) -> np.ndarray:
    """Return logits (n_samples, n_copies, n_members, n_classes) float32 of scores (n_samples, n_views, r)."""
    parts = [
        ops.convert_to_numpy(members(ops.convert_to_tensor(scores[i : i + PREDICTED_SAMPLES], "float32")))
        for i in range(0, len(scores), PREDICTED_SAMPLES)
    ]
    n_views, n_copies, n_heads, n_classes = members.head_shape
    return np.concatenate([np.empty((0, n_copies, n_views * n_heads, n_classes), np.float32), *parts])


def stack_scores(scores: list[np.ndarray], n_components: int | None = None) -> np.ndarray:
    """Stack scores (n_samples, r of the view) of several views to (n_samples, n_views, n_components).

    Views of fewer components are filled with zeros; None takes the largest r (at least 1).
    """
    n_components = n_components or max(1, *(view.shape[1] for view in scores))
    stacked = np.zeros((len(scores[0]), len(scores), n_components), dtype=np.float32)
    for number, view in enumerate(scores):
        stacked[:, number, : view.shape[1]] = view
    return stacked


def leading(components: Components, n_components: int) -> Components:
    """Keep the first components, those of largest variance."""
    basis, scores = components.basis[:, :n_components], components.train_scores[:, :n_components]
    return Components(components.mean, basis, scores)


@dataclass(frozen=True)
class Selection:
    """The chosen members; the logits of a sample are ``coefficients`` times those of its members."""

    weights: np.ndarray
    """(n_members,) share of each member, of sum 1."""
    coefficients: np.ndarray
    """(n_members,) share times the temperatures of the member and of the whole."""
    temperature: float
    """That of the whole: the logits before calibration are those over this."""
    member_log_loss: np.ndarray
    """(n_members,) out-of-fold log loss of each member alone, at its own temperature (nats)."""
    log_loss: float
    """Out-of-fold log loss of the choice (nats)."""
    gain: float
    """Fall of the log loss if gated members are offered too (nats)."""
    gain_error: float
    """Standard error of the gain over patients."""


def select_members(
    oof_logits: np.ndarray, train: LabelledCohort, is_gated: np.ndarray, max_members: int
) -> Selection:
    """Choose members by out-of-fold log loss; gated ones only where their gain is earned (``gated_selection``).

    Parameters: ``oof_logits`` (n_members, n_repeats, n_samples, n_classes) of the training samples;
    ``is_gated`` (n_members,) bool: members that have to earn their place.
    """
    labels = train.labels
    n_members, n_repeats, _, n_classes = oof_logits.shape
    flat = oof_logits.reshape(n_members, -1, n_classes)  # (n_members, n_repeats x n_samples, n_classes)
    flat_labels = np.tile(labels, n_repeats)
    temperatures = np.array([fit_temperature(logits, flat_labels) for logits in flat])
    flat = flat * temperatures[:, None, None]

    def choose(offered):
        weights = np.zeros(n_members)
        weights[offered] = greedy_selection(flat[offered], flat_labels, max_members)
        logits = np.tensordot(weights, flat, axes=1).reshape(n_repeats, -1, n_classes)
        # One temperature a repeat: its smoothing counts samples, and a repeat adds none.
        temperature = np.exp(np.mean([np.log(fit_temperature(repeat, labels)) for repeat in logits]))
        truth = softmax(temperature * logits)[:, np.arange(len(labels)), labels]
        losses = -np.log(np.maximum(truth, PROBABILITY_FLOOR)).mean(axis=0)  # (n_samples,)
        return weights, weights * temperatures * temperature, losses, float(temperature)

    plain, everyone = np.flatnonzero(~is_gated), np.arange(n_members)
    chosen, gain, gain_error = choose(plain), 0.0, 0.0
    if is_gated.any():
        offered = choose(everyone)
        gain, gain_error = gain_over_patients(chosen[2], offered[2], train.patient_ids)
        chosen = offered if is_earned(gain, gain_error) else chosen
    alone = np.array([log_loss(softmax(logits), flat_labels) for logits in flat])
    weights, coefficients, losses, temperature = chosen
    return Selection(weights, coefficients, temperature, alone, float(losses.mean()), gain, gain_error)
