"""Variants in the real formats, and a reference to call them against, for several test files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oncoarena.genomes import genome

LINE_BASES = 60
SEQUENCED_BP = 50_000
SIZES = dict(genome("hg38").sizes)


@dataclass(frozen=True)
class SmallGenome:
    """A FASTA of chr21 and chrY, as long as in hg38, bases at the ends and N between; ``bases`` its known parts."""

    path: Path
    ends: dict[str, tuple[str, str]]

    def base(self, chrom: str, pos: int) -> str:
        """The base at a 0-based position."""
        head, tail = self.ends[chrom]
        size = SIZES[chrom]
        if pos < len(head):
            return head[pos]
        return tail[pos - size + len(tail)] if pos >= size - len(tail) else "N"

    def bases(self, chrom: str, start: int, end: int) -> str:
        """Bases from ``start`` to ``end`` (0-based, half-open), shorter at the ends of the chromosome."""
        size = SIZES[chrom]
        return "".join(self.base(chrom, pos) for pos in range(max(start, 0), min(end, size)))


def write_genome(folder: Path) -> SmallGenome:
    """Write the FASTA with its index; repeats are common, so that indels fall into all their classes."""
    rng = np.random.default_rng(5)
    path = folder / "small.fa"
    ends, index = {}, []
    with open(path, "wb") as stream:
        for chrom in ("chr21", "chrY"):
            size = SIZES[chrom]
            head, tail = (_repetitive(rng, SEQUENCED_BP) for _ in range(2))
            stream.write(f">{chrom}\n".encode())
            index.append(f"{chrom}\t{size}\t{stream.tell()}\t{LINE_BASES}\t{LINE_BASES + 1}\n")
            sequence = np.full(size, ord("N"), np.uint8)
            sequence[: len(head)] = np.frombuffer(head.encode(), np.uint8)
            sequence[size - len(tail) :] = np.frombuffer(tail.encode(), np.uint8)
            n_whole = size // LINE_BASES * LINE_BASES
            lines = np.full((n_whole // LINE_BASES, LINE_BASES + 1), ord("\n"), np.uint8)
            lines[:, :LINE_BASES] = sequence[:n_whole].reshape(-1, LINE_BASES)
            stream.write(lines.tobytes() + sequence[n_whole:].tobytes() + b"\n")
            ends[chrom] = (head, tail)
    Path(f"{path}.fai").write_text("".join(index))
    return SmallGenome(path, ends)


def _random_bases(rng: np.random.Generator, length: int) -> str:
    return "".join("ACGT"[code] for code in rng.integers(0, 4, length))


def _repetitive(rng: np.random.Generator, size: int) -> str:
    """Random bases in which short units come several times in a row."""
    parts, length = [], 0
    while length < size:
        unit = _random_bases(rng, int(rng.integers(1, 8)))
        part = unit * (1, 1, 1, 2, 3, 5, 8)[rng.integers(7)]
        parts.append(part)
        length += len(part)
    return "".join(parts)[:size]


def _other(rng: np.random.Generator, base: str) -> str:
    return "ACGT".replace(base, "")[rng.integers(3)]


def random_mutations(small: SmallGenome, n: int, seed: int) -> list[tuple[str, int, str, str]]:
    """Draw mutations (chromosome, 1-based position, REF, ALT as in VCF), each once, sorted by place."""
    rng = np.random.default_rng(seed)
    found = set()
    while len(found) < n:
        chrom = ("chr21", "chrY")[rng.integers(2)]
        size = SIZES[chrom]
        pos = int(rng.integers(200, SEQUENCED_BP - 200))
        pos = pos if rng.random() < 0.5 else size - pos
        kind = rng.random()
        ref = small.base(chrom, pos)
        if kind < 0.6:
            alt = _other(rng, ref)
            found.add((chrom, pos + 1, ref, alt))
            if rng.random() < 0.3:
                behind = pos + int(rng.integers(1, 4))
                ref = small.base(chrom, behind)
                found.add((chrom, behind + 1, ref, "A" if ref != "A" else "G"))
        elif kind < 0.7:
            ref = small.bases(chrom, pos, pos + 2)
            alt = "".join(_other(rng, base) for base in ref)
            found.add((chrom, pos + 1, ref, alt))
        elif kind < 0.85:
            length = (1, 1, 2, 3, 4, 5, 6, 9)[rng.integers(8)]
            found.add((chrom, pos + 1, small.bases(chrom, pos, pos + 1 + length), ref))
        else:
            length = (1, 1, 2, 3, 4, 5, 6, 9)[rng.integers(8)]
            # Half of the insertions repeat what stands behind them.
            added = small.bases(chrom, pos + 1, pos + 1 + length)
            if rng.random() < 0.5:
                added = _random_bases(rng, length)
            found.add((chrom, pos + 1, ref, ref + added))
    return sorted(found, key=lambda row: (row[0], row[1], row[2], row[3]))


def vcf_text(
    rows: list[tuple], samples: list[str] = (), *, header: str = "", genotypes: list[list[str]] | None = None
) -> str:
    """Write a VCF of (chromosome, position, REF, ALT[, FILTER[, INFO]]) rows.

    ``genotypes`` holds a list a row of whole sample fields; by default every sample carries the first allele, with
    depths.
    """
    lines = ["##fileformat=VCFv4.2"]
    lines += [f"##contig=<ID={chrom},length={size}>" for chrom, size in SIZES.items()]
    lines += [
        '##FILTER=<ID=low,Description="low">',
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">',
    ]
    lines += ['##FORMAT=<ID=AD,Number=R,Type=Integer,Description="depths">']
    lines += [line for line in header.split("\n") if line]
    names = ["CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
    lines.append("#" + "\t".join([*names, *(["FORMAT", *samples] if samples else [])]))
    for number, (chrom, pos, ref, alt, *more) in enumerate(rows):
        fields = [chrom, str(pos), ".", ref, alt, ".", *(more + ["PASS", "."][len(more) :])]
        if samples:
            fields += ["GT:AD", *(genotypes[number] if genotypes else ["0/1:30,10"] * len(samples))]
        lines.append("\t".join(fields))
    return "\n".join(lines) + "\n"


MAF_COLUMNS = (
    *("Hugo_Symbol", "NCBI_Build", "Chromosome", "Start_Position", "End_Position", "Variant_Classification"),
    *(
        "Reference_Allele",
        "Tumor_Seq_Allele1",
        "Tumor_Seq_Allele2",
        "Tumor_Sample_Barcode",
        "FILTER",
        "CONTEXT",
    ),
)


def maf_text(rows: list[tuple], context=lambda chrom, pos: "") -> str:
    """Write a MAF of (sample, chromosome, 1-based position, REF, ALT as in VCF[, gene, classification]) rows."""
    lines = ["#version 2.4", "\t".join(MAF_COLUMNS)]
    for sample, chrom, pos, ref, alt, *more in rows:
        gene, effect = more or ("Unknown", "IGR")
        if len(ref) == len(alt):
            start, end = pos, pos + len(ref) - 1
        elif len(alt) == 1:
            ref, alt, start, end = ref[1:], "-", pos + 1, pos + len(ref) - 1
        else:
            ref, alt, start, end = "-", alt[1:], pos, pos + 1
        fields = (
            gene,
            "GRCh38",
            chrom,
            start,
            end,
            effect,
            ref,
            ref,
            alt,
            sample,
            "PASS",
            context(chrom, pos - 1),
        )
        lines.append("\t".join(str(field) for field in fields))
    return "\n".join(lines) + "\n"
