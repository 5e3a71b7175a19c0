"""Names and codes of classes of somatic mutations: 96 of single bases, 78 of doublets, 83 of indels.

The classes are those of COSMIC, named as SigProfilerMatrixGenerator names them (Bergstrom et al. 2019,
doi:10.1186/s12864-019-6041-2; Alexandrov et al. 2020, doi:10.1038/s41586-020-1943-3).
"""

import itertools

import numpy as np

BASES = "ACGT"
_DOUBLETS = {
    "AC": "CA CG CT GA GG GT TA TG TT",
    "AT": "CA CC CG GA GC TA",
    "CC": "AA AG AT GA GG GT TA TG TT",
    "CG": "AT GC GT TA TC TT",
    "CT": "AA AC AG GA GC GG TA TC TG",
    "GC": "AA AG AT CA CG TA",
    "TA": "AT CG CT GC GG GT",
    "TC": "AA AG AT CA CG CT GA GG GT",
    "TG": "AA AC AT CA CC CT GA GC GT",
    "TT": "AA AC AG CA CC CG GA GC GG",
}


def reverse_complement(bases: str) -> str:
    """Return the sequence of the other strand."""
    return bases.translate(str.maketrans("ACGT", "TGCA"))[::-1]


SUBSTITUTION_CLASSES = tuple(
    f"{before}[{change}]{behind}"
    for change in ("C>A", "C>G", "C>T", "T>A", "T>C", "T>G")
    for before, behind in itertools.product(BASES, BASES)
)
"""Substitutions of one base with its neighbours, the mutated base a pyrimidine: A[C>A]A to T[T>G]T."""

DOUBLET_CLASSES = tuple(f"{ref}>{alt}" for ref, alts in _DOUBLETS.items() for alt in alts.split())
"""Substitutions of two neighbouring bases, on one strand of the two."""

INDEL_CLASSES = (
    *(f"1:{kind}:{base}:{n}" for kind in ("Del", "Ins") for base in "CT" for n in range(6)),
    *(f"{size}:{kind}:R:{n}" for kind in ("Del", "Ins") for size in range(2, 6) for n in range(6)),
    *(f"{size}:Del:M:{n}" for size in range(2, 6) for n in range(1, size if size < 5 else 6)),
)
"""Length (5 for more): kind: base, R(epeat) or M(icrohomology): repeats in the reference or bases of homology."""


def _substitution_table() -> np.ndarray:
    """Class of (base before, ref, alt, base behind), -1 where ref is alt."""
    place = {name: number for number, name in enumerate(SUBSTITUTION_CLASSES)}
    table = np.full((4, 4, 4, 4), -1, np.int64)
    for codes in itertools.product(range(4), repeat=4):
        before, ref, alt, behind = (BASES[code] for code in codes)
        if ref in "AG":
            before, behind = reverse_complement(behind), reverse_complement(before)
            ref, alt = reverse_complement(ref), reverse_complement(alt)
        table[codes] = place.get(f"{before}[{ref}>{alt}]{behind}", -1)
    return table


def _doublet_table() -> np.ndarray:
    """Class of (first ref, second ref, first alt, second alt), -1 where a base is not changed."""
    place = {name: number for number, name in enumerate(DOUBLET_CLASSES)}
    table = np.full((4, 4, 4, 4), -1, np.int64)
    for codes in itertools.product(range(4), repeat=4):
        bases = "".join(BASES[code] for code in codes)
        names = (
            f"{bases[:2]}>{bases[2:]}",
            f"{reverse_complement(bases[:2])}>{reverse_complement(bases[2:])}",
        )
        table[codes] = next((place[name] for name in names if name in place), -1)
    return table


SUBSTITUTION_TABLE = _substitution_table()
DOUBLET_TABLE = _doublet_table()
