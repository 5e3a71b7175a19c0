"""Methylation calls: sums over bins and regions, equal to a count row by row, whatever the format."""

import gzip
import io
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methylation_files import SIZES, bedmethyl, bismark, brute_force, encode, gzipped, read, sites
from oncoarena.assays import methylation, methylation_calls
from oncoarena.errors import BadObject, InputError
from oncoarena.kernels import methylation_rows


def test_read_object__bins_are_what_a_count_row_by_row_gives():
    table = sites()
    found = read(bedmethyl(table), min_calls=5)
    features = found["methylation_bins"].features
    assert list(features.columns) == ["id", "chrom", "start", "end", "gene"]
    assert len(features) == 2_887  # bins of 1 Mb of the 22 autosomes of hg38
    beta, calls = brute_force(table, features, min_calls=5)
    np.testing.assert_array_equal(found["methylation_bins"].values, beta.astype(np.float32))
    np.testing.assert_array_equal(found["methylation_calls"].values, calls)
    assert found["methylation_bins"].values.dtype == np.float32
    assert features["id"].is_unique
    assert features.loc[0, "id"] == "chr1:0-1000000"
    assert features["end"].to_numpy()[features["chrom"] == "chr21"].max() == SIZES["chr21"]


def test_read_object__all_chromosomes_include_x_and_y():
    table = sites(60, chroms=("chr2", "chrX", "chrY"))
    found = read(bedmethyl(table), chromosomes="all", bin_bp=500_000)
    features = found["methylation_bins"].features
    assert features["chrom"].unique().tolist()[-2:] == ["chrX", "chrY"]
    busy = features[features["end"] <= 5_000_000]
    beta, calls = brute_force(table, busy)
    np.testing.assert_array_equal(found["methylation_bins"].values[busy.index], beta.astype(np.float32))
    np.testing.assert_array_equal(found["methylation_calls"].values[busy.index], calls)


def test_read_object__same_calls_in_every_format_give_the_same_blocks():
    table = sites()
    plain = bedmethyl(table)
    versions = {
        "spaces from the tenth column on": bedmethyl(table, late=" "),
        "line ends of Windows": bedmethyl(table, end="\r\n"),
        "names without chr": plain.replace("chr", ""),
        "a header": "#chrom\tchromStart\n" + plain,
        "a header without a mark": "chrom\tchromStart\tchromEnd\n" + plain,
        "a track line": 'track type="bedMethyl"\n' + plain,
        "a motif": bedmethyl(table, code="m,CG,0"),
        "gzip": gzipped(plain),
        "several gzip members": gzipped(plain, 7),
        "padded gzip": gzipped(plain) + bytes(100),
        "Bismark": bismark(table),
        "Bismark in gzip": gzipped(bismark(table)),
        "a byte order mark": "\ufeff" + bismark(table),
    }
    expected = read(plain)
    for name, content in versions.items():
        found = read(content)
        for block in expected:
            np.testing.assert_array_equal(found[block].values, expected[block].values, err_msg=name)
            assert found[block].features.equals(expected[block].features)
    zero = read(bismark(table, shift=0, span=1), coordinates="zero_based")
    merged = read(bismark(table, span=1), coordinates="one_based")
    for found in (zero, merged):
        np.testing.assert_array_equal(found["methylation_bins"].values, expected["methylation_bins"].values)


@pytest.mark.parametrize("digits", [0, 2])
def test_read_object__calls_of_encode_are_the_percentage_of_the_coverage(digits):
    table = sites(200)
    calls = table["meth"] + table["canonical"] + table["other"]
    rounded = table.copy()
    for row in table.index:
        share = float(f"{100 * table['meth'][row] / max(calls[row], 1):.{digits}f}") / 100
        rounded.loc[row, "meth"] = int(calls[row] * share + 0.5)
    rounded["canonical"], rounded["other"] = calls - rounded["meth"], 0
    found, expected = read(encode(table, digits)), read(bedmethyl(rounded))
    for block in expected:
        np.testing.assert_array_equal(found[block].values, expected[block].values)
    told = found["methylation_bins"].qc
    assert told == {**expected["methylation_bins"].qc, "format": "bedMethyl of ENCODE"}
    # Of fewer than 100 calls a percentage of whole numbers tells the count itself.
    np.testing.assert_array_equal(rounded["meth"], table["meth"])


def test_read_object__encode_without_a_call_may_have_no_percentage():
    row = "chr1\t5\t6\t.\t0\t+\t5\t6\t0,0,0\t{}\t{}\n"
    assert np.isnan(read(row.format(0, "nan"))["methylation_bins"].values).all()
    assert read(row.format(7, "14"))["methylation_bins"].values[0] == np.float32(1 / 7)


def test_read_object__only_rows_of_the_modification_count():
    table = sites(40)
    other = table.assign(meth=table["other"], other=table["meth"])
    rows = zip(bedmethyl(other, code="h").splitlines(), bedmethyl(table).splitlines(), strict=True)
    both = "".join(f"{h}\n{m}\n" for h, m in rows)
    for code, alone in (("m", bedmethyl(table)), ("h", bedmethyl(other, code="h"))):
        found, expected = read(both, mod_code=code), read(alone, mod_code=code)
        np.testing.assert_array_equal(found["methylation_bins"].values, expected["methylation_bins"].values)
    assert not np.array_equal(
        read(both)["methylation_bins"].values, read(both, mod_code="h")["methylation_bins"].values
    )
    assert read(both)["methylation_bins"].qc["n_records"] == 2 * len(table)
    with pytest.raises(InputError, match=r"none of modification 'a', the first is of 'h'; set mod_code"):
        read(both, mod_code="a")


def test_read_object__regions_may_overlap_and_come_in_any_order(tmp_path):
    table = sites(200)
    rng = np.random.default_rng(3)
    start = rng.integers(0, 4_000_000, 50)
    regions = pd.DataFrame({"chrom": "chr1", "start": start, "end": start + rng.integers(1, 900_000, 50)})
    regions.loc[50] = ["chr21", 0, SIZES["chr21"]]
    bed = tmp_path / "islands.bed"
    lines = [f"{r.chrom}\t{r.start}\t{r.end}\tCpG: {r.Index}\n" for r in regions.itertuples()]
    bed.write_text("track name=islands\n" + "".join(lines) + "chrX\t1\t2\nchrUn_1\t1\t2\n")
    found = read(bedmethyl(table), regions=str(bed))
    assert found["methylation_bins"].features[["chrom", "start", "end"]].to_numpy().tolist() == (
        regions.to_numpy().tolist()
    )
    # A person wrote the regions: the last line needs no end.
    bed.write_text(bed.read_text().rstrip("\n"))
    unended = read(bedmethyl(table), regions=str(bed))
    np.testing.assert_array_equal(unended["methylation_bins"].values, found["methylation_bins"].values)
    beta, calls = brute_force(table, regions)
    np.testing.assert_array_equal(found["methylation_bins"].values, beta.astype(np.float32))
    np.testing.assert_array_equal(found["methylation_calls"].values, calls)


@pytest.mark.parametrize(
    ("bed", "message"),
    [
        ("chr1\t5\t5\n", "line 1: .*start < end"),
        ("chr1\t5\t999999999\n", "Are these regions of this genome"),
        ("chr1\t5\tx\n", "line 1: .*expected chrom, start, end"),
        ("chr1\t5\t7\nchr1\t5\t7\n", "lines 1 and 2 are the same region"),
        ("chrX\t5\t7\n", "no region on the chromosomes"),
        ("", "the file is empty"),
    ],
)
def test_read_object__wrong_regions_are_named(tmp_path, bed, message):
    path = tmp_path / "islands.bed"
    path.write_text(bed)
    with pytest.raises(InputError, match=message):
        read(bedmethyl(sites(5)), regions=str(path))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from([37, 200, 4096]), st.sampled_from([3, 50, 65_536]))
def test_read_object__chunks_and_batches_do_not_matter(seed, chunk_bytes, max_rows):
    table = sites(30, seed)
    expected = read(bedmethyl(table))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methylation_calls, "CHUNK_BYTES", chunk_bytes)
        patch.setattr(methylation_rows, "MAX_ROWS", max_rows)
        patch.setattr(methylation_rows, "MAX_RUNS", 2)
        for content in (bedmethyl(table), gzipped(bedmethyl(table), 5), bismark(table)):
            found = read(content)
            for block in expected:
                np.testing.assert_array_equal(found[block].values, expected[block].values)


def test_read_object__figures_of_quality_are_those_of_pandas():
    table = sites(100, chroms=("chr1", "chr2", "chrX"))
    found = read(bedmethyl(table) + "chrM\t5\t6\tm\t1\t+\t5\t6\t0\t1\t0.00\t0\t1\t0\t0\t0\t0\t0\n")
    qc = found["methylation_bins"].qc
    calls = table[["meth", "canonical", "other"]].to_numpy().sum(axis=1)
    assert qc["format"] == "bedMethyl"
    assert qc["n_sites"] == len(table)
    assert qc["n_records"] == len(table) + 1
    assert qc["n_calls"] == calls.sum()
    assert qc["mean_calls"] == pytest.approx(calls.mean())
    assert qc["global_beta"] == pytest.approx(table["meth"].sum() / calls.sum())
    assert qc["n_sites_elsewhere"] == 1
    assert qc["missing_rate"] == pytest.approx(np.isnan(found["methylation_bins"].values).mean())
    assert qc == found["methylation_calls"].qc


@pytest.mark.parametrize(("x_depth", "y_depth", "sex"), [(20, 0, "female"), (10, 10, "male"), (20, 10, "")])
def test_read_object__sex_is_seen_in_the_depth_of_x_and_y(x_depth, y_depth, sex):
    depth = dict.fromkeys([f"chr{number}" for number in range(1, 23)], 20) | {
        "chrX": x_depth,
        "chrY": y_depth,
    }
    build = methylation_calls.genome("hg38")
    rows = [
        {"chrom": chrom, "start": start, "strand": "+", "meth": 0, "canonical": calls, "other": 0}
        for chrom, calls in depth.items()
        if calls
        for start in range(0, build.sizes[chrom], 1_000_000)
    ]
    assert read(bedmethyl(pd.DataFrame(rows)))["methylation_bins"].qc["sex_inferred"] == sex


def test_offered__names_what_is_read():
    assert tuple(read(bedmethyl(sites(3)))) == methylation.offered(methylation.Options())
    assert methylation.offered(methylation.Options(technology="array")) == ("methylation_probes",)
    assert set(methylation.BLOCKS) == {"methylation_bins", "methylation_calls", "methylation_probes"}
    assert all(name == spec.name for name, spec in methylation.BLOCKS.items())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("technology", "wgbs"),
        ("genome", "hg37"),
        ("chromosomes", "autosome"),
        ("bin_bp", 9_999),
        ("bin_bp", 1e6),
        ("bin_bp", True),
        ("min_calls", 0),
        ("mod_code", ""),
        ("mod_code", "5 mC"),
        ("coordinates", "one"),
        ("scale", "m_value"),
        ("regions", 5),
    ],
)
def test_options__what_is_not_legal_is_refused_by_name(key, value):
    with pytest.raises(InputError, match=f"^{key}: found"):
        methylation.Options(**{key: value})


class Forward(io.RawIOBase):
    """Bytes made as they are read, which cannot be sought: no more than a block is ever held here."""

    def __init__(self, blocks):
        self.blocks, self.rest, self.n_read = blocks, b"", 0

    def readable(self):
        return True

    def readinto(self, buffer):
        while len(self.rest) < len(buffer):
            block = next(self.blocks, None)
            if block is None:
                break
            self.rest += block
        n_given = min(len(buffer), len(self.rest))
        buffer[:n_given], self.rest = self.rest[:n_given], self.rest[n_given:]
        self.n_read += n_given
        return n_given


def test_read_object__a_long_file_is_read_once_in_bounded_memory():
    read(bedmethyl(sites(3)))  # what is compiled or imported at first is not the file's
    n_rows = 300_000
    row = "chr1\t{0}\t{1}\tm\t4\t+\t{0}\t{1}\t255,0,0\t4\t25.00\t1\t3\t0\t0\t0\t0\t0\n"
    blocks = ("".join(row.format(n, n + 1) for n in range(at, at + 500)) for at in range(0, n_rows, 500))
    stream = Forward(block.encode() for block in blocks)
    tracemalloc.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methylation_calls, "CHUNK_BYTES", 1 << 18)
        found = methylation.read_object(stream, "long.bed", methylation.Options(), sample_id="s1")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["methylation_calls"].values[0] == 4 * n_rows
    assert found["methylation_bins"].values[0] == 0.25
    assert stream.n_read > 18_000_000
    assert peak < 6_000_000


def test_line_chunks__a_gzip_bomb_is_refused_without_being_held():
    bomb = gzip.compress(bytes(200_000_000), 9, mtime=0)
    with pytest.raises(BadObject, match="longer than"):
        read(bomb)
