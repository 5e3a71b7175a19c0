"""Chunks of rows of variants through the kernels into a tally."""

from collections.abc import Callable

import numpy as np

from oncoarena.assays.byte_lines import LineChunk
from oncoarena.assays.consequences import Effect
from oncoarena.assays.mutation_tokens import gene_code
from oncoarena.assays.variant_tally import NOTHING, Consequences, Room, VariantTally
from oncoarena.errors import BadObject
from oncoarena.kernels import variant_rows
from oncoarena.kernels.text_fields import COMMENT, N_FIELDS, SOUND, locate_fields

_EXPECTED = {
    variant_rows.POSITION: "the position is no whole number; the row is damaged: write the file again",
    variant_rows.BEYOND: "the position is not within its chromosome of {genome}: set the genome of the file",
    variant_rows.REF: "REF holds what is no base; the row is damaged: write the file again",
    variant_rows.ALT: "ALT holds what is neither bases nor a symbolic allele; the row is damaged: write the file again",
    variant_rows.GENOTYPE: "the genotype of the sample cannot be read; the row is damaged: write the file again",
    variant_rows.FILTER: "FILTER is empty, expected PASS, . or names; the row is damaged: write the file again",
    COMMENT: "a line of comment or a second header among the rows: are files glued together? Merge them by bcftools",
}
EffectOf = Callable[[int, int], Effect]


class Fields:
    """The wanted fields of the rows of one chunk.

    ``text`` (n_bytes,) uint8; ``starts`` and ``ends`` (n_rows, n_columns) int32 in the order asked for.
    Raises BadObject where a row has another number of fields than the header.
    """

    def __init__(self, chunk: LineChunk, columns: list[int], n_fields: int, source: str, genome: str):
        self.chunk, self._source, self._genome = chunk, source, genome
        self.text = np.frombuffer(chunk.text, np.uint8)
        ordered = np.unique(np.asarray(columns, np.int64))
        # A whole row has a byte a field at least; one more is room for a row that is not whole.
        n_most = min(chunk.text.count(b"\n"), len(chunk.text) // n_fields) + 1
        starts, ends = np.empty((2, n_most, len(ordered)), np.int32)
        self.n_rows, at, why = locate_fields(self.text, ordered, n_fields, starts, ends)
        if why == N_FIELDS:
            found = chunk.line(at).count("\t") + 1
            raise self._bad(
                at, f"{found} fields, the header names {n_fields}; the row is damaged: write the file again"
            )
        if why != SOUND:
            raise self._bad(at, _EXPECTED[why])
        order = np.searchsorted(ordered, columns)
        plain = np.array_equal(order, np.arange(len(ordered)))
        self.starts = starts[: self.n_rows] if plain else starts[: self.n_rows, order]
        self.ends = ends[: self.n_rows] if plain else ends[: self.n_rows, order]

    def get(self, row: int, column: int) -> bytes:
        """Bytes of a field."""
        return self.chunk.text[self.starts[row, column] : self.ends[row, column]]

    def fault(self, row: int, why: int) -> BadObject:
        """What to raise for a row that a kernel refused."""
        at = self.chunk.text.rfind(b"\n", 0, int(self.starts[row, 0])) + 1
        return self._bad(at, _EXPECTED[why].format(genome=self._genome))

    def _bad(self, at: int, problem: str) -> BadObject:
        number, offset = self.chunk.place(at)
        shown = self.chunk.line(at)[:80]
        return BadObject(
            f"{self._source}: line {number}: {problem}. The line begins {shown!r}", offset=offset
        )


def collect(
    fields: Fields,
    scan: Callable,
    arguments: tuple,
    tally: VariantTally,
    room: Room,
    *,
    context_of: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    effect_of: EffectOf | None = None,
) -> None:
    """Scan all rows of a chunk into a tally.

    Parameters: ``scan`` a kernel such as ``scan_vcf`` and what it takes between the number of rows and what it
    fills; ``context_of`` gives codes of context (n,) uint8 of packed substitutions and their rows; ``effect_of`` the
    effect of a row's allele.
    Raises BadObject for a row that cannot be read.
    """
    tally.n_records += fields.n_rows
    row, why = 0, variant_rows.FULL
    while why == variant_rows.FULL:
        room.clear()
        row, why = scan(
            fields.text, fields.starts, fields.ends, row, fields.n_rows, *arguments,
            room.snvs, room.snv_rows, room.others, room.told, room.filled, tally.counts, tally.shares,
        )  # fmt: skip
        if why not in (SOUND, variant_rows.FULL):
            raise fields.fault(row, why)
        snvs, rows, others = room.taken()
        if len(snvs) or len(others):
            context = None if context_of is None else context_of(snvs, rows)
            of_snvs, of_others = (
                (NOTHING, NOTHING) if effect_of is None else _effects(snvs, rows, others, effect_of, tally)
            )
            told = room.told[0, : len(snvs)], room.told[1, : len(others)]
            tally.add(fields.text, snvs, others, context, of_snvs, of_others, told)
        elif why == variant_rows.FULL:
            room.grow()


def _effects(
    snvs: np.ndarray, rows: np.ndarray, others: np.ndarray, effect_of: EffectOf, tally: VariantTally
) -> tuple[Consequences, Consequences]:
    """Consequences of alleles; those of a doublet are its first base's. Genes go to the tally."""
    known: dict[int, Effect] = {}
    results = []
    snv_samples = (snvs >> np.uint64(variant_rows.SAMPLE_SHIFT)).astype(np.int64)
    for samples, places in (
        (snv_samples, rows),
        (others[:, variant_rows.SAMPLE], others[:, variant_rows.ROW]),
    ):
        effects, genes = np.zeros(len(places), np.int64), np.zeros(len(places), np.int64)
        for number, (sample, place) in enumerate(zip(samples.tolist(), places.tolist(), strict=True)):
            if place < 0:
                continue
            found = known.get(place)
            if found is None:
                row, allele = place >> variant_rows.ALLELE_BITS, place & variant_rows.MAX_ALLELE
                found = known[place] = effect_of(row, allele)
            effects[number] = found[0]
            if found[1]:
                tally.genes[sample].update(found[1])
                genes[number] = gene_code(min(found[1]))
        results.append(Consequences(effects, genes))
    return results[0], results[1]
