"""The claim: a few features decide the class; all the others only add noise.

Refuted where gates that keep all features have a lower log loss than gates that keep a few: out of fold (see
"log_loss_by_features" in the findings), and on held-out samples against `l2_logistic` and
`patient_similarity`, which use every feature.

Sources: nearest shrunken centroids (Tibshirani 2002, doi:10.1073/pnas.082099299) and the attention pooling of
P-NET (Elmarakeby 2021, doi:10.1038/s41586-021-03922-4), MuAt (Sanjaya 2023, doi:10.1186/s13073-023-01204-4)
and ATGC (Anaya 2024, doi:10.1038/s41551-023-01120-3). The members are described in
``oncoarena.fitting.torch_attention`` and ``torch_gates``; with a GMT file some weigh gene sets (as P-NET's fixed layer
has them) instead of features. Each is linear in its view of the features, so the chosen mix is one weight a feature,
class and view, and a sample's logits are the sum of what its markers contribute. A study that keeps mutations one by
one also gets attention over each sample's set of them (``oncoarena.fitting.torch_sets``), if it gains more than one
standard error out of fold: a few mutations may decide by class and place together, which no count of either tells.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from oncoarena.attribution import Attribution
from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.errors import NotApplicable
from oncoarena.fitting.attributions import explain_linear, over_mean
from oncoarena.fitting.gated_selection import select_gated
from oncoarena.fitting.gene_sets import match_gene_sets
from oncoarena.fitting.marker_lists import list_markers
from oncoarena.fitting.selection import fit_temperature, log_loss, softmax, spread_to_classes
from oncoarena.fitting.token_rows import token_rows
from oncoarena.fitting.torch_attention import attention_members, most_attended
from oncoarena.fitting.torch_evidence import Ranking, Splits, make_splits, rank_features
from oncoarena.fitting.torch_gates import LARGE_COHORT, Member, gate_members, most_kept
from oncoarena.fitting.torch_screening import screen
from oncoarena.fitting.torch_sets import BINS, SetReader, join_members, part_sets, set_members
from oncoarena.fitting.views import JoinedView, fit_joined_views, offered_kinds

FRAMEWORK = "torch"
BLOCKS = "all"
SETS = ("mutation_tokens",)
FILES = ("gmt",)

# Markers listed in the findings.
N_LISTED = 50
# In place of the number of a view: members that look at gene sets, and those that look at mutations.
GENE_SETS, MUTATIONS = -1, -2


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the sparse claim."""

    views: tuple[str, ...] = ("zscore", "raw", "share")
    """Views of the blocks, see ``oncoarena.fitting.views``."""
    n_folds: int = 5
    """Inner folds; fewer where there are fewer patients."""
    n_repeats: int = 2
    """Repeats of the inner folds; 1 with more than 1,000 samples."""
    kept: tuple[float, ...] = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    """Fractions of the features that the hard gates keep."""
    evidence_powers: tuple[float, ...] = (1.0, 2.0)
    """Soft gates: each feature is multiplied by the root of this power of its F statistic."""
    penalties: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2)
    """L2 penalties of the heads: lambda of mean cross-entropy + lambda / 2 x sum of squared weights."""
    head_steps: int = 150
    """Accelerated gradient steps of the heads."""
    survivors: tuple[int, ...] = (8, 32, 128, 512, 1024)
    """Attention gates: features that survive the threshold of the prototypes."""
    uniformity: tuple[float, ...] = (1.0, 0.1)
    """Attention gates: penalties for a nat of divergence from the uniform gate."""
    smoothing: float = 0.1
    """Attention gates: probability mass spread over the classes, so they learn on once all is right."""
    gate_steps: int = 40
    """Attention gates: gradient steps."""
    gate_rate: float = 0.2
    """Attention gates: first step of the gate that moves most, in nats; falls to 0 along a cosine."""
    set_width: int = 16
    """Set attention: units of a mutation's embedding."""
    set_steps: tuple[int, ...] = (80, 120, 160)
    """Set attention: steps after which it is a member, in the proportion given where a large cohort needs more."""
    set_rate: float = 0.02
    """Set attention: learning rate at the start; falls to 0 along a cosine."""
    set_decay: float = 1.0
    """Set attention: decay of its weights (AdamW)."""
    max_members: int = 12
    """Draws of the greedy selection."""
    gmt: str = ""
    """Path or URI of a GMT file: the members then see its gene sets as well, each as the mean of its features."""


class MarkerEnsemble(nn.Module):
    """The chosen members as one linear map a view: logits are sums of the markers' contributions."""

    def __init__(self, n_markers: tuple[int, ...], n_classes: int):
        super().__init__()
        self.register_buffer("intercept", torch.zeros(n_classes, dtype=torch.float64))
        for number, m in enumerate(n_markers):
            self.register_buffer(f"columns{number}", torch.zeros(m, dtype=torch.int64))
            self.register_buffer(f"weights{number}", torch.zeros(m, n_classes, dtype=torch.float64))

    def markers(self, number: int) -> tuple[Tensor, Tensor]:
        """Columns (m,) and weights (m, n_classes) of the markers in one view."""
        return getattr(self, f"columns{number}"), getattr(self, f"weights{number}")

    def forward(self, *views: Tensor) -> Tensor:
        """Turn the features (n, p) of each view into logits (n, n_classes)."""
        logits = self.intercept.expand(len(views[0]), -1)
        for number, x in enumerate(views):
            columns, weights = self.markers(number)
            logits = logits + x[:, columns].double() @ weights
        return logits


@dataclass(frozen=True)
class Predictor:
    """A fitted ensemble of sparse members."""

    views: tuple[JoinedView, ...]
    model: MarkerEnsemble
    """Gives the calibrated logits of the classes that have a training sample."""
    temperature: float
    """The logits before calibration are those over this."""
    present: np.ndarray
    """(n_present,) int64: their codes."""
    n_classes: int
    n_samples: int
    """Of the training part."""
    findings: dict
    """What was chosen out of fold and the leading markers, ready for JSON."""
    mutations: SetReader | None = None
    """Attention over mutations, whose logits are added; None where it did not earn its place."""

    def predict_proba(self, cohort: Cohort) -> np.ndarray:
        """Return probabilities (n_samples, n_classes) float64 in the order of the training classes."""
        return self._probabilities(self._logits(cohort))

    def predict_raw(self, cohort: Cohort) -> np.ndarray:
        """Return the probabilities before the last temperature (n_samples, n_classes)."""
        return self._probabilities(self._logits(cohort) / self.temperature)

    def attribute(self, cohort: Cohort, label: int) -> Attribution:
        """Explain the score of a class by the weights of its markers; all other features contribute 0.

        The mean logit is that of the classes that have a training sample; the score of any other class is 0.
        """
        intercept = self.model.intercept.cpu().numpy() / self.temperature
        baseline = float(over_mean(intercept, label, self.present))
        found = explain_linear(self._terms(cohort, label), baseline, self.views[0].block_slices())
        if self.mutations is None:
            return found
        over_classes = over_mean(np.eye(len(self.present)), label, self.present) / self.temperature
        return self.mutations.explain_beside(found, cohort, over_classes)

    def _terms(self, cohort: Cohort, label: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Features of one view after the other, and their weights in the score of a class."""
        for number, view in enumerate(self.views):
            columns, weights = (part.cpu().numpy() for part in self.model.markers(number))
            of_features = np.zeros(len(view.feature_names))
            of_features[columns] = over_mean(weights, label, self.present) / self.temperature
            yield view.transform(cohort), of_features

    def _logits(self, cohort: Cohort) -> np.ndarray:
        device = self.model.intercept.device
        tiles = zip(*(view.tiles(cohort) for view in self.views), strict=True)
        with torch.no_grad():
            logits = [self.model(*(torch.from_numpy(x).to(device) for _, x in views)) for views in tiles]
        of_features = torch.cat(logits).cpu().numpy()
        return of_features if self.mutations is None else of_features + self.mutations.logits(cohort)

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        return spread_to_classes(softmax(logits), self.present, self.n_classes, self.n_samples)

    def save(self, directory: Path) -> None:
        """Write the ensemble: PyTorch state, arrays of the views, findings."""
        torch.save(self.model.state_dict(), directory / "markers.pt")
        if self.mutations is not None:
            self.mutations.save(directory / "mutations.pt")
        for number, view in enumerate(self.views):
            np.savez(directory / f"view{number}.npz", **view.to_arrays())
        np.savez(
            directory / "classes.npz",
            temperature=self.temperature,
            present=self.present,
            n_classes=self.n_classes,
            n_samples=self.n_samples,
        )
        (directory / "findings.json").write_text(json.dumps(self.findings, indent=1))


def load(directory: Path) -> Predictor:
    """Read what ``Predictor.save`` wrote."""
    views = []
    for path in sorted(directory.glob("view*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            views.append(JoinedView.from_arrays(dict(arrays)))
    state = torch.load(directory / "markers.pt", weights_only=True, map_location="cpu")
    sizes = tuple(len(state[f"columns{number}"]) for number in range(len(views)))
    model = MarkerEnsemble(sizes, len(state["intercept"]))
    model.load_state_dict(state)
    with np.load(directory / "classes.npz", allow_pickle=False) as arrays:
        present, sizes = arrays["present"], (int(arrays["n_classes"]), int(arrays["n_samples"]))
        temperature = float(arrays["temperature"])
    findings = json.loads((directory / "findings.json").read_text())
    path = directory / "mutations.pt"
    mutations = SetReader.load(path) if path.exists() else None
    return Predictor(tuple(views), model, temperature, present, *sizes, findings, mutations)


def fit(
    config: Config,
    train: LabelledCohort,
    validation: LabelledCohort | None,
    *,
    seed: int,
    device: str,
) -> Predictor:
    """Fit all members on all inner folds side by side and keep the mix that is best out of fold.

    ``validation`` is not used: the inner folds choose. Raises NotApplicable where there are fewer than two
    patients, no features or mutations without their bins, InputError for a GMT file that cannot be used.
    """
    present, labels = np.unique(train.labels, return_inverse=True)
    n_all = len(train.classes)
    train = replace(train, labels=labels, classes=tuple(train.classes[code] for code in present))
    train, tokens = part_sets(train)
    n_repeats = config.n_repeats if len(train) <= LARGE_COHORT else 1
    splits = make_splits(train, config.n_folds, n_repeats, seed, device)
    kinds = offered_kinds(train, config.views)
    views = fit_joined_views(train, kinds)
    if not len(views[0].feature_names):
        raise NotApplicable("needs at least one feature; the blocks of this cohort have none")
    size = splits.inside.shape
    n_most = max(most_kept(*size) or 0, most_attended(*size, config.survivors))
    screened, members, view_of = [], [], []
    for number, view in enumerate(views):
        seen = screen(view, train, splits, n_most)
        members += sparse_members(config, seen.x(), seen.ranked, splits, seen.n_features)
        seen.let_go()
        screened.append(seen)
        view_of += [number] * (len(members) - len(view_of))
    gene_sets = None
    if config.gmt:
        genes = [train.blocks[name].features["gene"].to_numpy() for name in views[0].block_names]
        gene_sets = match_gene_sets(config.gmt, np.concatenate(genes))
        means = np.concatenate([gene_sets.means(x) for _, x in views[0].tiles(train)])
        x = torch.from_numpy(means).to(device)
        of_means = sparse_members(config, x, rank_features(x, splits), splits, x.shape[1])
        members += [replace(m, kind=f"gene sets, {m.kind}") for m in of_means]
        # No view of their own: what they give is added to the first one's.
        view_of += [GENE_SETS] * (len(members) - len(view_of))
    if tokens is not None:
        rows = token_rows(tokens, train.blocks[BINS].features)
        members += set_members(
            tokens,
            rows,
            splits,
            width=config.set_width,
            steps=config.set_steps,
            rate=config.set_rate,
            decay=config.set_decay,
            seed=seed,
        )
        view_of += [MUTATIONS] * (len(members) - len(view_of))
    view_of = np.array(view_of)

    labels = np.tile(train.labels, n_repeats)
    sharpness = np.array([fit_temperature(member.oof, labels) for member in members])
    oof = np.stack([t * member.oof for t, member in zip(sharpness, members, strict=True)])
    patients = np.tile(train.patient_ids, n_repeats)
    selection = select_gated(oof, labels, patients, view_of == MUTATIONS, config.max_members)
    shares = selection.shares
    final = fit_temperature(np.tensordot(shares, oof, axes=1), labels)

    n_features, n_classes = len(views[0].feature_names), len(train.classes)
    factors = final * shares * sharpness

    def mixed(number: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (m, n_classes) of features ``x`` (n, m), and intercepts, of the chosen members of a view."""
        weights = torch.zeros(x.shape[1], n_classes, dtype=torch.float64, device=device)
        intercept = torch.zeros(n_classes, dtype=torch.float64, device=device)
        for at in np.flatnonzero((shares > 0) & (view_of == number)):
            columns, of_member, bias = members[at].linear(x)
            weights[columns] += float(factors[at]) * of_member
            intercept += float(factors[at]) * bias
        return weights, intercept

    dense = [torch.zeros(n_features, n_classes, dtype=torch.float64, device=device) for _ in views]
    intercept = torch.zeros(n_classes, dtype=torch.float64, device=device)
    for number in np.unique(view_of[(shares > 0) & (view_of >= 0)]):
        weights, bias = mixed(number, screened[number].x())
        dense[number][screened[number].in_view(torch.arange(len(weights), device=device))] = weights
        intercept += bias
    if gene_sets is not None:
        of_sets, bias = mixed(GENE_SETS, x)
        dense[0] += torch.from_numpy(gene_sets.membership @ of_sets.cpu().numpy()).to(device)
        intercept += bias
    chosen = [weights.abs().sum(1).nonzero()[:, 0] for weights in dense]
    state = {"intercept": intercept}
    for number, columns in enumerate(chosen):
        state |= {f"columns{number}": columns, f"weights{number}": dense[number][columns]}
    model = MarkerEnsemble(tuple(len(columns) for columns in chosen), n_classes).to(device)
    model.load_state_dict(state)

    influence = sum(
        of_view.spread[:, None] * over_mean_of_classes(weights)
        for of_view, weights in zip(screened, dense, strict=True)
    )
    losses = [log_loss(softmax(member), labels) for member in oof]
    findings = {
        "members": [
            {
                "kind": members[at].kind,
                "view": "set" if view_of[at] == MUTATIONS else kinds[max(view_of[at], 0)],
                "features": members[at].n_features,
                **members[at].settings,
                "log_loss": losses[at],
                "share": float(shares[at]),
            }
            for at in np.flatnonzero(shares)
        ],
        "log_loss_by_features": best_by_size(members, losses),
        "n_features": n_features,
        "markers": list_markers(influence.cpu().numpy(), views[0].feature_names, train.classes, N_LISTED),
    }
    if gene_sets is not None:
        influence = x.std(dim=0, correction=0).double()[:, None] * over_mean_of_classes(of_sets)
        findings["gene_sets"] = list_markers(
            influence.cpu().numpy(), gene_sets.names, train.classes, N_LISTED
        )
    of_mutations = np.flatnonzero((shares > 0) & (view_of == MUTATIONS))
    mutations = None
    if tokens is not None:
        findings["set_attention"] = {"gain": selection.gain, "gain_error": selection.gain_error}
    if len(of_mutations):
        mutations = join_members(rows, [members[at] for at in of_mutations], factors[of_mutations].tolist())
        cells, influence = mutations.by_motif_and_bin(tokens, train.blocks[BINS].features)
        findings["mutations"] = list_markers(influence, cells, train.classes, N_LISTED)
    return Predictor(tuple(views), model, final, present, n_all, len(train), findings, mutations)


def sparse_members(
    config: Config, x: Tensor, ranked: Ranking, splits: Splits, n_features: int
) -> list[Member]:
    """Fit every gate on features ``x`` (n, p) float32, centred: all ``n_features``, or the best of them."""
    attention = attention_members(
        x,
        ranked,
        splits,
        survivors=config.survivors,
        uniformity=config.uniformity,
        smoothing=config.smoothing,
        steps=config.gate_steps,
        rate=config.gate_rate,
    )
    gates = gate_members(
        x,
        ranked,
        splits,
        n_features,
        kept=config.kept,
        evidence_powers=config.evidence_powers,
        penalties=config.penalties,
        steps=config.head_steps,
    )
    # Single precision is what the members bear; half is for what is trained in batches.
    with torch.autocast(x.device.type, enabled=False):
        return [*attention, *gates]


def over_mean_of_classes(weights: Tensor) -> Tensor:
    """Return weights (n_features, n_classes) less the mean class's: a constant on all logits changes nothing."""
    return weights - weights.mean(1, keepdim=True)


def best_by_size(members: list[Member], losses: list[float]) -> dict[str, float]:
    """Give the lowest out-of-fold log loss of the hard gates of each size: number of features to nats.

    The claim stands where the minimum lies at few features.
    """
    best: dict[int, float] = {}
    for member, loss in zip(members, losses, strict=True):
        if member.kind == "top-k gate":
            best[member.n_features] = min(loss, best.get(member.n_features, loss))
    return {str(size): best[size] for size in sorted(best)}
