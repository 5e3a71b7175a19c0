"""The signal is contiguous along the genome: neighbouring features shift together (domains, arms, compartments).

Refuted where no smoothing scale is better out of fold than scale 0 (``findings``), or where models that do
not know the order of features do better on the same splits. Without coordinates the order is a seriation
learned on the training part, and ``pseudo_order`` says so.
References: Mathios 2021, doi:10.1038/s41467-021-24994-w (fragment ratios along the genome); Dempster 2020,
random convolutional kernels, doi:10.1007/s10618-020-00701-z; Boley 1998, principal direction divisive
partitioning, doi:10.1023/A:1009740529316.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from oncoarena.attribution import Attribution
from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.fitting.attributions import mean_gradient, over_mean, split_blocks, view_slope
from oncoarena.fitting.components import Components, fit_components
from oncoarena.fitting.keras_attributions import (
    Gradient,
    head_gradient,
    mean_head_gradient,
    track_gradient,
    uses_deep_heads,
)
from oncoarena.fitting.keras_members import (
    leading,
    member_logits,
    select_members,
    stack_scores,
    take_copy,
    train_members,
)
from oncoarena.fitting.residual_tracks import (
    BATCH_VALUES,
    ResidualConfig,
    ResidualTracks,
    activations,
    residual_network,
    sample_batches,
    train_end_to_end,
)
from oncoarena.fitting.selection import softmax
from oncoarena.fitting.tracks import Track, fit_track
from oncoarena.fitting.views import JoinedView, View, fit_joined_view, fit_view

FRAMEWORK = "tensorflow"
BLOCKS = "all"


@dataclass(frozen=True)
class Config(ResidualConfig):
    """Hyper-parameters: the tracks here; network and heads as in ``ResidualConfig`` and ``HeadConfig``."""

    views: tuple[str, ...] = ("zscore", "raw")
    """Channels of the track, see ``oncoarena.fitting.views``."""
    sigmas: tuple[float, ...] = (0.0, 2.0, 4.0, 8.0)
    """Standard deviations of the Gaussian smoothing (features along the order)."""
    deep_units: tuple[int, ...] = (16,)
    """GELU units, one deep head each, on every scale."""


def ordered(cohort: Cohort, views: list[JoinedView], track: Track) -> np.ndarray:
    """Return tracks (n_samples, n_features along the order, n_channels) float32."""
    return np.stack([view.transform(cohort)[:, track.order] for view in views], axis=2)


def smoothing_layer(sigma: float) -> layers.DepthwiseConv1D:
    """Build a frozen depthwise convolution with a Gaussian cut at 4 sigma; sigma 0 changes nothing."""
    radius = smoothing_radius(sigma)
    offsets = np.arange(-radius, radius + 1)
    gaussian = np.exp(-0.5 * (offsets / sigma) ** 2) if sigma > 0 else np.ones(1)
    kernel = keras.initializers.Constant((gaussian / gaussian.sum()).reshape(-1, 1, 1))
    return layers.DepthwiseConv1D(
        len(offsets),
        use_bias=False,
        depthwise_initializer=kernel,
        trainable=False,
        dtype="float32",
        name="smoothing",
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
    for rows in sample_batches(x, len(places)):
        out[rows] = ops.convert_to_numpy(layer(ops.convert_to_tensor(x[rows][:, places])))[:, own]
    return out


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

    def feature_weights(self, of_scores: np.ndarray) -> np.ndarray:
        """Turn weights of the scores (n_samples, at least r) into those of the features (n_samples, n_features)."""
        weights = of_scores[:, : self.components.basis.shape[1]].T * self.factor
        return self.components.feature_weights(weights).T


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
        temperature: float,
        networks: dict[str, keras.Model],
        activation_view: View,
        findings: dict,
    ):
        """``coefficients`` are those of the heads, then that of the end-to-end network (0 without one).

        They include the ``temperature`` that calibrates the logits.
        """
        self.config = config
        self.views = views
        self.track = track
        self.scales = scales
        self.coefficients = coefficients
        self.temperature = temperature
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
        return softmax(self._logits_in_batches(cohort))

    def predict_raw(self, cohort: Cohort) -> np.ndarray:
        """Return the probabilities before the last temperature (n_samples, n_classes)."""
        return softmax(self._logits_in_batches(cohort) / self.temperature)

    def attribute(self, cohort: Cohort, label: int) -> Attribution:
        """Explain the score of a class by features, each with what it gives through its neighbours' smoothing.

        By weights; by integrated gradients where deep heads or a residual network have weight.
        """
        x = ordered(cohort, self.views, self.track)
        at_mean = np.zeros((1, *x.shape[1:]), np.float32)
        contributions = np.empty(x.shape[:2], np.float32)
        contributions[:, self.track.order] = (x * self._mean_gradient(at_mean, x, label)).sum(axis=2)
        is_linear = set(self.networks) == {"members"} and not uses_deep_heads(
            self.networks["members"], self.coefficients[:-1]
        )
        return Attribution(
            over_mean(self._logits(x) / self.temperature, label),
            np.repeat(over_mean(self._logits(at_mean) / self.temperature, label), len(cohort)),
            split_blocks(contributions, self.views[0].block_slices()),
            "weights" if is_linear else "integrated gradients",
            exact=is_linear,
        )

    def _mean_gradient(self, start: np.ndarray, x: np.ndarray, label: int) -> np.ndarray:
        """Average the gradient of a class's score on the path to ordered tracks ``x``, in the shape of ``x``."""
        members, coefficients = self.networks["members"], self.coefficients / self.temperature
        of_heads = head_gradient(members, coefficients[:-1], label)
        of_scores = mean_head_gradient(
            members, coefficients[:-1], label, self._scores(start), self._scores(x)
        )
        total = np.zeros(x.shape, np.float32)
        paths: list[tuple[str, Gradient]] = []
        for number, scale in enumerate(self.scales):
            if scale.channel < 0:
                paths.append(("random", lambda a, i=number: self._activation_gradient(a, of_heads, i)))
                continue
            of_smoothed = scale.feature_weights(of_scores[:, number])[:, :, None]
            # Smoothing with mirrored ends is symmetric: what a feature gives is smoothed like what it gets.
            total[:, :, [scale.channel]] += smooth(of_smoothed, self.track, scale.sigma)
        if "end_to_end" in self.networks:
            n_classes = members.head_shape[3]
            of_logits = coefficients[-1] * over_mean(np.eye(n_classes), label)
            paths.append(("end_to_end", lambda logits: np.broadcast_to(of_logits, logits.shape)))
        for name, of_outputs in paths:
            gradient = track_gradient(self.networks[name], of_outputs)
            total += self.tracks.spread(
                mean_gradient(gradient, self.tracks.prepare(start), self.tracks.prepare(x))
            )
        return total

    def _activation_gradient(self, raw: np.ndarray, of_heads: Gradient, number: int) -> np.ndarray:
        """Gradient of the heads on scale ``number`` by the random network's activations (n_samples, outputs)."""
        scale, members = self.scales[number], self.networks["members"]
        scores = np.zeros((len(raw), len(self.scales), members.n_components), np.float32)
        own = scale.components.project(self.activation_view.transform(raw)) * scale.factor
        scores[:, number, : own.shape[1]] = own
        return scale.feature_weights(of_heads(scores)[:, number]) * view_slope(self.activation_view, raw)

    def _logits_in_batches(self, cohort: Cohort) -> np.ndarray:
        """Calibrated logits (n_samples, n_classes)."""
        step = max(1, BATCH_VALUES // (len(self.track.order) * len(self.views)))
        logits = [
            self._logits(
                ordered(cohort.take(np.arange(i, min(i + step, len(cohort)))), self.views, self.track)
            )
            for i in range(0, max(len(cohort), 1), step)
        ]
        return np.concatenate(logits)

    def _scores(self, x: np.ndarray) -> np.ndarray:
        """Scores (n_samples, n_scales, r) of ordered tracks (n_samples, n_features, n_channels)."""
        scores = []
        for scale in self.scales:
            if scale.channel < 0:
                features = activations(self.networks["random"], self.tracks, x, self.config.channels)
                features = self.activation_view.transform(features)
            else:
                features = smooth(x[:, :, [scale.channel]], self.track, scale.sigma)[:, :, 0]
            scores.append(scale.components.project(features) * scale.factor)
        return stack_scores(scores, self.networks["members"].n_components)

    def _logits(self, x: np.ndarray) -> np.ndarray:
        """Calibrated logits (n_samples, n_classes) of ordered tracks."""
        of_members = member_logits(self.networks["members"], self._scores(x))[:, 0]
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
            temperature=self.temperature,
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
        float(arrays["temperature"]),
        {n: keras.models.load_model(directory / f"{n}.keras", compile=False) for n in about["networks"]},
        View.from_arrays(dict(np.load(directory / "activation_view.npz"))),
        about["findings"],
    )


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
        chosen.temperature,
        networks,
        activation_view,
        findings,
    )
