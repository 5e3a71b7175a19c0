"""The assay alignments: the same answer as a plain count, from every format."""

import gzip
import hashlib
import io
import pickle
from collections import Counter

import numpy as np
import pysam
import pytest

from alignment_files import (
    assert_same_blocks,
    bed_of,
    count_plainly,
    fragments,
    header,
    measured_bins,
    read,
    records_of,
    write_records,
)
from htslib_records import tally_by_records
from oncoarena.assays.alignment_reading import filters_of, lay_out, map_references
from oncoarena.assays.alignments import (
    BLOCKS,
    Options,
    finish_object,
    merge_parts,
    plan_parts,
    read_part,
)
from oncoarena.errors import BadObject, InputError
from oncoarena.genomes import CHROMOSOMES, genome
from oncoarena.kernels.bam_index import Part, parts_from_index
from oncoarena.kernels.fragment_tally import SUMMED

WIDE = {"coverage_bp": 5_000_000, "ratio_bp": 20_000_000}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A BAM and a CRAM file of the same odd records."""
    folder = tmp_path_factory.mktemp("alignments")
    top = header()
    records = records_of(fragments(2500, seed=1), top, seed=2)
    for name in ("s1.bam", "s1.cram"):
        write_records(folder / name, top, records)
    return folder


def of_block(block, counts: Counter, name: str, bin_bp: int) -> np.ndarray:
    """The plain counts in the order of a block's features."""
    places = zip(block.features["chrom"], block.features["start"], strict=True)
    return np.array([counts[name, chrom, start // bin_bp] for chrom, start in places])


@pytest.mark.parametrize(
    "keys",
    [
        {},
        WIDE,
        {**WIDE, "chromosomes": "all", "exclude_gaps": False, "max_fragment_bp": 300},
        {**WIDE, "chromosomes": "all", "min_mapq": 0, "required_flags": 1, "excluded_flags": 4},
    ],
)
def test_read_object__counts_are_those_of_a_plain_loop_over_reads(written, keys):
    options = Options(**keys)
    counts = count_plainly(written / "s1.bam", options)
    blocks = read((written / "s1.bam").read_bytes(), **keys)
    assert list(blocks) == list(BLOCKS)

    coverage = blocks["coverage"]
    measured = measured_bins("hg38", options.coverage_bp, options.chromosomes, options.exclude_gaps)
    expected = of_block(coverage, counts, "coverage", options.coverage_bp)
    assert expected.sum() > 300
    np.testing.assert_array_equal(coverage.values, np.where(measured, expected, np.nan))

    ratio = blocks["fragment_ratio"]
    short, long = (of_block(ratio, counts, name, options.ratio_bp) for name in ("short", "long"))
    plain = [s / n if n else np.nan for s, n in zip(short.tolist(), long.tolist(), strict=True)]
    np.testing.assert_array_equal(ratio.values, np.float32(plain))

    n_fragments = sum(n for key, n in counts.items() if key[0] == "coverage")
    lengths = [counts["length", n_bp] / n_fragments for n_bp in range(1, options.max_fragment_bp + 1)]
    np.testing.assert_array_equal(blocks["fragment_length"].values, np.float32(lengths))

    motifs = blocks["end_motif"]
    n_ends = sum(n for key, n in counts.items() if key[0] == "motif")
    assert n_ends > 300
    shares = [counts["motif", motif] / n_ends for motif in motifs.features["id"]]
    np.testing.assert_array_equal(motifs.values, np.float32(shares))

    arms = blocks["arm_coverage"]
    middles = (coverage.features["start"] + coverage.features["end"]) // 2
    sums = np.array(
        [
            np.nansum(
                coverage.values[
                    (coverage.features["chrom"] == arm.chrom) & (middles >= arm.start) & (middles < arm.end)
                ]
            )
            for arm in arms.features.itertuples()
        ]
    )
    np.testing.assert_allclose(arms.values, sums / sums.sum(), rtol=1e-6)
    assert len(sums) == (39 if options.chromosomes == "autosomes" else 43)

    qc = coverage.qc
    n_ends_seen = n_ends + counts["clipped"] + counts["unread"]
    assert (qc["n_records"], qc["n_mapped"]) == (counts["n_records"], counts["n_mapped"])
    assert (qc["n_duplicates"], qc["n_fragments"]) == (counts["n_duplicates"], n_fragments)
    assert qc["duplicate_rate"] == counts["n_duplicates"] / counts["n_mapped"]
    assert qc["clipped_end_rate"] == counts["clipped"] / n_ends_seen
    n_bases = sum(key[1] * n for key, n in counts.items() if key[0] == "length")
    assert qc["mean_coverage"] == pytest.approx(n_bases / sum(genome("hg38").sizes.values()))
    most = max(counts["length", n_bp] for n_bp in range(1, options.max_fragment_bp + 1))
    assert counts["length", qc["insert_mode_bp"]] == most


def test_read_object__gc_content_is_that_of_first_reads(written):
    options = Options(**WIDE)
    counts = count_plainly(written / "s1.bam", options)
    layout = lay_out(options)
    tally = read_part(
        io.BytesIO((written / "s1.bam").read_bytes()),
        "s1",
        options,
        *plan_parts(None, 0, "s1", options),
        sample_id="s1",
    ).counts
    for c, chromosome in enumerate(layout.chromosomes):
        for number, position in enumerate(range(layout.coverage_offsets[c], layout.coverage_offsets[c + 1])):
            assert tally.gc_bases[position] == counts["gc", chromosome, number]
            assert tally.bases[position] == counts["bases", chromosome, number]


def test_read_object__cram_gives_what_bam_gives(written):
    bam, cram = (read((written / name).read_bytes(), **WIDE) for name in ("s1.bam", "s1.cram"))
    assert_same_blocks(bam, cram)
    assert bam["coverage"].qc | {"format": "CRAM"} == cram["coverage"].qc


@pytest.mark.parametrize("n_records", [97, 2501, 5002, 10**6])
def test_read_object__batches_of_cram_do_not_change_the_counts(written, monkeypatch, n_records):
    content = (written / "s1.cram").read_bytes()
    whole = read(content, **WIDE)
    assert whole["coverage"].qc["n_records"] == 5002
    monkeypatch.setattr("oncoarena.assays.htslib_alignments.BATCH_RECORDS", n_records)
    batched = read(content, **WIDE)
    assert_same_blocks(whole, batched)
    assert whole["coverage"].qc == batched["coverage"].qc


@pytest.mark.parametrize("suffix", [".bam", ".cram"])
def test_read_object__header_of_megabytes_is_read(tmp_path, suffix):
    top = header()
    names = [hashlib.md5(str(number).encode()).hexdigest() for number in range(20_000)]
    top["SQ"] += [{"SN": f"alt_{name}", "LN": 1000, "M5": name[::-1]} for name in names]
    drawn = fragments(200, seed=11)
    content = write_records(tmp_path / f"s1{suffix}", top, records_of(drawn, top, odd=False))
    assert len(content) > 500_000
    assert_same_blocks(read(content, **WIDE), read(bed_of(drawn), **WIDE), ("coverage", "fragment_length"))


@pytest.mark.parametrize("name", ["s1.bam", "s1.cram"])
def test_read_part__tally_is_that_of_htslib_and_numpy(written, name):
    options = Options(**WIDE)
    expected = tally_by_records(
        written / name,
        lay_out(options),
        filters_of(options),
        lambda found: map_references(found, options, "s1"),
    )
    with (written / name).open("rb") as stream:
        found = read_part(stream, "s1", options, *plan_parts(None, 0, "s1", options), sample_id="s1").counts
    assert found.counts == expected.counts
    for array in SUMMED:
        np.testing.assert_array_equal(getattr(found, array), getattr(expected, array))
    assert (found.first_place, found.last_place) == (expected.first_place, expected.last_place)


@pytest.mark.parametrize("name", ["hg19", "hg38", "t2t"])
@pytest.mark.parametrize("with_chr", [True, False])
def test_read_object__fragment_table_gives_what_bam_gives(tmp_path, name, with_chr):
    drawn = fragments(600, seed=3, name=name)
    top = header(name, with_chr=with_chr)
    content = write_records(tmp_path / "plain.bam", top, records_of(drawn, top, odd=False))
    bam = read(content, genome=name, **WIDE)
    bed = read(bed_of(drawn, with_chr), genome=name, **WIDE)
    shared = ("coverage", "fragment_ratio", "fragment_length", "arm_coverage")
    assert_same_blocks(bam, bed, shared)
    assert np.isnan(bed["end_motif"].values).all()
    assert np.isnan(bed["coverage_gc"].values).all()
    for figure in ("n_fragments", "insert_mode_bp", "mean_coverage", "short_long_ratio"):
        assert bam["coverage"].qc[figure] == bed["coverage"].qc[figure]
    assert bed["coverage"].qc["n_records"] == len(drawn)
    assert np.isnan(bed["coverage"].qc["duplicate_rate"])


def test_read_object__chromosome_that_the_header_lacks_is_missing_not_empty(tmp_path):
    drawn = [row for row in fragments(1500, seed=4) if CHROMOSOMES[row[0]] in ("chr1", "chr2")]
    top = header(chromosomes=("chr1", "chr2"))
    content = write_records(tmp_path / "two.bam", top, records_of(drawn, top, odd=False))
    blocks = read(content, **WIDE)
    for name in ("coverage", "arm_coverage", "coverage_gc", "fragment_ratio"):
        of_two = blocks[name].features["chrom"].isin(["chr1", "chr2"]).to_numpy()
        assert np.isnan(blocks[name].values[~of_two]).all()
    assert np.nansum(blocks["arm_coverage"].values) == pytest.approx(1)


def test_read_object__excluded_regions_are_left_out(tmp_path):
    drawn = [(0, start, start + 160, 60) for start in range(20_000_000, 30_000_000, 1000)]
    regions = tmp_path / "regions.bed"
    regions.write_text("track name=x\n1\t25000000\t26000000\tname\nchrM\t0\t10\n")
    kept = read(bed_of(drawn))["coverage"].values
    blocks = read(bed_of(drawn), exclude_regions=str(regions))
    features = blocks["coverage"].features
    inside = (
        (features["chrom"] == "chr1") & (features["start"] >= 25_000_000) & (features["end"] <= 26_000_000)
    )
    assert np.isnan(blocks["coverage"].values[inside]).all()
    before = (features["chrom"] == "chr1") & (features["start"] < 24_900_000)
    np.testing.assert_array_equal(blocks["coverage"].values[before], kept[before])
    # Of 1,000 fragments that begin inside, and one that reaches in by no base (it ends where the region begins).
    assert blocks["coverage"].qc["n_fragments"] == len(drawn) - sum(
        start < 26_000_000 and start + 160 > 25_000_000 for _, start, _, _ in drawn
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chr1\t5\n", "line 1: found 'chr1.*5', expected chrom, start, end"),
        ("chr1\t1\t2\nchr1\t9\t7\n", "line 2"),
        ("chr1\t1\t248956423\n", "chr1 has 248956422 bp; is this a file of another genome"),
        ("chrUn\t1\t2\n", "none of its 1 regions lies on a chromosome"),
    ],
)
def test_read_object__wrong_regions_are_refused_with_the_line(tmp_path, text, said):
    regions = tmp_path / "regions.bed"
    regions.write_text(text)
    with pytest.raises(InputError, match=said):
        read(bed_of([(0, 20_000_000, 20_000_160, 60)]), exclude_regions=str(regions))


def sexed(n_x: float, n_y: float, n_autosomal: int = 20_000) -> bytes:
    """Fragments spread evenly; ``n_x`` and ``n_y`` copies of X and Y, ratios to autosomes."""
    reference = genome("hg38")
    total = sum(reference.sizes[name] for name in CHROMOSOMES[:22])
    rows = []
    for c, name in enumerate(CHROMOSOMES):
        n = n_autosomal * reference.sizes[name] / total * {"chrX": n_x, "chrY": n_y}.get(name, 1)
        rows += [
            (c, int(at), int(at) + 160, 60) for at in np.linspace(0, reference.sizes[name] - 200, round(n))
        ]
    return bed_of(rows)


@pytest.mark.parametrize(
    ("n_x", "n_y", "sex"),
    [(1, 0, "XX"), (0.5, 0.15, "XY"), (1, 0.15, "unclear"), (0.5, 0, "unclear"), (0.98, 0.005, "XX")],
)
def test_read_object__sex_is_inferred_from_x_and_y(n_x, n_y, sex):
    assert read(sexed(n_x, n_y))["coverage"].qc["sex_inferred"] == sex


def test_read_object__sex_of_few_reads_is_unclear():
    assert read(sexed(1, 0, n_autosomal=2000))["coverage"].qc["sex_inferred"] == "unclear"


def in_parts(folder, index_type: str, part_bytes: int):
    """Read an object in parts of about ``part_bytes``, as workers would; returns its blocks and the number of parts."""
    content = (folder / "s1.bam").read_bytes()
    (folder / "copy.bam").write_bytes(content)
    pysam.index(*(["-c"] if index_type == ".csi" else []), str(folder / "copy.bam"))
    options = Options(**WIDE)
    with (folder / f"copy.bam{index_type}").open("rb") as index:
        parts = parts_from_index(index, len(content), "s1", part_bytes)
    tallies = []
    for part in parts:
        with (folder / "copy.bam").open("rb") as stream:
            tally = read_part(stream, "s1", options, pickle.loads(pickle.dumps(part)), sample_id="s1")
        tallies.append(pickle.loads(pickle.dumps(tally)))
    while len(tallies) > 1:
        pairs = [tallies[at : at + 2] for at in range(0, len(tallies), 2)]
        tallies = [merge_parts(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return finish_object(tallies[0], "s1", options, sample_id="s1"), len(parts)


@pytest.mark.parametrize("index_type", [".bai", ".csi"])
@pytest.mark.parametrize("part_bytes", [30_000, 70_000, 10**9])
def test_parts__joined_are_the_whole(written, tmp_path, index_type, part_bytes):
    (tmp_path / "s1.bam").write_bytes((written / "s1.bam").read_bytes())
    joined, n_parts = in_parts(tmp_path, index_type, part_bytes)
    assert (n_parts > 1) == (part_bytes < 10**9)
    whole = read((written / "s1.bam").read_bytes(), **WIDE)
    assert_same_blocks(whole, joined)
    assert whole["coverage"].qc == joined["coverage"].qc


def test_parts__size_is_that_of_the_options(tmp_path):
    path = tmp_path / "s1.bam"
    top = header()
    records = records_of(fragments(16_000, seed=7), top, odd=False)
    n_bytes = len(write_records(path, top, records))
    assert n_bytes > 1_500_000
    pysam.index(str(path))
    with path.with_suffix(".bam.bai").open("rb") as index:
        parts = plan_parts(index, n_bytes, "s1", Options(part_mb=1))
    assert len(parts) == round(n_bytes / 1e6)
    assert [part.end_byte for part in parts[:-1]] == [part.first_byte for part in parts[1:]]
    assert (parts[0].first_byte, parts[-1].end_byte) == (0, n_bytes)


def test_parts__other_formats_and_indexes_are_one_part(written, tmp_path):
    options = Options(**WIDE, part_mb=1)
    assert len(plan_parts(None, 10**12, "s1", options)) == 1
    table = tmp_path / "s1.bed.gz"
    rows = gzip.decompress(bed_of(fragments(50, seed=8)))
    with pysam.BGZFile(str(table), "wb") as file:
        file.write(rows)
    pysam.tabix_index(str(table), preset="bed", csi=True)
    with table.with_suffix(".gz.csi").open("rb") as index:
        parts = plan_parts(index, 10**12, "s1", options)
    assert len(parts) == 1
    with table.open("rb") as stream:
        tally = read_part(stream, "s1", options, parts[0], sample_id="s1")
    assert_same_blocks(finish_object(tally, "s1", options, sample_id="s1"), read(rows, **WIDE))


def test_parts__range_of_what_is_no_bam_is_refused(written):
    with (written / "s1.cram").open("rb") as stream, pytest.raises(BadObject, match="but is a CRAM"):
        read_part(stream, "s1", Options(), Part(1000, 2000), sample_id="s1")
