"""Tables of one sample by the program that wrote them: recognised by their header, read without an option.

Sources: https://docs.gdc.cancer.gov/Data/Bioinformatics_Pipelines/Expression_mRNA_Pipeline (GDC STAR counts);
STAR manual, --quantMode GeneCounts; https://salmon.readthedocs.io/en/latest/file_formats.html;
https://pachterlab.github.io/kallisto/manual; https://subread.sourceforge.net (featureCounts);
https://deweylab.github.io/RSEM/rsem-calculate-expression.html;
https://htseq.readthedocs.io/en/latest/htseqcount.html.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oncoarena.assays.tables import SYMBOL_COLUMNS, Table, abbreviated
from oncoarena.errors import InputError

if TYPE_CHECKING:
    from oncoarena.assays.expression import Options


@dataclass(frozen=True)
class Layout:
    """The columns of a program's table, by what they hold; "" or empty where it has none."""

    name: str
    ids: str
    counts: tuple[str, ...] = ()
    """Counts of reads; the first is taken unless another is asked for."""
    tpm: str = ""
    length: str = ""
    """Length of the feature, in bp."""
    symbol: str = ""
    place: tuple[str, ...] = ()
    """Chromosome, starts and ends of exons (1-based, closed)."""
    others: tuple[str, ...] = ()
    """Further columns of text, of the annotation and so the same in all files of a cohort."""
    feature_type: str = "gene"
    is_bare: bool = False
    """Whether the file has no header."""

    def names(self) -> tuple[str, ...]:
        """Every column by which the layout is recognised."""
        columns = (self.ids, *self.counts, self.tpm, self.length, self.symbol, *self.place, *self.others)
        return tuple(name for name in columns if name)


_STRANDS = ("unstranded", "stranded_first", "stranded_second")
STAR = Layout("STAR ReadsPerGene", "gene_id", _STRANDS, is_bare=True)
HTSEQ = Layout("HTSeq counts", "gene_id", ("count",), is_bare=True)
COUNTS_EXCEED = 100
"""Whole numbers that go beyond are taken for counts: logarithms and levels end below 30, percentages at 100, and even
a library of few reads has genes with more."""

FEATURE_COUNTS = Layout(
    "featureCounts", "Geneid", length="Length", place=("Chr", "Start", "End"), others=("Strand",)
)
_WITH_HEADER = (
    Layout(
        "GDC STAR counts", "gene_id", _STRANDS, "tpm_unstranded", symbol="gene_name", others=("gene_type",)
    ),
    Layout("salmon", "Name", ("NumReads",), "TPM", "EffectiveLength", feature_type="transcript"),
    Layout("kallisto", "target_id", ("est_counts",), "tpm", "eff_length", feature_type="transcript"),
    Layout(
        "RSEM genes", "gene_id", ("expected_count",), "TPM", "effective_length", others=("transcript_id(s)",)
    ),
    Layout(
        *("RSEM isoforms", "transcript_id", ("expected_count",), "TPM", "effective_length"),
        others=("gene_id",),
        feature_type="transcript",
    ),
    FEATURE_COUNTS,
)


_ALIGNMENT = re.compile(r"\.(bam|sam|cram)$", re.IGNORECASE)
# What programs add to the name of a sample: S1_Aligned.sortedByCoord.out.bam, S1.markdup.sorted.bam.
_ADDED = re.compile(
    r"(\.(bam|sam|cram)|[._-](sort|sorted|sortedByCoord|out|markdup|marked|md|dedup|rmdup)|[._-]?Aligned)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Reading:
    """How a table of one sample is read; columns are positions in ``Table.columns``, None where not read."""

    layout: Layout | None
    """None for a table of no program that is known."""
    quantity: str
    """What the values are before a logarithm: TPM, CPM, counts or values."""
    label: str
    """The same with the column that it is of, where there is a choice."""
    is_log: bool
    value: int
    """The column of the quantity, or of the counts from which it is computed."""
    counts: int | None = None
    length: int | None = None
    """Only where TPM are computed from counts."""
    symbol: int | None = None
    place: tuple[int, ...] = ()
    others: tuple[int, ...] = ()

    @property
    def columns(self) -> tuple[int, ...]:
        """The columns of numbers."""
        chosen = (self.value, self.counts, self.length)
        return tuple(dict.fromkeys(column for column in chosen if column is not None))

    @property
    def texts(self) -> tuple[int, ...]:
        """The columns of text: place, others, symbol."""
        return (*self.place, *self.others, *(() if self.symbol is None else (self.symbol,)))


def bare_names(fields: list[bytes]) -> tuple[str, ...] | None:
    """Name the columns of a table without a header by the fields of its first line; None where it is a header."""
    if not fields[0].strip() or not all(field.isdigit() for field in fields[1:]):
        return None
    if len(fields) == 4 and fields[0] == b"N_unmapped":
        return STAR.names()
    return HTSEQ.names() if len(fields) == 2 else None


def choose_reading(table: Table, options: "Options") -> Reading:
    """Choose what to read of a sample's table. Raises InputError."""
    layout = _recognise(table)
    if layout is None:
        return _read_as_it_is(table, options, _value_column(table, options))
    if layout is FEATURE_COUNTS:
        counts = _count_columns(table, layout, options)
    else:
        counts = [_position(table, name) for name in layout.counts]
    chosen = counts[0]
    wanted = options.quantity
    tpm = _position(table, layout.tpm)
    length = _position(table, layout.length)
    if options.value_column is not None:
        chosen = _value_column(table, options)
        if chosen not in (*counts, tpm):
            return _read_as_it_is(table, options, chosen, layout)
        if chosen == tpm:
            if wanted not in ("auto", "tpm"):
                raise InputError(
                    f"{table.source}: quantity {wanted} needs counts, value_column {options.value_column!r} holds "
                    "TPM. Remove one of the two."
                )
            wanted, chosen = "tpm", counts[0]
        elif wanted == "auto" and tpm is not None:
            wanted = "cpm"
    if wanted == "auto":
        wanted = "tpm" if tpm is not None or length is not None else "cpm"
    label = table.columns[chosen] if len(layout.counts) > 1 else ""
    value, used_length = chosen, None
    if wanted == "tpm":
        if tpm is not None and chosen == counts[0]:
            value, label = tpm, ""
        elif length is not None:
            used_length = length
        else:
            raise InputError(
                f"{table.source}: quantity tpm needs a column of TPM, or lengths beside counts; {layout.name} of "
                f"{table.columns[chosen]} has neither. Set quantity: cpm."
            )
    quantity = {"tpm": "TPM", "cpm": "CPM", "counts": "counts"}[wanted]
    return Reading(
        layout=layout,
        quantity=quantity,
        label=f"{quantity} of {label}" if label else quantity,
        is_log=options.transform != "none",
        value=value,
        counts=chosen,
        length=used_length,
        symbol=_symbol_column(table, layout),
        place=tuple(table.columns.index(name) for name in layout.place),
        others=tuple(table.columns.index(name) for name in layout.others if name in table.columns),
    )


def transcripts_per_million(counts: np.ndarray, lengths_bp: np.ndarray) -> np.ndarray:
    """Compute TPM, (n_features,), of counts and lengths in bp (doi:10.1007/s12064-012-0162-3); NaN stays."""
    rates = np.divide(counts, lengths_bp, out=np.zeros(len(counts)), where=counts != 0)
    return rates * (1e6 / np.nansum(rates))


def has_layout(table: Table, layout: Layout) -> bool:
    """Tell whether a table with a header has the columns of a layout, each once."""
    names = [table.id_name, *table.columns]
    is_named = table.id_name in (layout.ids, layout.symbol, *layout.others)
    return is_named and all(names.count(name) == 1 for name in layout.names())


def are_whole(values: np.ndarray) -> bool:
    """Tell whether all values that are not missing, of any shape, are whole numbers of 0 or more."""
    return bool((((values >= 0) & (values == np.rint(values))) | np.isnan(values)).all())


def names_of_samples(columns: tuple[str, ...], sample_ids: list[str]) -> tuple[str, ...]:
    """Name the columns that are alignments by the samples of which no column has the name: a/S1.sorted.bam is S1.

    Two alignments of one sample both get its name, which is then refused.
    """
    missing = set(sample_ids).difference(columns)
    if not missing:
        return columns
    names = list(columns)
    for position, name in enumerate(columns):
        if not _ALIGNMENT.search(name):
            continue
        stem = re.split(r"[/\\]", name)[-1]
        # The longest first: where both S1 and S1.sorted are samples, S1.sorted.bam is the latter.
        while stem not in missing and (shorter := _ADDED.sub("", stem)) != stem:
            stem = shorter
        if stem in missing:
            names[position] = stem
    return tuple(names)


def _recognise(table: Table) -> Layout | None:
    if table.is_bare:
        return STAR if set(STAR.names()) <= {table.id_name, *table.columns} else HTSEQ
    return next((layout for layout in _WITH_HEADER if has_layout(table, layout)), None)


def _position(table: Table, name: str) -> int | None:
    return table.columns.index(name) if name in table.columns else None


def _symbol_column(table: Table, layout: Layout | None) -> int | None:
    named = (layout.symbol,) if layout is not None and layout.symbol else SYMBOL_COLUMNS
    return next((table.columns.index(name) for name in named if name in table.columns), None)


def _count_columns(table: Table, layout: Layout, options: "Options") -> list[int]:
    """Find the columns of counts of featureCounts, named by the alignments: all that the layout does not name."""
    own = layout.names()
    found = [at for at in table.numeric_columns() if table.columns[at] not in own]
    if options.value_column is None and len(found) != 1:
        raise InputError(
            f"{table.source}: {len(found) or 'no'} columns of counts; expected one. Name the column of this sample "
            f"(value_column), or give the file as a matrix; the columns are {abbreviated(table.columns, 20)}."
        )
    return found or [_value_column(table, options)]


def _read_as_it_is(table: Table, options: "Options", column: int, layout: Layout | None = None) -> Reading:
    """Read a column of which only the user knows what it holds; ``quantity`` tells."""
    quantity = {"auto": "values", "tpm": "TPM", "cpm": "CPM", "counts": "counts"}[options.quantity]
    named = options.value_column is not None
    symbol = _symbol_column(table, layout)
    return Reading(
        layout=layout,
        quantity=quantity,
        label=f"{quantity} of {table.columns[column]}" if named else quantity,
        is_log=options.transform == "log2p1" or (options.transform == "auto" and quantity != "values"),
        value=column,
        counts=column if quantity in ("CPM", "counts") else None,
        symbol=None if symbol == column else symbol,
    )


def _value_column(table: Table, options: "Options") -> int:
    """Choose the column of values of a file of one sample."""
    columns = table.columns
    if options.value_column is not None:
        found = [position for position, name in enumerate(columns) if name == options.value_column]
        problem = f"{len(found) or 'no'} columns named {options.value_column!r} (value_column)"
    else:
        # With one column there is no choice: what is wrong in it is then told by row.
        found = [0] if len(columns) == 1 else table.numeric_columns()
        named = [columns[position] for position in found]
        problem = f"{len(found) or 'no'} columns of numbers" + (f" ({abbreviated(named)})" if named else "")
    if len(found) != 1:
        raise InputError(
            f"{table.source}: {problem}; expected one. Name the column of values (value_column); the columns are "
            f"{abbreviated(columns, 20)}."
        )
    name = columns[found[0]]
    if options.value_column is None and name.replace(".", "", 1).lstrip("-").isdigit():
        raise InputError(
            f"{table.source}: the column of values is named {name!r}, a number: the header is missing, or begins "
            "with '#'. Add a header line; if the name is right, give it as value_column."
        )
    return found[0]
