"""A 1-D residual network over ordered tracks: its windows' activations with random kernels, or trained end to end.

Features are averaged by bins (``fitting.grids``), with one channel a block and view where blocks know their places;
dilated convolutions look ever further along each chromosome, and activations are averaged over windows.
Random kernels: Dempster 2020, doi:10.1007/s10618-020-00701-z.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import keras
import numpy as np
from keras import layers, ops

from oncoarena.cohort import Block, BlockSpec, Cohort, LabelledCohort, feature_table
from oncoarena.fitting.grids import Grid
from oncoarena.fitting.keras_members import HeadConfig
from oncoarena.fitting.keras_replicas import (
    PACKAGE,
    SharedDropout,
    SharedSteps,
    for_every_device,
    n_replicas,
)
from oncoarena.fitting.selection import PROBABILITY_FLOOR, fit_temperature, softmax
from oncoarena.fitting.tracks import mirrored_places
from oncoarena.fitting.views import JoinedView
from oncoarena.mapped import large_array, release, take_rows

# Values of one layer for a batch of tracks: 4 MiB of float32, and some ten layers are held at once.
BATCH_VALUES = 2**20
# Kernel of the first convolution, and of the residual blocks (bins).
STEM_WIDTH, BLOCK_WIDTH = 7, 3
# Norm of a variable's gradient at most, in end-to-end training.
CLIP_NORM = 1.0


@dataclass(frozen=True)
class ResidualConfig(HeadConfig):
    """The residual network and its training; heads on its activations are as in ``HeadConfig``."""

    channels: int = 16
    """Channels of the residual network."""
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    """Dilation of each residual block (bins)."""
    max_bins: int = 2048
    """Bins of the residual network; more features than that are averaged by neighbours."""
    windows: int = 32
    """Windows along the whole track over which activations are averaged."""
    end_to_end_samples: int = 500
    """Training samples from which the residual network is trained itself; below, its kernels stay random."""
    end_to_end_epochs: int = 10
    """Passes over the training samples of the end-to-end network."""
    end_to_end_steps: int = 3000
    """Steps of its training at most, however many samples there are."""
    end_to_end_errors: float = 1.0
    """It is given up where, on the first inner fold, it is worse than the best head by so many standard errors."""
    end_to_end_rate: float = 1e-3
    """Start of its cosine schedule (Adam)."""
    end_to_end_penalty: float = 1e-3
    """L2 penalty of its last layer."""
    end_to_end_batch: int = 32
    """Samples a step."""


class ResidualTracks:
    """Tracks as the residual network sees them: bins of the genome, mirrored at the ends of chromosomes."""

    def __init__(self, config: ResidualConfig, grid: Grid):
        self.grid = grid
        radius = STEM_WIDTH // 2 + sum(config.dilations) * (BLOCK_WIDTH // 2)
        self.places, is_own = mirrored_places(grid.bounds, radius)
        own = np.flatnonzero(is_own)
        # Windows share the track by length; each chromosome has at least one.
        self.windows = []
        for start, stop in pairwise(grid.bounds):
            n_windows = min(stop - start, max(1, round(config.windows * (stop - start) / len(own))))
            edges = np.linspace(0, stop - start, n_windows + 1).astype(int) + own[start]
            self.windows.extend(pairwise(edges))

    def bins(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Bring views (n_samples, n_features) onto the bins: (n_samples, n_bins, n_views x channels) float32."""
        return np.concatenate([self.grid.combine(x) for x in views], axis=2)

    def bins_of(self, cohort: Cohort, views: Sequence[JoinedView]) -> np.ndarray:
        """Bring a cohort onto the bins, some samples after the other; many of them lie in a scratch file."""
        shape = (len(cohort), self.grid.n_places, len(views) * self.grid.n_channels)
        binned = large_array(shape)
        for tiles in zip(*(view.tiles(cohort) for view in views), strict=True):
            binned[tiles[0][0]] = self.bins([x for _, x in tiles])
            release(binned)
        return binned

    def prepare(self, binned: np.ndarray) -> np.ndarray:
        """Mirror bins (n_samples, n_bins, n_channels) -> (n_samples, n_places, n_channels)."""
        return binned[:, self.places]

    def spread(self, gradient: np.ndarray) -> list[np.ndarray]:
        """Turn a gradient by prepared bins (n_samples, n_places, n_channels) into one by the features of each view."""
        of_bins = np.zeros((self.grid.n_places, len(gradient), gradient.shape[2]))
        np.add.at(of_bins, self.places, gradient.transpose(1, 0, 2))
        of_bins = of_bins.transpose(1, 0, 2)
        n_channels = self.grid.n_channels
        starts = range(0, of_bins.shape[2], n_channels)
        return [self.grid.spread(of_bins[:, :, start : start + n_channels]) for start in starts]


@keras.saving.register_keras_serializable(PACKAGE)
class WindowMeans(layers.Layer):
    """Average activations (batch, n_places, channels) over windows -> (batch, n_windows, channels)."""

    def __init__(self, windows, **kwargs):
        super().__init__(**kwargs)
        self.windows = [(int(start), int(stop)) for start, stop in windows]

    def build(self, input_shape):
        means = np.zeros((len(self.windows), input_shape[1]), dtype=np.float32)
        for row, (start, stop) in zip(means, self.windows, strict=True):
            row[start:stop] = 1.0 / (stop - start)
        self.means = ops.convert_to_tensor(means)

    def call(self, inputs):
        return ops.matmul(self.means, inputs)

    def get_config(self):
        return {**super().get_config(), "windows": self.windows}


def residual_network(
    config: ResidualConfig, tracks: ResidualTracks, n_channels: int, seed: int
) -> keras.Model:
    """Build a 1-D residual network of dilated convolutions over the ordered bins.

    (batch, n_places, n_channels) -> (batch, n_windows x channels x (1 + number of dilations)): the mean
    activation of each window after the first convolution and after each residual block.
    """

    def convolution(width, dilation, number):
        return layers.Conv1D(
            config.channels,
            width,
            dilation_rate=dilation,
            padding="same",
            kernel_initializer=keras.initializers.HeNormal(seed=seed + number),
            bias_initializer=keras.initializers.RandomNormal(stddev=0.5, seed=seed + 100 + number),
        )

    window_means = WindowMeans(tracks.windows)
    inputs = keras.Input((len(tracks.places), n_channels))
    state = convolution(STEM_WIDTH, 1, 0)(inputs)
    active = layers.Activation("gelu")(state)
    levels = [window_means(active)]
    for number, dilation in enumerate(config.dilations, start=1):
        state = layers.Add()([state, convolution(BLOCK_WIDTH, dilation, number)(active)])
        active = layers.Activation("gelu")(state)
        levels.append(window_means(active))
    return keras.Model(inputs, layers.Flatten()(layers.Concatenate()(levels)))


def sample_batches(n_samples: int, n_values: int) -> Iterator[slice]:
    """Cut samples of ``n_values`` each into batches that hold at most BATCH_VALUES."""
    step = max(1, BATCH_VALUES // max(n_values, 1))
    return (slice(start, start + step) for start in range(0, n_samples, step))


def activations(
    network: keras.Model, tracks: ResidualTracks, binned: np.ndarray, n_channels: int
) -> np.ndarray:
    """Run a network on bins (n_samples, n_bins, channels), batch by batch -> (n_samples, outputs) float32.

    Parameters: ``n_channels`` of the network's layers.
    """
    out = large_array((len(binned), network.output_shape[1]))
    for rows in sample_batches(len(binned), len(tracks.places) * n_channels):
        outputs = network(ops.convert_to_tensor(tracks.prepare(binned[rows])), training=False)
        out[rows] = ops.convert_to_numpy(ops.cast(outputs, "float32"))
        release(binned)
        release(out)
    return out


def activation_cohort(train: LabelledCohort, features: np.ndarray) -> LabelledCohort:
    """Make a cohort of activations (n_samples, n_features), so that what sees blocks can see them."""
    spec = BlockSpec("activations", ("sample", "activation"), "float32", "1", "Activations of a network.")
    table = feature_table([str(number) for number in range(features.shape[1])])
    return replace(train, blocks={"activations": Block(spec, features, table)})


def train_end_to_end(
    config: ResidualConfig,
    tracks: ResidualTracks,
    binned: np.ndarray,
    train: LabelledCohort,
    fold: np.ndarray,
    rival: np.ndarray,
    seed: int,
) -> tuple[keras.Model, np.ndarray] | None:
    """Train the residual network with a softmax layer: for each inner fold, then on the whole training part.

    Parameters: ``binned`` (n_samples, n_bins, n_channels) of ``ResidualTracks.bins``; ``fold`` (n_samples,); ``rival``
    (n_samples, n_classes) out-of-fold logits of what it has to come close to.
    Returns the network of the whole training part and out-of-fold logits (n_samples, n_classes); None where it falls
    behind its rival on the first fold (``end_to_end_errors``), and the others were spared.
    """
    n_classes = len(train.classes)
    trunk = residual_network(config, tracks, binned.shape[2], seed)
    dropped = SharedDropout(config.feature_dropout, seed=seed + 200)(trunk.output)
    logits = layers.Dense(
        n_classes,
        kernel_initializer="zeros",
        kernel_regularizer=keras.regularizers.L2(config.end_to_end_penalty),
    )(dropped)
    network = keras.Model(trunk.input, logits)
    targets = np.eye(n_classes, dtype=np.float32)[train.labels]
    batch_size = min(config.end_to_end_batch, np.bincount(fold, minlength=2).min())
    steps = min(config.end_to_end_epochs * max(1, len(train) // batch_size), config.end_to_end_steps)
    schedule = keras.optimizers.schedules.CosineDecay(config.end_to_end_rate, steps)
    loss = {"from_logits": True, "label_smoothing": config.label_smoothing}
    if n_replicas() == 1:
        trainer, optimizer = network, keras.optimizers.Adam(schedule, clipnorm=CLIP_NORM)
        trainer.compile(optimizer, keras.losses.CategoricalCrossentropy(**loss))
    else:
        of_samples = keras.losses.CategoricalCrossentropy(**loss, reduction=None)
        trainer = SharedSteps(network, of_samples, batch_size, CLIP_NORM)
        optimizer = keras.optimizers.Adam(schedule)
        trainer.compile(optimizer)
    optimizer.build(network.trainable_variables)
    # Every fold starts from the same weights and optimizer; a new model each time would compile anew.
    fresh = [(v, ops.convert_to_numpy(v)) for v in (*network.variables, *optimizer.variables)]
    rng = np.random.default_rng(seed)
    oof = np.empty((len(train), n_classes), dtype=np.float32)
    for held_out in (*range(fold.max() + 1), -1):
        for variable, value in fresh:
            variable.assign(value)
        used = np.flatnonzero(fold != held_out)
        passes = [rng.permutation(used) for _ in range(-(-steps * batch_size // len(used)))]
        rows = np.concatenate(passes)[: steps * batch_size]
        trainer.fit(
            _TrackBatches(tracks, binned, targets, rows, batch_size), epochs=1, shuffle=False, verbose=0
        )
        if held_out >= 0:
            rows = np.flatnonzero(fold == held_out)
            oof[rows] = activations(network, tracks, take_rows(binned, rows), config.channels)
        if held_out == 0:
            own, best = (calibrated_losses(of[rows], train.labels[rows]) for of in (oof, rival))
            excess = own - best
            if excess.mean() > config.end_to_end_errors * excess.std() / np.sqrt(len(rows)):
                return None
    return network, oof


def calibrated_losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the log loss of each sample (n_samples,) of logits (n_samples, n_classes), at their best temperature."""
    truth = softmax(fit_temperature(logits, labels) * logits)[np.arange(len(labels)), labels]
    return -np.log(np.maximum(truth, PROBABILITY_FLOOR))


class _TrackBatches(keras.utils.PyDataset):
    """Batches of prepared tracks in a given order of samples; only one batch is in memory."""

    def __init__(self, tracks, binned, targets, rows, batch_size):
        super().__init__()
        self.tracks, self.binned, self.targets = tracks, binned, targets
        self.rows = for_every_device(rows.reshape(-1, batch_size))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, step):
        rows = self.rows[step]
        batch = self.tracks.prepare(self.binned[rows]), self.targets[rows]
        release(self.binned)
        return batch
