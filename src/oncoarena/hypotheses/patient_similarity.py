"""Patients whose whole profiles are alike have the same cancer: no single feature need decide.

Refuted where a few markers, or a local pattern, classify better than the similarity of whole profiles
does on the same samples.

Multi-kernel ridge in closed form. Each block is seen as z-scores, as raw values and as ranks, through
linear, cosine, Gaussian and arc-cosine kernels. Every kernel x penalty x class weighting is a
candidate; its exact leave-patient-out scores (Allen's PRESS, doi:10.1080/00401706.1974.10489157,
in the form for whole groups) give it a temperature and a weight exp(-n log loss / 2). Nothing is iterated but
a search for one number. Arc-cosine kernel: Cho and Saul 2009, NeurIPS 22.

The model holds the training profiles: share it only where they may be shared.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.errors import NotApplicable
from oncoarena.fitting.selection import fit_temperature, log_loss, softmax
from oncoarena.fitting.views import VIEW_KINDS, View, fit_views
from oncoarena.kernels.gram import KERNELS, from_linear, gram

FRAMEWORK = "numpy"
BLOCKS = "all"

# A class weighs as if it had this many more samples, so that an empty one keeps a probability.
PRIOR_COUNT = 0.5


@dataclass(frozen=True)
class Config:
    """Hyper-parameters; the closed form tries every combination of the first four."""

    views: tuple[str, ...] = VIEW_KINDS
    """How the features of a block are seen."""
    kernels: tuple[str, ...] = KERNELS
    """Measures of similarity between two samples."""
    penalties: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    """Ridge penalties, in units of the mean eigenvalue of the centred kernel."""
    class_weights: tuple[str, ...] = ("uniform", "balanced")
    """"uniform": samples count alike; "balanced": classes count alike."""
    weight_floor: float = 1e-3
    """Candidates below this share of the best one's weight are left out."""


@dataclass(frozen=True)
class Part:
    """One block seen in one way: a sum over kernels of similarity x coefficient."""

    block: str
    view: View
    gamma: float
    """Of the Gaussian kernel, per unit of squared distance."""
    coefficients: dict[str, np.ndarray]
    """Kernel -> (n_train, n_classes) what each training sample adds to the logits."""


def train_key(block: str, view: View) -> tuple[str, bool]:
    """Name a prepared copy of the training samples: "raw" and "zscore" share one."""
    return block, view.kind == "rank"


@dataclass
class Predictor:
    """Logits of a sample: its similarities to the training samples times their coefficients."""

    train_values: dict[str, np.ndarray]
    """Block -> (n_train, n_features) as given to ``fit``."""
    parts: tuple[Part, ...]
    intercept: np.ndarray
    """(n_classes,) logits: log frequencies of the classes, less the centring of the kernels."""
    chosen: tuple[dict, ...]
    """The candidates that carry weight: block, view, kernel, penalty, class weights, weight, log loss."""
    device: str = "cpu"
    """Where the similarities are computed; a loaded model computes on the CPU."""
    _prepared: dict[tuple[str, bool], np.ndarray] = field(default_factory=dict, repr=False)

    def predict_proba(self, cohort: Cohort) -> np.ndarray:
        """Return the probability of each class (n_samples, n_classes), float64.

        Raises NotApplicable if the cohort lacks a block, ValueError if its features are not those of
        the training part.
        """
        logits = np.tile(self.intercept, (len(cohort), 1))
        for part in self.parts:
            if part.block not in cohort.blocks:
                raise NotApplicable(f"needs block {part.block}; this cohort has {', '.join(cohort.blocks)}")
            values = cohort.blocks[part.block].values
            if values.shape[1] != len(part.view.mean):
                raise ValueError(
                    f"block {part.block}: trained on {len(part.view.mean)} features, found {values.shape[1]}"
                )
            kernels = gram(
                part.view.prepare(values),
                self._prepare_train(part),
                kinds=tuple(part.coefficients),
                gamma=part.gamma,
                centre=part.view.mean,
                scale=part.view.factor,
                device=self.device,
            )
            for kernel, coefficients in zip(kernels, part.coefficients.values(), strict=True):
                logits += kernel @ coefficients
        return softmax(logits)

    def _prepare_train(self, part: Part) -> np.ndarray:
        key = train_key(part.block, part.view)
        if key not in self._prepared:
            self._prepared[key] = part.view.prepare(self.train_values[part.block])
        return self._prepared[key]

    def save(self, directory: Path) -> None:
        """Write ``model.npz`` (arrays) and ``model.json`` (names and the chosen candidates)."""
        arrays = {"intercept": self.intercept}
        for number, (_, values) in enumerate(self.train_values.items()):
            arrays[f"train{number}"] = values
        for number, part in enumerate(self.parts):
            arrays |= {f"view{number}.{name}": array for name, array in part.view.to_arrays().items()}
            arrays |= {f"kernel{number}.{name}": array for name, array in part.coefficients.items()}
        np.savez(directory / "model.npz", **arrays)
        described = {
            "blocks": list(self.train_values),
            "parts": [
                {"block": part.block, "gamma": part.gamma, "kernels": list(part.coefficients)}
                for part in self.parts
            ],
            "chosen": list(self.chosen),
        }
        (directory / "model.json").write_text(json.dumps(described, indent=1), encoding="utf-8")


def load(directory: Path) -> Predictor:
    """Read what ``Predictor.save`` wrote; predictions on the CPU are the same to the last bit."""
    described = json.loads((Path(directory) / "model.json").read_text(encoding="utf-8"))
    with np.load(Path(directory) / "model.npz", allow_pickle=False) as arrays:
        train_values = {name: arrays[f"train{i}"] for i, name in enumerate(described["blocks"])}
        parts = []
        for number, part in enumerate(described["parts"]):
            view = View.from_arrays(
                {name: arrays[f"view{number}.{name}"] for name in View.__dataclass_fields__}
            )
            coefficients = {kernel: arrays[f"kernel{number}.{kernel}"] for kernel in part["kernels"]}
            parts.append(Part(part["block"], view, part["gamma"], coefficients))
        return Predictor(train_values, tuple(parts), arrays["intercept"], tuple(described["chosen"]))


@dataclass(frozen=True)
class Candidate:
    """One kernel x penalty x class weighting, fitted in closed form."""

    name: dict
    sources: dict[tuple[str, str], float]
    """(block, view) -> what its kernel was multiplied with before the sum over blocks."""
    coefficients: np.ndarray
    """(n_train, n_classes)."""
    constant: np.ndarray
    """(n_classes,) what the coefficients give to the mean training sample."""
    scores: np.ndarray
    """(n_train, n_classes) leave-patient-out scores, as differences from the class frequencies."""


def fit(
    config: Config, train: LabelledCohort, validation: LabelledCohort | None, *, seed: int, device: str
) -> Predictor:
    """Fit every candidate in closed form and combine them by their leave-patient-out log loss.

    Parameters: ``train`` the training part; ``validation`` and ``seed`` are not needed: nothing is
    drawn, nothing is stopped early; ``device`` "cpu" or "cuda" computes the similarities.
    Returns the predictor. Without a feature that varies it gives the class frequencies.
    Raises NotApplicable without a block, or with fewer than two patients.
    """
    patients, groups = np.unique(train.patient_ids, return_inverse=True)
    if len(patients) < 2:
        raise NotApplicable(f"needs training samples of at least 2 patients, found {len(patients)}")
    if not train.blocks:
        raise NotApplicable("needs at least one block of features; this cohort has none")
    n_classes = len(train.classes)
    targets = np.eye(n_classes)[train.labels]
    intercept = np.log(targets.sum(axis=0) + PRIOR_COUNT)
    intercept -= np.log(len(targets) + PRIOR_COUNT * n_classes)

    parts: dict[tuple[str, str], Part] = {}
    prepared: dict[tuple[str, bool], np.ndarray] = {}
    candidates = list(_candidates(config, train, targets, groups, device, parts, prepared))
    if not candidates:
        return Predictor({}, (), intercept, (), device)
    offset = leave_group_out_log_prior(targets, groups)
    factors = [fit_temperature(c.scores, train.labels, offset) for c in candidates]
    losses = np.array(
        [
            log_loss(softmax(factor * c.scores + offset), train.labels)
            for factor, c in zip(factors, candidates, strict=True)
        ]
    )
    weights = np.exp(-0.5 * len(patients) * (losses - losses.min()))
    weights[weights < config.weight_floor] = 0.0
    weights /= weights.sum()
    kept = sorted(np.flatnonzero(weights), key=lambda i: -weights[i])
    combined = sum(weights[i] * factors[i] * candidates[i].scores for i in kept)
    final = fit_temperature(combined, train.labels, offset)

    for i in kept:
        share = final * weights[i] * factors[i]
        intercept -= share * candidates[i].constant
        kind = candidates[i].name["kernel"]
        for source, factor in candidates[i].sources.items():
            coefficients = parts[source].coefficients
            coefficients[kind] = coefficients.get(kind, 0.0) + share * factor * candidates[i].coefficients
    used = tuple(part for part in parts.values() if part.coefficients)
    chosen = tuple(
        {**candidates[i].name, "weight": float(weights[i]), "log_loss": float(losses[i])} for i in kept
    )
    train_values = {part.block: train.blocks[part.block].values for part in used}
    kept_copies = {
        train_key(part.block, part.view): prepared[train_key(part.block, part.view)] for part in used
    }
    return Predictor(train_values, used, intercept, chosen, device, kept_copies)


def _candidates(
    config: Config,
    train: LabelledCohort,
    targets: np.ndarray,
    groups: np.ndarray,
    device: str,
    parts: dict[tuple[str, str], Part],
    prepared: dict[tuple[str, bool], np.ndarray],
) -> Iterator[Candidate]:
    """Fit the candidates view by view, so that few kernels are in memory at a time.

    Fills ``parts`` and ``prepared`` (the training samples as ``View.prepare`` gives them).
    """
    views = {name: fit_views(block.values, config.views) for name, block in train.blocks.items()}
    for view_kind in config.views:
        sums: dict[str, np.ndarray] = {}
        factors: dict[str, dict[tuple[str, str], float]] = {kind: {} for kind in config.kernels}
        for block in train.blocks.values():
            view = views[block.name][view_kind]
            if not view.factor.any():
                continue
            key = train_key(block.name, view)
            if key not in prepared:
                prepared[key] = view.prepare(block.values)
            x = prepared[key]
            (linear,) = gram(x, x, centre=view.mean, scale=view.factor, device=device)
            squares = np.diag(linear)
            part = Part(block.name, view, median_gamma(linear), {})
            parts[block.name, view_kind] = part
            for kind in config.kernels:
                kernel = from_linear(linear, squares, squares, kind, part.gamma)
                # Unit trace after centring: penalties mean the same, and blocks have equal shares.
                variance = np.trace(kernel) / len(kernel) - kernel.mean()
                if variance <= 1e-12 * np.abs(kernel).max():
                    continue
                kernel /= variance
                name = {"block": block.name, "view": view_kind, "kernel": kind}
                source = {(block.name, view_kind): 1.0 / variance}
                yield from _ridge_candidates(config, name, source, kernel, targets, groups)
                sums[kind] = sums.get(kind, 0.0) + kernel
                factors[kind] |= source
        for kind, kernel in sums.items():
            n_summed = len(factors[kind])
            if n_summed > 1:
                name = {"block": "+", "view": view_kind, "kernel": kind}
                sources = {source: factor / n_summed for source, factor in factors[kind].items()}
                yield from _ridge_candidates(config, name, sources, kernel / n_summed, targets, groups)


def _ridge_candidates(
    config: Config,
    name: dict,
    sources: dict[tuple[str, str], float],
    kernel: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
) -> Iterator[Candidate]:
    for weighting in config.class_weights:
        weights = sample_weights(targets, weighting)
        if weighting == "balanced" and "uniform" in config.class_weights and np.ptp(weights) < 1e-12:
            # Classes of one size: the same fit as "uniform".
            continue
        fits = ridge_path(kernel, targets, weights, groups, config.penalties)
        for penalty, fitted in zip(config.penalties, fits, strict=True):
            described = {**name, "penalty": penalty, "class_weights": weighting}
            yield Candidate(described, sources, *fitted)


def median_gamma(linear: np.ndarray) -> float:
    """Return the gamma of a Gaussian as wide as the median distance: 1 / (2 median squared distance).

    Parameters: ``linear`` (n, n) inner products of samples, n at least 2.
    """
    squares = np.diag(linear)
    squared = squares[:, None] + squares[None, :] - 2.0 * linear
    pairs = squared[np.triu_indices(len(linear), k=1)]
    # More than half of the pairs may be duplicates; the features vary, so some pair is apart.
    positive = pairs[pairs > 1e-12 * squares.max()]
    return float(0.5 / np.median(positive))


def sample_weights(targets: np.ndarray, weighting: str) -> np.ndarray:
    """Return the weight of each sample (n,), of mean 1.

    Parameters: ``targets`` (n, n_classes) one-hot; ``weighting`` "uniform" or "balanced".
    Raises ValueError for another weighting.
    """
    if weighting == "uniform":
        return np.ones(len(targets))
    if weighting != "balanced":
        raise ValueError(f'unknown class weights {weighting!r}: expected "uniform" or "balanced"')
    counts = targets.sum(axis=0)
    return len(targets) / (np.count_nonzero(counts) * (targets @ counts))


def leave_group_out_log_prior(targets: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the log class frequencies (n, n_classes) that each sample's own group did not see.

    Parameters: ``targets`` (n, n_classes) one-hot; ``groups`` (n,) group codes from 0.
    """
    per_group = np.zeros((groups.max() + 1, targets.shape[1]))
    np.add.at(per_group, groups, targets)
    counts = targets.sum(axis=0) - per_group[groups] + PRIOR_COUNT
    return np.log(counts / counts.sum(axis=1, keepdims=True))


def ridge_path(
    kernel: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    groups: np.ndarray,
    penalties: tuple[float, ...],
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Solve weighted kernel ridge with a free intercept for each penalty, with leave-group-out scores.

    Minimises the sum of weights x squared residuals + penalty x squared length. One eigenvalue
    decomposition of the weighted, centred kernel serves all penalties. With the hat matrix H in the
    coordinates sqrt(weight) x target, the residuals of a group g that was left out are
    (I - H_gg)^-1 r_g, exactly those of a refit without the group.

    Parameters: ``kernel`` (n, n); ``targets`` (n, k); ``weights`` (n,) positive; ``groups`` (n,) group
    codes from 0; ``penalties`` positive.
    Yields for each penalty: coefficients (n, k); constant (k,): the fitted target of a sample x is
    kernel(x, train) @ coefficients - constant + weighted mean target; leave-group-out scores (n, k),
    less the weighted mean target that the group did not see.
    """
    total = weights.sum()
    share = weights / total
    root = np.sqrt(weights)
    towards_mean = kernel @ share
    centred = kernel - towards_mean[:, None] - towards_mean[None, :] + share @ towards_mean
    values, vectors = np.linalg.eigh(root[:, None] * centred * root)
    values = np.maximum(values, 0.0)
    mean = share @ targets
    response = root[:, None] * (targets - mean)
    rotated = vectors.T @ response

    batches = _groups_by_size(groups)
    group_weight = np.bincount(groups, weights)[groups]
    group_sum = np.zeros((groups.max() + 1, targets.shape[1]))
    np.add.at(group_sum, groups, weights[:, None] * targets)
    unseen_mean = (total * mean - group_sum[groups]) / (total - group_weight)[:, None]

    for penalty in penalties:
        dual = vectors @ (rotated / (values + penalty)[:, None])
        alpha = root[:, None] * dual
        coefficients = alpha - share[:, None] * alpha.sum(axis=0)
        residual = penalty * dual
        left_out = np.empty_like(residual)
        for members in batches:
            # members (groups of one size, size)
            basis = vectors[members]
            hat = (basis * (values / (values + penalty))) @ basis.transpose(0, 2, 1)
            hat += root[members][:, :, None] * root[members][:, None, :] / total
            left_out[members] = np.linalg.solve(np.eye(members.shape[1]) - hat, residual[members])
        scores = targets - left_out / root[:, None] - unseen_mean
        yield coefficients, towards_mean @ coefficients, scores


def _groups_by_size(groups: np.ndarray) -> list[np.ndarray]:
    """Sort the samples of equally large groups into arrays (n_groups, size) of positions."""
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(groups))[:-1])
    sizes = sorted({len(group) for group in members})
    return [np.stack([group for group in members if len(group) == size]) for size in sizes]
