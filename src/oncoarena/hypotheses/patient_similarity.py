"""Patients whose whole profiles are alike have the same cancer: no single feature need decide.

Refuted where a few markers, or a local pattern, classify better than the similarity of whole profiles
does on the same samples.

Multi-kernel ridge in closed form. Each block is seen as z-scores, as raw values, as ranks and (counts) as shares
of a sample, through linear, cosine, Gaussian and arc-cosine kernels; so are sums over blocks, and over blocks and
views. Every kernel x penalty x class weighting is a
candidate; its exact leave-patient-out scores (Allen's PRESS, doi:10.1080/00401706.1974.10489157,
in the form for whole groups) give it a temperature and a weight exp(-n log loss / 2). Nothing is iterated but
a search for one number. Above ``Config.exact_samples`` the samples are compared with landmark samples only, and
the leave-patient-out scores are exact for that model. Arc-cosine kernel: Cho and Saul 2009, NeurIPS 22.

The model holds the training profiles: share it only where they may be shared.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from oncoarena.attribution import Attribution
from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.errors import NotApplicable
from oncoarena.fitting.attributions import over_mean
from oncoarena.fitting.kernel_attributions import kernel_contributions
from oncoarena.fitting.kernel_ridge import (
    PRIOR_COUNT,
    Landmarks,
    deal_landmarks,
    describe_by_landmarks,
    leave_group_out_log_prior,
    ridge_path,
    sample_weights,
)
from oncoarena.fitting.selection import fit_temperature, log_loss, softmax
from oncoarena.fitting.views import VIEW_KINDS, View, fit_views, offers_shares
from oncoarena.kernels.gram import KERNELS, from_linear, gram, median_gamma

FRAMEWORK = "numpy"
BLOCKS = "all"


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
    exact_samples: int = 1500
    """Training samples up to which all of them are compared; above, all with the landmarks (time: cube of these)."""
    landmarks: int = 1024
    """Landmark samples of a cohort above ``exact_samples``."""
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
    """Kernel -> (n_compared, n_classes) what each sample compared with adds to the logits."""


def train_key(block: str, view: View) -> tuple[str, str]:
    """Name a prepared copy of the training samples: "raw" and "zscore" share one."""
    return block, view.preparation


@dataclass
class Predictor:
    """Logits of a sample: its similarities to the training samples times their coefficients."""

    train_values: dict[str, np.ndarray]
    """Block -> (n_compared, n_features) as given to ``fit``: all training samples, or the landmarks."""
    parts: tuple[Part, ...]
    intercept: np.ndarray
    """(n_classes,) logits: log frequencies of the classes, less the centring of the kernels."""
    log_prior: np.ndarray
    """(n_classes,) log frequencies of the classes."""
    temperature: float
    """What calibrates the logits multiplied all that they have beyond ``log_prior``."""
    chosen: tuple[dict, ...]
    """The candidates that carry weight: block, view, kernel, penalty, class weights, weight, log loss."""
    device: str = "cpu"
    """Where the similarities are computed; a loaded model computes on the CPU."""
    _prepared: dict[tuple[str, str], np.ndarray] = field(default_factory=dict, repr=False)

    def predict_proba(self, cohort: Cohort) -> np.ndarray:
        """Return the probability of each class (n_samples, n_classes), float64.

        Raises NotApplicable if the cohort lacks a block, ValueError if its features are not those of
        the training part.
        """
        return softmax(self._logits(cohort))

    def predict_raw(self, cohort: Cohort) -> np.ndarray:
        """Return the probabilities before the last temperature (n_samples, n_classes); raises the same."""
        return softmax(self._raw(self._logits(cohort)))

    def attribute(self, cohort: Cohort, label: int) -> Attribution:
        """Explain the score of a class: what each feature gives to the similarities, exactly; raises the same.

        A block that no chosen candidate looks at contributes 0.
        """
        contributions = {
            name: np.zeros(block.values.shape, np.float32) for name, block in cohort.blocks.items()
        }
        baseline = self.intercept.copy()
        for part in self.parts:
            for kernel, coefficients in self._compare(part, part.view.mean[None]):
                baseline += kernel[0] @ coefficients
            contributions[part.block] += kernel_contributions(
                part.view.prepare(self._values(cohort, part)),
                self._prepare_train(part),
                {kind: over_mean(of, label) / self.temperature for kind, of in part.coefficients.items()},
                **self._similarity(part),
            )
        score = over_mean(self._raw(self._logits(cohort)), label)
        baselines = np.full(len(score), over_mean(self._raw(baseline), label))
        return Attribution(score, baselines, contributions, "exact contributions to the kernels", exact=True)

    def _logits(self, cohort: Cohort) -> np.ndarray:
        logits = np.tile(self.intercept, (len(cohort), 1))
        for part in self.parts:
            for kernel, coefficients in self._compare(part, part.view.prepare(self._values(cohort, part))):
                logits += kernel @ coefficients
        return logits

    def _raw(self, logits: np.ndarray) -> np.ndarray:
        return self.log_prior + (logits - self.log_prior) / self.temperature

    def _values(self, cohort: Cohort, part: Part) -> np.ndarray:
        if part.block not in cohort.blocks:
            raise NotApplicable(f"needs block {part.block}; this cohort has {', '.join(cohort.blocks)}")
        values = cohort.blocks[part.block].values
        if values.shape[1] != len(part.view.mean):
            raise ValueError(
                f"block {part.block}: trained on {len(part.view.mean)} features, found {values.shape[1]}"
            )
        return values

    def _compare(self, part: Part, prepared: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each kernel of a part between prepared and training samples, and its coefficients."""
        kinds = tuple(part.coefficients)
        kernels = gram(prepared, self._prepare_train(part), kinds=kinds, **self._similarity(part))
        return zip(kernels, part.coefficients.values(), strict=True)

    def _similarity(self, part: Part) -> dict:
        scaling = {"centre": part.view.mean, "scale": part.view.factor}
        return {"gamma": part.gamma, "device": self.device, **scaling}

    def _prepare_train(self, part: Part) -> np.ndarray:
        key = train_key(part.block, part.view)
        if key not in self._prepared:
            self._prepared[key] = part.view.prepare(self.train_values[part.block])
        return self._prepared[key]

    def save(self, directory: Path) -> None:
        """Write ``model.npz`` (arrays) and ``model.json`` (names and the chosen candidates)."""
        arrays = {
            "intercept": self.intercept,
            "log_prior": self.log_prior,
            "temperature": np.array(self.temperature),
        }
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
        logits = arrays["intercept"], arrays["log_prior"], float(arrays["temperature"])
        return Predictor(train_values, tuple(parts), *logits, tuple(described["chosen"]))


@dataclass(frozen=True)
class Candidate:
    """One kernel x penalty x class weighting, fitted in closed form."""

    name: dict
    sources: dict[tuple[str, str], float]
    """(block, view) -> what its kernel was multiplied with before the sum over blocks."""
    coefficients: np.ndarray
    """(n_compared, n_classes)."""
    constant: np.ndarray
    """(n_classes,) what the coefficients give to the mean training sample."""
    scores: np.ndarray
    """(n_train, n_classes) leave-patient-out scores, as differences from the class frequencies."""


def fit(
    config: Config, train: LabelledCohort, validation: LabelledCohort | None, *, seed: int, device: str
) -> Predictor:
    """Fit every candidate in closed form and combine them by their leave-patient-out log loss.

    Parameters: ``train`` the training part; ``validation`` is not needed: nothing is stopped early;
    ``seed`` draws the landmarks of a large cohort; ``device`` "cpu" or "cuda" computes the similarities.
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
    log_prior = np.log(targets.sum(axis=0) + PRIOR_COUNT)
    log_prior -= np.log(len(targets) + PRIOR_COUNT * n_classes)

    compared = None
    if len(train) > config.exact_samples:
        compared = deal_landmarks(train.labels, config.landmarks, np.random.default_rng(seed))
    parts: dict[tuple[str, str], Part] = {}
    prepared: dict[tuple[str, str], np.ndarray] = {}
    candidates = list(_candidates(config, train, targets, groups, compared, device, parts, prepared))
    if not candidates:
        return Predictor({}, (), log_prior, log_prior, 1.0, (), device)
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

    intercept = log_prior.copy()
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
    rows = slice(None) if compared is None else compared
    train_values = {part.block: train.blocks[part.block].values[rows] for part in used}
    kept_copies = {
        train_key(part.block, part.view): prepared[train_key(part.block, part.view)][rows] for part in used
    }
    return Predictor(train_values, used, intercept, log_prior, final, chosen, device, kept_copies)


def _candidates(
    config: Config,
    train: LabelledCohort,
    targets: np.ndarray,
    groups: np.ndarray,
    compared: np.ndarray | None,
    device: str,
    parts: dict[tuple[str, str], Part],
    prepared: dict[tuple[str, str], np.ndarray],
) -> Iterator[Candidate]:
    """Fit the candidates view by view, so that few kernels are in memory at a time.

    ``compared`` are the rows of the landmarks; None compares all samples with all. Fills ``parts`` and
    ``prepared`` (the training samples as ``View.prepare`` gives them).
    """
    views = {}
    for name, block in train.blocks.items():
        has_shares = "share" in config.views and offers_shares(block.values)
        views[name] = fit_views(block.values, [k for k in config.views if k != "share" or has_shares])
    over_all = {kind: KernelSum(0.0, {}) for kind in config.kernels}
    for view_kind in config.views:
        over_blocks = {kind: KernelSum(0.0, {}) for kind in config.kernels}
        for block in train.blocks.values():
            view = views[block.name].get(view_kind)
            if view is None or not view.factor.any():
                continue
            key = train_key(block.name, view)
            if key not in prepared:
                prepared[key] = view.prepare(block.values)
            gamma, kernels = _kernels(config, prepared[key], view, compared, device)
            parts[block.name, view_kind] = Part(block.name, view, gamma, {})
            for kind, kernel in zip(config.kernels, kernels, strict=True):
                size = np.abs(kernel).max()
                described = kernel if compared is None else describe_by_landmarks(kernel, compared)
                variance = centred_variance(described)
                if variance <= 1e-12 * size:
                    continue
                # Unit trace after centring: penalties mean the same, and blocks have equal shares.
                kernel /= variance
                described = kernel if compared is None else described.over(variance)
                name = {"block": block.name, "view": view_kind, "kernel": kind}
                source = {(block.name, view_kind): 1.0 / variance}
                yield from _ridge_candidates(config, name, source, described, targets, groups)
                for sums in (over_blocks, over_all):
                    sums[kind] = KernelSum(sums[kind].kernel + kernel, sums[kind].factors | source)
        for kind, summed in over_blocks.items():
            if len(summed.factors) > 1:
                name = {"block": "+", "view": view_kind, "kernel": kind}
                yield from _ridge_candidates(config, name, *summed.mean(compared), targets, groups)
    for kind, summed in over_all.items():
        if len({view_kind for _, view_kind in summed.factors}) > 1:
            name = {"block": "+", "view": "+", "kernel": kind}
            yield from _ridge_candidates(config, name, *summed.mean(compared), targets, groups)


@dataclass(frozen=True)
class KernelSum:
    """A sum of kernels of unit trace, and what each source was multiplied with."""

    kernel: np.ndarray | float
    factors: dict[tuple[str, str], float]

    def mean(
        self, compared: np.ndarray | None
    ) -> tuple[dict[tuple[str, str], float], np.ndarray | Landmarks]:
        """Return the factors and the kernel of the mean, described by landmarks where there are any."""
        n_summed = len(self.factors)
        kernel = self.kernel / n_summed
        factors = {source: factor / n_summed for source, factor in self.factors.items()}
        return factors, kernel if compared is None else describe_by_landmarks(kernel, compared)


def _kernels(
    config: Config, x: np.ndarray, view: View, compared: np.ndarray | None, device: str
) -> tuple[float, Iterator[np.ndarray]]:
    """Compare samples ``x`` (n, p), prepared: gamma of the Gaussian, and each kernel (n, n_compared)."""
    scaling = {"centre": view.mean, "scale": view.factor, "device": device}
    landmarks = x if compared is None else x[compared]
    (linear,) = gram(landmarks, landmarks, **scaling)
    gamma = median_gamma(linear)
    if compared is None:
        squares = np.diag(linear)
        return gamma, (from_linear(linear, squares, squares, kind, gamma) for kind in config.kernels)
    return gamma, iter(gram(x, landmarks, kinds=config.kernels, gamma=gamma, **scaling))


def centred_variance(kernel: np.ndarray | Landmarks) -> float:
    """Return the mean squared length of the samples around their mean, in the space of the kernel."""
    if isinstance(kernel, Landmarks):
        return float(kernel.features.var(axis=0).sum())
    return float(np.trace(kernel) / len(kernel) - kernel.mean())


def _ridge_candidates(
    config: Config,
    name: dict,
    sources: dict[tuple[str, str], float],
    kernel: np.ndarray | Landmarks,
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
