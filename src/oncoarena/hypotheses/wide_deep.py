"""The signal is additive over very many features, each of little weight, plus low-order interactions of them.

Refuted where a model of few features or of neighbouring features does better on the same splits, or where
this one sits at the level of the controls. Its deep part is refuted where ``findings`` says that no deep
member and no boosted tree earned its place out of fold.
Reference: Cheng 2016, Wide & Deep Learning, doi:10.1145/2988450.2988454.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from oncoarena.attribution import Attribution
from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.fitting.attributions import over_mean, split_blocks
from oncoarena.fitting.boosted_trees import BoostedTrees, TreeSettings, fit_trees, out_of_fold_logits
from oncoarena.fitting.components import Components, fit_view_components
from oncoarena.fitting.keras_attributions import mean_head_gradient, uses_deep_heads
from oncoarena.fitting.keras_members import (
    HeadConfig,
    WideDeepMembers,
    member_logits,
    select_members,
    stack_scores,
    take_copy,
    train_members,
)
from oncoarena.fitting.selection import softmax
from oncoarena.fitting.shared_factors import without_factors
from oncoarena.fitting.views import VIEW_KINDS, JoinedView, fit_joined_views, offered_kinds

FRAMEWORK = "tensorflow"
BLOCKS = "all"
LESS_FACTORS = "zscore less factors"
"""Name of the view that lacks the shared factors, among the findings."""


@dataclass(frozen=True)
class Config(HeadConfig):
    """Hyper-parameters: the views and the trees here, the heads and their training as in ``HeadConfig``."""

    views: tuple[str, ...] = VIEW_KINDS
    """Views of the blocks, see ``oncoarena.fitting.views``."""
    tree_rounds: int = 100
    """Rounds of the member of boosted trees; 0 for none."""
    tree_depth: int = 3
    """Depth of its trees: interactions of up to two features."""
    tree_features: int = 2000
    """Features that it is offered, those with the largest F statistic."""
    max_tree_work: int = 20_000
    """It is left out beyond this many training samples x classes; there it costs some 30 s of one core."""


class Predictor:
    """Views, their components, one batched Keras model, perhaps trees, and the coefficients of the members."""

    def __init__(
        self,
        views: list[JoinedView],
        view_of: list[int],
        components: list[Components],
        members: WideDeepMembers,
        coefficients: np.ndarray,
        temperature: float,
        findings: dict,
        trees: BoostedTrees | None = None,
        tree_coefficient: float = 0.0,
    ):
        """Coefficients of the members' logits include the ``temperature`` that calibrates them.

        ``view_of`` says of which of the ``views`` each of the ``components`` are: one view may have them twice.
        """
        self.views = views
        self.view_of = view_of
        self.components = components
        self.members = members
        self.coefficients = coefficients
        self.temperature = temperature
        self.findings = findings
        self.trees = trees
        self.tree_coefficient = tree_coefficient

    def predict_proba(self, cohort: Cohort) -> np.ndarray:
        """Return (n_samples, n_classes) float64 probabilities in the order of the training classes."""
        return softmax(self._logits_of(cohort))

    def predict_raw(self, cohort: Cohort) -> np.ndarray:
        """Return the probabilities before the last temperature (n_samples, n_classes)."""
        return softmax(self._logits_of(cohort) / self.temperature)

    def attribute(self, cohort: Cohort, label: int) -> Attribution:
        """Explain the score of a class: by weights, or integrated gradients where deep heads have weight.

        Trees that have weight add their Shapley values.
        """
        x = [view.transform(cohort) for view in self.views]
        scores = self._scores(x)
        at_mean = self._scores([np.zeros((1, values.shape[1]), np.float32) for values in x])
        coefficients = self.coefficients / self.temperature
        gradient = mean_head_gradient(self.members, coefficients, label, at_mean, scores)
        contributions = np.zeros(x[0].shape, np.float32)
        for number, (view, components) in enumerate(zip(self.view_of, self.components, strict=True)):
            of_components = gradient[:, number, : components.basis.shape[1]].T  # (r, n_samples or 1)
            contributions += x[view] * components.feature_weights(of_components).T.astype(np.float32)
        is_deep = uses_deep_heads(self.members, self.coefficients)
        heads = Attribution(
            over_mean(self._logits(scores) / self.temperature, label),
            np.repeat(over_mean(self._logits(at_mean) / self.temperature, label), len(cohort)),
            split_blocks(contributions, self.views[0].block_slices()),
            "integrated gradients" if is_deep else "weights",
            exact=not is_deep,
        )
        if self.trees is None:
            return heads
        return _add(heads, self.trees.attribute(cohort, label), self.tree_coefficient / self.temperature)

    def _logits_of(self, cohort: Cohort) -> np.ndarray:
        """Calibrated logits (n_samples, n_classes), some samples after the other."""
        tiles = zip(*(view.tiles(cohort) for view in self.views), strict=True)
        of_heads = np.concatenate([self._logits(self._scores([x for _, x in views])) for views in tiles])
        if self.trees is None:
            return of_heads
        return of_heads + self.tree_coefficient * self.trees.logits(cohort)

    def _scores(self, x: list[np.ndarray]) -> np.ndarray:
        """Scores (n_samples, n_components, r) of samples as each view gives them, (n_samples, n_features)."""
        projected = [own.project(x[view]) for view, own in zip(self.view_of, self.components, strict=True)]
        return stack_scores(projected, self.members.n_components)

    def _logits(self, scores: np.ndarray) -> np.ndarray:
        """What the heads add to the calibrated logits, (n_samples, n_classes)."""
        logits = member_logits(self.members, scores)[:, 0]
        return np.einsum("smk,m->sk", logits.astype(np.float64), self.coefficients)

    def save(self, directory: Path) -> None:
        """Write the model into an empty directory."""
        self.members.save(directory / "members.keras")
        for number, view in enumerate(self.views):
            np.savez(directory / f"view{number}.npz", **view.to_arrays())
        for number, components in enumerate(self.components):
            components.save(directory / f"components{number}.npz")
        if self.trees is not None:
            np.savez(directory / "trees.npz", **self.trees.to_arrays())
        of_members = {"coefficients": self.coefficients, "tree_coefficient": self.tree_coefficient}
        others = {"view_of": self.view_of, "temperature": self.temperature}
        np.savez(directory / "coefficients.npz", **of_members, **others)
        (directory / "findings.json").write_text(json.dumps(self.findings, indent=1))


def load(directory: Path) -> Predictor:
    """Read what ``Predictor.save`` wrote."""
    chosen = np.load(directory / "coefficients.npz")
    view_of = chosen["view_of"].tolist()
    trees = None
    if (directory / "trees.npz").exists():
        trees = BoostedTrees.from_arrays(dict(np.load(directory / "trees.npz")))
    return Predictor(
        [JoinedView.from_arrays(dict(np.load(directory / f"view{i}.npz"))) for i in range(max(view_of) + 1)],
        view_of,
        [
            Components.from_arrays(dict(np.load(directory / f"components{i}.npz")))
            for i in range(len(view_of))
        ],
        keras.models.load_model(directory / "members.keras", compile=False),
        chosen["coefficients"],
        float(chosen["temperature"]),
        json.loads((directory / "findings.json").read_text()),
        trees,
        float(chosen["tree_coefficient"]),
    )


def fit(
    config: Config, train: LabelledCohort, validation: LabelledCohort | None, *, seed: int, device: str
) -> Predictor:
    """Train all members for all inner folds at once, then choose among them out of fold.

    ``validation`` is not used: the number of steps is fixed and the choice is made by inner folds.
    TensorFlow places the work on ``device`` by itself.
    """
    kinds = offered_kinds(train, config.views)
    views = fit_joined_views(train, kinds)
    rng = np.random.default_rng(seed)
    components = [fit_view_components(view, train, config.max_components, rng) for view in views]
    view_of = list(range(len(views)))
    if "zscore" in kinds:
        # The same without the few factors (batch, cell composition) that move most of the profile at once.
        at = kinds.index("zscore")
        n_moving = sum(int(np.count_nonzero(view.factor)) for view in views[at].views)
        if rest := without_factors(components[at], n_moving):
            kinds, components = (*kinds, LESS_FACTORS), [*components, rest]
            view_of.append(at)
    trained = train_members(stack_scores([c.train_scores for c in components]), train, config, seed)
    settings = TreeSettings(config.tree_rounds, max_depth=config.tree_depth, n_screened=config.tree_features)
    has_trees = config.tree_rounds > 0 and len(train) * len(train.classes) <= config.max_tree_work
    offered = [trained.oof_logits]
    if has_trees:
        # Of the first repeat of the inner folds only: trees are dear beside heads.
        of_repeat = out_of_fold_logits(train, trained.folds[:1], settings, seed)
        offered.append(np.repeat(of_repeat, len(trained.folds), axis=0)[None])
    is_gated = np.append(trained.is_deep, np.ones(int(has_trees), bool))
    chosen = select_members(np.concatenate(offered), train, is_gated, config.max_members)
    weights, coefficients = (of[: len(trained.view)] for of in (chosen.weights, chosen.coefficients))
    of_trees = float(chosen.weights[-1]) if has_trees else 0.0
    of_view = np.array([kinds[view] for view in trained.view])
    # Where trees have all the weight a view stays, of no weight.
    kept = np.unique(trained.view[weights > 0]) if weights.any() else np.array([0])
    kept_views, view_of_kept = np.unique(np.array(view_of)[kept], return_inverse=True)
    findings = {
        "oof_log_loss": chosen.log_loss,
        "deep_gain": chosen.gain,
        "deep_gain_error": chosen.gain_error,
        "weight_of_deep": float(weights[trained.is_deep].sum()),
        "weight_of_trees": of_trees,
        "trees_offered": has_trees,
        "weight_of_view": {v: float(weights[of_view == v].sum()) for v in kinds},
    }
    return Predictor(
        [views[i] for i in kept_views],
        view_of_kept.tolist(),
        [components[i] for i in kept],
        take_copy(trained.model, copy=0, views=kept),
        coefficients[np.isin(trained.view, kept)],
        chosen.temperature,
        findings,
        fit_trees(train, np.arange(len(train)), settings, seed) if of_trees else None,
        float(chosen.coefficients[-1]) if of_trees else 0.0,
    )


def _add(heads: Attribution, trees: Attribution, share: float) -> Attribution:
    """Explain the sum of what the heads say and a share of what the trees say."""
    return Attribution(
        heads.score + share * trees.score,
        heads.baseline + share * trees.baseline,
        {
            name: of_heads + np.float32(share) * trees.contributions[name]
            for name, of_heads in heads.contributions.items()
        },
        f"{heads.method}, {trees.method}",
        exact=heads.exact and trees.exact,
    )
