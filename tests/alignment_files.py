"""Small BAM, CRAM and BED files of the same fragments, and a plain count of them, for tests of alignments."""

import gzip
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pysam

from oncoarena.assays.alignments import BLOCKS, Options, read_object
from oncoarena.genomes import CHROMOSOMES, bins, genome

OTHER_CONTIG = ("chrUn_KI270742v1", 186_739)
COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}
PLAIN = {"min_mapq": 30}


def header(name: str = "hg38", *, with_chr: bool = True, chromosomes=CHROMOSOMES) -> dict:
    sizes = genome(name).sizes
    contigs = [(chromosome if with_chr else chromosome[3:], sizes[chromosome]) for chromosome in chromosomes]
    contigs.append(OTHER_CONTIG)
    lines = [{"SN": contig, "LN": n_bp} for contig, n_bp in contigs]
    return {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": lines}


def fragments(n: int, seed: int = 0, name: str = "hg38") -> list[tuple[int, int, int, int]]:
    """Draw fragments (chromosome, start, end, mapq), sorted, everywhere and near the borders of what is excluded."""
    rng = np.random.default_rng(seed)
    reference = genome(name)
    gaps = reference.gaps if len(reference.gaps) else reference.centromeres
    drawn = []
    for _ in range(n):
        n_bp = int(np.clip(rng.normal(165, 45), 1, 1200))
        if rng.random() < 0.3:
            gap = gaps.iloc[rng.integers(len(gaps))]
            number = CHROMOSOMES.index(gap["chrom"])
            start = int(rng.choice([gap["start"], gap["end"]])) + int(rng.integers(-2 * n_bp, n_bp))
        else:
            number = int(rng.integers(len(CHROMOSOMES)))
            start = int(rng.integers(reference.sizes[CHROMOSOMES[number]]))
        start = min(max(start, 0), reference.sizes[CHROMOSOMES[number]] - n_bp)
        drawn.append((number, start, start + n_bp, int(rng.choice([0, 29, 30, 60, 60, 60]))))
    return sorted(drawn)


def records_of(drawn, top: dict, seed: int = 0, odd: bool = True) -> list[pysam.AlignedSegment]:
    """Make the two reads of each fragment; some are ``odd``: duplicates, clipped, with N, of mates far away."""
    rng = np.random.default_rng(seed)
    heading = pysam.AlignmentHeader.from_dict(top)
    made = []
    for number, (chromosome, start, end, mapq) in enumerate(drawn):
        n_bp = end - start
        n_read = min(n_bp, int(rng.choice([3, 50, 76, 100]))) if odd else min(n_bp, 100)
        first_is_left = rng.random() < 0.5
        kind = rng.choice(["", "", "", "duplicate", "improper", "far", "secondary"]) if odd else ""
        for is_left in (True, False):
            read = pysam.AlignedSegment(heading)
            read.query_name = f"read{number}"
            flag = 1 | (0 if kind == "improper" else 2) | (0x20 if is_left else 0x10)
            flag |= 0x40 if is_left == first_is_left else 0x80
            flag |= {"duplicate": 0x400, "secondary": 0x100}.get(str(kind), 0)
            read.flag = flag
            other = (chromosome + 1) % len(CHROMOSOMES) if kind == "far" else chromosome
            read.reference_id, read.next_reference_id = (chromosome, other)[:: 1 if is_left else -1]
            read.reference_start, read.next_reference_start = (start, end - n_read)[:: 1 if is_left else -1]
            read.mapping_quality = mapq if not odd or rng.random() < 0.8 else 20
            letters = list("ACGTN") if odd and rng.random() < 0.2 else list("ACGT")
            read.query_sequence = "".join(rng.choice(letters, n_read))
            n_clipped = int(rng.integers(1, n_read)) if odd and n_read > 1 and rng.random() < 0.2 else 0
            parts = [(0, n_read - n_clipped)] + ([(4, n_clipped)] if n_clipped else [])
            read.cigartuples = parts if rng.random() < 0.5 else parts[::-1]
            read.query_qualities = pysam.qualitystring_to_array("I" * n_read)
            read.template_length = n_bp if is_left else -n_bp
            made.append(read)
    if odd:
        unplaced = pysam.AlignedSegment(heading)
        unplaced.query_name, unplaced.flag, unplaced.query_sequence = "none", 0x4D, "ACGT"
        elsewhere = pysam.AlignedSegment(heading)
        elsewhere.query_name, elsewhere.flag, elsewhere.query_sequence = "else", 0x43, "ACGT"
        elsewhere.reference_id, elsewhere.reference_start = len(top["SQ"]) - 1, 1000
        elsewhere.next_reference_id, elsewhere.next_reference_start = len(top["SQ"]) - 1, 1100
        elsewhere.cigartuples, elsewhere.template_length, elsewhere.mapping_quality = [(0, 4)], 150, 60
        made += [unplaced, elsewhere]
    return sorted(made, key=lambda read: (read.reference_id % 2**31, read.reference_start))


def write_records(path: Path, top: dict, records: list[pysam.AlignedSegment]) -> bytes:
    """Write BAM or, where the name says so, CRAM without a reference; return the bytes."""
    is_cram = path.suffix == ".cram"
    with pysam.AlignmentFile(
        str(path), "wc" if is_cram else "wb", header=top, format_options=[b"no_ref=1"] if is_cram else None
    ) as file:
        for record in records:
            file.write(record)
    return path.read_bytes()


def bed_of(drawn, with_chr: bool = True) -> bytes:
    rows = [
        f"{CHROMOSOMES[c][0 if with_chr else 3 :]}\t{start}\t{end}\t{mapq}\t{'+-.'[start % 3]}\n"
        for c, start, end, mapq in drawn
    ]
    return gzip.compress("".join(rows).encode(), mtime=0)


def read(content: bytes, source: str = "s1", **keys):
    return read_object(io.BytesIO(content), source, Options(**keys), sample_id="s1")


def excluded_of(name: str) -> dict[str, list[tuple[int, int]]]:
    reference = genome(name)
    found: dict[str, list[tuple[int, int]]] = {chromosome: [] for chromosome in CHROMOSOMES}
    for table in (reference.gaps, reference.centromeres):
        for row in table.itertuples():
            found[row.chrom].append((row.start, row.end))
    return found


def count_plainly(path: Path, options: Options) -> Counter:
    """Count a BAM file read by read; keys are (block, ...), values are numbers of fragments, ends or bases."""
    excluded = excluded_of(options.genome) if options.exclude_gaps else {}
    counts: Counter = Counter()
    with pysam.AlignmentFile(str(path), "rb") as file:
        for read in file:
            counts["n_records"] += 1
            if not read.is_secondary and not read.is_supplementary:
                counts["n_mapped"] += not read.is_unmapped
                counts["n_duplicates"] += read.is_duplicate
            if read.flag & options.required_flags != options.required_flags:
                continue
            if read.flag & options.excluded_flags or read.mapping_quality < options.min_mapq:
                continue
            chrom = (
                read.reference_name if read.reference_name.startswith("chr") else f"chr{read.reference_name}"
            )
            if chrom not in CHROMOSOMES or read.next_reference_id != read.reference_id:
                continue
            n_bp = abs(read.template_length)
            start = read.reference_start if read.template_length > 0 else read.next_reference_start
            if not 1 <= n_bp <= options.max_fragment_bp:
                continue
            if any(start < b and a < start + n_bp for a, b in excluded.get(chrom, ())):
                continue
            sequence = read.query_sequence
            end = sequence[:4]
            if read.is_reverse:
                end = "".join(COMPLEMENT.get(base, "N") for base in reversed(sequence[-4:]))
            clip = read.cigartuples[-1 if read.is_reverse else 0][0]
            counts["clipped"] += clip in (4, 5)
            counts["unread"] += clip not in (4, 5) and (len(end) < 4 or "N" in end)
            if clip not in (4, 5) and len(end) == 4 and "N" not in end:
                counts["motif", end] += 1
            if read.is_read1:
                middle = start + n_bp // 2
                counts["coverage", chrom, middle // options.coverage_bp] += 1
                counts["short", chrom, middle // options.ratio_bp] += 100 <= n_bp <= 150
                counts["long", chrom, middle // options.ratio_bp] += 151 <= n_bp <= 220
                counts["length", n_bp] += 1
                counts["gc", chrom, middle // options.coverage_bp] += sum(b in "GC" for b in sequence)
                counts["bases", chrom, middle // options.coverage_bp] += sum(b in "ACGT" for b in sequence)
    return counts


def measured_bins(name: str, bin_bp: int, chromosomes: str, exclude_gaps: bool = True) -> np.ndarray:
    """Tell which bins have a base pair that is not excluded, (n_bins,) bool, interval by interval."""
    excluded = excluded_of(name) if exclude_gaps else {}
    found = []
    for row in bins(genome(name), bin_bp, chromosomes).itertuples():
        place = row.start
        for a, b in sorted(excluded.get(row.chrom, ())):
            if a <= place:
                place = max(place, b)
        found.append(place < row.end)
    return np.array(found)


def assert_same_blocks(first, second, names=tuple(BLOCKS)):
    for name in names:
        np.testing.assert_array_equal(first[name].values, second[name].values)
        assert first[name].features.equals(second[name].features)
