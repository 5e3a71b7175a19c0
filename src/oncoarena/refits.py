"""What is trained beside the models that compete: on less of the training part, or with another seed.

Three purposes, each a job of its own, so that a change of one trains nothing else again:

- ``thresholds``: on inner folds of every training part, for probabilities of training samples by models
  that never saw them. The referee chooses thresholds on these, never on test samples.
- ``seeds``: on the same training parts with other seeds.
- ``learning``: on nested shares of the training patients.

Whatever is drawn here depends on the study's seed, the repeat and the fold, not on the hypothesis: all are
held to the same folds and the same patients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oncoarena import compute
from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.errors import InputError, NotApplicable
from oncoarena.splits import deal_folds, split_id

PURPOSES = ("thresholds", "seeds", "learning")

COLUMN = {"thresholds": "inner_fold", "seeds": "training_seed", "learning": "fraction"}
"""The column of a purpose's predictions that tells its models of one split apart."""


CALL_RULE = "a sample is called the class it finds most probable"
"""How probabilities become a class where no threshold is at work."""


@dataclass(frozen=True)
class Thresholds:
    """How thresholds of a two-class study are chosen (config key ``thresholds``)."""

    inner_folds: int = 3
    """Folds of the training part whose out-of-fold probabilities decide; 0: no thresholds are chosen."""
    specificity: float = 0.95
    """The operating point that is named before the run and shown first."""

    def __post_init__(self) -> None:
        if self.inner_folds == 1:
            raise InputError("inner_folds: found 1, expected 2 to 10, or 0 to choose no thresholds")

    def rule(self) -> str:
        """Say how a probability becomes a call."""
        if self.inner_folds == 0:
            return (
                f"{CALL_RULE}; no thresholds are chosen: sensitivity at a specificity, and specificity at a "
                "sensitivity, are read off the test samples"
            )
        return (
            f"{CALL_RULE}; of two classes the positive one is also called at thresholds chosen on out-of-fold "
            f"probabilities of {self.inner_folds} inner folds of each training part, of which that for a specificity "
            f"of {self.specificity:g} is the one named before the run"
        )


@dataclass(frozen=True)
class Refit:
    """One purpose with what it trains; plain values, as they are passed to a job."""

    purpose: str
    values: tuple[float, ...]
    """Inner folds 0 to n - 1; numbers of seeds from 1; shares of the training patients below 1."""


def refits(thresholds: Thresholds, seeds: int, learning_curve: Sequence[float], role: str) -> list[Refit]:
    """List what a hypothesis of a role trains beside its main models.

    Thresholds are chosen for all; controls need neither other seeds nor learning curves. The main models are the
    first seed, and the whole of the patients.
    """
    rival = role != "control"
    wanted = {
        "thresholds": tuple(range(thresholds.inner_folds)),
        "seeds": tuple(range(1, seeds)) if rival else (),
        "learning": tuple(sorted(share for share in set(learning_curve) if share < 1)) if rival else (),
    }
    return [Refit(purpose, values) for purpose, values in wanted.items() if values]


def plan_fits(
    splits: Sequence[Mapping[str, Any]],
    part: int,
    n_parts: int,
    study_seed: int,
    hypothesis: str,
    refit: Refit | None,
    n_classes: int,
) -> list[dict[str, Any]]:
    """List the models that a job trains, in order: a dictionary each, JSON-able.

    Parameters: ``splits`` (repeat, fold, id, uri), all of the study, of which split i belongs to part i modulo
    ``n_parts``; ``refit``, None for the main models. A main model's seed depends on study seed, hypothesis, repeat
    and fold alone. Seeds and learning curves use the splits of the first repeat; thresholds are chosen for two
    classes only.
    Returns of each model: repeat, fold, id, uri, seed, and for a refit its purpose, value, n_values and draw_seed.
    """
    first_repeat = min(split["repeat"] for split in splits)
    fits = []
    for split in splits[part::n_parts]:
        repeat, fold = split["repeat"], split["fold"]
        main = {**split, "seed": compute.spawn_seed(study_seed, hypothesis, repeat, fold)}
        if refit is None:
            fits.append(main)
            continue
        if n_classes != 2 if refit.purpose == "thresholds" else repeat != first_repeat:
            continue
        for value in refit.values:
            fit = {
                **main,
                "id": f"{split_id(repeat, fold)}-{refit.purpose}-{value:g}",
                "purpose": refit.purpose,
                "value": value,
                "n_values": len(refit.values),
                "draw_seed": compute.spawn_seed(study_seed, refit.purpose, repeat, fold),
            }
            if refit.purpose != "learning":
                # On fewer patients the seed stays, so that the curve ends in the main model.
                fit["seed"] = compute.spawn_seed(
                    study_seed, hypothesis, repeat, fold, refit.purpose, int(value)
                )
            fits.append(fit)
    return fits


def refit_parts(fit: Mapping[str, Any], train: LabelledCohort, test: Cohort) -> tuple[LabelledCohort, Cohort]:
    """Return what a model trains on and what it predicts.

    Out of the training part alone where thresholds are chosen; else the test part is predicted.
    Raises NotApplicable where the training part cannot be dealt into inner folds.
    """
    purpose = fit.get("purpose")
    if purpose == "thresholds":
        held = inner_folds(train, fit["n_values"], fit["draw_seed"]) == fit["value"]
        return train.take(~held), train.take(held).without_labels()
    if purpose == "learning":
        return train.take(nested_share(train, fit["value"], fit["draw_seed"])), test
    return train, test


def inner_folds(train: LabelledCohort, n_folds: int, seed: int) -> np.ndarray:
    """Deal a training part into folds, patient-grouped and stratified by label: (n_samples,) int64.

    Raises NotApplicable where a label has fewer patients than there are folds: then some model would be asked
    about a label that it never saw.
    """
    for code, name in enumerate(train.classes):
        n_patients = len(np.unique(train.patient_ids[train.labels == code]))
        if n_patients < n_folds:
            raise NotApplicable(
                f"{n_folds} inner folds need {n_folds} patients of every label; a training part has {n_patients} "
                f"of {name!r}"
            )
    return deal_folds(train.labels, train.patient_ids, n_folds, np.random.default_rng(seed))


def nested_share(train: LabelledCohort, share: float, seed: int) -> np.ndarray:
    """Choose a share of the training patients with all their samples: (n_samples,) bool.

    Of the patients of each set of labels the nearest whole number is taken, one at least. With the same seed a larger
    share holds every patient of a smaller one.
    """
    patients, patient_of = np.unique(train.patient_ids, return_inverse=True)
    has = np.zeros((len(patients), len(train.classes)), dtype=bool)
    has[patient_of, train.labels] = True
    _, stratum_of = np.unique(has, axis=0, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(patients))
    chosen = np.zeros(len(patients), dtype=bool)
    for stratum in range(int(stratum_of.max()) + 1):
        members = order[stratum_of.reshape(-1)[order] == stratum]
        chosen[members[: max(1, int(np.floor(share * len(members) + 0.5)))]] = True
    return chosen[patient_of]
