"""Patients whose whole profiles are alike have the same cancer: no single feature need decide.

Refuted where a few markers, or a local pattern, classify better than the similarity of whole profiles
does on the same samples.

Multi-kernel ridge in closed form. Each block is seen as z-scores, as raw values, as ranks and (counts) as shares
of a sample, with the few factors that all samples share and without them, through linear, cosine, Gaussian,
arc-cosine and squared-cosine kernels; so are sums over blocks, and over blocks and views. Blocks of sets (mutated
genes) and of counts or shares (mutation spectra) also have kernels of their own, Tanimoto's and min-max, alone and in
a sum over blocks. Every kernel x penalty x class weighting is a candidate; its exact leave-patient-out scores (Allen's
PRESS, doi:10.1080/00401706.1974.10489157, in the form for whole groups) give it a temperature and a weight
exp(-n log loss / 2). A last temperature is found where these are crossed over folds of patients. Nothing is iterated
but searches for one number. Above ``Config.exact_samples`` the samples are
compared with landmark samples only, and the leave-patient-out scores are exact for that model. Arc-cosine kernel: Cho
and Saul 2009, NeurIPS 22.

The model holds the training profiles: share it only where they may be shared.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from oncoarena.attribution import Attribution
from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.errors import NotApplicable
from oncoarena.fitting.attributions import over_mean
from oncoarena.fitting.count_parts import CountPart, CountView, read_part
from oncoarena.fitting.kernel_candidates import CandidateFits, Grid
from oncoarena.fitting.kernel_parts import Part
from oncoarena.fitting.kernel_ridge import PRIOR_COUNT, deal_landmarks, leave_group_out_log_prior
from oncoarena.fitting.kernel_weights import cross_weighted, score, weigh
from oncoarena.fitting.selection import fit_temperature, inner_folds, softmax
from oncoarena.fitting.tiles import row_tiles
from oncoarena.fitting.views import VIEW_KINDS, View
from oncoarena.kernels.gram import KERNELS
from oncoarena.mapped import release, take_rows

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
    count_kernels: tuple[str, ...] = ("tanimoto", "min_max")
    """Measures of similarity for blocks of sets (all 0 or 1), and of counts or shares, tried beside the others."""
    exact_samples: int = 1500
    """Training samples up to which all of them are compared; above, all with the landmarks (time: cube of these)."""
    landmarks: int = 1024
    """Landmark samples of a cohort above ``exact_samples``."""
    weight_floor: float = 1e-3
    """Candidates below this share of the best one's weight are left out."""
    calibration_folds: int = 5
    """Folds of patients for the last temperature: each is predicted by candidates that the others weighted."""


def train_key(block: str, view: View | CountView) -> tuple[str, str]:
    """Name a prepared copy of the training samples: "raw" and "zscore" share one."""
    return block, view.preparation


@dataclass
class Predictor:
    """Logits of a sample: its similarities to the training samples times their coefficients."""

    train_values: dict[str, np.ndarray]
    """Block -> (n_compared, n_features) as given to ``fit``: all training samples, or the landmarks."""
    parts: tuple[Part | CountPart, ...]
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
            compared = self._compared(part)
            part.add_logits(baseline[None], part.view.mean[None], compared, self.device)
            of_score = {
                kind: over_mean(of, label) / self.temperature for kind, of in part.coefficients.items()
            }
            prepared = part.view.prepare(self._values(cohort, part))
            contributions[part.block] += part.contributions(prepared, compared, of_score, self.device)
        score = over_mean(self._raw(self._logits(cohort)), label)
        baselines = np.full(len(score), over_mean(self._raw(baseline), label))
        return Attribution(score, baselines, contributions, "exact contributions to the kernels", exact=True)

    def _logits(self, cohort: Cohort) -> np.ndarray:
        logits = np.tile(self.intercept, (len(cohort), 1))
        for part in self.parts:
            values, compared = self._values(cohort, part), self._compared(part)
            for rows in row_tiles(*values.shape):
                part.add_logits(
                    logits[rows], part.view.prepare(np.array(values[rows])), compared, self.device
                )
                release(values)
        return logits

    def _raw(self, logits: np.ndarray) -> np.ndarray:
        return self.log_prior + (logits - self.log_prior) / self.temperature

    def _values(self, cohort: Cohort, part: Part | CountPart) -> np.ndarray:
        if part.block not in cohort.blocks:
            raise NotApplicable(f"needs block {part.block}; this cohort has {', '.join(cohort.blocks)}")
        values = cohort.blocks[part.block].values
        if values.shape[1] != len(part.view.mean):
            raise ValueError(
                f"block {part.block}: trained on {len(part.view.mean)} features, found {values.shape[1]}"
            )
        return values

    def _compared(self, part: Part | CountPart) -> np.ndarray:
        """The samples compared with, as the part's view prepares them."""
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
            arrays |= {f"part{number}.{name}": array for name, array in part.to_arrays().items()}
        np.savez(directory / "model.npz", **arrays)
        described = {
            "blocks": list(self.train_values),
            "parts": [part.block for part in self.parts],
            "chosen": list(self.chosen),
        }
        (directory / "model.json").write_text(json.dumps(described, indent=1), encoding="utf-8")


def load(directory: Path) -> Predictor:
    """Read what ``Predictor.save`` wrote; predictions on the CPU are the same to the last bit."""
    described = json.loads((Path(directory) / "model.json").read_text(encoding="utf-8"))
    with np.load(Path(directory) / "model.npz", allow_pickle=False) as arrays:
        train_values = {name: arrays[f"train{i}"] for i, name in enumerate(described["blocks"])}
        parts = []
        for number, block in enumerate(described["parts"]):
            prefix = f"part{number}."
            own = {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
            parts.append(read_part(block, own))
        logits = arrays["intercept"], arrays["log_prior"], float(arrays["temperature"])
        return Predictor(train_values, tuple(parts), *logits, tuple(described["chosen"]))


def fit(
    config: Config, train: LabelledCohort, validation: LabelledCohort | None, *, seed: int, device: str
) -> Predictor:
    """Fit every candidate in closed form and combine them by their leave-patient-out log loss.

    Parameters: ``train`` the training part; ``validation`` is not needed: nothing is stopped early;
    ``seed`` draws the landmarks of a large cohort, and deals the folds for the last temperature;
    ``device`` "cpu" or "cuda" computes the similarities.
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

    print(_path_taken(config, len(train)), flush=True)
    compared = None
    if len(train) > config.exact_samples:
        compared = deal_landmarks(train.labels, config.landmarks, np.random.default_rng(seed))
    grid = Grid(config.views, config.kernels, config.count_kernels, config.penalties, config.class_weights)
    fits = CandidateFits(grid, train, targets, groups, compared, device)
    offset = leave_group_out_log_prior(targets, groups)
    candidates, factors, losses = score(fits, train.labels, offset, len(patients), config.weight_floor)
    if not candidates:
        return Predictor({}, (), log_prior, log_prior, 1.0, (), device)
    weights = weigh(losses, len(patients), config.weight_floor)
    kept = sorted(np.flatnonzero(weights), key=lambda i: -weights[i])
    (folds,) = inner_folds(train, config.calibration_folds, 1, seed)
    scores = [candidate.scores for candidate in candidates]
    crossed = cross_weighted(scores, train.labels, groups, offset, folds, config.weight_floor)
    final = fit_temperature(crossed, train.labels, offset)

    intercept = log_prior.copy()
    for i in kept:
        share = final * weights[i] * factors[i]
        intercept -= share * candidates[i].constant
        kind = candidates[i].name["kernel"]
        for source, factor in candidates[i].sources.items():
            fits.parts[source].add_coefficients(kind, share * factor * candidates[i].coefficients)
    used = tuple(part for part in fits.parts.values() if part.coefficients)
    chosen = tuple(
        {**candidates[i].name, "weight": float(weights[i]), "log_loss": float(losses[i])} for i in kept
    )
    train_values = {part.block: train.blocks[part.block].values for part in used}
    if compared is not None:
        train_values = {block: take_rows(values, compared) for block, values in train_values.items()}
    keys = [train_key(part.block, part.view) for part in used]
    kept_copies = {key: fits.prepared[key] for key in keys}
    return Predictor(train_values, used, intercept, log_prior, final, chosen, device, kept_copies)


def _path_taken(config: Config, n_samples: int) -> str:
    """Say which samples are compared with which, and why."""
    if n_samples <= config.exact_samples:
        return (
            f"patient_similarity: compares all {n_samples:,} training samples with each other "
            f"(exact up to {config.exact_samples:,}: config exact_samples)"
        )
    return (
        f"patient_similarity: compares {n_samples:,} training samples with {config.landmarks:,} of them as landmarks "
        f"(Nystroem; config landmarks), because all with all is for at most {config.exact_samples:,} (exact_samples)"
    )
