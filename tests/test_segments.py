"""Segments: averages over bins and arms equal to a count base by base, whatever the format."""

import io
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methylation_files import gzipped
from oncoarena.assays import segment_blocks, segment_tables, segments
from oncoarena.errors import InputError
from oncoarena.genomes import genome
from segment_files import SIZES, ascat, brute_force, cns, draw, read, seg


def rounded(table: pd.DataFrame, step: int) -> pd.DataFrame:
    """Move edges to multiples of ``step`` bases, so that one base of each step tells all."""
    moved = table.assign(start=table["start"] // step * step, end=table["end"] // step * step)
    return moved[moved["start"] < moved["end"]].reset_index(drop=True)


def test_read_object__bins_are_what_a_count_base_by_base_gives():
    table = rounded(draw(chroms=("chr13", "chr21"), n_cuts=60), 10_000)
    found = read(cns(table), bin_bp=500_000)["copy_ratio"]
    busy = found.features[found.features["chrom"].isin(["chr13", "chr21"])]
    # The last bin of a chromosome does not end at a multiple of the step; its covered share may differ by one.
    inner = busy[busy["end"] % 500_000 == 0]
    expected = brute_force(table, table["log2"].to_numpy(), inner, 10_000)
    np.testing.assert_allclose(found.values[inner.index], expected, rtol=1e-6)
    assert 0 < np.isnan(expected).sum() < len(expected)
    assert np.isnan(found.values[~found.features["chrom"].isin(["chr13", "chr21"])]).all()
    assert found.values.dtype == np.float32
    assert found.features["id"].is_unique


def test_read_object__arms_are_the_average_of_their_bases():
    table = draw(3)
    found = read(cns(table))["copy_ratio_arms"]
    assert found.features["id"].tolist()[:3] == ["chr1p", "chr1q", "chr2p"]
    arms = genome("hg38").arms.query("chrom in ['chr1', 'chr13', 'chr21']")
    for arm in arms.itertuples():
        overlap = np.minimum(table["end"], arm.end) - np.maximum(table["start"], arm.start)
        overlap = overlap.where((overlap > 0) & (table["chrom"] == arm.chrom), 0)
        expected = np.nan
        if overlap.sum() >= (arm.end - arm.start) / 2:
            expected = (overlap * table["log2"]).sum() / overlap.sum()
        value = found.values[found.features["id"] == arm.id][0]
        np.testing.assert_allclose(value, expected, rtol=1e-5)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_average_segments__is_the_average_of_bases(data):
    cuts = st.lists(st.integers(0, 60), min_size=2, max_size=12, unique=True).map(sorted)
    points = data.draw(cuts)
    kept = [pair for pair in pairwise(points) if data.draw(st.booleans())]
    edges = data.draw(cuts)
    values = np.array([data.draw(st.floats(-20, 20)) for _ in kept])
    order = data.draw(st.permutations(range(len(kept))))
    start, end = (np.array([pair[side] for pair in kept], dtype=np.int64) for side in (0, 1))
    mean, covered = segment_blocks.average_segments(
        start[order], end[order], values[order], np.array(edges[:-1]), np.array(edges[1:])
    )
    bases = np.full(60, np.nan)
    for (first, last), value in zip(kept, values, strict=True):
        bases[first:last] = value
    for number, (first, last) in enumerate(pairwise(edges)):
        known = bases[first:last][~np.isnan(bases[first:last])]
        assert covered[number] == len(known)
        np.testing.assert_allclose(mean[number], known.mean() if len(known) else np.nan, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("write", "gap"),
    [
        *((write, gap) for write in (seg, cns) for gap in ("NA", "", "inf", "-inf")),
        (ascat, "NA"),
        (ascat, ""),
    ],
)
def test_read_object__segments_without_a_value_cover_nothing_and_are_counted(write, gap):
    table = draw(11, chroms=("chr1", "chr21", "chrX"))
    gaps = [1, len(table) - 1]
    values = ["major", "minor"] if write is ascat else ["log2"]
    holed = table.astype(dict.fromkeys(values, object))
    holed.loc[gaps, values] = gap
    expected = read(write(table.drop(index=gaps)))
    # A gap over a segment contradicts nothing; one on another contig is counted as elsewhere.
    over = holed.loc[[1]].assign(start=table["start"][2], end=table["start"][2] + 5)
    found = read(write(pd.concat([holed, over, holed.loc[[1]].assign(chrom="chrUn_1")])))
    for name, block in expected.items():
        np.testing.assert_array_equal(found[name].values, block.values)
        counts = {"n_without_value": 3, "n_segments_elsewhere": 1, "n_records": len(table) + 2}
        assert found[name].qc == pytest.approx({**block.qc, **counts}, nan_ok=True)
    cohort = write(holed, "S1") + write(table, "S2", header=False) if write is not cns else None
    if cohort:
        matrix = segments.read_matrix(io.BytesIO(cohort.encode()), "a", ["S2", "S1"], segments.Options())
        assert matrix["copy_ratio"].qc["n_without_value"].tolist() == [0, 2]
        np.testing.assert_array_equal(matrix["copy_ratio"].values[1], expected["copy_ratio"].values)


def test_read_object__segments_of_which_none_has_a_value_are_refused():
    empty = draw(11).assign(log2=np.nan)
    with pytest.raises(InputError, match="none of the segments of 'S1' has a value"):
        read(seg(empty))
    # Those of a sample that is not asked for are not looked at.
    both = seg(empty, "S0") + seg(draw(1), "S1", header=False)
    assert read(both)["copy_ratio"].qc["n_without_value"] == 0


def test_read_object__half_of_a_bin_must_be_covered():
    def value(end: int, **options) -> float:
        table = pd.DataFrame({"chrom": ["chr1"], "start": [0], "end": [end], "log2": [0.7]})
        return read(cns(table), **options)["copy_ratio"].values[0]

    assert value(500_000) == np.float32(0.7)
    assert np.isnan(value(499_999))
    assert value(100_000, min_covered=0.1) == np.float32(0.7)
    assert np.isnan(value(999_999, min_covered=1.0))


def test_read_object__same_segments_in_every_format_give_the_same_blocks():
    table = draw(1)
    expected = read(cns(table))
    quoted = pd.read_csv(io.StringIO(seg(table)), sep="\t")
    quoted.index += 1
    from_r = quoted.to_csv(sep="\t", quoting=2, header=False)
    r_header = "\t".join(f'"{name}"' for name in quoted.columns) + "\n"
    gdc = seg(table).replace(
        "ID\tchrom\tloc.start\tloc.end\tnum.mark\tseg.mean",
        "GDC_Aliquot\tChromosome\tStart\tEnd\tNum_Probes\tSegment_Mean",
    )
    shuffled = table.sample(frac=1, random_state=2)
    versions = {
        "SEG": seg(table),
        "SEG as R writes it": r_header + from_r,
        "SEG of GDC": gdc,
        "SEG in any order": seg(shuffled),
        "SEG in gzip": gzipped(seg(table), 3),
        "SEG with comments and line ends of Windows": "#track\n" + seg(table).replace("\n", "\r\n") + "\r\n",
        "commas": seg(table).replace("\t", ","),
    }  # fmt: skip
    for name, content in versions.items():
        found = read(content, sample_id="any")
        for block in expected:
            np.testing.assert_array_equal(found[block].values, expected[block].values, err_msg=name)
            assert found[block].features.equals(expected[block].features)
    half_open = seg(table.assign(start=table["start"] - 1))
    np.testing.assert_array_equal(
        read(half_open, coordinates="zero_based")["copy_ratio"].values, expected["copy_ratio"].values
    )


def test_read_object__sex_chromosomes_by_number_are_x_and_y():
    table = draw(4, chroms=("chr1", "chrX", "chrY"), n_cuts=3)
    named = read(seg(table), chromosomes="all")["copy_ratio"]
    numbered = seg(table).replace("\tX\t", "\t23\t").replace("\tY\t", "\t24\t")
    np.testing.assert_array_equal(read(numbered, chromosomes="all")["copy_ratio"].values, named.values)
    assert not np.isnan(named.values[named.features["chrom"] == "chrY"]).all()


def test_read_object__ascat_gives_ratios_to_ploidy_and_allele_balance():
    table = rounded(draw(5, n_cuts=40), 10_000)
    found = read(ascat(table), alleles=True)
    assert tuple(found) == segments.offered(segments.Options(alleles=True))
    copies = (table["major"] + table["minor"]).to_numpy()
    length = (table["end"] - table["start"]).to_numpy()
    ploidy = np.average(copies, weights=length)
    log2 = np.log2(np.maximum(copies, 0.25) / ploidy)
    expected = read(cns(table.assign(log2=log2)))["copy_ratio"].values
    np.testing.assert_allclose(found["copy_ratio"].values, expected, rtol=1e-6)
    places = found["allele_balance"].features
    inner = places[(places["chrom"] == "chr21") & (places["end"] % 1_000_000 == 0)]
    share = np.where(copies > 0, table["minor"] / np.maximum(copies, 1), np.nan)
    expected = brute_force(table, share, inner, 10_000)
    np.testing.assert_allclose(found["allele_balance"].values[inner.index], expected, rtol=1e-6)
    assert tuple(read(ascat(table))) == ("copy_ratio", "copy_ratio_arms")


def test_read_object__alleles_of_cnvkit_may_be_missing_in_some_segments():
    table = draw(6, n_cuts=2)
    with_copies = pd.read_csv(io.StringIO(cns(table)), sep="\t").assign(cn=2, cn1=1.0, cn2=1.0)
    with_copies.loc[0, ["cn1", "cn2"]] = np.nan
    found = read(with_copies.to_csv(sep="\t", index=False), alleles=True)
    np.testing.assert_array_equal(found["copy_ratio"].values, read(cns(table))["copy_ratio"].values)
    balance = found["allele_balance"]
    assert np.isnan(balance.values[0])
    assert set(balance.values[~np.isnan(balance.values)]) == {0.5}


def test_read_matrix__rows_are_those_of_the_objects_of_each_sample(monkeypatch):
    tables = {name: draw(number) for number, name in enumerate(["S1", "S2", "S3"])}
    for write, options in ((seg, {}), (ascat, {"alleles": True})):
        cohort = "".join(write(table, name, header=name == "S1") for name, table in tables.items())
        for chunk_bytes in (100, 1 << 20):
            monkeypatch.setattr(segment_tables, "CHUNK_BYTES", chunk_bytes)
            found = segments.read_matrix(
                io.BytesIO(cohort.encode()), "all.seg", ["S3", "S1"], segments.Options(**options)
            )
            for row, name in enumerate(["S3", "S1"]):
                one = read(write(tables[name], name), name, **options)
                picked = read(cohort, name, **options)
                for block in found:
                    np.testing.assert_array_equal(found[block].values[row], one[block].values)
                    np.testing.assert_array_equal(found[block].values[row], picked[block].values)
                    told = found[block].qc.iloc[[row]].reset_index(drop=True)
                    figures = {key: value for key, value in one[block].qc.items() if key != "n_records"}
                    pd.testing.assert_frame_equal(told, pd.DataFrame([{"sample_id": name, **figures}]))
                assert one["copy_ratio"].qc["n_records"] == len(tables[name])
                assert picked["copy_ratio"].qc["n_records"] == sum(map(len, tables.values()))
            assert found["copy_ratio"].notes == (
                "all.seg: 1 samples that are not in the sheet were ignored.",
            )


def test_read_object__figures_of_quality_are_those_of_pandas():
    table = draw(7)
    qc = read(cns(table) + "chrUn_1\t0\t5\t-\t0.1\t1\t1\t1\n")["copy_ratio"].qc
    length = table["end"] - table["start"]
    autosomes = sum(size for name, size in SIZES.items() if name not in ("chrX", "chrY"))
    assert qc["format"] == "CNVkit"
    assert qc["n_segments"] == len(table)
    assert qc["n_segments_elsewhere"] == 1
    assert qc["n_records"] == len(table) + 1
    assert qc["n_without_value"] == 0
    assert qc["covered_share"] == pytest.approx(length.sum() / autosomes)
    altered = length[table["log2"].abs() > 0.2].sum() / length.sum()
    assert qc["fraction_genome_altered"] == pytest.approx(altered)


@pytest.mark.parametrize(
    ("x", "y", "sex"),
    [
        # A man against a normal of the same sex looks like this too.
        (0.0, None, ""),
        (0.0, -6.0, "female"),
        (0.0, 0.0, "male"),
        (None, -6.0, ""),
        (-1.0, -1.0, "male"),
        (-1.0, None, "male"),
        (None, None, ""),
    ],
)
def test_read_object__sex_is_seen_in_x_and_y(x, y, sex):
    rows = [
        ("chr1", 0.0),
        *((name, value) for name, value in (("chrX", x), ("chrY", y)) if value is not None),
    ]
    table = pd.DataFrame(
        [{"chrom": name, "start": 0, "end": SIZES[name], "log2": value} for name, value in rows]
    )
    assert read(cns(table))["copy_ratio"].qc["sex_inferred"] == sex


def test_read_object__arm_of_every_genome_fits_its_bins():
    for build in ("hg19", "hg38", "t2t"):
        size = genome(build).sizes["chr1"]
        table = pd.DataFrame({"chrom": ["chr1"], "start": [0], "end": [size], "log2": [0.3]})
        found = read(cns(table), genome=build)
        for block in found.values():
            of_chr1 = (block.features["chrom"] == "chr1").to_numpy()
            assert set(block.values[of_chr1]) == {np.float32(0.3)}
            assert np.isnan(block.values[~of_chr1]).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("genome", "hg18"),
        ("chromosomes", "x"),
        ("bin_bp", 1),
        ("bin_bp", 1e6),
        ("min_covered", 0),
        ("min_covered", 1.5),
        ("min_covered", True),
        ("alleles", 1),
        ("coordinates", "bed"),
    ],
)
def test_options__what_is_not_legal_is_refused_by_name(key, value):
    with pytest.raises(InputError, match=f"^{key}: found"):
        segments.Options(**{key: value})
