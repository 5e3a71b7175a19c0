"""Damaged, cut and absurd files of variants: refused with the place, never a crash or a wrong count."""

import gzip
import io
import warnings

import numpy as np
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoarena.assays import variants
from oncoarena.errors import BadObject, InputError
from variant_files import maf_text, vcf_text

OPTIONS = variants.Options()
ROWS = [(f"chr{1 + k % 22}", 1000 + 37 * k, "ACGT"[k % 4], "CGTA"[k % 4]) for k in range(300)]
ROWS += [("chrX", 5000 + k, "AC", "A") for k in range(0, 60, 3)]
VCF = vcf_text(ROWS, ["n", "s"]).encode()
MAF = maf_text([("s", *row) for row in ROWS]).encode()


def read(data, options=OPTIONS):
    return variants.read_object(io.BytesIO(data), "object", options, sample_id="s")


def fingerprint(data):
    found = read(data)
    return np.concatenate([block.values for block in found.values()]).tobytes()


def packed(kind, folder, text=VCF):
    """A VCF by bgzip, by gzip, or as BCF."""
    if kind == "gzip":
        return gzip.compress(text, mtime=0)
    (folder / "a.vcf").write_bytes(text)
    if kind == "bgzip":
        pysam.tabix_compress(str(folder / "a.vcf"), str(folder / "a.gz"), force=True)
        return (folder / "a.gz").read_bytes()
    with (
        pysam.VariantFile(str(folder / "a.vcf")) as source,
        pysam.VariantFile(str(folder / "a.bcf"), "wb", header=source.header) as to,
    ):
        for record in source:
            to.write(record)
    return (folder / "a.bcf").read_bytes()


@pytest.fixture(scope="module", params=["gzip", "bgzip", "bcf"])
def compressed(request, tmp_path_factory):
    data = packed(request.param, tmp_path_factory.mktemp("packed"))
    return data, fingerprint(data)


def test_compressed__cut_anywhere_is_refused(compressed):
    data, _ = compressed
    rng = np.random.default_rng(0)
    for end in {1, 2, 17, len(data) - 1, len(data) - 28, *rng.integers(3, len(data) - 1, 40).tolist()}:
        with pytest.raises(InputError):
            read(data[:end])


def test_compressed__flipped_bit_is_refused_or_changes_nothing(compressed):
    data, expected = compressed
    rng = np.random.default_rng(1)
    for at in rng.integers(0, len(data), 80).tolist():
        broken = bytearray(data)
        broken[at] ^= 1 << int(rng.integers(8))
        try:
            found = fingerprint(bytes(broken))
        except InputError:
            continue
        assert found == expected, at


@pytest.mark.parametrize("text", [VCF, MAF], ids=["vcf", "maf"])
def test_text__cut_within_a_row_is_refused(text):
    rng = np.random.default_rng(2)
    for end in rng.integers(0, len(text), 60).tolist():
        if text[end - 1 : end] == b"\n":
            continue
        with pytest.raises(InputError):
            read(text[:end])


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_text__any_change_is_read_or_refused_without_another_error(data):
    text = bytearray(data.draw(st.sampled_from([VCF, MAF])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        how = data.draw(st.sampled_from(["set", "insert", "delete", "cut"]))
        if how == "set":
            text[at] = data.draw(st.integers(0, 255))
        elif how == "insert":
            text[at:at] = data.draw(st.binary(max_size=40))
        elif how == "delete":
            del text[at : at + data.draw(st.integers(1, 200))]
        else:
            del text[at:]
        text = text or bytearray(b"x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = read(bytes(text))
        except InputError:
            pass
        else:
            assert all(np.isfinite(block.values).all() for block in found.values())


@settings(deadline=None, max_examples=80)
@given(st.binary(max_size=300))
def test_anything__is_refused_as_no_file_of_variants(content):
    with pytest.raises(InputError):
        read(content)
    with pytest.raises(InputError):
        read(b"##fileformat=VCFv4.2\n" + content)


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ("1\tx\t.\tA\tC\t.\tPASS\t.", "position is no whole number"),
        ("1\t-5\t.\tA\tC\t.\tPASS\t.", "position is no whole number"),
        ("1\t0\t.\tA\tC\t.\tPASS\t.", "not within its chromosome"),
        ("1\t99999999999999999999\t.\tA\tC\t.\tPASS\t.", "position is no whole number"),
        ("21\t46709984\t.\tA\tC\t.\tPASS\t.", "not within its chromosome"),
        ("21\t46709983\t.\tACGT\tA\t.\tPASS\t.", "not within its chromosome"),
        ("1\t5\t.\t\tC\t.\tPASS\t.", "REF holds"),
        ("1\t5\t.\tA\t\t.\tPASS\t.", "ALT holds"),
        ("1\t5\t.\tA\tC,\t.\tPASS\t.", "ALT holds"),
        ("1\t5\t.\tA\tC;G\t.\tPASS\t.", "ALT holds"),
        ("1\t5\t.\tA\tC\t.\t\t.", "FILTER is empty"),
        ("1\t5\t.\tA\tC\t.\tPASS", "7 fields, the header names 8"),
        ("#CHROM\tPOS", "second header"),
    ],
)
def test_row__that_is_malformed_is_named_by_its_line_and_byte(row, part):
    text = vcf_text([("1", 3, "A", "C")]) + row + "\n"
    with pytest.raises(BadObject, match=part) as raised:
        read(text.encode())
    n_lines = text.count("\n")
    assert f"line {n_lines}:" in str(raised.value)
    assert raised.value.offset == len(text) - len(row) - 1


@pytest.mark.parametrize("genotype", ["", "x", "0/", "//1", "/", "0/2", "0//1", "1e3", "0/1/"])
def test_genotype__that_is_malformed_is_refused(genotype):
    with pytest.raises(BadObject, match="genotype"):
        read(vcf_text([("1", 3, "A", "C")], ["s"], genotypes=[[f"{genotype}:3,4"]]).encode())


def test_position_0__is_legal_for_what_lies_at_a_telomere():
    assert read(vcf_text([("1", 0, "N", "<DEL>")]).encode())["burden"].qc["n_unusable"] == 1


def test_header__that_is_absurd_is_refused():
    for text, part in [
        ("##fileformat=VCFv4.2\n1\t3\t.\tA\tC\t.\tPASS\t.\n", "without the line #CHROM"),
        ("##fileformat=VCFv4.2\n", "no line that names the columns"),
        ("##fileformat=VCFv4.2\n#CHROM\tPOS\n", "the columns are"),
        (vcf_text([], ["s", "s"]), "must be unique"),
        ("a\tb\tc\n", "expected the header of a VCF"),
        ("Chromosome\tReference_Allele\n", "no column Start_Position"),
    ]:
        with pytest.raises(InputError, match=part):
            read(text.encode())


@pytest.mark.parametrize("text", [VCF, MAF], ids=["vcf", "maf"])
def test_text__line_ends_of_windows_and_blank_lines_change_nothing(text):
    expected = fingerprint(text)
    assert fingerprint(text.replace(b"\n", b"\r\n")) == expected
    assert fingerprint(text + b"\n\r\n" * 50_000) == expected


def test_many_alleles__more_than_the_room_at_hand_are_all_counted():
    alts = ",".join(["C"] * 1 + ["A" + "C" * k for k in range(1, 200)])
    rows = [("chr1", 10 + k, "A", alts) for k in range(300)]
    figures = read(vcf_text(rows).encode())["burden"].qc
    assert figures["n_variants"] == 300 * 200


def test_bcf__without_compression_is_refused():
    with pytest.raises(InputError, match="BCF without compression"):
        read(b"BCF\2\2" + bytes(100))


class Failing(io.BytesIO):
    """A stream that loses its connection after some bytes."""

    def read(self, n_bytes=-1):
        if self.tell() >= 1 << 16:
            raise ConnectionError("lost")
        return super().read(min(n_bytes, 1 << 16) if n_bytes >= 0 else 1 << 16)


@pytest.mark.parametrize("kind", ["gzip", "bgzip", "bcf"])
def test_stream__that_fails_is_no_damage_of_the_object(kind, tmp_path):
    rng = np.random.default_rng(3)
    rows = [("chr1", int(pos), "A", "C") for pos in np.sort(rng.integers(1, 2 * 10**8, 40_000))]
    data = packed(kind, tmp_path, vcf_text(rows).encode())
    assert len(data) > 1 << 17
    with pytest.raises(ConnectionError, match="lost"):
        variants.read_object(Failing(data), "object", OPTIONS, sample_id="s")
