"""Alleles of one or several samples, collected chunk by chunk, each counted once."""

from dataclasses import dataclass, field

import numpy as np

from oncoarena.kernels.reference_context import copy_alleles, hash_others
from oncoarena.kernels.variant_rows import (
    ALT_START,
    CHROM_BITS,
    FILTERED,
    NOT_CARRIED,
    OUTSIDE,
    POS_BITS,
    REF_START,
    ROW,
    SAMPLE,
    SAMPLE_SHIFT,
    UNUSABLE,
)

# What is known of the context of a substitution: 4 * base before + base behind, or one of these.
NO_CONTEXT, MISMATCH = 254, 255
# What an allele does to a protein, the worst of its transcripts.
SILENT, ALTERING, MISSENSE, TRUNCATING = range(4)
FIRST_ROOM = 1 << 14
# What is kept of an allele for ``mutation_tokens`` alone: share of reads (NaN: not told), code of the gene (0: none).
TRAITS = np.dtype([("share", np.float32), ("gene", np.uint32)])


@dataclass(frozen=True, eq=False)
class Consequences:
    """What alleles do, each (n,) int64: ``effect``, and ``gene``, the code of the altered one or 0; None: unknown."""

    effect: np.ndarray | None = None
    gene: np.ndarray | None = None


NOTHING = Consequences()


@dataclass(eq=False)
class Alleles:
    """Alleles of samples, each once, sorted by sample, chromosome, position.

    Of substitutions of one base: ``sample``, ``chrom`` (0 to 23), ``pos`` (0-based bp), ``ref`` and ``alt`` (codes of
    ACGT), ``context`` and ``effect``, all (n_snvs,) int64. Of all else: ``others`` (n, 8) int64 as in ``variant_rows``,
    its starts of alleles in ``letters`` (n_bytes,) uint8 codes, and ``other_effect`` (n,) int64. ``traits`` and
    ``other_traits``, of dtype TRAITS, are empty where the tally does not keep them.
    ``n_duplicates`` (n_samples,) int64 is what was there more than once.
    """

    sample: np.ndarray
    chrom: np.ndarray
    pos: np.ndarray
    ref: np.ndarray
    alt: np.ndarray
    context: np.ndarray
    effect: np.ndarray
    others: np.ndarray
    letters: np.ndarray
    other_effect: np.ndarray
    traits: np.ndarray
    other_traits: np.ndarray
    n_duplicates: np.ndarray


@dataclass(eq=False)
class VariantTally:
    """What was read so far; memory grows by 10 bytes an allele carried, by 18 where traits are kept."""

    n_samples: int
    keeps_traits: bool = False
    counts: np.ndarray = field(init=False)
    shares: np.ndarray = field(init=False)
    genes: list[set[str]] = field(init=False)
    n_records: int = 0
    """Rows that were read, of whatever sample."""
    _snvs: list[np.ndarray] = field(default_factory=list)
    _notes: list[np.ndarray] = field(default_factory=list)
    _others: list[np.ndarray] = field(default_factory=list)
    _letters: list[np.ndarray] = field(default_factory=list)
    _other_effects: list[np.ndarray] = field(default_factory=list)
    _traits: list[np.ndarray] = field(default_factory=list)
    _other_traits: list[np.ndarray] = field(default_factory=list)
    _n_letters: int = 0

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.n_samples, 4), np.int64)
        self.shares = np.zeros((self.n_samples, 2))
        self.genes = [set() for _ in range(self.n_samples)]

    def add(
        self,
        text: np.ndarray,
        snvs: np.ndarray,
        others: np.ndarray,
        context: np.ndarray | None,
        of_snvs: Consequences,
        of_others: Consequences,
        told: tuple[np.ndarray, np.ndarray],
    ) -> None:
        """Take what was found in one text: what the kernels filled, and what is known beside it (or None).

        ``told`` are the shares of reads of ``snvs`` and ``others``, NaN where the text does not tell them.
        """
        self._snvs.append(snvs.copy())
        notes = np.full((len(snvs), 2), (NO_CONTEXT, SILENT), np.uint8)
        if context is not None:
            notes[:, 0] = context
        if of_snvs.effect is not None:
            notes[:, 1] = of_snvs.effect
        if context is not None or of_snvs.effect is not None:
            self._notes.append(notes)
        if self.keeps_traits:
            self._traits.append(_traits(told[0], of_snvs.gene))
        if len(others):
            table = others.copy()
            letters = np.empty(int(table[:, [REF_START + 1, ALT_START + 1]].sum()), np.uint8)
            copy_alleles(text, table, letters)
            table[:, [REF_START, ALT_START]] += self._n_letters
            self._others.append(table)
            self._letters.append(letters)
            if self.keeps_traits:
                self._other_traits.append(_traits(told[1], of_others.gene))
            effect = of_others.effect
            self._other_effects.append(np.zeros(len(table), np.int64) if effect is None else effect)
            self._n_letters += len(letters)

    def alleles(self) -> Alleles:
        """Return every allele once."""
        snvs = np.concatenate([*self._snvs, np.empty(0, np.uint64)])
        n_duplicates = np.zeros(self.n_samples, np.int64)
        context, effect = np.full(len(snvs), NO_CONTEXT), np.full(len(snvs), SILENT)
        traits = np.concatenate([*self._traits, np.empty(0, TRAITS)])
        if self._notes or len(traits):
            snvs, kept = _unique(snvs, n_duplicates, lambda keys: keys >> np.uint64(SAMPLE_SHIFT))
            if self._notes:
                context, effect = np.concatenate(self._notes).astype(np.int64).T
            context, effect = context[kept], effect[kept]
            traits = traits[kept] if len(traits) else traits
        else:
            snvs.sort()
            repeated = np.flatnonzero(snvs[1:] == snvs[:-1])
            if len(repeated):
                samples = (snvs[repeated] >> np.uint64(SAMPLE_SHIFT)).astype(np.int64)
                n_duplicates += np.bincount(samples, minlength=self.n_samples)
                snvs = np.delete(snvs, repeated)
            context, effect = context[: len(snvs)], effect[: len(snvs)]
        others = np.concatenate([*self._others, np.empty((0, 8), np.int64)])
        letters = np.concatenate([*self._letters, np.empty(0, np.uint8)])
        keys = np.empty(len(others), np.uint64)
        hash_others(others, letters, keys)
        _, kept = _unique(keys, n_duplicates, lambda _: others[:, SAMPLE])
        other_effect = np.concatenate([*self._other_effects, np.empty(0, np.int64)])[kept]
        other_traits = np.concatenate([*self._other_traits, np.empty(0, TRAITS)])
        unpacked = snvs.astype(np.int64)
        return Alleles(
            sample=unpacked >> SAMPLE_SHIFT,
            chrom=(unpacked >> (POS_BITS + 4)) & ((1 << CHROM_BITS) - 1),
            pos=(unpacked >> 4) & ((1 << POS_BITS) - 1),
            ref=(unpacked >> 2) & 3,
            alt=unpacked & 3,
            context=context,
            effect=effect,
            others=others[kept],
            letters=letters,
            other_effect=other_effect,
            traits=traits,
            other_traits=other_traits[kept] if len(other_traits) else other_traits,
            n_duplicates=n_duplicates,
        )

    def only(self, sample: int) -> "VariantTally":
        """Return the tally of one of the samples, which is then number 0."""
        if self.n_samples == 1:
            return self
        chosen = VariantTally(1, self.keeps_traits, n_records=self.n_records)
        chosen.counts[0], chosen.shares[0], chosen.genes[0] = (
            self.counts[sample],
            self.shares[sample],
            self.genes[sample],
        )
        shift = np.uint64(sample << SAMPLE_SHIFT)
        for number, snvs in enumerate(self._snvs):
            own = (snvs >> np.uint64(SAMPLE_SHIFT)) == sample
            chosen._snvs.append(snvs[own] - shift)
            if self._notes:
                chosen._notes.append(self._notes[number][own])
            if self._traits:
                chosen._traits.append(self._traits[number][own])
        for number, (others, effects) in enumerate(zip(self._others, self._other_effects, strict=True)):
            own = others[:, SAMPLE] == sample
            others[own, SAMPLE] = 0
            chosen._others.append(others[own])
            chosen._other_effects.append(effects[own])
            if self._other_traits:
                chosen._other_traits.append(self._other_traits[number][own])
        chosen._letters = self._letters
        return chosen

    def unused(self) -> dict[str, np.ndarray]:
        """Counts (n_samples,) of alleles that are not used, by reason."""
        reasons = {
            "n_filtered": FILTERED,
            "n_not_carried": NOT_CARRIED,
            "n_outside": OUTSIDE,
            "n_unusable": UNUSABLE,
        }
        return {name: self.counts[:, column] for name, column in reasons.items()}

    def mean_share(self) -> np.ndarray:
        """Mean share of reads with the allele (n_samples,), NaN where no row tells it."""
        total, n_told = self.shares.T
        return np.divide(total, n_told, out=np.full(self.n_samples, np.nan), where=n_told > 0)


def _traits(shares: np.ndarray, genes: np.ndarray | None) -> np.ndarray:
    """Join shares of reads and codes of genes (or None) into (n,) TRAITS."""
    traits = np.zeros(len(shares), TRAITS)
    traits["share"] = shares
    if genes is not None:
        traits["gene"] = genes
    return traits


def _unique(keys: np.ndarray, n_duplicates: np.ndarray, samples_of) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys once, sorted, and the place where each came first; count the others by sample."""
    unique, kept = np.unique(keys, return_index=True)
    if len(kept) < len(keys):
        again = np.ones(len(keys), bool)
        again[kept] = False
        samples = samples_of(keys)[again].astype(np.int64)
        n_duplicates += np.bincount(samples, minlength=len(n_duplicates))
    return unique, kept


class Room:
    """Arrays that the kernels fill, made larger where a row does not fit."""

    def __init__(self) -> None:
        self.filled = np.zeros(2, np.int64)
        self._make(FIRST_ROOM)

    def _make(self, n: int) -> None:
        self.snvs, self.snv_rows = np.empty(n, np.uint64), np.empty(n, np.int64)
        self.others = np.empty((n, ROW + 1), np.int64)
        self.told = np.empty((2, n), np.float32)

    def clear(self) -> None:
        """Forget what was filled, for the next chunk or the rest of this one."""
        self.filled[:] = 0

    def grow(self) -> None:
        """Double the room; what was filled must have been taken before."""
        self.clear()
        self._make(2 * len(self.snvs))

    def taken(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Views of what was filled: substitutions, their rows, all else."""
        n_snvs, n_others = self.filled
        return self.snvs[:n_snvs], self.snv_rows[:n_snvs], self.others[:n_others]
