"""Counts of reads that nobody says are counts, and matrices of featureCounts."""

import numpy as np
import pandas as pd
import pytest

from expression_tables import assert_refused, parquet, read
from expression_tables import read_one as read_own
from quantification_files import (
    BARE_IDS,
    CHR,
    COUNTS,
    END,
    IDS,
    LENGTHS,
    START,
    SYMBOLS,
    feature_counts,
    lines,
)
from quantification_files import read as read_one

SAMPLES = ["S1", "S2"]
BOTH = np.array([COUNTS, [4000, 0, 3, 7, 90]])
RATES = BOTH / LENGTHS
TPM = RATES / RATES.sum(axis=1, keepdims=True) * 1e6
CPM = BOTH / BOTH.sum(axis=1, keepdims=True) * 1e6
LIKE_COUNTS = "all values are whole numbers of 0 or more, some above 100"


def matrix(values=BOTH, orientation="genes_x_samples") -> str:
    table = pd.DataFrame(values, SAMPLES, IDS)
    return (table.T if orientation == "genes_x_samples" else table).to_csv(sep="\t", index_label="id")


def by_feature_counts(names=SAMPLES, values=BOTH) -> str:
    rows = zip(IDS, CHR, START, END, ["+"] * 5, LENGTHS, *values, strict=True)
    return "# Program:featureCounts v2.0.6\n" + lines(
        ("Geneid", "Chr", "Start", "End", "Strand", "Length", *names), *rows
    )


@pytest.mark.parametrize("orientation", ["genes_x_samples", "samples_x_genes"])
def test_read_matrix__tells_that_values_look_like_counts(orientation):
    found = read(matrix(orientation=orientation), SAMPLES)
    (note,) = found.notes
    assert note.startswith(f"cohort.tsv: {LIKE_COUNTS}")
    assert "quantity: cpm" in note
    assert "transform: none" in note
    np.testing.assert_array_equal(found.values, BOTH.astype(np.float32))
    assert found.qc["quantity"].tolist() == ["values"] * 2
    with_gap = matrix(orientation=orientation).replace("4000", "NA").replace("850", "101")
    assert LIKE_COUNTS in read(with_gap, SAMPLES, missing_values="allow").notes[0]


@pytest.mark.parametrize(
    "values", [BOTH + 0.5, np.minimum(BOTH, 100), BOTH - 1, np.where(BOTH == 7, 7.25, BOTH)]
)
@pytest.mark.parametrize("orientation", ["genes_x_samples", "samples_x_genes"])
def test_read_matrix__says_nothing_of_values_that_are_no_counts(values, orientation):
    assert read(matrix(values, orientation), SAMPLES).notes == ()


@pytest.mark.parametrize(
    "keys", [{"transform": "none"}, {"transform": "log2p1"}, {"quantity": "counts"}, {"quantity": "cpm"}]
)
def test_read__says_nothing_of_counts_where_the_user_said_what_they_are(keys):
    assert read(matrix(), SAMPLES, **keys).notes == ()
    assert "remark" not in read_own(lines(("gene", "n"), *zip(IDS, COUNTS, strict=True)), **keys).qc


def test_read_object__remarks_that_values_look_like_counts():
    table = lines(("gene", "n"), *zip(IDS, COUNTS, strict=True))
    found = read_own(table)
    np.testing.assert_array_equal(found.values, COUNTS.astype(np.float32))
    assert found.qc["remark"].startswith("whole numbers of 0 or more, some above 100, are used as they are")
    assert "quantity: cpm" in found.qc["remark"]
    other = read_own(table.replace("850", "3000"))
    assert other.qc["remark"] == found.qc["remark"]
    for changed in (table.replace("850", "100").replace("120", "9"), table.replace("850", "850.5")):
        assert "remark" not in read_own(changed).qc
    gap = read_own(table.replace("850", "NA"), missing_values="allow")
    assert gap.qc["remark"] == found.qc["remark"]


def test_read_matrix__takes_places_and_lengths_of_featurecounts():
    one = read_one(feature_counts())
    found = read(by_feature_counts(), SAMPLES)
    np.testing.assert_allclose(found.values, np.log2(TPM + 1), rtol=1e-6)
    np.testing.assert_allclose(found.values[0], one.values, rtol=1e-6)
    pd.testing.assert_frame_equal(found.features, one.features)
    assert found.features["start"].tolist() == [7661778, 276321, -1, 3306, 100]
    assert found.qc["quantity"].tolist() == [one.qc["quantity"]] * 2
    assert found.qc["library_size"].tolist() == BOTH.sum(axis=1).tolist()
    (note,) = found.notes
    assert "turned into TPM by its column Length" in note
    some = read(by_feature_counts(), ["S2"])
    np.testing.assert_array_equal(some.values, found.values[1:])
    assert "1 columns or rows that are no sample" in some.notes[1]


def test_read_matrix__gives_the_quantity_of_featurecounts_that_is_asked_for():
    content = by_feature_counts()
    for quantity, expected in (("tpm", TPM), ("cpm", CPM), ("counts", BOTH)):
        found = read(content, SAMPLES, quantity=quantity, transform="none")
        np.testing.assert_allclose(found.values, expected, rtol=1e-6)
        assert found.features["chrom"].tolist() == ["chr17", "chrX", "", "chrM", "GL000192.1"]
        assert found.notes == ()
    linear = read(content, SAMPLES, transform="none")
    np.testing.assert_allclose(linear.values, TPM, rtol=1e-6)


def test_read_matrix__takes_symbols_and_annotation_beside_the_places_of_featurecounts():
    rows = [line.split("\t") for line in by_feature_counts().splitlines()[1:]]
    symbols = ["gene_name", *SYMBOLS]
    content = lines(*([*row[:6], name, *row[6:]] for row, name in zip(rows, symbols, strict=True)))
    annotation = pd.DataFrame({"id": [BARE_IDS[2]], "chrom": ["chrX"], "start": [1], "end": [2]})
    found = read(content, SAMPLES, annotation)
    assert found.features["gene"].tolist() == SYMBOLS
    assert found.features["chrom"].tolist() == ["chr17", "chrX", "chrX", "chrM", "GL000192.1"]
    assert "5 of 5 genes have a coordinate in the annotation or the file" in found.notes[1]
    assert len(found.notes) == 2


def test_read_matrix__reads_featurecounts_of_any_form():
    table = pd.DataFrame(
        {"Geneid": IDS, "Chr": CHR, "Start": START, "End": END, "Strand": "+", "Length": LENGTHS}
    ).assign(S1=COUNTS)
    expected = read(by_feature_counts(), ["S1"])
    # More columns than are read by Arrow.
    many = by_feature_counts([*SAMPLES, *(f"x{i}" for i in range(200))], [*BOTH, *[COUNTS] * 200])
    for content in (parquet(table), many):
        found = read(content, ["S1"])
        np.testing.assert_array_equal(found.values, expected.values)
        pd.testing.assert_frame_equal(found.features, expected.features)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("956.0", "0", "line 6, column 'Length' (row 'ENSG00000198888.2'): found 0, expected more than 0 bp"),
        ("956.0", "NA", "column 'Length'"),
        ("3307", "5000", "Chr, Start and End"),
        ("7661779;7668402", "7661779", "Chr, Start and End"),
        ("\t4000", "\t-1", "found -1, expected 0 or more"),
    ],
)
def test_read_matrix__refuses_featurecounts_that_are_not_sound(old, new, said):
    assert_refused(by_feature_counts().replace(old, new), said, read=lambda text: read(text, SAMPLES))


def test_read_matrix__refuses_a_sample_of_featurecounts_without_counts():
    content = by_feature_counts(values=[COUNTS, COUNTS * 0])
    assert_refused(content, "sample 'S2' has no counts above 0", read=lambda text: read(text, SAMPLES))


ALIGNMENTS = [
    ("S1.bam", "S2.bam"),
    ("/data/a.b/S1.bam", "../S2.BAM"),
    ("S1.markdup.sorted.bam", "S2.sorted.cram"),
    ("star/S1_Aligned.sortedByCoord.out.bam", "star/S2Aligned.sortedByCoord.out.bam"),
    ("S1", "runs/S2/S2.sam"),
    ("C:\\runs\\S1.bam", "S2.dedup.bam"),
]


@pytest.mark.parametrize("names", ALIGNMENTS)
def test_read_matrix__knows_samples_by_the_files_that_columns_name(names):
    expected = read(by_feature_counts(), SAMPLES)
    found = read(by_feature_counts(names), SAMPLES)
    np.testing.assert_array_equal(found.values, expected.values)
    assert "columns named by alignments were taken for the samples" in found.notes[1]
    cut = matrix().replace("S1\tS2", "\t".join(names))
    assert "columns named by alignments" in read(cut, SAMPLES).notes[0]


def test_read_matrix__takes_the_longest_name_of_a_file_and_a_name_before_a_file():
    found = read(by_feature_counts(["S1.bam", "S1.sorted.bam"]), ["S1.sorted", "S1"], quantity="counts")
    np.testing.assert_allclose(found.values, np.log2(BOTH[::-1] + 1), rtol=1e-6)
    named = read(by_feature_counts(["S1.bam", "S1"]), ["S1"], quantity="counts")
    np.testing.assert_allclose(named.values, np.log2(BOTH[1:] + 1), rtol=1e-6)
    assert not any("alignments" in note for note in named.notes)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a/S1.bam", "b/S1.bam"], "sample 'S1' is there twice, in columns 7 and 8"),
        (["S1.sorted.bam", "S1.bam"], "sample 'S1' is there twice"),
        (["S1.2.bam", "S10.bam"], "no column is named by a sample of the sheet ('S1')"),
        (["S1.txt", "other.bam"], "no column is named by a sample"),
    ],
)
def test_read_matrix__refuses_files_that_may_be_another_sample(names, said):
    assert_refused(by_feature_counts(names), said, read=lambda text: read(text, ["S1"]))
