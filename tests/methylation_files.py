"""Small files of methylation calls in their formats, for the tests of methylation."""

import gzip
import io

import numpy as np
import pandas as pd

from oncoarena.assays import methylation

SIZES = {
    "chr1": 248_956_422,
    "chr2": 242_193_529,
    "chr21": 46_709_983,
    "chrX": 156_040_895,
    "chrY": 57_227_415,
}


def sites(n_sites: int = 300, seed: int = 0, chroms: tuple[str, ...] = ("chr1", "chr21")) -> pd.DataFrame:
    """Draw sites with calls, some of them at the edges of bins; 0-based positions, sorted."""
    rng = np.random.default_rng(seed)
    tables = []
    for chrom in chroms:
        size = SIZES[chrom]
        edges = [0, 999_999, 1_000_000, 1_000_001, 1_999_999, 2_000_000, size - 1]
        start = np.unique(np.concatenate([edges, rng.integers(0, 5_000_000, n_sites)]))
        calls = rng.poisson(8, len(start))
        meth = rng.binomial(calls, 0.7)
        other = np.minimum(rng.poisson(0.3, len(start)), calls - meth)
        tables.append(
            pd.DataFrame(
                {"chrom": chrom, "start": start, "strand": rng.choice(list("+-"), len(start))}
                | {"meth": meth, "canonical": calls - meth - other, "other": other}
            )
        )
    return pd.concat(tables, ignore_index=True)


def bedmethyl(table: pd.DataFrame, code: str = "m", late: str = "\t", end: str = "\n") -> str:
    """Write sites as modkit pileup does, the columns from the tenth on separated by ``late``."""
    lines = []
    for row in table.itertuples():
        calls = row.meth + row.canonical + row.other
        percent = f"{100 * row.meth / calls if calls else 0:.2f}"
        early = [row.chrom, row.start, row.start + 1, code, calls, row.strand, row.start, row.start + 1]
        counts = [calls, percent, row.meth, row.canonical, row.other, 1, 2, 0, 3]
        lines.append("\t".join(map(str, [*early, "255,0,0", late.join(map(str, counts))])) + end)
    return "".join(lines)


def bismark(table: pd.DataFrame, shift: int = 1, span: int = 0) -> str:
    """Write sites as a Bismark coverage file; by default 1-based, the end at the start."""
    lines = []
    for row in table.itertuples():
        calls = row.meth + row.canonical + row.other
        first = row.start + shift
        percent = 100 * row.meth / calls if calls else 0
        lines.append(f"{row.chrom}\t{first}\t{first + span}\t{percent}\t{row.meth}\t{calls - row.meth}\n")
    return "".join(lines)


def encode(table: pd.DataFrame, digits: int = 0) -> str:
    """Write sites as bedMethyl of ENCODE: coverage, and the percentage of methylated calls to some digits."""
    lines = []
    for row in table.itertuples():
        calls = row.meth + row.canonical + row.other
        percent = f"{100 * row.meth / calls if calls else 0:.{digits}f}"
        fields = [row.chrom, row.start, row.start + 1, "sample_1", min(calls, 1000), row.strand]
        lines.append(
            "\t".join(map(str, [*fields, row.start, row.start + 1, "255,0,0", calls, percent])) + "\n"
        )
    return "".join(lines)


def brute_force(
    table: pd.DataFrame, places: pd.DataFrame, min_calls: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Sum calls place by place and row by row; returns (n_places,) beta and calls."""
    beta, calls = np.full(len(places), np.nan), np.zeros(len(places))
    for number, place in enumerate(places.itertuples()):
        meth = total = 0
        for row in table[table["chrom"] == place.chrom].itertuples():
            if place.start <= row.start < place.end:
                meth += row.meth
                total += row.meth + row.canonical + row.other
        calls[number] = total
        if total >= min_calls:
            beta[number] = meth / total
    return beta, calls


def read(content: str | bytes, **options) -> dict:
    """Read one object through the assay."""
    raw = content.encode() if isinstance(content, str) else content
    return methylation.read_object(
        io.BytesIO(raw), "s1.bed", methylation.Options(**options), sample_id="s1", annotation=None
    )


def gzipped(content: str, n_members: int = 1) -> bytes:
    """Compress text into some gzip members."""
    raw = content.encode()
    step = -(-len(raw) // n_members)
    return b"".join(gzip.compress(raw[at : at + step], mtime=0) for at in range(0, len(raw), step))
