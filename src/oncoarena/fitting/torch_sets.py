"""Gated attention over a sample's mutations as a set, in PyTorch: all inner folds side by side.

A mutation is what its class, place, altered gene and share of reads say together: the sum of their embeddings
through one GELU, so that a class at a place may mean what neither does alone. Gated attention (Ilse 2018,
doi:10.48550/arXiv.1802.04712) weighs the mutations of a sample, and a linear head reads the weighted mean: logits
are sums of what each mutation contributes, exactly. After MuAt (Sanjaya 2023, doi:10.1186/s13073-023-01204-4), which
has the tokens, and ATGC (Anaya 2024, doi:10.1038/s41551-023-01120-3), which has the pooling.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from oncoarena.assays.mutation_tokens import FIELDS, MOTIFS
from oncoarena.attribution import Attribution
from oncoarena.cohort import Cohort, LabelledCohort
from oncoarena.data_parallel import n_processes, shard, wrap
from oncoarena.errors import NotApplicable
from oncoarena.fitting.token_rows import TokenRows, draw_mutations
from oncoarena.fitting.torch_evidence import Splits

# The set, and the block whose features are the bins of its mutations.
TOKENS, BINS = "mutation_tokens", "mutation_bins"
# Slots that are looked at together where nothing is trained: bounds the memory.
TILE_TOKENS = 2**15
# Samples of which the leading mutations are listed.
MOST_SUMMED = 500
# Samples of a step, the share of their mutations that it draws (what is decisive must be found in any half of
# them), and the most of one sample.
BATCH_SAMPLES, KEPT, STEP_TOKENS = 32, 0.5, 512
# Each sample is in at least this many steps.
MIN_PASSES = 5
# Standard deviation of the embeddings before training: what a rare one never learned stays small.
TABLE_SPREAD = 0.5
# Score of an empty slot: its weight is 0, and where all are empty none is NaN.
SCORE_OF_NOTHING = -1e4


class SetAttention(nn.Module):
    """Gated attention pooling with a linear head, several copies side by side."""

    def __init__(self, n_rows: int, n_copies: int, n_classes: int, width: int):
        super().__init__()
        half = width // 2
        # All copies beside each other in a row: one look-up serves them all.
        self.table = nn.Parameter(torch.zeros(n_rows, n_copies * width))
        self.shift = nn.Parameter(torch.zeros(n_copies, width))
        self.gate = nn.Parameter(torch.zeros(n_copies, width, 2 * half))
        self.attention = nn.Parameter(torch.zeros(n_copies, half))
        self.head = nn.Parameter(torch.zeros(n_copies, width, n_classes))
        self.intercept = nn.Parameter(torch.zeros(n_copies, n_classes))
        # What the mutations of a mean training sample give; moved into the intercept by ``settled``.
        self.register_buffer("centre", torch.zeros(n_copies, n_classes))

    def start(self, log_prior: Tensor, seed: int) -> None:
        """Draw the weights, the same for every copy; intercepts from ``log_prior`` (n_copies, n_classes)."""
        generator = torch.Generator().manual_seed(seed)
        n_copies, width = self.shift.shape
        with torch.no_grad():
            rows = TABLE_SPREAD * torch.randn(len(self.table), width, generator=generator)
            self.table.copy_(rows.repeat(1, n_copies))
            self.gate.copy_(width**-0.5 * torch.randn(self.gate.shape[1:], generator=generator))
            self.intercept.copy_(log_prior)

    def weigh(self, ids: Tensor, weights: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
        """Weigh and embed the mutations of each sample, see ``TokenRows.encode``.

        Returns weights of sum 1 (n, m, n_copies), 0 in empty slots, and embeddings (n, m, n_copies, width).
        """
        n, m, n_levels = ids.shape
        n_copies, width = self.shift.shape
        looked_up = functional.embedding_bag(
            ids.view(-1, n_levels), self.table, per_sample_weights=weights.view(-1, n_levels), mode="sum"
        )
        hidden = functional.gelu(looked_up.view(n * m, n_copies, width) + self.shift)
        signal, gate = (hidden.transpose(0, 1) @ self.gate).chunk(2, dim=-1)  # (n_copies, n * m, half)
        scores = ((torch.tanh(signal) * torch.sigmoid(gate)) @ self.attention[..., None])[..., 0]
        scores = scores.float().T.reshape(n, m, n_copies).masked_fill(~filled[..., None], SCORE_OF_NOTHING)
        return torch.softmax(scores, dim=1) * filled[..., None], hidden.view(n, m, n_copies, width)

    def forward(self, ids: Tensor, weights: Tensor, filled: Tensor) -> Tensor:
        """Return logits (n, n_copies, n_classes); of a sample without a mutation the intercepts."""
        attention, hidden = self.weigh(ids, weights, filled)
        mean = torch.einsum("nmc,nmcw->cnw", attention, hidden)
        gain = (mean @ self.head).transpose(0, 1) - self.centre
        return gain * filled.any(1)[:, None, None] + self.intercept

    def contributions(self, ids: Tensor, weights: Tensor, filled: Tensor) -> Tensor:
        """Return what each mutation adds to the summed logits of all copies: (n, m, n_classes) float64.

        Their sum over a sample, and the intercepts, are its logits.
        """
        attention, hidden = self.weigh(ids, weights, filled)
        each = torch.einsum("nmcw,cwk->nmck", hidden.double(), self.head.double()) - self.centre
        return (attention[..., None] * each).sum(2)

    def settled(self, number: int, centre: Tensor) -> dict[str, Tensor]:
        """Return the state of one copy, what a mean sample's mutations give (n_classes,) moved into its intercept."""
        width = self.shift.shape[1]
        state = {name: value.detach()[number : number + 1] for name, value in self.state_dict().items()}
        state["table"] = self.table.detach()[:, number * width : (number + 1) * width]
        state["centre"], state["intercept"] = centre[None], state["intercept"] + centre
        return {name: value.clone() for name, value in state.items()}


@dataclass(frozen=True)
class SetMember:
    """One fitted member, as it was after some of the steps."""

    settings: dict[str, int]
    oof: np.ndarray
    """Logits out of fold, (n_repeats * n_samples, n_classes); each repeat has those of the first."""
    state: dict[str, Tensor]
    """Of the copy trained on all samples."""
    n_features: int
    """Slots for mutations."""
    kind: str = "set attention"


@dataclass(frozen=True)
class SetReader:
    """The chosen members, their shares in their heads: logits are the sum over the copies of ``model``."""

    rows: TokenRows
    model: SetAttention

    def logits(self, cohort: Cohort) -> np.ndarray:
        """Return the logits (n_samples, n_classes) float64. Raises NotApplicable if the cohort lacks the sets."""
        tokens = tokens_of(cohort)
        parts = [self.model(*encoded).sum(1).double().cpu().numpy() for _, encoded in self._tiles(tokens)]
        return np.concatenate([np.empty((0, self.model.intercept.shape[1])), *parts])

    def explain_beside(self, found: Attribution, cohort: Cohort, over_classes: np.ndarray) -> Attribution:
        """Add what mutations say to what the features were found to say, at the bins of ``BINS`` they lie in.

        ``over_classes`` (n_classes,) are the weights of the classes' logits in what is explained.
        """
        tokens, n_bins = tokens_of(cohort), len(cohort.blocks[BINS].features)
        by_bin = self.by_bin(tokens, over_classes, n_bins)
        baseline = self.model.intercept.double().sum(0).cpu().numpy() @ over_classes
        of_bins = found.contributions[BINS] + by_bin.astype(np.float32)
        return Attribution(
            found.score + by_bin.sum(axis=1) + baseline,
            found.baseline + baseline,
            {**found.contributions, BINS: of_bins},
            f"{found.method}; attention times value of mutations",
            found.exact,
        )

    def by_bin(self, tokens: np.ndarray, over_classes: np.ndarray, n_bins: int) -> np.ndarray:
        """Add up what mutations contribute in each bin: (n, n_bins) float64."""
        booked = np.zeros((len(tokens), n_bins))
        for rows, encoded in self._tiles(tokens):
            parts = self.model.contributions(*encoded).cpu().numpy() @ over_classes  # (n, m)
            slots = tokens[rows].reshape(len(parts), -1, len(FIELDS))[:, : parts.shape[1]]
            sample, slot = np.nonzero(~np.isnan(slots[:, :, 0]))
            place = slots[sample, slot, FIELDS.index("bin")].astype(np.int64)
            np.add.at(booked, (rows.start + sample, place), parts[sample, slot])
        return booked

    def by_motif_and_bin(self, tokens: np.ndarray, bins: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Mean over samples (the first ``MOST_SUMMED``) of what mutations of one class in one bin contribute.

        Returns names (n_cells,) "class at bin", and contributions (n_cells, n_classes) over those of the mean class.
        """
        tokens = tokens[:MOST_SUMMED]
        found: dict[int, np.ndarray] = {}
        n_bins = len(self.rows.of_bin)
        for rows, encoded in self._tiles(tokens):
            parts = self.model.contributions(*encoded).cpu().numpy()
            slots = tokens[rows].reshape(len(parts), -1, len(FIELDS))[:, : parts.shape[1]]
            filled = ~np.isnan(slots[:, :, 0])
            motif, place = (slots[filled][:, field].astype(np.int64) for field in range(2))
            cells, at = np.unique(n_bins * motif + place, return_inverse=True)
            sums = np.zeros((len(cells), parts.shape[2]))
            np.add.at(sums, at, parts[filled])
            for cell, total in zip(cells.tolist(), sums, strict=True):
                found[cell] = found.get(cell, 0.0) + total
        order = sorted(found)
        means = np.reshape([found[cell] / len(tokens) for cell in order], (len(order), -1))
        ids = bins["id"].tolist()
        names = [f"{MOTIFS[cell // n_bins]} at {ids[cell % n_bins]}" for cell in order]
        return np.array(names), means - means.mean(axis=1, keepdims=True)

    def _tiles(self, tokens: np.ndarray) -> Iterator[tuple[slice, tuple[Tensor, Tensor, Tensor]]]:
        return tiles(self.rows, tokens, str(self.model.table.device))

    def save(self, path: Path) -> None:
        """Write the state of the model and the rows of the table as one file of tensors."""
        rows = {f"rows.{name}": torch.from_numpy(array) for name, array in self.rows.to_arrays().items()}
        torch.save(self.model.state_dict() | rows, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote."""
        state = torch.load(path, weights_only=True, map_location="cpu")
        names = [name for name in state if name.startswith("rows.")]
        rows = TokenRows.from_arrays({name.removeprefix("rows."): state.pop(name).numpy() for name in names})
        return reader(rows, state)


def tokens_of(cohort: Cohort) -> np.ndarray:
    """Return the slots (n_samples, n_slots * n_fields). Raises NotApplicable where the cohort has none."""
    if TOKENS not in cohort.blocks:
        raise NotApplicable(f"needs block {TOKENS}; this cohort has {', '.join(cohort.blocks)}")
    return cohort.blocks[TOKENS].values


def part_sets(train: LabelledCohort) -> tuple[LabelledCohort, np.ndarray | None]:
    """Part a training cohort from its sets: the same samples with features only, and the slots (None: no mutation).

    Raises NotApplicable where the bins that mutations are in are not there.
    """
    if TOKENS not in train.blocks:
        return train, None
    features = {name: block for name, block in train.blocks.items() if name != TOKENS}
    if BINS not in features:
        raise NotApplicable(
            f"reads {TOKENS} beside {BINS}, whose bins mutations lie in; enter both blocks or none"
        )
    tokens = tokens_of(train)
    return replace(train, blocks=features), None if np.isnan(tokens[:, 0]).all() else tokens


def reader(rows: TokenRows, state: dict[str, Tensor]) -> SetReader:
    """Build what reads mutations from the state of a model."""
    n_copies, width, n_classes = state["head"].shape
    model = SetAttention(rows.n_rows, n_copies, n_classes, width).to(state["head"].device)
    model.load_state_dict(state)
    return SetReader(rows, model.requires_grad_(False))


def join_members(rows: TokenRows, members: list[SetMember], factors: list[float]) -> SetReader:
    """Set chosen members side by side, each times its factor."""
    states = []
    for member, factor in zip(members, factors, strict=True):
        scaled = {name: factor * member.state[name] for name in ("head", "centre", "intercept")}
        states.append(member.state | scaled)
    joined = {
        name: torch.cat([state[name] for state in states], dim=1 if name == "table" else 0)
        for name in states[0]
    }
    return reader(rows, joined)


def encode(rows: TokenRows, tokens: np.ndarray, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Put what ``TokenRows.encode`` gives on a device."""
    ids, weights, filled = (torch.from_numpy(part).to(device) for part in rows.encode(tokens))
    return ids, weights, filled


def tiles(
    rows: TokenRows, tokens: np.ndarray, device: str
) -> Iterator[tuple[slice, tuple[Tensor, Tensor, Tensor]]]:
    """Encode samples a few at a time: which ones, and what ``TokenRows.encode`` makes of them."""
    step = max(1, TILE_TOKENS * len(FIELDS) // max(tokens.shape[1], 1))
    for first in range(0, len(tokens), step):
        chosen = slice(first, min(first + step, len(tokens)))
        yield chosen, encode(rows, tokens[chosen], device)


def set_members(
    tokens: np.ndarray,
    rows: TokenRows,
    splits: Splits,
    *,
    width: int,
    steps: tuple[int, ...],
    rate: float,
    decay: float,
    seed: int,
) -> Iterator[SetMember]:
    """Train set attention for the whole training part and the first repeat's inner folds, side by side.

    Parameters: ``tokens`` (n, n_slots * n_fields) of the training samples, which may be a memory map; ``steps`` after
    which there is a member each, so that the out-of-fold choice among them is when to stop; a large cohort takes as
    many more of them as it needs for ``MIN_PASSES``; ``rate`` of AdamW (Loshchilov 2019,
    doi:10.48550/arXiv.1711.05101), falls to 0 along a cosine; ``decay`` of the weights.
    """
    n_samples, device = len(tokens), str(splits.onehot.device)
    n_copies = 2 + int(splits.folds.max())
    inside = splits.inside[:n_copies].T.float()  # (n, n_copies)
    log_prior = splits.log_prior[:n_copies].float()
    batch_size = min(BATCH_SAMPLES, n_samples)
    longer = max(1.0, MIN_PASSES * n_samples / (batch_size * max(steps)))
    ends = sorted({round(longer * step) for step in steps})

    model = SetAttention(rows.n_rows, n_copies, splits.onehot.shape[1], width).to(device)
    model.start(log_prior, seed)
    shared = wrap(model)
    weights = [value for name, value in model.named_parameters() if name != "intercept"]
    groups = [{"params": weights}, {"params": [model.intercept], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ends[-1])
    rng = np.random.default_rng(seed)
    waiting = np.empty(0, np.int64)
    for step in range(1, ends[-1] + 1):
        if len(waiting) < batch_size:
            waiting = np.concatenate([waiting, rng.permutation(n_samples)])
        batch, waiting = np.sort(waiting[:batch_size]), waiting[batch_size:]
        drawn = shard(draw_mutations(tokens[batch], KEPT, STEP_TOKENS, rng))
        own = torch.from_numpy(shard(batch)).to(device)
        log_probability = torch.log_softmax(shared(*encode(rows, drawn, device)).float(), dim=-1)
        truth = splits.labels[own][:, None, None].expand(-1, n_copies, 1)
        loss = -(log_probability.gather(2, truth)[..., 0] * inside[own]).sum() * n_processes() / len(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step in ends:
            yield _member(model, rows, tokens, splits, inside, step)


@torch.no_grad()
def _member(
    model: SetAttention, rows: TokenRows, tokens: np.ndarray, splits: Splits, inside: Tensor, step: int
) -> SetMember:
    """Judge all samples by all copies as they are now."""
    device = str(inside.device)
    parts = [(model(*encoded), encoded[2].any(1)) for _, encoded in tiles(rows, tokens, device)]
    logits, filled = (torch.cat(part) for part in zip(*parts, strict=True))  # (n, n_copies, n_classes)
    # Where nothing is known a sample lies at the mean of those that a copy was trained on.
    known = inside * filled[:, None]
    centre = ((logits - model.intercept) * known[..., None]).sum(0) / known.sum(0).clamp(min=1)[:, None]
    logits = torch.where(filled[:, None, None], logits, model.intercept + centre)
    copy = torch.from_numpy(1 + splits.folds[0]).to(device)
    oof = logits[torch.arange(len(logits), device=device), copy].double().cpu().numpy()
    oof = np.tile(oof, (len(splits.folds), 1))
    return SetMember({"steps": step}, oof, model.settled(0, centre[0]), tokens.shape[1] // len(FIELDS))
