"""The signal is contiguous along the genome: neighbouring features shift together (domains, arms, compartments).

Refuted where no smoothing scale is better out of fold than scale 0 (``findings``; all scales are compared by the same
ridge classifier), or where models that do not know the order of features do better on the same splits. Blocks with
coordinates meet on common bins of the genome. Without coordinates the order is a seriation learned on the
training part, and ``pseudo_order`` says so.
References: Mathios 2021, doi:10.1038/s41467-021-24994-w (fragment ratios along the genome); Dempster 2020,
random convolutional kernels, doi:10.1007/s10618-020-00701-z; Boley 1998, principal direction divisive
partitioning, doi:10.1023/A:1009740529316.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

from oncoarena.attribution import Attribution
from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.fitting.attributions import mean_gradient, over_mean, split_blocks, view_slope
from oncoarena.fitting.components import Components
from oncoarena.fitting.genome_scales import (
    Look,
    Scale,
    compared_samples,
    describe_scale,
    name_sum,
    ridge_log_loss,
)
from oncoarena.fitting.grids import Grid, fit_grid, fit_joint_grids, grid_of_features
from oncoarena.fitting.keras_attributions import (
    Gradient,
    head_gradient,
    mean_head_gradient,
    track_gradient,
    uses_deep_heads,
)
from oncoarena.fitting.keras_members import member_logits, select_members, take_copy, train_members
from oncoarena.fitting.residual_tracks import (
    BATCH_VALUES,
    ResidualConfig,
    ResidualTracks,
    activation_cohort,
    activations,
    calibrated_losses,
    residual_network,
    sample_batches,
    train_end_to_end,
)
from oncoarena.fitting.selection import softmax
from oncoarena.fitting.smoothing import SmoothedView
from oncoarena.fitting.tracks import fit_track
from oncoarena.fitting.views import JoinedView, View, fit_joined_view, fit_joined_views
from oncoarena.mapped import take_rows

FRAMEWORK = "tensorflow"
BLOCKS = "all"
# Samples of a batch at least, however many features.
MIN_BATCH = 128
RANDOM, END_TO_END = "random residual network", "end-to-end residual network"


@dataclass(frozen=True)
class Config(ResidualConfig):
    """Hyper-parameters: the tracks here; network and heads as in ``ResidualConfig`` and ``HeadConfig``."""

    views: tuple[str, ...] = ("zscore", "raw")
    """Channels of the track, see ``oncoarena.fitting.views``."""
    sigmas: tuple[float, ...] = (0.0, 2.0, 4.0, 8.0)
    """Standard deviations of the Gaussian smoothing (features along the order, or bins of the common grid)."""
    kept_scales: int = 4
    """Scales that get heads: those of the lowest log loss of a ridge classifier, leaving out patient by patient."""
    joint_sums: int = 2
    """Sums of all blocks with coordinates, smoothed on common bins, at most; of two blocks there are 2."""
    deep_units: tuple[int, ...] = ()
    """GELU units, one deep head each, on every scale."""


class Predictor:
    """The grids, the chosen scales with their heads, and the residual networks that have weight."""

    def __init__(
        self,
        config: Config,
        views: list[JoinedView],
        grids: list[Grid],
        bins: Grid,
        scales: list[Scale],
        coefficients: np.ndarray,
        temperature: float,
        networks: dict[str, keras.Model],
        activation_view: View | None,
        findings: dict,
    ):
        """``grids`` are the features in their order, then the sums of blocks; ``bins`` are those of the networks.

        ``coefficients`` are those of the heads, then that of the end-to-end network (0 without one), and include the
        ``temperature`` that calibrates the logits.
        """
        self.config = config
        self.views = views
        self.grids = grids
        self.tracks = ResidualTracks(config, bins)
        self.scales = scales
        self.coefficients = coefficients
        self.temperature = temperature
        self.networks = networks
        self.activation_view = activation_view
        self.findings = findings

    @property
    def pseudo_order(self) -> bool:
        """Whether a block had no coordinates, so its order is a seriation of the training part."""
        return self.findings["pseudo_order"]

    def predict_proba(self, cohort: Cohort) -> np.ndarray:
        """Return (n_samples, n_classes) float64 probabilities in the order of the training classes."""
        return softmax(self._logits_of(cohort))

    def predict_raw(self, cohort: Cohort) -> np.ndarray:
        """Return the probabilities before the last temperature (n_samples, n_classes)."""
        return softmax(self._logits_of(cohort) / self.temperature)

    def attribute(self, cohort: Cohort, label: int) -> Attribution:
        """Explain the score of a class by features, each with what it gives through its neighbours' smoothing.

        By weights; by integrated gradients where deep heads or a residual network have weight.
        """
        at_mean = [np.zeros((1, view.n_features), np.float32) for view in self.views]
        score = np.empty(len(cohort))
        contributions = np.empty((len(cohort), self.views[0].n_features), np.float32)
        for rows, x in self._batches(cohort):
            score[rows] = over_mean(self._logits(x) / self.temperature, label)
            gradients = self._mean_gradients(at_mean, x, label)
            contributions[rows] = sum(
                of_view * gradient for of_view, gradient in zip(x, gradients, strict=True)
            )
        is_linear = set(self.networks) == {"members"} and not uses_deep_heads(
            self.networks["members"], self.coefficients[:-1]
        )
        return Attribution(
            score,
            np.repeat(over_mean(self._logits(at_mean) / self.temperature, label), len(cohort)),
            split_blocks(contributions, self.views[0].block_slices()),
            "weights" if is_linear else "integrated gradients",
            exact=is_linear,
        )

    def _mean_gradients(self, start: list[np.ndarray], x: list[np.ndarray], label: int) -> list[np.ndarray]:
        """Average the gradient of a class's score on the path to views ``x``, in the shapes of ``x``."""
        members, coefficients = self.networks["members"], self.coefficients / self.temperature
        of_heads = head_gradient(members, coefficients[:-1], label)
        of_scores = mean_head_gradient(
            members, coefficients[:-1], label, self._scores(start), self._scores(x)
        )
        totals = [np.zeros(of_view.shape, np.float32) for of_view in x]
        paths: list[tuple[str, Gradient]] = []
        for number, scale in enumerate(self.scales):
            if scale.view < 0:
                paths.append(("random", lambda a, i=number: self._activation_gradient(a, of_heads, i)))
                continue
            of_places = scale.feature_weights(of_scores[:, number]).astype(np.float32)
            totals[scale.view] += self._smoothed(scale).spread(of_places)
        if "end_to_end" in self.networks:
            n_classes = members.head_shape[3]
            of_logits = coefficients[-1] * over_mean(np.eye(n_classes), label)
            paths.append(("end_to_end", lambda logits: np.broadcast_to(of_logits, logits.shape)))
        for name, of_outputs in paths:
            gradient = track_gradient(self.networks[name], of_outputs)
            ends = [self.tracks.prepare(self.tracks.bins(views)) for views in (start, x)]
            for total, of_view in zip(
                totals, self.tracks.spread(mean_gradient(gradient, *ends)), strict=True
            ):
                total += of_view
        return totals

    def _activation_gradient(self, raw: np.ndarray, of_heads: Gradient, number: int) -> np.ndarray:
        """Gradient of the heads on scale ``number`` by the random network's activations (n_samples, outputs)."""
        scale, members = self.scales[number], self.networks["members"]
        scores = np.zeros((len(raw), len(self.scales), members.n_components), np.float32)
        own = scale.components.project(self.activation_view.transform(raw)) * scale.factor
        scores[:, number, : own.shape[1]] = own
        return scale.feature_weights(of_heads(scores)[:, number]) * view_slope(self.activation_view, raw)

    def _smoothed(self, scale: Scale) -> SmoothedView:
        return SmoothedView(self.views[scale.view], self.grids[scale.grid], scale.sigma)

    def _batches(self, cohort: Cohort) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """Yield rows and the views of some samples after the other, each (n_rows, n_features) float32."""
        n_values = max(self.views[0].n_features, len(self.tracks.places) * self.tracks.grid.n_channels)
        # What a scale knows of every feature is read once a batch: never of too few samples.
        n_values = min(n_values * len(self.views), BATCH_VALUES // MIN_BATCH)
        for rows in sample_batches(len(cohort), n_values):
            batch = cohort.take(np.arange(len(cohort))[rows])
            yield rows, [view.transform(batch) for view in self.views]

    def _logits_of(self, cohort: Cohort) -> np.ndarray:
        """Calibrated logits (n_samples, n_classes)."""
        logits = np.empty((len(cohort), self.networks["members"].head_shape[3]))
        for rows, x in self._batches(cohort):
            logits[rows] = self._logits(x)
        return logits

    def _scores(self, x: list[np.ndarray]) -> np.ndarray:
        """Scores (n_samples, n_scales, r) of the views of some samples, each (n_samples, n_features)."""
        scores = np.zeros((len(x[0]), len(self.scales), self.networks["members"].n_components), np.float32)
        for number, scale in enumerate(self.scales):
            if scale.view < 0:
                binned = self.tracks.bins(x)
                features = activations(self.networks["random"], self.tracks, binned, self.config.channels)
                features = self.activation_view.transform(features)
            else:
                features = self._smoothed(scale).of(x[scale.view])
            own = scale.components.project(features) * scale.factor
            scores[:, number, : own.shape[1]] = own
        return scores

    def _logits(self, x: list[np.ndarray]) -> np.ndarray:
        """Calibrated logits (n_samples, n_classes) of the views of some samples."""
        of_members = member_logits(self.networks["members"], self._scores(x))[:, 0]
        logits = np.einsum("smk,m->sk", of_members.astype(np.float64), self.coefficients[:-1])
        if "end_to_end" in self.networks:
            network, binned = self.networks["end_to_end"], self.tracks.bins(x)
            own = activations(network, self.tracks, binned, self.config.channels)
            logits += self.coefficients[-1] * own.astype(np.float64)
        return logits

    def save(self, directory: Path) -> None:
        """Write the model into an empty directory."""
        for name, network in self.networks.items():
            network.save(directory / f"{name}.keras")
        parts = {"view": self.views, "grid": [*self.grids, self.tracks.grid]}
        parts |= {"components": [scale.components for scale in self.scales]}
        parts |= {"activation_view": [self.activation_view] if "random" in self.networks else []}
        for name, of_name in parts.items():
            for number, part in enumerate(of_name):
                np.savez(directory / f"{name}{number}.npz", **part.to_arrays())
        np.savez(directory / "heads.npz", coefficients=self.coefficients, temperature=self.temperature)
        about = {
            "config": asdict(self.config),
            "networks": list(self.networks),
            "n_grids": len(self.grids),
            "scales": [[s.name, s.view, s.grid, s.sigma, s.factor] for s in self.scales],
            "findings": self.findings,
        }
        (directory / "about.json").write_text(json.dumps(about, indent=1))


def load(directory: Path) -> Predictor:
    """Read what ``Predictor.save`` wrote."""
    about = json.loads((directory / "about.json").read_text())
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in about["config"].items()}

    def read(kind: type, name: str, n: int) -> list:
        return [kind.from_arrays(dict(np.load(directory / f"{name}{number}.npz"))) for number in range(n)]

    components = read(Components, "components", len(about["scales"]))
    *grids, bins = read(Grid, "grid", about["n_grids"] + 1)
    heads = np.load(directory / "heads.npz")
    return Predictor(
        Config(**settings),
        read(JoinedView, "view", len(settings["views"])),
        grids,
        bins,
        [
            Scale(name, view, grid, sigma, of_scale, factor)
            for (name, view, grid, sigma, factor), of_scale in zip(about["scales"], components, strict=True)
        ],
        heads["coefficients"],
        float(heads["temperature"]),
        {n: keras.models.load_model(directory / f"{n}.keras", compile=False) for n in about["networks"]},
        next(iter(read(View, "activation_view", int("random" in about["networks"]))), None),
        about["findings"],
    )


def fit(
    config: Config, train: LabelledCohort, validation: LabelledCohort | None, *, seed: int, device: str
) -> Predictor:
    """Order the features, smooth them at every scale, train heads on the best scales, and choose out of fold.

    ``validation`` is not used: the number of steps is fixed and the choice is made by inner folds.
    TensorFlow places the work on ``device`` by itself.
    """
    rng = np.random.default_rng(seed)
    views = fit_joined_views(train, config.views)
    slices = views[0].block_slices()
    track = fit_track(train, views[0])
    placed = [
        name
        for name, of_block in zip(slices, views[0].views, strict=True)
        if train.blocks[name].has_coordinates and of_block.factor.any()
    ]
    bins = fit_grid(train, slices, track, placed, config.max_bins)
    tracks = ResidualTracks(config, bins)
    binned = tracks.bins_of(train, views)
    grids, names = [grid_of_features(track)], [""]
    if bins.bin_bp:
        channels = np.array([list(slices).index(name) for name in placed])
        # The first view: z-scores where nothing else is asked for, as blocks are in units of their own.
        for weights, grid in fit_joint_grids(binned, bins, channels, config.joint_sums):
            grids.append(grid)
            names.append(f"{name_sum(placed, weights)} ")
    looks = [
        Look(f"{kind} {name}sigma {sigma:g}", view, grid, sigma)
        for grid, name in enumerate(names)
        for sigma in config.sigmas
        for view, kind in enumerate(config.views[: 1 if grid else None])
    ]
    looks.append(Look(RANDOM, -1, -1, -1.0))
    networks = {"random": residual_network(config, tracks, binned.shape[2], seed)}

    def see(
        look: Look, of: LabelledCohort, binned: np.ndarray
    ) -> tuple[SmoothedView | JoinedView, LabelledCohort]:
        """Fit what a look sees of training samples, which are also brought ``binned``; return what it is given too."""
        if look.view >= 0:
            return SmoothedView(views[look.view], grids[look.grid], look.sigma), of
        of = activation_cohort(of, activations(networks["random"], tracks, binned, config.channels))
        return fit_joined_view(of, "zscore"), of

    rows = compared_samples(train, rng)
    some = (train, binned) if len(rows) == len(train) else (train.take(rows), take_rows(binned, rows))
    seen_by_some = {look.name: see(look, *some) for look in looks}
    ridge_losses = {name: ridge_log_loss(seen.transform(of), of) for name, (seen, of) in seen_by_some.items()}
    best = sorted(ridge_losses, key=ridge_losses.get)[: config.kept_scales]
    looks = [look for look in looks if look.name in best]
    scores = np.zeros((len(train), len(looks), min(len(train), config.max_components)), np.float32)
    scales: list[Scale] = []
    activation_view = None
    for number, look in enumerate(looks):
        seen, of = seen_by_some[look.name] if some[0] is train else see(look, train, binned)
        scale, own = Scale.fit(look, seen, of, config.max_components, rng)
        scores[:, number, : own.shape[1]] = own
        scales.append(scale)
        activation_view = seen.views[0] if look.view < 0 else activation_view
    n_components = max(1, *(scale.components.basis.shape[1] for scale in scales))
    trained = train_members(scores[:, :, :n_components], train, config, seed)
    oof, is_gated, of_scale = trained.oof_logits, trained.is_deep, trained.view
    if len(train) >= config.end_to_end_samples:
        rival = min(oof[:, 0], key=lambda logits: calibrated_losses(logits, train.labels).mean())
        own = train_end_to_end(config, tracks, binned, train, trained.folds[0], rival, seed)
        if own is not None:
            networks["end_to_end"] = own[0]
            oof = np.concatenate([oof, np.broadcast_to(own[1], (1, *oof.shape[1:]))])
            is_gated, of_scale = np.append(is_gated, True), np.append(of_scale, len(scales))
    chosen = select_members(oof, train, is_gated, config.max_members)

    names = [scale.name for scale in scales] + [END_TO_END] * ("end_to_end" in networks)
    shares = np.bincount(of_scale, chosen.weights, minlength=len(names))
    best = [min(chosen.member_log_loss[of_scale == i]) for i in range(len(names))]
    findings = {
        "pseudo_order": track.pseudo_order,
        "best_scale": names[int(np.argmax(shares))],
        "weight_of_scale": dict.fromkeys(ridge_losses, 0.0) | dict(zip(names, shares.tolist(), strict=True)),
        "ridge_log_loss_of_scale": ridge_losses,
        "oof_log_loss_of_scale": dict(zip(names, map(float, best), strict=True)),
        "chosen_scales": [
            describe_scale(
                scale,
                float(share),
                train,
                placed if scale.grid > 0 else list(slices),
                grids[scale.grid] if scale.view >= 0 else None,
            )
            for scale, share in zip(scales, shares[: len(scales)], strict=True)
            if share > 0
        ],
        "common_bin_bp": bins.bin_bp,
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
    if all(scales[i].view >= 0 for i in kept):
        del networks["random"]
    own = chosen.coefficients[of_scale == len(scales)]
    return Predictor(
        config,
        views,
        grids,
        bins,
        [scales[i] for i in kept],
        np.append(chosen.coefficients[np.isin(of_scale, kept)], own.sum()),
        chosen.temperature,
        networks,
        activation_view,
        findings,
    )
