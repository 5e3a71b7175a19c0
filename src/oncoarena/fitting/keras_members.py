"""Many small wide-and-deep classifiers as one batched Keras model: every view, head and inner fold in one fit.

A *view* is one (n_samples, n_components) matrix of principal-component scores. A *head* is a penalised
linear map (wide), or a linear map plus one GELU layer (wide and deep: DOI 10.1145/2988450.2988454). A
*copy* is one set of training samples: each inner fold's training part, and the whole training part.
A *member* is a view with a head; all copies of all members share one matrix product a layer.
"""

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from oncoarena.cohort import LabelledCohort
from oncoarena.fitting.components import Components
from oncoarena.fitting.gated_selection import gain_over_patients
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
    deep_units: tuple[int, ...] = (16, 64)
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
    steps: int = 400
    """Gradient steps."""
    batch_size: int = 256
    """Samples a step; smaller cohorts take full-batch steps."""
    max_components: int = 512
    """Principal components a view at most; up to 513 samples lose nothing."""
    inner_folds: int = 5
    """Patient-grouped inner folds."""
    inner_repeats: int = 2
    """Repeats of the inner folds in cohorts of fewer than ``many_samples``; one above."""
    many_samples: int = 500
    """Training samples from which one repeat of the inner folds is enough."""
    max_members: int = 12
    """Draws of the greedy selection."""


@keras.saving.register_keras_serializable(PACKAGE)
class WideDeepMembers(keras.Model):
    """Batched heads: scores (batch, n_views, n_components) -> logits (batch, n_copies, n_members, n_classes).

    Members are ordered view by view, within a view the wide heads, then the deep ones.
    """

    def __init__(self, n_views, n_copies, n_classes, n_wide, deep_units, feature_dropout, seed, **kwargs):
        super().__init__(**kwargs)
        self.sizes = {"n_views": n_views, "n_copies": n_copies, "n_classes": n_classes, "n_wide": n_wide}
        self.sizes |= {"deep_units": list(deep_units), "feature_dropout": feature_dropout, "seed": seed}
        n_heads = n_wide + len(deep_units)
        precision = {"dtype": self.dtype_policy}
        self.head_shape = (n_views, n_copies, n_heads, n_classes)
        # One product a view serves every copy, head and class: the columns of the kernel are their product.
        self.wide = keras.layers.EinsumDense(
            "bvr,vrj->bvj",
            output_shape=(n_views, n_copies * n_heads * n_classes),
            bias_axes="vj",
            kernel_initializer="zeros",
            name="wide",
            **precision,
        )
        self.dropout = SharedDropout(feature_dropout, seed=seed, **precision)
        self.hidden, self.deep = [], []
        for i, units in enumerate(deep_units):
            self.hidden.append(
                keras.layers.EinsumDense(
                    "bvr,vrj->bvj",
                    output_shape=(n_views, n_copies * units),
                    activation="gelu",
                    bias_axes="vj",
                    # A sample's scores have length of about 1, so unit weights give unit pre-activations.
                    kernel_initializer=keras.initializers.RandomNormal(stddev=1.0, seed=seed + 1 + i),
                    bias_initializer=keras.initializers.RandomNormal(stddev=1.0, seed=seed + 101 + i),
                    name=f"hidden_{i}",
                    **precision,
                )
            )
            self.deep.append(
                keras.layers.EinsumDense(
                    "bvcu,vcuk->bvck",
                    output_shape=(n_views, n_copies, n_classes),
                    kernel_initializer="zeros",
                    name=f"deep_{i}",
                    **precision,
                )
            )

    @property
    def n_components(self) -> int:
        return self.wide.kernel.shape[1]

    def build(self, input_shape):
        n_views, n_copies, _, _ = self.head_shape
        self.wide.build(input_shape)
        for hidden, deep in zip(self.hidden, self.deep, strict=True):
            hidden.build(input_shape)
            deep.build((None, n_views, n_copies, hidden.kernel.shape[-1] // n_copies))

    def call(self, scores, training=False):
        n_views, n_copies, n_heads, n_classes = self.head_shape
        logits = ops.reshape(self.wide(scores), (-1, *self.head_shape))
        if self.hidden:
            dropped = self.dropout(scores, training=training)
            deep = []
            for hidden, top in zip(self.hidden, self.deep, strict=True):
                units = hidden(dropped)  # (batch, n_views, n_copies x units)
                n_units = units.shape[-1] // n_copies
                # Divided by the root of the width, one learning rate suits every width.
                units = ops.reshape(units, (-1, n_views, n_copies, n_units)) / n_units**0.5
                deep.append(top(units))
            n_wide = n_heads - len(deep)
            logits = ops.concatenate(
                [logits[:, :, :, :n_wide], logits[:, :, :, n_wide:] + ops.stack(deep, axis=3)], axis=3
            )
        logits = ops.transpose(logits, (0, 2, 1, 3, 4))  # (batch, n_copies, n_views, n_heads, n_classes)
        return ops.cast(ops.reshape(logits, (-1, n_copies, n_views * n_heads, n_classes)), "float32")

    def penalised_weights(self, penalties, deep_penalty):
        """Sum lambda / 2 times the squared weights over all copies; ``penalties`` one a head."""
        _, n_copies, _, n_classes = self.head_shape
        column = np.repeat(np.asarray(penalties, np.float32), n_classes)
        total = ops.sum(ops.square(self.wide.kernel) * np.tile(column, n_copies))
        for layer in (*self.hidden, *self.deep):
            total = total + deep_penalty * ops.sum(ops.square(layer.kernel))
        return 0.5 * total

    def get_config(self):
        return {**super().get_config(), **self.sizes}


class _CopyTrainer(keras.Model):
    """Trains all copies at once; its input is row numbers, so the data lie on the device only once."""

    def __init__(self, members, losses, penalties, deep_penalty, scores, labels, weights):
        super().__init__(name="copies")
        self.members, self.head_losses = members, losses
        self.penalties, self.deep_penalty = penalties, deep_penalty
        targets = np.eye(members.head_shape[3], dtype=np.float32)[labels]
        self.scores = on_every_device(scores)  # (n_samples, n_views, n_components)
        self.targets = on_every_device(targets)  # (n_samples, n_classes)
        self.sample_weights = on_every_device(weights)  # (n_samples, n_copies)

    def build(self, input_shape):
        self.members.build(self.scores.shape)

    def call(self, rows, training=False):
        return self.members(ops.take(self.scores, own_share(rows), axis=0), training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        n_views, n_copies, n_heads, n_classes = self.members.head_shape
        rows = own_share(x)
        logits = ops.reshape(y_pred, (-1, n_copies, n_views, n_heads, n_classes))
        targets = ops.take(self.targets, rows, axis=0)[:, None, None, None, :]
        weights = ops.take(self.sample_weights, rows, axis=0)[:, :, None, None]
        # All devices add up their losses; the samples are shared among them, the weights are not.
        total = self.members.penalised_weights(self.penalties, self.deep_penalty) / n_replicas()
        start = 0
        for loss, n_with_loss in self.head_losses:
            part = logits[:, :, :, start : start + n_with_loss]
            total = total + ops.sum(weights * loss(ops.broadcast_to(targets, ops.shape(part)), part))
            start += n_with_loss
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
    # A sample's weight in a copy: 0 where it is held out; the weights of a copy sum to 1.
    held_out = [(repeat, fold) for repeat, of in enumerate(folds) for fold in range(of.max() + 1)]
    used = np.ones((n_samples, len(held_out) + 1), dtype=np.float32)
    for copy, (repeat, fold) in enumerate(held_out):
        used[folds[repeat] == fold, copy] = 0.0
    batch_size = min(n_samples, config.batch_size)
    weights = used / used.sum(axis=0) * (n_samples / batch_size)

    cross_entropy = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=config.label_smoothing, reduction=None
    )
    losses = [(cross_entropy, len(config.penalties))]
    names = [f"wide {penalty:g}" for penalty in config.penalties]
    class_sizes = np.bincount(labels)
    if class_sizes.max() >= config.focal_imbalance * class_sizes[class_sizes > 0].min():
        focal = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, from_logits=True, reduction=None)
        losses.append((focal, len(config.penalties)))
        names += [f"wide focal {penalty:g}" for penalty in config.penalties]
    n_wide = len(names)
    if config.deep_units:
        losses.append((cross_entropy, len(config.deep_units)))
        names += [f"deep {units}" for units in config.deep_units]
    penalties = [*config.penalties * (n_wide // len(config.penalties))]
    penalties += [config.deep_penalty] * len(config.deep_units)

    members = WideDeepMembers(
        n_views, used.shape[1], n_classes, n_wide, config.deep_units, config.feature_dropout, seed
    )
    trainer = _CopyTrainer(members, losses, penalties, config.deep_penalty, scores, labels, weights)
    schedule = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.steps)
    trainer.build((None,))
    trainer.compile(keras.optimizers.SGD(schedule, momentum=config.momentum, nesterov=True))
    rng = np.random.default_rng(seed)
    n_passes = -(-config.steps * batch_size // n_samples)
    rows = np.concatenate([rng.permutation(n_samples).astype(np.int32) for _ in range(n_passes)])
    batches = for_every_device(rows[: config.steps * batch_size].reshape(config.steps, batch_size))
    trainer.fit(batches.reshape(-1), batch_size=batches.shape[1], epochs=1, shuffle=False, verbose=0)

    oof = np.empty((n_views * len(names), len(folds), n_samples, n_classes))
    # Batch by batch: the logits of all copies of all samples are many.
    for first in range(0, n_samples, PREDICTED_SAMPLES):
        of_batch = slice(first, first + PREDICTED_SAMPLES)
        logits = member_logits(members, scores[of_batch])  # (n_batch, n_copies, n_members, n_classes)
        for copy, (repeat, fold) in enumerate(held_out):
            rows = np.flatnonzero(folds[repeat, of_batch] == fold)
            oof[:, repeat, first + rows] = logits[rows, copy].transpose(1, 0, 2)
    return TrainedMembers(
        oof_logits=oof,
        folds=folds,
        view=np.repeat(np.arange(n_views), len(names)),
        is_deep=np.tile(np.arange(len(names)) >= n_wide, n_views),
        names=tuple(names) * n_views,
        model=take_copy(members, copy=len(held_out), views=np.arange(n_views)),
    )


def take_copy(members: WideDeepMembers, copy: int, views: np.ndarray) -> WideDeepMembers:
    """Build the model of one copy and of some views (integer positions) from the weights of all, in float32."""
    n_copies = members.head_shape[1]
    taken = WideDeepMembers(**{**members.sizes, "n_views": len(views), "n_copies": 1}, dtype="float32")
    taken.build((None, len(views), members.n_components))

    def of_copy(weight, n_columns):
        """The copy's columns of a weight (n_views, ..., n_copies x n_columns)."""
        weight = ops.convert_to_numpy(weight)[views]
        return weight.reshape(*weight.shape[:-1], n_copies, n_columns)[..., copy, :]

    for new, old in zip([taken.wide, *taken.hidden], [members.wide, *members.hidden], strict=True):
        n_columns = old.kernel.shape[-1] // n_copies
        new.set_weights([of_copy(old.kernel, n_columns), of_copy(old.bias, n_columns)])
    for new, old in zip(taken.deep, members.deep, strict=True):
        new.set_weights([ops.convert_to_numpy(old.kernel)[views, copy : copy + 1]])
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
    """Choose members by out-of-fold log loss; gated ones only if they gain more than one standard error.

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
        chosen = offered if gain > gain_error else chosen
    alone = np.array([log_loss(softmax(logits), flat_labels) for logits in flat])
    weights, coefficients, losses, temperature = chosen
    return Selection(weights, coefficients, temperature, alone, float(losses.mean()), gain, gain_error)
