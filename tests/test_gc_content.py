"""GC correction within a sample: the bias goes, the copy-number change stays."""

import gzip
import io

import numpy as np
import pandas as pd
import pytest

from alignment_files import header, read, records_of, write_records
from oncoarena.assays.gc_content import correct, count_gc, middle_mean, slope
from oncoarena.errors import InputError

N_BINS = 26_000


def biased(seed: int, depth: float):
    """Counts of bins with a strong GC bias, a gained and a lost stretch; and the copy number of each bin."""
    rng = np.random.default_rng(seed)
    # GC content varies in stretches along the genome, as isochores do.
    gc = np.clip(
        np.interp(np.arange(N_BINS), np.arange(0, N_BINS + 50, 50), rng.normal(0.41, 0.05, N_BINS // 50 + 1)),
        0.3,
        0.65,
    )
    copies = np.ones(N_BINS)
    copies[3000:4500] = 1.5
    copies[9000:9800] = 0.5
    bias = np.exp(-(((gc - 0.47) / 0.13) ** 2))
    return rng.poisson(depth * copies * bias).astype(float), gc, copies, bias


@pytest.mark.parametrize("depth", [500, 60, 8])
def test_correct__removes_a_planted_bias_and_keeps_gain_and_loss(depth):
    counts, gc, copies, bias = biased(1, depth)
    fitted = np.ones(N_BINS, bool)
    corrected = correct(counts, gc, fitted)
    neutral = copies == 1
    before = np.corrcoef(gc[neutral], counts[neutral])[0, 1]
    assert abs(before) > 0.3
    assert abs(np.corrcoef(gc[neutral], corrected[neutral])[0, 1]) < 0.04
    # The middle half of a Poisson distribution lies a little below its mean, so shallow samples are a little above 1.
    for level, tolerance in ((1.0, 0.02), (1.5, 0.03), (0.5, 0.05)):
        assert np.average(corrected[copies == level], weights=bias[copies == level]) == pytest.approx(
            level, abs=tolerance
        )
    assert abs(slope(counts, gc, fitted)) > 1
    assert abs(slope(corrected, gc, fitted)) < 0.15


def test_correct__without_bias_changes_hardly_anything():
    rng = np.random.default_rng(2)
    counts, gc = rng.poisson(400, N_BINS).astype(float), rng.normal(0.41, 0.04, N_BINS)
    corrected = correct(counts, gc, np.ones(N_BINS, bool))
    np.testing.assert_allclose(corrected, counts / counts.mean(), rtol=0.05)


def test_correct__is_the_same_whatever_the_depth_of_the_sample():
    counts, gc, _, _ = biased(3, 200)
    fitted = np.ones(N_BINS, bool)
    np.testing.assert_allclose(correct(counts, gc, fitted), correct(7 * counts, gc, fitted), rtol=1e-12)


def test_correct__bins_that_are_not_fitted_do_not_move_the_others():
    counts, gc, _, _ = biased(4, 100)
    fitted = np.arange(N_BINS) < 24_000
    changed = np.where(fitted, counts, 50 * counts)
    first, second = correct(counts, gc, fitted), correct(changed, gc, fitted)
    np.testing.assert_array_equal(first[fitted], second[fitted])
    np.testing.assert_allclose(second[~fitted], 50 * first[~fitted])


def test_correct__what_is_not_known_stays_missing():
    counts, gc, _, _ = biased(5, 100)
    counts[10], gc[20] = np.nan, np.nan
    corrected = correct(counts, gc, np.ones(N_BINS, bool))
    assert np.flatnonzero(np.isnan(corrected)).tolist() == [10, 20]
    assert np.isnan(correct(counts, np.full(N_BINS, np.nan), np.ones(N_BINS, bool))).all()
    assert np.isnan(correct(np.zeros(N_BINS), gc, np.ones(N_BINS, bool))).all()


def test_correct__expectation_of_a_stratum_is_the_mean_of_its_middle_half():
    # Two strata far from each other; within one, all bins have the same GC content, so nothing is interpolated.
    rng = np.random.default_rng(6)
    gc = np.repeat([0.355, 0.455], 400)
    rate = rng.gamma(5, 20, 800)
    expected = pd.Series(rate).groupby(gc).transform(lambda part: np.sort(part)[100:300].mean())
    ratio = rate / expected.to_numpy()
    np.testing.assert_allclose(correct(rate, gc, np.ones(800, bool)), ratio / np.sort(ratio)[200:600].mean())


def test_middle_mean__ignores_a_quarter_at_either_end():
    assert middle_mean(np.array([1e9, 2.0, 4.0, -1e9])) == 3.0
    assert middle_mean(np.array([5.0])) == 5.0
    assert np.isnan(middle_mean(np.array([])))


def test_slope__is_the_least_squares_line():
    counts, gc, _, _ = biased(7, 100)
    fitted = np.arange(N_BINS) % 3 == 0
    expected = np.polyfit(gc[fitted], counts[fitted] / middle_mean(counts[fitted]), 1)[0]
    assert slope(counts, gc, fitted) == pytest.approx(expected)
    assert np.isnan(slope(counts, np.full(N_BINS, 0.5), fitted))


SIZES = {"chr1": 2503, "chr2": 1000, "chrX": 77}


def fasta(sizes=SIZES, seed=0, width=60, prefix="chr", end="\n"):
    rng = np.random.default_rng(seed)
    sequences = {name: "".join(rng.choice(list("ACGTNacgtn"), n_bp)) for name, n_bp in sizes.items()}
    lines = []
    for name, letters in {"chrM": "ACGT" * 30, **sequences, "chrUn_1": "GG"}.items():
        lines.append(f">{prefix}{name.removeprefix('chr')} a note")
        lines += [letters[at : at + width] for at in range(0, len(letters), width)]
    return sequences, (end.join(lines) + end).encode()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("width", "prefix", "end"), [(60, "chr", "\n"), (10**9, "", "\n"), (7, "chr", "\r\n")]
)
@pytest.mark.parametrize("chunk_bytes", [8 << 20, 101])
def test_count_gc__is_that_of_the_letters(monkeypatch, packed, width, prefix, end, chunk_bytes):
    monkeypatch.setattr("oncoarena.assays.gc_content.CHUNK_BYTES", chunk_bytes)
    sequences, text = fasta(width=width, prefix=prefix, end=end)
    content = gzip.compress(text, mtime=0) if packed else text
    found = count_gc(io.BytesIO(content), "g.fa", "hg38", SIZES, 100)
    expected = []
    for letters in sequences.values():
        for at in range(0, len(letters), 100):
            part = letters[at : at + 100].upper()
            known = sum(part.count(base) for base in "ACGT")
            expected.append((part.count("G") + part.count("C")) / known)
    np.testing.assert_array_equal(found, expected)


def test_count_gc__bin_of_unknown_bases_is_missing():
    found = count_gc(io.BytesIO(b">1\nNNNNNGGGGA\n"), "g.fa", "hg38", {"chr1": 10}, 5)
    np.testing.assert_array_equal(found, [np.nan, 0.8])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (fasta({"chr1": 2503, "chr2": 1000})[1], "no sequence of chrX; expected the FASTA of hg38"),
        (fasta({**SIZES, "chr2": 999})[1], "'chr2' has 999 bp, but chr2 of hg38 has 1000"),
        (fasta({**SIZES, "chr2": 1001})[1], "'chr2' has 1001 bp"),
        (fasta()[1] * 2, "'chr1' is there twice"),
        (b"chr1\t0\t100\n", "expected a FASTA file"),
        (b"", "expected a FASTA file"),
        (gzip.compress(fasta()[1], mtime=0)[:-30], "the gzip stream is damaged"),
    ],
)
def test_count_gc__wrong_reference_is_refused(text, said):
    with pytest.raises(InputError, match=said):
        count_gc(io.BytesIO(text), "g.fa", "hg38", SIZES, 100)


def test_read_object__bias_of_the_reads_is_corrected_by_their_own_bases(tmp_path):
    """Reads of GC-rich bins are three times as many; chr3 has half as many again as the others."""
    rng = np.random.default_rng(8)
    drawn = []
    rich = {}
    for chromosome in range(4):
        for number in range(4, 80):
            rich[chromosome, number] = bool(rng.random() < 0.5)
            n = rng.poisson((60 if rich[chromosome, number] else 20) * (1.5 if chromosome == 2 else 1))
            starts = number * 1_000_000 + rng.integers(0, 999_000, n)
            drawn += [(chromosome, int(start), int(start) + 160, 60) for start in starts]
    drawn.sort()
    top = header()
    records = records_of(drawn, top, odd=False)
    for record in records:
        is_rich = (
            rich[record.reference_id, record.reference_start // 1_000_000]
            if record.reference_start % 10**6 < 999_160
            else False
        )
        share = 0.55 if is_rich else 0.38
        qualities = record.query_qualities
        record.query_sequence = "".join(
            rng.choice(list("ACGT"), 100, p=[(1 - share) / 2, share / 2, share / 2, (1 - share) / 2])
        )
        record.query_qualities = qualities
    blocks = read(write_records(tmp_path / "s.bam", top, records), coverage_bp=1_000_000, exclude_gaps=False)
    features, values = blocks["coverage"].features, blocks["coverage_gc"].values
    inside = features["chrom"].isin(["chr1", "chr2", "chr3", "chr4"]) & features["start"].between(
        4_000_000, 79_000_000
    )
    keys = [
        rich[int(name[3:]) - 1, start // 1_000_000]
        for name, start in zip(features["chrom"][inside], features["start"][inside], strict=True)
    ]
    of_third = (features["chrom"][inside] == "chr3").to_numpy()
    raw, corrected, is_rich = blocks["coverage"].values[inside], values[inside], np.array(keys)
    assert raw[is_rich & ~of_third].mean() / raw[~is_rich & ~of_third].mean() == pytest.approx(3, rel=0.1)
    assert corrected[is_rich & ~of_third].mean() / corrected[~is_rich & ~of_third].mean() == pytest.approx(
        1, abs=0.07
    )
    assert corrected[of_third].mean() / corrected[~of_third].mean() == pytest.approx(1.5, rel=0.06)
    assert blocks["coverage"].qc["gc_slope"] > 3
