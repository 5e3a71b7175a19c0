"""The signal is contiguous along the genome: neighbouring features shift together (domains, arms, compartments).

Refuted where no smoothing scale is better out of fold than scale 0 (``findings``), or where models that do
not know the order of features do better on the same splits. Without coordinates the order is a seriation
learned on the training part, and ``pseudo_order`` says so.
References: Mathios 2021, doi:10.1038/s41467-021-24994-w (fragment ratios along the genome); Dempster 2020,
random convolutional kernels, doi:10.1007/s10618-020-00701-z; Boley 1998, principal direction divisive
partitioning, doi:10.1023/A:1009740529316.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.fitting.components import Components, fit_components
from oncoarena.fitting.keras_members import (
    PACKAGE,
    HeadConfig,
    leading,
    member_logits,
    select_members,
    stack_scores,
    take_copy,
    train_members,
)
from oncoarena.fitting.selection import softmax
from oncoarena.fitting.tracks import Track, fit_track
from oncoarena.fitting.views import JoinedView, View, fit_joined_view, fit_view

FRAMEWORK = "tensorflow"
BLOCKS = "all"

# Values of one batch of tracks on the device: 64 MiB of float32.
BATCH_VALUES = 2**24
# Kernel of the first convolution, and of the residual blocks (bins).
STEM_WIDTH, BLOCK_WIDTH = 7, 3


@dataclass(frozen=True)
class Config(HeadConfig):
    """Hyper-parameters: tracks and convolutions here, the heads and their training as in ``HeadConfig``."""

    views: tuple[str, ...] = ("zscore", "raw")
    """Channels of the track, see ``oncoarena.fitting.views``."""
    sigmas: tuple[float, ...] = (0.0, 2.0, 4.0, 8.0)
    """Standard deviations of the Gaussian smoothing (features along the order)."""
    deep_units: tuple[int, ...] = (16,)
    """GELU units, one deep head each, on every scale."""
    channels: int = 16
    """Channels of the residual network."""
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Dilation of each residual block (bins)."""
    max_bins: int = 2048
    """Bins of the residual network; more features than that are averaged by neighbours."""
    windows: int = 32
    """Windows along the whole track over which activations are averaged."""
    end_to_end_samples: int = 500
    """Training samples from which the residual network is trained itself; below, its kernels stay random."""
    end_to_end_epochs: int = 10
    """Passes over the training samples of the end-to-end network."""
    end_to_end_rate: float = 1e-3
    """Start of its cosine schedule (Adam)."""
    end_to_end_penalty: float = 1e-3
    """L2 penalty of its last layer."""
    end_to_end_batch: int = 32
    """Samples a step."""


def smoothing_layer(sigma: float) -> layers.DepthwiseConv1D:
    """Build a frozen depthwise convolution with a Gaussian cut at 4 sigma; sigma 0 changes nothing."""
    radius = smoothing_radius(sigma)
    offsets = np.arange(-radius, radius + 1)
    gaussian = np.exp(-0.5 * (offsets / sigma) ** 2) if sigma > 0 else np.ones(1)
    kernel = keras.initializers.Constant((gaussian / gaussian.sum()).reshape(-1, 1, 1))
    return layers.DepthwiseConv1D(
        len(offsets), use_bias=False, depthwise_initializer=kernel, trainable=False, name="smoothing"
    )


def smoothing_radius(sigma: float) -> int:
    """Return how many neighbours on each side a scale looks at."""
    return int(4.0 * sigma + 0.5)


def smooth(x: np.ndarray, track: Track, sigma: float) -> np.ndarray:
    """Smooth ordered tracks (n_samples, n_features, n_channels) within each chromosome, mirrored at its ends."""
    radius = smoothing_radius(sigma)
    places, is_own = track.padded(radius)
    # What the layer returns is shorter by the radius at both ends.
    own = np.flatnonzero(is_own) - radius
    layer = smoothing_layer(sigma)
    out = np.empty_like(x)
    for rows in _batches(x, len(places)):
        out[rows] = ops.convert_to_numpy(layer(ops.convert_to_tensor(x[rows][:, places])))[:, own]
    return out


def _batches(x: np.ndarray, length: int) -> Iterator[slice]:
    """Cut samples into batches that hold at most BATCH_VALUES, with ``length`` places a track."""
    step = max(1, BATCH_VALUES // max(length * x.shape[2], 1))
    return (slice(start, start + step) for start in range(0, len(x), step))


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


class ResidualTracks:
    """Tracks as the residual network sees them: bins of neighbours, mirrored at the ends of chromosomes."""

    def __init__(self, config: Config, track: Track):
        self.starts, bins = track.binned(config.max_bins)
        self.counts = np.diff(np.append(self.starts, len(track.order)))
        radius = STEM_WIDTH // 2 + sum(config.dilations) * (BLOCK_WIDTH // 2)
        self.places, is_own = bins.padded(radius)
        own = np.flatnonzero(is_own)
        # Windows share the track by length; each chromosome has at least one.
        self.windows = []
        for start, stop in pairwise(bins.bounds):
            n_windows = min(stop - start, max(1, round(config.windows * (stop - start) / len(own))))
            edges = np.linspace(0, stop - start, n_windows + 1).astype(int) + own[start]
            self.windows.extend(pairwise(edges))

    def prepare(self, x: np.ndarray) -> np.ndarray:
        """Average (n_samples, n_features, n_channels) by bins -> (n_samples, n_places, n_channels)."""
        # A view has unit trace; the network wants values of about 1.
        scale = np.float32(np.sqrt(x.shape[1])) / self.counts[:, None].astype(np.float32)
        return (np.add.reduceat(x, self.starts, axis=1) * scale)[:, self.places]


def residual_network(config: Config, tracks: ResidualTracks, n_channels: int, seed: int) -> keras.Model:
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


def activations(network: keras.Model, tracks: ResidualTracks, x: np.ndarray, n_channels: int) -> np.ndarray:
    """Run a network on ordered tracks (n_samples, n_features, channels), batch by batch -> (n_samples, outputs)."""
    batches = _batches(x, max(len(tracks.places) * n_channels, x.shape[1]))
    parts = [
        ops.convert_to_numpy(network(ops.convert_to_tensor(tracks.prepare(x[rows])), training=False))
        for rows in batches
    ]
    return np.concatenate([np.empty((0, network.output_shape[1]), np.float32), *parts])


def train_end_to_end(
    config: Config, tracks: ResidualTracks, x: np.ndarray, train: LabelledCohort, fold: np.ndarray, seed: int
) -> tuple[keras.Model, np.ndarray]:
    """Train the residual network with a softmax layer: for each inner fold, then on the whole training part.

    Parameters: ``x`` (n_samples, n_features, n_channels) ordered tracks; ``fold`` (n_samples,).
    Returns the network of the whole training part and out-of-fold logits (n_samples, n_classes).
    """
    n_classes = len(train.classes)
    trunk = residual_network(config, tracks, x.shape[2], seed)
    dropped = layers.Dropout(config.feature_dropout, seed=seed + 200)(trunk.output)
    logits = layers.Dense(
        n_classes,
        kernel_initializer="zeros",
        kernel_regularizer=keras.regularizers.L2(config.end_to_end_penalty),
    )(dropped)
    network = keras.Model(trunk.input, logits)
    targets = np.eye(n_classes, dtype=np.float32)[train.labels]
    batch_size = min(config.end_to_end_batch, np.bincount(fold, minlength=2).min())
    steps = config.end_to_end_epochs * max(1, len(train) // batch_size)
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(config.end_to_end_rate, steps), clipnorm=1.0
    )
    network.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing),
    )
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
        network.fit(_TrackBatches(tracks, x, targets, rows, batch_size), epochs=1, shuffle=False, verbose=0)
        if held_out >= 0:
            oof[fold == held_out] = activations(network, tracks, x[fold == held_out], config.channels)
    return network, oof


class _TrackBatches(keras.utils.PyDataset):
    """Batches of prepared tracks in a given order of samples; only one batch is in memory."""

    def __init__(self, tracks, x, targets, rows, batch_size):
        super().__init__()
        self.tracks, self.x, self.targets = tracks, x, targets
        self.rows = rows.reshape(-1, batch_size)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, step):
        rows = self.rows[step]
        return self.tracks.prepare(self.x[rows]), self.targets[rows]


@dataclass(frozen=True)
class Scale:
    """One view of the tracks that heads are trained on: a smoothed channel, or the residual network."""

    name: str
    channel: int
    """Which of ``Config.views``; -1 for the residual network, which sees all."""
    sigma: float
    """Smoothing (features along the order); -1 for the residual network."""
    components: Components
    factor: float
    """What makes the trace of the components 1."""


def fit_scale(name: str, channel: int, sigma: float, features: np.ndarray, max_components: int) -> Scale:
    """Fit the leading components of ``features`` (n_samples, n_features) and their total variance."""
    components = leading(fit_components(features), max_components)
    variance = np.sum(components.train_scores**2) / max(len(features), 1)
    return Scale(name, channel, sigma, components, float(1.0 / np.sqrt(variance)) if variance > 0 else 0.0)


class Predictor:
    """The order of features, the chosen scales with their heads, and the residual network."""

    def __init__(
        self,
        config: Config,
        views: list[JoinedView],
        track: Track,
        scales: list[Scale],
        coefficients: np.ndarray,
        networks: dict[str, keras.Model],
        activation_view: View,
        findings: dict,
    ):
        """``coefficients`` are those of the heads, then that of the end-to-end network (0 without one)."""
        self.config = config
        self.views = views
        self.track = track
        self.scales = scales
        self.coefficients = coefficients
        self.networks = networks
        self.activation_view = activation_view
        self.findings = findings
        self.tracks = ResidualTracks(config, track)

    @property
    def pseudo_order(self) -> bool:
        """Whether a block had no coordinates, so its order is a seriation of the training part."""
        return self.track.pseudo_order

    def predict_proba(self, cohort: Cohort) -> np.ndarray:
        """Return (n_samples, n_classes) float64 probabilities in the order of the training classes."""
        step = max(1, BATCH_VALUES // (len(self.track.order) * len(self.views)))
        logits = [
            self._logits(
                ordered(cohort.take(np.arange(i, min(i + step, len(cohort)))), self.views, self.track)
            )
            for i in range(0, max(len(cohort), 1), step)
        ]
        return softmax(np.concatenate(logits))

    def _logits(self, x: np.ndarray) -> np.ndarray:
        """Logits (n_samples, n_classes) of ordered tracks (n_samples, n_features, n_channels)."""
        members = self.networks["members"]
        scores = []
        for scale in self.scales:
            if scale.channel < 0:
                features = activations(self.networks["random"], self.tracks, x, self.config.channels)
                features = self.activation_view.transform(features)
            else:
                features = smooth(x[:, :, [scale.channel]], self.track, scale.sigma)[:, :, 0]
            scores.append(scale.components.project(features) * scale.factor)
        of_members = member_logits(members, stack_scores(scores, members.n_components))[:, 0]
        logits = np.einsum("smk,m->sk", of_members.astype(np.float64), self.coefficients[:-1])
        if "end_to_end" in self.networks:
            own = activations(self.networks["end_to_end"], self.tracks, x, self.config.channels)
            logits += self.coefficients[-1] * own.astype(np.float64)
        return logits

    def save(self, directory: Path) -> None:
        """Write the model into an empty directory."""
        for name, network in self.networks.items():
            network.save(directory / f"{name}.keras")
        for number, view in enumerate(self.views):
            np.savez(directory / f"view{number}.npz", **view.to_arrays())
        for number, scale in enumerate(self.scales):
            np.savez(directory / f"components{number}.npz", **scale.components.to_arrays())
        np.savez(directory / "activation_view.npz", **self.activation_view.to_arrays())
        np.savez(
            directory / "track.npz",
            order=self.track.order,
            bounds=self.track.bounds,
            coefficients=self.coefficients,
        )
        about = {
            "config": asdict(self.config),
            "networks": list(self.networks),
            "pseudo_order": self.pseudo_order,
            "scales": [[s.name, s.channel, s.sigma, s.factor] for s in self.scales],
            "findings": self.findings,
        }
        (directory / "about.json").write_text(json.dumps(about, indent=1))


def load(directory: Path) -> Predictor:
    """Read what ``Predictor.save`` wrote."""
    about = json.loads((directory / "about.json").read_text())
    arrays = dict(np.load(directory / "track.npz"))
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in about["config"].items()}
    scales = []
    for number, (name, channel, sigma, factor) in enumerate(about["scales"]):
        components = Components.from_arrays(dict(np.load(directory / f"components{number}.npz")))
        scales.append(Scale(name, channel, sigma, components, factor))
    return Predictor(
        Config(**settings),
        [
            JoinedView.from_arrays(dict(np.load(directory / f"view{number}.npz")))
            for number in range(len(settings["views"]))
        ],
        Track(arrays["order"], arrays["bounds"], about["pseudo_order"]),
        scales,
        arrays["coefficients"],
        {n: keras.models.load_model(directory / f"{n}.keras", compile=False) for n in about["networks"]},
        View.from_arrays(dict(np.load(directory / "activation_view.npz"))),
        about["findings"],
    )


def ordered(cohort: Cohort, views: list[JoinedView], track: Track) -> np.ndarray:
    """Return tracks (n_samples, n_features along the order, n_channels) float32."""
    return np.stack([view.transform(cohort)[:, track.order] for view in views], axis=2)


def fit(
    config: Config, train: LabelledCohort, validation: LabelledCohort | None, *, seed: int, device: str
) -> Predictor:
    """Order the features, smooth them at every scale, train heads on each scale, and choose out of fold.

    ``validation`` is not used: the number of steps is fixed and the choice is made by inner folds.
    TensorFlow places the work on ``device`` by itself.
    """
    views = [fit_joined_view(train, kind) for kind in config.views]
    track = fit_track(train, views[0], views[0].transform(train))
    x = ordered(train, views, track)
    scales = []
    for sigma in config.sigmas:
        smoothed = smooth(x, track, sigma)
        scales += [
            fit_scale(f"{view} sigma {sigma:g}", i, sigma, smoothed[:, :, i], config.max_components)
            for i, view in enumerate(config.views)
        ]
    tracks = ResidualTracks(config, track)
    networks = {"random": residual_network(config, tracks, len(views), seed)}
    features = activations(networks["random"], tracks, x, config.channels)
    activation_view = fit_view(features, "zscore")
    features = activation_view.transform(features)
    scales.append(fit_scale("random residual network", -1, -1.0, features, config.max_components))

    scores = [scale.components.train_scores * scale.factor for scale in scales]
    trained = train_members(stack_scores(scores), train, config, seed)
    oof, is_gated, of_scale = trained.oof_logits, trained.is_deep, trained.view
    if len(train) >= config.end_to_end_samples:
        networks["end_to_end"], own = train_end_to_end(config, tracks, x, train, trained.folds[0], seed)
        own = np.broadcast_to(own, (1, *oof.shape[1:]))
        oof, is_gated = np.concatenate([oof, own]), np.append(is_gated, True)
        of_scale = np.append(of_scale, len(scales))
    chosen = select_members(oof, train, is_gated, config.max_members)

    names = [scale.name for scale in scales] + ["end-to-end residual network"] * ("end_to_end" in networks)
    shares = np.bincount(of_scale, chosen.weights, minlength=len(names))
    best = [min(chosen.member_log_loss[of_scale == i]) for i in range(len(names))]
    findings = {
        "pseudo_order": track.pseudo_order,
        "best_scale": names[int(np.argmax(shares))],
        "weight_of_scale": dict(zip(names, shares.tolist(), strict=True)),
        "oof_log_loss_of_scale": dict(zip(names, map(float, best), strict=True)),
        "oof_log_loss": chosen.log_loss,
        "deep_gain": chosen.gain,
        "deep_gain_error": chosen.gain_error,
    }
    # The heads need a scale even where the end-to-end network has all the weight.
    kept = np.flatnonzero(shares[: len(scales)] > 0)
    kept = kept if len(kept) else np.array([0])
    networks["members"] = take_copy(trained.model, copy=0, views=kept)
    if shares[len(scales) :].sum() == 0:
        networks.pop("end_to_end", None)
    if len(scales) - 1 not in kept:
        del networks["random"]
    own = chosen.coefficients[of_scale == len(scales)]
    return Predictor(
        config,
        views,
        track,
        [scales[i] for i in kept],
        np.append(chosen.coefficients[np.isin(of_scale, kept)], own.sum()),
        networks,
        activation_view,
        findings,
    )
