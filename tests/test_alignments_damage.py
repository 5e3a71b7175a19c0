"""Objects of alignments that cannot be trusted: of another genome, unsorted, damaged, cut short, empty."""

import gzip
import io

import numpy as np
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_files import bed_of, fragments, header, read, records_of, write_records
from oncoarena.assays.alignments import BLOCKS, Options, read_object
from oncoarena.errors import BadObject, InputError
from oncoarena.genomes import genome

WIDE = {"coverage_bp": 5_000_000, "ratio_bp": 20_000_000}
SUFFIXES = (".bam", ".cram")


@pytest.fixture(scope="module")
def contents(tmp_path_factory) -> dict[str, bytes]:
    """The same records as BAM and as CRAM."""
    folder = tmp_path_factory.mktemp("damage")
    top = header()
    records = records_of(fragments(300, seed=5), top, seed=5)
    return {suffix: write_records(folder / f"s{suffix}", top, records) for suffix in SUFFIXES}


def assert_refused(content: bytes, *said: str, error=BadObject, **keys) -> None:
    with pytest.raises(error) as refusal:
        read(content, "bucket/s1", **keys)
    message = str(refusal.value)
    assert message.startswith("bucket/s1: ")
    for words in said:
        assert words in message


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("actual", ["hg19", "t2t"])
@pytest.mark.parametrize("with_chr", [True, False])
def test_read_object__other_genome_is_named(tmp_path, suffix, actual, with_chr):
    top = header(actual, with_chr=with_chr)
    content = write_records(
        tmp_path / f"s{suffix}", top, records_of(fragments(20, name=actual), top, odd=False)
    )
    contig = "'chr1'" if with_chr else "'1'"
    assert_refused(
        content,
        f"contig {contig} has {genome(actual).sizes['chr1']} bp in the header, chr1 of hg38 has 248956422",
        f"its chromosomes are those of {actual}; set genome: {actual}",
    )
    assert np.nansum(read(content, genome=actual)["coverage"].values) > 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_read_object__sizes_of_no_genome_or_no_chromosome_are_refused(tmp_path, suffix):
    drawn = [(0, 1000, 1160, 60)]
    for lines, said in (
        ([{"SN": "chr1", "LN": 250_000_000}], "they fit none of the genomes hg19, hg38 and t2t"),
        (
            [{"SN": "NC_000001", "LN": 248_956_422}],
            "no contig of the header is a chromosome of hg38 (found NC_000001)",
        ),
        (
            [{"SN": "chr1", "LN": 248_956_422}, {"SN": "1", "LN": 248_956_422}],
            "names chr1 twice, as 'chr1' and '1'",
        ),
    ):
        top = {"HD": {"VN": "1.6"}, "SQ": lines}
        assert_refused(write_records(tmp_path / f"s{suffix}", top, records_of(drawn, top, odd=False)), said)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("later", [1, 250])
def test_read_object__unsorted_records_are_refused(tmp_path, suffix, later):
    top = header()
    records = records_of(fragments(300, seed=6), top, odd=False)
    records.insert(later, records.pop(later + 200))
    content = write_records(tmp_path / f"s{suffix}", top, records)
    assert_refused(content, "sort")
    if suffix == ".cram":
        # The same where the border of two batches is between them.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("oncoarena.assays.htslib_alignments.BATCH_RECORDS", later + 1)
            assert_refused(content, "sort")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_read_object__object_without_a_fragment_that_counts_says_why(tmp_path, suffix):
    top = header()
    for drawn, said in (
        ([], "none of its 0 records makes a fragment that counts"),
        (
            [(0, 20_000_000, 20_000_160, 10)] * 3,
            "none of its 6 records makes a fragment that counts: 3 of too low a mapping",
        ),
        ([(0, 5_000, 5_160, 60)], "1 in excluded regions"),
        ([(0, 20_000_000, 20_001_100, 60)], "1 too long (max_fragment_bp)"),
    ):
        content = write_records(tmp_path / f"s{suffix}", top, records_of(drawn, top, odd=False))
        assert_refused(content, said)


def test_read_object__table_without_a_fragment_that_counts_is_refused():
    assert_refused(
        bed_of([(0, 20_000_000, 20_000_160, 10)]), "none of its 1 records", "1 of too low a mapping quality"
    )
    assert_refused(gzip.compress(b"#chrom\tstart\tend\n", mtime=0), "none of its 0 records")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04 and so on", "a zip archive"),
        (b"@HD\tVN:1.6\tSO:coordinate\n", "this is SAM text; convert it (samtools sort"),
        (b"\x1f\x8b and no gzip", "the gzip stream is damaged"),
        (
            gzip.compress(b"##fileformat=VCFv4.2\n#CHROM\tPOS\nchr1\t5\n", mtime=0),
            "line 3 has 2 tab-separated fields",
        ),
        (b"CRAM", "the header cannot be read"),
        (gzip.compress(b"BAM\1", mtime=0), ""),
    ],
)
def test_read_object__what_is_no_alignment_is_refused(content, said):
    assert_refused(content, said, error=InputError)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_read_object__every_cut_is_noticed(contents, suffix):
    whole = contents[suffix]
    places = sorted(
        {*np.linspace(0, len(whole) - 1, 40).astype(int).tolist(), *range(len(whole) - 45, len(whole), 4)}
    )
    for n_bytes in places:
        with pytest.raises(InputError):
            read(whole[:n_bytes], **WIDE)


@settings(deadline=None, max_examples=120)
@given(suffix=st.sampled_from(SUFFIXES), data=st.data())
def test_read_object__flipped_bits_are_refused_or_change_nothing(contents, suffix, data):
    whole = contents[suffix]
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = read(bytes(damaged), **WIDE)
    except InputError:
        return
    expected = read(whole, **WIDE)
    for name in BLOCKS:
        np.testing.assert_array_equal(found[name].values, expected[name].values)


class FailingStream(io.BytesIO):
    """A stream of which the connection is lost after some bytes."""

    def read(self, n_bytes=-1):
        if self.tell() >= 3000:
            raise ConnectionResetError("connection lost")
        return super().read(min(n_bytes, 3000 - self.tell()) if n_bytes >= 0 else 3000)

    def readinto(self, buffer):
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_read_object__lost_connection_is_not_taken_for_a_damaged_object(contents, suffix):
    with pytest.raises(ConnectionResetError):
        read_object(FailingStream(contents[suffix]), "s1", Options(**WIDE), sample_id="s1")


def test_read_object__cram_without_its_reference_asks_for_it(tmp_path):
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 5000))
    fasta = tmp_path / "genome.fa"
    fasta.write_text(f">chrUn_1\n{letters}\n>chr22\nACGT\n")
    top = {
        "HD": {"VN": "1.6", "SO": "coordinate"},
        "SQ": [{"SN": "chrUn_1", "LN": 5000}, {"SN": "chr22", "LN": genome("hg38").sizes["chr22"]}],
    }
    records = records_of([(0, 1000, 1160, 60)], top, odd=False)
    path = tmp_path / "s.cram"
    with pysam.AlignmentFile(str(path), "wc", header=top, reference_filename=str(fasta)) as file:
        for record in records:
            record.query_sequence = letters[record.reference_start : record.reference_start + 100]
            file.write(record)
    fasta.unlink()
    (tmp_path / "genome.fa.fai").unlink()
    assert_refused(
        path.read_bytes(), "record 1 cannot be read", "may need the FASTA it was written with (reference)"
    )
    assert_refused(
        path.read_bytes(), "needs a local reference", error=InputError, reference="s3://bucket/genome.fa"
    )
