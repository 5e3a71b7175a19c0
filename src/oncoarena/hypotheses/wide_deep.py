"""The signal is additive over very many features, each of little weight, plus low-order interactions of them.

Refuted where a model of few features or of neighbouring features does better on the same splits, or where
this one sits at the level of the controls. Its deep part is refuted where ``findings`` says that no deep
member earned its place out of fold.
Reference: Cheng 2016, Wide & Deep Learning, doi:10.1145/2988450.2988454.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from oncoarena.attribution import Attribution
from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.fitting.attributions import over_mean, split_blocks
from oncoarena.fitting.components import Components, fit_components
from oncoarena.fitting.keras_attributions import mean_head_gradient, uses_deep_heads
from oncoarena.fitting.keras_members import (
    HeadConfig,
    WideDeepMembers,
    leading,
    member_logits,
    select_members,
    stack_scores,
    take_copy,
    train_members,
)
from oncoarena.fitting.selection import softmax
from oncoarena.fitting.views import VIEW_KINDS, JoinedView, fit_joined_view, offered_kinds

FRAMEWORK = "tensorflow"
BLOCKS = "all"


@dataclass(frozen=True)
class Config(HeadConfig):
    """Hyper-parameters: the views here, the heads and their training as in ``HeadConfig``."""

    views: tuple[str, ...] = VIEW_KINDS
    """Views of the blocks, see ``oncoarena.fitting.views``."""


class Predictor:
    """Views, their components, one batched Keras model and the coefficients of its members."""

    def __init__(
        self,
        views: list[JoinedView],
        components: list[Components],
        members: WideDeepMembers,
        coefficients: np.ndarray,
        temperature: float,
        findings: dict,
    ):
        """``coefficients`` of the members' logits include the ``temperature`` that calibrates them."""
        self.views = views
        self.components = components
        self.members = members
        self.coefficients = coefficients
        self.temperature = temperature
        self.findings = findings

    def predict_proba(self, cohort: Cohort) -> np.ndarray:
        """Return (n_samples, n_classes) float64 probabilities in the order of the training classes."""
        return softmax(self._logits(self._scores(view.transform(cohort) for view in self.views)))

    def predict_raw(self, cohort: Cohort) -> np.ndarray:
        """Return the probabilities before the last temperature (n_samples, n_classes)."""
        scores = self._scores(view.transform(cohort) for view in self.views)
        return softmax(self._logits(scores) / self.temperature)

    def attribute(self, cohort: Cohort, label: int) -> Attribution:
        """Explain the score of a class: by weights, or integrated gradients where deep heads have weight."""
        x = [view.transform(cohort) for view in self.views]
        scores = self._scores(x)
        at_mean = self._scores([np.zeros((1, values.shape[1]), np.float32) for values in x])
        coefficients = self.coefficients / self.temperature
        gradient = mean_head_gradient(self.members, coefficients, label, at_mean, scores)
        contributions = np.zeros(x[0].shape, np.float32)
        for number, (values, components) in enumerate(zip(x, self.components, strict=True)):
            of_components = gradient[:, number, : components.basis.shape[1]].T  # (r, n_samples or 1)
            contributions += values * components.feature_weights(of_components).T.astype(np.float32)
        is_deep = uses_deep_heads(self.members, self.coefficients)
        return Attribution(
            over_mean(self._logits(scores) / self.temperature, label),
            np.repeat(over_mean(self._logits(at_mean) / self.temperature, label), len(cohort)),
            split_blocks(contributions, self.views[0].block_slices()),
            "integrated gradients" if is_deep else "weights",
            exact=not is_deep,
        )

    def _scores(self, x: Iterable[np.ndarray]) -> np.ndarray:
        """Scores (n_samples, n_views, r) of what each view made of the samples, one view at a time."""
        return stack_scores(list(map(Components.project, self.components, x)), self.members.n_components)

    def _logits(self, scores: np.ndarray) -> np.ndarray:
        """Calibrated logits (n_samples, n_classes)."""
        logits = member_logits(self.members, scores)[:, 0]
        return np.einsum("smk,m->sk", logits.astype(np.float64), self.coefficients)

    def save(self, directory: Path) -> None:
        """Write the model into an empty directory."""
        self.members.save(directory / "members.keras")
        for number, (view, components) in enumerate(zip(self.views, self.components, strict=True)):
            np.savez(directory / f"view{number}.npz", **view.to_arrays())
            np.savez(directory / f"components{number}.npz", **components.to_arrays())
        np.savez(directory / "coefficients.npz", coefficients=self.coefficients, temperature=self.temperature)
        (directory / "findings.json").write_text(json.dumps(self.findings, indent=1))


def load(directory: Path) -> Predictor:
    """Read what ``Predictor.save`` wrote."""
    n_views = len(list(directory.glob("view*.npz")))
    chosen = np.load(directory / "coefficients.npz")
    return Predictor(
        [JoinedView.from_arrays(dict(np.load(directory / f"view{i}.npz"))) for i in range(n_views)],
        [Components.from_arrays(dict(np.load(directory / f"components{i}.npz"))) for i in range(n_views)],
        keras.models.load_model(directory / "members.keras", compile=False),
        chosen["coefficients"],
        float(chosen["temperature"]),
        json.loads((directory / "findings.json").read_text()),
    )


def fit(
    config: Config, train: LabelledCohort, validation: LabelledCohort | None, *, seed: int, device: str
) -> Predictor:
    """Train all members for all inner folds at once, then choose among them out of fold.

    ``validation`` is not used: the number of steps is fixed and the choice is made by inner folds.
    TensorFlow places the work on ``device`` by itself.
    """
    kinds = offered_kinds(train, config.views)
    views = [fit_joined_view(train, kind) for kind in kinds]
    components = [leading(fit_components(view.transform(train)), config.max_components) for view in views]
    trained = train_members(stack_scores([c.train_scores for c in components]), train, config, seed)
    chosen = select_members(trained.oof_logits, train, trained.is_deep, config.max_members)
    of_view = np.array([kinds[view] for view in trained.view])
    kept = np.unique(trained.view[chosen.weights > 0])
    findings = {
        "oof_log_loss": chosen.log_loss,
        "deep_gain": chosen.gain,
        "deep_gain_error": chosen.gain_error,
        "weight_of_deep": float(chosen.weights[trained.is_deep].sum()),
        "weight_of_view": {v: float(chosen.weights[of_view == v].sum()) for v in kinds},
    }
    return Predictor(
        [views[i] for i in kept],
        [components[i] for i in kept],
        take_copy(trained.model, copy=0, views=kept),
        chosen.coefficients[np.isin(trained.view, kept)],
        chosen.temperature,
        findings,
    )
