"""Simulated BAM files: valid for pysam, and what is planted can be read out of them again."""

import gzip
import io
from collections import Counter

import numpy as np
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoarena.simulation import bam
from oncoarena.simulation.fragments import MIN_FRAGMENT_BP, Damage, length_shares, motif_shares
from oncoarena.simulation.landscape import BIN_BP, landscape
from simulated_alignments import library, proper_fragments, write_library

CLEAN = Damage(0, 0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return write_library(tmp_path_factory.mktemp("bam") / "s1.bam", library(sex="M"), 30_000)


def test_bam__is_sorted_whole_and_indexed(damaged):
    pysam.quickcheck("-v", str(damaged))
    with pysam.AlignmentFile(damaged) as file:
        assert file.header["HD"]["SO"] == "coordinate"
        assert file.header["RG"][0]["SM"] == "s1"
        assert file.references == landscape().chromosomes
        assert list(file.lengths) == landscape().sizes.tolist()
        reads = list(file.fetch(until_eof=True))
        keys = [(read.reference_id % 1000, read.reference_start) for read in reads]  # -1 comes last
        assert keys == sorted(keys)
        statistics = file.get_index_statistics()
        by_name = Counter(read.reference_name for read in reads if not read.is_unmapped)
        assert {item.contig: item.mapped for item in statistics if item.mapped} == dict(by_name)
        assert file.nocoordinate == 20


def test_bam__mates_agree_with_each_other(damaged):
    with pysam.AlignmentFile(damaged) as file:
        reads = list(file.fetch(until_eof=True))
    pairs: dict[str, list[pysam.AlignedSegment]] = {}
    for read in reads:
        assert read.is_paired
        assert len(read.query_sequence) == len(read.query_qualities) == 50
        if not read.flag & 0x900:
            pairs.setdefault(read.query_name, []).append(read)
    assert len(pairs) == 30_010
    for pair in pairs.values():
        left, right = pair
        assert {left.is_read1, right.is_read1} == {True, False}
        for one, other in ((left, right), (right, left)):
            assert one.next_reference_id == other.reference_id
            assert one.next_reference_start == other.reference_start
            assert one.mate_is_reverse == other.is_reverse
            assert one.mate_is_unmapped == other.is_unmapped
        assert left.is_duplicate == right.is_duplicate
        assert left.is_qcfail == right.is_qcfail
        assert left.is_proper_pair == right.is_proper_pair == (not left.is_unmapped and not right.is_unmapped)
        if left.is_proper_pair:
            forward, reverse = (left, right) if left.is_forward else (right, left)
            assert (forward.is_forward, reverse.is_forward) == (True, False)
            length = reverse.reference_end - forward.reference_start
            assert forward.template_length == length == -reverse.template_length
            assert length >= MIN_FRAGMENT_BP
            assert forward.cigarstring == reverse.cigarstring == "50M"
        else:
            assert left.template_length == right.template_length == 0


def test_bam__has_all_that_filters_are_for_in_the_stated_shares(damaged):
    with pysam.AlignmentFile(damaged) as file:
        reads = list(file.fetch(until_eof=True))
    n = len(reads)
    first = [read for read in reads if not read.flag & 0x900]
    expected = Damage()

    def share(condition) -> float:
        return sum(map(condition, first)) / len(first)

    assert share(lambda read: read.is_duplicate) == pytest.approx(expected.duplicate, abs=0.006)
    assert share(lambda read: read.is_qcfail) == pytest.approx(expected.qc_fail, abs=0.0015)
    assert share(lambda read: read.mapping_quality < 30 and not read.is_unmapped) == pytest.approx(
        1.1 * expected.low_mapq, abs=0.01
    )
    half = share(lambda read: read.is_unmapped and not read.mate_is_unmapped)
    assert half == pytest.approx(expected.half_mapped / 2, abs=0.002)
    assert (n - len(first)) / 30_000 == pytest.approx(expected.secondary, abs=0.002)
    assert sum(read.is_secondary for read in reads) == pytest.approx((n - len(first)) / 2, abs=30)
    # One of the two reads of a pair may be hard to place on its own.
    quality = {read.query_name: read.mapping_quality for read in first if read.is_read1}
    assert any(quality[read.query_name] != read.mapping_quality for read in first if read.is_read2)


def test_bam__duplicates_copy_place_and_bases_of_another_pair(damaged):
    originals, copies = {}, []
    with pysam.AlignmentFile(damaged) as file:
        for read in file:
            if read.is_unmapped or read.mate_is_unmapped or read.flag & 0x900:
                continue
            if read.is_forward:
                key = (read.reference_id, read.reference_start, read.template_length, read.query_sequence)
                if read.is_duplicate:
                    copies.append(key)
                else:
                    originals[key] = read
    assert len(copies) > 1000
    # The original of a few has itself lost its mate.
    assert sum(key in originals for key in copies) > 0.98 * len(copies)


def test_bam__index_finds_what_a_whole_pass_finds(damaged):
    with pysam.AlignmentFile(damaged) as file:
        for chrom, start, end in (
            ("chr1", 0, 5_000_000),
            ("chr8", 40_000_000, 41_234_567),
            ("chrY", 0, 57_227_415),
        ):
            fetched = [read.to_string() for read in file.fetch(chrom, start, end)]
            passed = [
                read.to_string()
                for read in file.fetch(chrom)
                if read.reference_start < end and (read.reference_end or read.reference_start + 1) > start
            ]
            assert fetched == passed
            assert fetched


def test_bam__fragments_lie_in_bins_without_a_gap(damaged):
    genome = landscape()
    rows = proper_fragments(damaged)
    first_bin = np.searchsorted(genome.chrom, np.arange(len(genome.chromosomes)))
    assert genome.sequenced[first_bin[rows[:, 0]] + rows[:, 1] // BIN_BP].all()
    assert (rows[:, 1] + rows[:, 2] <= genome.sizes[rows[:, 0]]).all()


def test_bam__lengths_follow_the_stated_distribution(tmp_path):
    found = {}
    for name, short in (("usual", 0.0), ("short", 1.0)):
        path = write_library(tmp_path / f"{name}.bam", library(short=short), 40_000, damage=CLEAN)
        lengths = proper_fragments(path)[:, 2]
        assert len(lengths) == 40_000
        found[name] = lengths
    shares = dict(zip(("usual", "short"), length_shares(), strict=True))
    for name, lengths in found.items():
        counts = np.bincount(lengths - MIN_FRAGMENT_BP, minlength=len(shares[name]))
        # Largest distance of the two distribution functions: Kolmogorov's 1 % point is 1.63 / sqrt(n).
        assert np.abs(np.cumsum(counts) / 40_000 - np.cumsum(shares[name])).max() < 1.63 / 200
    smooth = np.convolve(np.bincount(found["usual"], minlength=700), np.ones(5), mode="same")
    assert abs(int(smooth.argmax()) - 167) <= 3
    assert 0.05 < (found["usual"] > 260).mean() < 0.12
    # Shoulders: the turns of the helix below one nucleosome.
    counts = np.bincount(found["usual"], minlength=700)
    assert counts[145:148].sum() > counts[140:143].sum() * 1.1


def test_bam__arms_of_the_tumour_are_gained_and_lost_as_stated(tmp_path):
    described = library(tumour_fraction=0.4, gained=("8q",), lost=("17p", "3p"))
    rows = proper_fragments(write_library(tmp_path / "s.bam", described, 150_000, damage=CLEAN))
    genome = landscape()
    first_bin = np.searchsorted(genome.chrom, np.arange(len(genome.chromosomes)))
    arm = genome.arm[first_bin[rows[:, 0]] + rows[:, 1] // BIN_BP]
    counts = np.bincount(arm, minlength=len(genome.arms))
    span = np.bincount(genome.arm, genome.sequenced * (genome.end - genome.start), minlength=len(genome.arms))
    density = dict(zip(genome.arms, counts / np.maximum(span, 1), strict=True))
    usual = density["1p"]
    # (1 - t) x 2 + t x (2 +- 1) copies against 2.
    assert density["8q"] / usual == pytest.approx(1.2, abs=0.06)
    assert density["3p"] / usual == pytest.approx(0.8, abs=0.05)
    assert density["17p"] / usual == pytest.approx(0.8, abs=0.1)
    assert density["2q"] / usual == pytest.approx(1.0, abs=0.05)
    assert counts[list(genome.arms).index("Yq")] == 0


def test_bam__sex_decides_x_and_y(damaged, tmp_path):
    woman = proper_fragments(write_library(tmp_path / "f.bam", library(sex="F"), 30_000))
    man = proper_fragments(damaged)
    x, y = (landscape().chromosomes.index(name) for name in ("chrX", "chrY"))
    assert (man[:, 0] == x).mean() / (woman[:, 0] == x).mean() == pytest.approx(0.5, abs=0.06)
    assert (woman[:, 0] == y).sum() == 0
    assert (man[:, 0] == y).mean() > 0.003


@pytest.mark.parametrize("slope", [-2.0, 0.0, 2.0])
def test_bam__gc_bias_is_found_from_the_bases_of_the_reads(tmp_path, slope):
    path = write_library(tmp_path / "s.bam", library(gc_slope=slope), 60_000, damage=CLEAN)
    width = 2_000_000
    gc: dict[tuple[int, int], list[float]] = {}
    with pysam.AlignmentFile(path) as file:
        for read in file:
            if read.is_read1:
                # Without the four bases of the end motif, on either side.
                inner = read.query_sequence[4:-4]
                place = (read.reference_id, read.reference_start // width)
                gc.setdefault(place, []).append((inner.count("G") + inner.count("C")) / len(inner))
    genome = landscape()
    places = genome.chrom * 1000 + genome.start // width
    usable = np.bincount(places, genome.sequenced, minlength=places.max() + 1)
    full = [place for place in gc if usable[place[0] * 1000 + place[1]] == 20 and place[0] < 22]
    share = np.array([np.mean(gc[place]) for place in full])
    density = np.log([len(gc[place]) for place in full])
    assert len(full) > 1000
    # A bin's GC content is itself known from some 25 reads: its error flattens the line a little.
    error = 0.41 * 0.59 / 42 / np.mean([len(gc[place]) for place in full])
    found = np.cov(share, density)[0, 1] / (share.var() - error)
    assert found == pytest.approx(slope, abs=0.35)


def test_bam__end_motifs_shift_with_the_tumour_fraction(tmp_path):
    def motif_counts(tumour_fraction: float) -> np.ndarray:
        described = library(tumour_fraction=tumour_fraction)
        path = write_library(tmp_path / f"{tumour_fraction}.bam", described, 40_000, damage=CLEAN)
        counts: Counter[str] = Counter()
        with pysam.AlignmentFile(path) as file:
            for read in file:
                if not read.is_unmapped:
                    counts[read.get_forward_sequence()[:4]] += 1  # as the machine read it, from its 5' end
        bases = "ACGT"
        return np.array([counts[a + b + c + d] for a in bases for b in bases for c in bases for d in bases])

    healthy, tumour = motif_shares()
    for fraction in (0.0, 0.5):
        counts = motif_counts(fraction)
        expected = 80_000 * ((1 - fraction) * healthy + fraction * tumour)
        chi_square = ((counts - expected) ** 2 / expected).sum()
        assert chi_square < 255 + 4 * np.sqrt(2 * 255)  # four standard deviations
        other = 80_000 * (tumour if fraction == 0 else healthy)
        assert ((counts - other) ** 2 / other).sum() > 3 * chi_square
    ccca = 0b01010100
    assert healthy[ccca] == healthy.max() > 1.5 * tumour[ccca] > 3 / 256


def test_bam__windows_change_the_order_of_nothing(tmp_path):
    for name, window in (("a", 500), ("b", 1 << 20)):
        path = write_library(tmp_path / f"{name}.bam", library(), 20_000, window=window)
        with pysam.AlignmentFile(path) as file:
            positions = [
                (read.reference_id % 1000, read.reference_start) for read in file.fetch(until_eof=True)
            ]
        assert positions == sorted(positions)
        # Two a fragment, ten pairs without a place, and the secondary ones.
        assert 40_020 < len(positions) < 40_020 + 200


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=200_000), st.integers(1, 400), st.integers(1, 12))
def test_write_bgzf__is_read_back_and_keeps_records_whole(content, unit, level):
    stream = io.BytesIO()
    bam.write_bgzf(stream, content, unit, level)
    stream.write(bam.BGZF_END)

    assert gzip.decompress(stream.getvalue()) == content
    packed, at, total = stream.getvalue(), 0, 0
    while at < len(packed):
        size = int.from_bytes(packed[at + 16 : at + 18], "little") + 1
        n_bytes = int.from_bytes(packed[at + size - 4 : at + size], "little")
        assert n_bytes <= 65280
        total += n_bytes
        assert total % unit == 0 or total == len(content)
        at += size
    assert at == len(packed)
