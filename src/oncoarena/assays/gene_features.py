"""What is known of genes and transcripts: ids without versions, symbols, places."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from oncoarena.assays.tables import MISSING, abbreviated
from oncoarena.cohort import feature_table
from oncoarena.errors import InputError

QC_ROWS = (
    *("N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous"),
    *("__no_feature", "__ambiguous", "__too_low_aQual", "__not_aligned", "__alignment_not_unique"),
)
"""Rows in which STAR and HTSeq count the reads that belong to no gene."""

# GENCODE adds to the version that of a mapping to another genome (ENSG00000223972.5_2), and marks the copies in the
# pseudo-autosomal region of chromosome Y; RSEM may append the name. A name has a letter: ENSG00000000003_1 has none.
_VERSION = r"(?:\.[0-9]+(?:_[0-9]+)?)?"
_NAME = r"(?:_(?P<name>[^A-Za-z]*[A-Za-z].*))?"
_ID = rf"^(?P<id>ENS[A-Z]*(?P<kind>[GTPE])[0-9]{{11}}){_VERSION}(?P<par>_PAR_Y)?{_NAME}$"


def without_versions(ids: pa.Array) -> pa.Array:
    """Remove the version of Ensembl ids, and a name behind it; ``_PAR_Y`` stays.

    ENSG00000141510.16 and ENSG00000141510.16_TP53 become ENSG00000141510.
    """
    if not pc.any(pc.match_substring_regex(ids, "[._]")).as_py():
        return ids
    return pc.replace_substring_regex(ids, _ID, r"\1\3")


def symbols_in(ids: pa.Array) -> pa.Array | None:
    """Return the symbols that RSEM appended to Ensembl ids, (n_genes,), "" where there is none; None without any.

    ENSG00000000003.14_TSPAN6 and its transcript ENST00000373020.8_TSPAN6-201 are both of TSPAN6.
    """
    if not pc.any(pc.match_substring(ids, "_")).as_py():
        return None
    parts = pc.extract_regex(ids, _ID)
    names = pc.fill_null(pc.struct_field(parts, "name"), "")
    if not pc.any(pc.not_equal(names, "")).as_py():
        return None
    is_transcript = pc.fill_null(pc.equal(pc.struct_field(parts, "kind"), "T"), False)
    return pc.if_else(is_transcript, pc.replace_substring_regex(names, r"-[0-9]{3}$", ""), names)


def feature_type_of(ids: pa.Array, otherwise: str = "gene") -> str:
    """Tell by Ensembl's ids whether features are genes or transcripts; ``otherwise`` where they are no such ids."""
    for letter, name in (("G", "gene"), ("T", "transcript")):
        if pc.all(pc.match_substring_regex(ids, f"^ENS[A-Z]*{letter}[0-9]{{11}}")).as_py():
            return name
    return otherwise


def describe_genes(
    ids: pa.Array,
    source: str,
    *,
    strip_version: bool,
    annotation: pd.DataFrame | None = None,
    symbols: pa.Array | None = None,
    place: tuple[Sequence[str], np.ndarray, np.ndarray] | None = None,
) -> pd.DataFrame:
    """Build the feature table of genes from what the file says of them, and where given the annotation.

    Parameters: ``ids`` (n_genes,) strings; ``symbols`` (n_genes,), by default those in the ids; ``place`` chrom,
    start, end of each (0-based, half-open, bp; "", -1, -1 where unknown); ``annotation`` has columns id, chrom, start,
    end and optionally gene, and overrides the file for the genes that it lists.
    Raises InputError, e.g. if ids are the same without their versions or the annotation lists none of the genes.
    """
    names = (without_versions(ids) if strip_version else ids).to_pylist()
    if len(set(names)) < len(names):
        first: dict[str, int] = {}
        for row, name in enumerate(names):
            if first.setdefault(name, row) != row:
                raise InputError(
                    f"{source}: {ids[first[name]].as_py()!r} and {ids[row].as_py()!r} are both {name!r} "
                    "(the version of an Ensembl id and a name behind it do not count). Keep one row a gene, or set "
                    "strip_version: false."
                )
    symbols = symbols_in(ids) if symbols is None else symbols
    genes = None if symbols is None else _checked_symbols(symbols.to_pylist(), source)
    chrom, start, end = place or (None, None, None)
    features = feature_table(names, chrom, start, end, genes)
    if annotation is None:
        return features
    known = _checked_annotation(annotation, strip_version)
    position = known.index.get_indexer(features["id"])
    found = position >= 0
    if not found.any():
        raise InputError(
            f"{source}: the annotation lists none of its genes: the matrix has {abbreviated(names)}, the "
            f"annotation has {abbreviated(list(known.index))}. Use the same kind of ids in both."
        )
    taken = known.take(position[found])
    for column in ("chrom", "start", "end"):
        features.loc[found, column] = taken[column].to_numpy()
    own = features.loc[found, "gene"].to_numpy()
    features.loc[found, "gene"] = np.where(taken["gene"] != "", taken["gene"].to_numpy(), own)
    return features


def _checked_symbols(texts: list[str], source: str) -> list[str]:
    symbols = [text.strip() for text in texts]
    # One look at all of them is cheaper than one at each.
    if not "".join(symbols).isprintable():
        odd = next(text for text in symbols if not text.isprintable())
        raise InputError(f"{source}: the gene symbol {odd[:40]!r} has unprintable characters. Remove them.")
    unknown = {"na", "---", *MISSING}
    return ["" if text in unknown else text for text in symbols]


def _checked_annotation(annotation: pd.DataFrame, strip_version: bool) -> pd.DataFrame:
    """Return the annotation indexed by id, its columns in the types of a feature table."""
    missing = [name for name in ("id", "chrom", "start", "end") if name not in annotation.columns]
    if missing:
        raise InputError(
            f"annotation: no column {', '.join(missing)}; expected id, chrom, start, end and optionally gene. "
            f"The columns are {abbreviated([str(name) for name in annotation.columns])}."
        )

    def text(name: str) -> pd.Series:
        return annotation[name].astype("string").fillna("").str.strip()

    known = pd.DataFrame({"chrom": text("chrom"), "gene": text("gene") if "gene" in annotation else ""})
    for name in ("start", "end"):
        cells = text(name)
        numbers = pd.to_numeric(cells.where(cells != "", "-1"), errors="coerce").to_numpy(
            np.float64, na_value=np.nan
        )
        whole = np.isfinite(numbers) & (np.abs(numbers) < 2**53) & (numbers == np.round(numbers))
        if not whole.all():
            row = int(np.argmin(whole))
            raise InputError(
                f"annotation: row {row + 1}, column {name!r}: found {cells.iloc[row]!r}, expected a whole number of bp."
            )
        known[name] = numbers.astype(np.int64)
    ids = text("id")
    if strip_version:
        ids = pd.Series(
            without_versions(pa.array(ids, pa.string())).to_pylist(), index=ids.index, dtype="string"
        )
    unknown = (known["chrom"] == "") & (known["start"] == -1) & (known["end"] == -1)
    sound = unknown | ((known["chrom"] != "") & (known["start"] >= 0) & (known["start"] < known["end"]))
    problems = [
        (ids == "", "the id is empty. Give every row an id"),
        (ids.duplicated(), "the id is there twice. Keep one row an id"),
        (
            ~sound,
            "expected a chrom and 0 <= start < end (0-based, half-open), or all three empty. Correct the row",
        ),
    ]
    for is_wrong, remedy in problems:
        if is_wrong.any():
            row = int(np.argmax(is_wrong))
            place = known.iloc[row]
            raise InputError(
                f"annotation: row {row + 1}, id {ids.iloc[row]!r} ({place['chrom']}:{place['start']}-{place['end']}): "
                f"{remedy}."
            )
    return known.set_index(pd.Index(ids.astype(str)))
