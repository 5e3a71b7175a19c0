"""A reference sequence in FASTA, memory-mapped and read through its .fai index; nothing is loaded whole."""

import functools
import os
from dataclasses import dataclass

import numpy as np

from oncoarena.errors import InputError
from oncoarena.genomes import CHROMOSOMES, canonical_chromosome, genome, matching_genomes


@dataclass(frozen=True, eq=False)
class ReferenceFasta:
    """``text`` (n_bytes,) uint8, the file; ``index`` (24, 4) int64, a row a chromosome of ``genomes.CHROMOSOMES``: its
    length in bp (0 where the file has none), first byte, bases and bytes a line."""

    path: str
    text: np.ndarray
    index: np.ndarray


def open_fasta(path: str, genome_name: str) -> ReferenceFasta:
    """Map a FASTA file whose index is ``<path>.fai`` (``samtools faidx``).

    Raises InputError where it is compressed, has no index, the index is of another file, or a chromosome is not as
    long as in the genome.
    Source: http://www.htslib.org/doc/faidx.html
    """
    index_path = f"{path}.fai"
    for name, remedy in (
        (path, "give the path of a FASTA file"),
        (index_path, f"run `samtools faidx {path}`"),
    ):
        if not os.path.isfile(name):
            raise InputError(f"reference: there is no file {name}; {remedy}.")
    stamps = tuple((found.st_size, found.st_mtime_ns) for found in (os.stat(path), os.stat(index_path)))
    return _open(path, genome_name, stamps)


@functools.lru_cache(maxsize=4)
def _open(path: str, genome_name: str, stamps: tuple) -> ReferenceFasta:
    """Map and check once a process; ``stamps`` make a file that was changed another one."""
    n_bytes = stamps[0][0]
    with open(path, "rb") as stream:
        if stream.read(2) == b"\x1f\x8b":
            raise InputError(
                f"reference: {path} is compressed; expected plain FASTA. Run gunzip, then samtools faidx."
            )
    index = np.zeros((len(CHROMOSOMES), 4), np.int64)
    index[:, 2:] = 1
    with open(f"{path}.fai", encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            _read_index_line(line, number, index, path, n_bytes)
    sizes = {name: int(row[0]) for name, row in zip(CHROMOSOMES, index, strict=True) if row[0]}
    if not sizes:
        raise InputError(f"reference: {path}.fai names no chromosome such as chr1 or 1. Give a human genome.")
    expected = genome(genome_name).sizes
    wrong = [name for name, size in sizes.items() if size != expected[name]]
    if wrong:
        name = wrong[0]
        found = " or ".join(matching_genomes(sizes))
        raise InputError(
            f"reference: {path}: {name} has {sizes[name]} bp, in {genome_name} it has {expected[name]}"
            f"{f'; these are the sizes of {found}' if found else ''}. Give the FASTA of the study's genome."
        )
    return ReferenceFasta(path, np.memmap(path, np.uint8, mode="r"), index)


def _read_index_line(line: str, number: int, index: np.ndarray, path: str, n_bytes: int) -> None:
    fields = line.rstrip("\n").split("\t")
    if len(fields) < 5 or not all(
        field.isascii() and field.isdigit() and len(field) < 16 for field in fields[1:5]
    ):
        raise InputError(
            f"reference: {path}.fai: line {number}: found {line[:60]!r}, expected a name and four whole numbers. "
            f"Run `samtools faidx {path}` again."
        )
    chromosome = canonical_chromosome(fields[0])
    if chromosome is None:
        return
    length, first, bases, width = (int(field) for field in fields[1:5])
    if length == 0 or bases == 0 or width < bases:
        raise InputError(
            f"reference: {path}.fai: line {number}: a sequence or line without bases. Index the file again."
        )
    last = first + (length - 1) // bases * width + (length - 1) % bases
    if last >= n_bytes:
        raise InputError(
            f"reference: {path} has {n_bytes} bytes, its index puts the last base of {fields[0]} at byte {last}: the "
            f"FASTA was cut short or changed. Copy it again, or run `samtools faidx {path}`."
        )
    row = CHROMOSOMES.index(chromosome)
    if index[row, 0]:
        raise InputError(
            f"reference: {path}.fai: line {number}: {chromosome} is there twice. Keep one sequence."
        )
    index[row] = length, first, bases, width
