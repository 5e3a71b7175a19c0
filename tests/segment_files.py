"""Small tables of segments in their formats, for the tests of segments."""

import io

import numpy as np
import pandas as pd

from oncoarena.assays import segments
from oncoarena.genomes import genome

SIZES = dict(genome("hg38").sizes)


def draw(
    seed: int = 0, chroms: tuple[str, ...] = ("chr1", "chr13", "chr21"), n_cuts: int = 12
) -> pd.DataFrame:
    """Draw disjoint segments with gaps; 0-based, half-open, sorted."""
    rng = np.random.default_rng(seed)
    tables = []
    for chrom in chroms:
        cuts = np.unique(np.concatenate([[0, SIZES[chrom]], rng.integers(1, SIZES[chrom], n_cuts)]))
        start, end = cuts[:-1], cuts[1:]
        kept = rng.random(len(start)) < 0.8
        kept[0] = True
        minor = rng.integers(0, 3, len(start))
        tables.append(
            pd.DataFrame({"chrom": chrom, "start": start, "end": end, "log2": rng.normal(0, 0.5, len(start))})
            .assign(minor=minor, major=minor + rng.integers(0, 3, len(start)))
            .loc[kept]
        )
    return pd.concat(tables, ignore_index=True)


def seg(table: pd.DataFrame, name: str = "S1", header: bool = True) -> str:
    """Write SEG as DNAcopy does: 1-based, both ends included."""
    out = pd.DataFrame(
        {
            "ID": name,
            "chrom": table["chrom"].str[3:],
            "loc.start": table["start"] + 1,
            "loc.end": table["end"],
        }
        | {"num.mark": 10, "seg.mean": table["log2"]}
    )
    return out.to_csv(sep="\t", index=False, header=header)


def cns(table: pd.DataFrame) -> str:
    """Write .cns as CNVkit does: 0-based, half-open."""
    out = pd.DataFrame(
        {"chromosome": table["chrom"], "start": table["start"], "end": table["end"], "gene": "TP53,MYC"}
        | {"log2": table["log2"], "depth": 30.5, "probes": 9, "weight": 1.5}
    )
    return out.to_csv(sep="\t", index=False)


def ascat(table: pd.DataFrame, name: str = "S1", header: bool = True) -> str:
    """Write segments as ASCAT does: 1-based, both ends included."""
    out = pd.DataFrame(
        {
            "sample": name,
            "chr": table["chrom"].str[3:],
            "startpos": table["start"] + 1,
            "endpos": table["end"],
        }
        | {"nMajor": table["major"], "nMinor": table["minor"]}
    )
    return out.to_csv(sep="\t", index=False, header=header)


def read(content: str | bytes, sample_id: str = "S1", **options) -> dict:
    """Read one object through the assay."""
    raw = content.encode() if isinstance(content, str) else content
    return segments.read_object(
        io.BytesIO(raw), "s1.seg", segments.Options(**options), sample_id=sample_id, annotation=None
    )


def brute_force(table: pd.DataFrame, values: np.ndarray, places: pd.DataFrame, step: int) -> np.ndarray:
    """Average over places base by base, of every ``step`` bases one; exact where all edges are multiples of it."""
    found = np.full(len(places), np.nan)
    for number, place in enumerate(places.itertuples()):
        bases = np.full(-(-(place.end - place.start) // step), np.nan)
        position = place.start + step * np.arange(len(bases))
        for row, value in zip(table.itertuples(), values, strict=True):
            if row.chrom == place.chrom:
                bases[(position >= row.start) & (position < row.end)] = value
        if np.isnan(bases).mean() <= 0.5:
            found[number] = np.nanmean(bases)
    return found
