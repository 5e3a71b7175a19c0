"""Alignment records read by htslib (through pysam) one by one: an answer independent of the kernel that walks BAM."""

from pathlib import Path

import numpy as np
import pysam

from oncoarena.kernels.bin_layout import BinLayout
from oncoarena.kernels.fragment_tally import (
    CLIPPED_END,
    MOTIF_BASES,
    REVERSE,
    UNREAD_END,
    FragmentFilters,
    FragmentTally,
    RecordArrays,
    empty_tally,
    motif_code,
    motif_names,
    tally_records,
)

# CIGAR operations S and H.
_CLIPS = (4, 5)
_FORWARD_CODES = {motif: code for code, motif in enumerate(motif_names())}
_REVERSE_CODES = {
    motif: motif_code(motif[::-1].translate(str.maketrans("ACGT", "TGCA"))) for motif in motif_names()
}


def tally_by_records(
    path: Path, layout: BinLayout, filters: FragmentFilters, map_references
) -> FragmentTally:
    """Count a BAM or CRAM file; ``map_references`` finds the layout's chromosomes of lengths by name."""
    tally = empty_tally(layout, filters)
    with pysam.AlignmentFile(str(path), check_sq=False) as file:
        lengths = dict(zip(file.references, file.lengths, strict=True))
        tally_records(tally, layout, filters, _as_arrays(list(file), filters), map_references(lengths))
    return tally


def _as_arrays(batch: list[pysam.AlignedSegment], filters: FragmentFilters) -> RecordArrays:
    """Take the fields of records; what only fragments need is taken only of reads that may make one."""
    n = len(batch)
    flag = np.fromiter((record.flag for record in batch), np.int64, n)
    mapq = np.fromiter((record.mapping_quality for record in batch), np.int64, n)
    wanted = (flag & filters.excluded_flags == 0) & (flag & filters.required_flags == filters.required_flags)
    wanted &= mapq >= filters.min_mapq
    # Next reference, next position, template length, code of the end, C and G, known bases.
    mates = np.empty((n, 6), dtype=np.int64)
    mates[:] = (-1, -1, 0, UNREAD_END, 0, 0)
    mates[wanted] = np.array(
        [_describe(batch[row]) for row in np.flatnonzero(wanted).tolist()], dtype=np.int64
    ).reshape(-1, 6)
    next_reference, next_position, template_length, end_code, gc_bases, bases = mates.T
    return RecordArrays(
        flag=flag,
        mapq=mapq,
        reference=np.fromiter((record.reference_id for record in batch), np.int64, n),
        position=np.fromiter((record.reference_start for record in batch), np.int64, n),
        next_reference=next_reference,
        next_position=next_position,
        template_length=template_length,
        end_code=end_code,
        gc_bases=gc_bases,
        bases=bases,
    )


def _describe(record: pysam.AlignedSegment) -> tuple[int, int, int, int, int, int]:
    """Return a read's mate reference, mate position, template length, code of its 5' end, C and G, known bases."""
    mate = (record.next_reference_id, record.next_reference_start, record.template_length)
    sequence = record.query_sequence or ""
    n_gc = sequence.count("C") + sequence.count("G")
    n_bases = n_gc + sequence.count("A") + sequence.count("T")
    return (*mate, _end_code(record, sequence), n_gc, n_bases)


def _end_code(record: pysam.AlignedSegment, sequence: str) -> int:
    cigar = record.cigartuples
    if record.flag & REVERSE:
        if cigar and cigar[-1][0] in _CLIPS:
            return CLIPPED_END
        return _REVERSE_CODES.get(sequence[-MOTIF_BASES:], UNREAD_END)
    if cigar and cigar[0][0] in _CLIPS:
        return CLIPPED_END
    return _FORWARD_CODES.get(sequence[:MOTIF_BASES], UNREAD_END)
