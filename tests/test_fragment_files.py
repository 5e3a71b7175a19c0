"""Tables of fragments: what is counted, and what is refused with its line."""

import gzip
import io

import numpy as np
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_files import bed_of, fragments, read
from oncoarena.assays.alignment_reading import filters_of, lay_out
from oncoarena.assays.alignments import Options
from oncoarena.assays.fragment_files import tally_table
from oncoarena.errors import BadObject, InputError
from oncoarena.genomes import CHROMOSOMES, canonical_chromosome, genome
from oncoarena.kernels.fragment_tally import SUMMED

GOOD = "chr1\t20000000\t20000160\t60\t+\n"
OPTIONS = Options(coverage_bp=50_000_000, ratio_bp=100_000_000)
LAYOUT = lay_out(OPTIONS)
FILTERS = filters_of(OPTIONS)
SIZES = genome("hg38").sizes
EXCLUDED = {
    name: list(
        zip(
            LAYOUT.excluded_start[LAYOUT.excluded_offsets[c] : LAYOUT.excluded_offsets[c + 1]].tolist(),
            LAYOUT.excluded_end[LAYOUT.excluded_offsets[c] : LAYOUT.excluded_offsets[c + 1]].tolist(),
            strict=True,
        )
    )
    for c, name in enumerate(CHROMOSOMES)
}


def tally(content: bytes, chunk_bytes: int = 4 << 20):
    return tally_table(io.BytesIO(content), "s1.bed", "hg38", LAYOUT, FILTERS, chunk_bytes)


def read_plainly(text: str) -> dict[str, int] | int:
    """Read rows one by one; returns counts by name, or the number of the line that is wrong."""
    counts: dict[str, int] = {"n_records": 0, "n_fragments": 0}
    order: list[str] = []
    last = (0, 0)
    n_fields = 0
    lines = text.split("\n")[:-1]
    for number, line in enumerate(lines, 1):
        if not n_fields and line.startswith(("#", "track", "browser")):
            continue
        names = line.split("\t")
        is_header = names[0].lower() in ("chrom", "chr", "chromosome") and len(names) > 1
        if number == 1 and is_header and not names[1].removesuffix("\r").isdigit():
            continue
        if n_fields and not "".join(lines[number - 1 :]).strip("\r"):
            break
        fields = line.removesuffix("\r").split("\t")
        n_fields = n_fields or len(fields)
        if len(fields) != n_fields or n_fields not in (3, 4, 5, 6) or not fields[0]:
            return number
        mapq = {
            3: "255",
            4: fields[-1],
            5: fields[3] if n_fields == 5 else "",
            6: fields[4] if n_fields == 6 else "",
        }[n_fields]
        numbers = [fields[1], fields[2], mapq]
        if not all(word.isascii() and word.isdigit() and len(word) <= 12 for word in numbers):
            return number
        start, end, mapq = map(int, numbers)
        if mapq > 255 or (n_fields >= 5 and fields[-1] not in ("+", "-", ".")) or end <= start:
            return number
        name = canonical_chromosome(fields[0]) or fields[0]
        if name not in order:
            order.append(name)
        if (order.index(name), start) < last:
            return number
        last = (order.index(name), start)
        if end > SIZES.get(name, 10**12):
            return number
        counts["n_records"] += 1
        is_excluded = any(start < b and a < end for a, b in EXCLUDED.get(name, ()))
        if mapq >= 30 and name in SIZES and end - start <= 1000 and not is_excluded:
            counts["n_fragments"] += 1
            counts[name] = counts.get(name, 0) + 1
            counts[f"{end - start}bp"] = counts.get(f"{end - start}bp", 0) + 1
    return counts


def assert_agrees_with_plain_reading(text: str, chunk_bytes: int) -> None:
    expected = read_plainly(text)
    raw = text.encode(errors="surrogateescape")
    if isinstance(expected, int):
        with pytest.raises(InputError) as refusal:
            tally(raw, chunk_bytes)
        assert "\n" not in str(refusal.value)
        # A file of several faults may be refused for another one of the same chunk.
        assert "line " in str(refusal.value)
        return
    found = tally(raw, chunk_bytes)
    by_chromosome = {
        name: int(found.coverage[LAYOUT.coverage_offsets[c] : LAYOUT.coverage_offsets[c + 1]].sum())
        for c, name in enumerate(CHROMOSOMES)
    }
    assert (found.counts["n_records"], found.counts["n_fragments"]) == (
        expected.pop("n_records"),
        expected.pop("n_fragments"),
    )
    assert {name: n for name, n in by_chromosome.items() if n} == {
        name: n for name, n in expected.items() if name in SIZES
    }
    lengths = {f"{n_bp}bp": int(n) for n_bp, n in enumerate(found.lengths) if n}
    assert lengths == {name: n for name, n in expected.items() if name.endswith("bp")}


ODD_WORDS = (
    "",
    " ",
    "-1",
    "+5",
    "1.5",
    "1e3",
    "0x10",
    "12345678901234",
    "256",
    "nan",
    "NA",
    "x",
    "\x00",
    "٣",
    "\udc80",
    "1 ",
    "chr1",
    "+",
    "#",
    '"1"',
    "1\r",
)


@st.composite
def tables(draw) -> str:
    """Rows of fragments of which any word, order or line end may be odd."""
    n_fields = draw(st.sampled_from([3, 4, 5, 5, 6]))
    is_odd = st.sampled_from([False] * draw(st.sampled_from([3, 20, 80])) + [True])
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["chr1", "chr2", "chrX", "chrUn_1"]),
                st.integers(0, 2 * 10**8),
                st.integers(1, 1100),
                st.integers(0, 60),
            ),
            max_size=12,
        )
    )
    if not draw(is_odd):
        rows.sort()
    lines = ["# a note"] if draw(st.booleans()) else []
    if draw(st.booleans()):
        header = "\t".join(["chrom", "start", "end", "mapq", "strand", "name"][:n_fields])
        lines.insert(draw(st.integers(0, len(lines))), header)
    for name, start, n_bp, mapq in rows:
        start = min(start, SIZES.get(name, 10**9) - n_bp)
        words = [
            name,
            str(start),
            str(start + n_bp),
            *{3: [], 4: [str(mapq)], 5: [str(mapq), "+"], 6: ["name", str(mapq), "-"]}[n_fields],
        ]
        words = [draw(st.sampled_from(ODD_WORDS)) if draw(is_odd) else word for word in words]
        words = words[: draw(st.integers(0, 6))] if draw(is_odd) else words
        lines.append("\t".join(words) + ("\r" if draw(is_odd) else ""))
    lines += draw(st.lists(st.sampled_from(["", "\r"]), max_size=3))
    return "".join(line + "\n" for line in lines)


@settings(deadline=None, max_examples=300)
@given(tables(), st.sampled_from([4 << 20, 64]))
def test_tally_table__agrees_with_reading_row_by_row(text, chunk_bytes):
    if text:
        assert_agrees_with_plain_reading(text, chunk_bytes)
    else:
        with pytest.raises(BadObject, match="the file is empty"):
            tally(b"", chunk_bytes)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_tally_table__damaged_bytes_are_refused_or_counted_as_they_read(data):
    raw = bytearray(gzip.decompress(bed_of(fragments(30, seed=9))))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    if raw.endswith(b"\n"):
        assert_agrees_with_plain_reading(raw.decode(errors="surrogateescape"), 4 << 20)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_read_object__truncated_gzip_is_always_refused(data):
    whole = bed_of(fragments(30, seed=9))
    with pytest.raises(InputError):
        read(whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_read_object__damaged_gzip_is_refused_or_says_the_same(data):
    whole = bed_of(fragments(30, seed=9))
    damaged = bytearray(whole)
    damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = read(bytes(damaged))
    except InputError:
        return
    # Time, flags, system and the spare bits behind the compressed data change nothing that is read.
    for name, block in read(whole).items():
        np.testing.assert_array_equal(found[name].values, block.values)


def test_read_object__bgzf_that_ends_behind_a_whole_block_is_refused(tmp_path):
    path = tmp_path / "s1.bed.gz"
    with pysam.BGZFile(str(path), "wb") as file:
        file.write(GOOD.encode())
    whole = path.read_bytes()
    assert read(whole)["coverage"].qc["n_fragments"] == 1
    with pytest.raises(BadObject, match="cut short"):
        read(whole[:-28])


def test_tally_table__chunks_do_not_change_the_counts():
    content = gzip.decompress(bed_of(fragments(800, seed=10)))
    whole = tally(content)
    for chunk_bytes in (100, 1000, 7777):
        parts = tally(content, chunk_bytes)
        for name in SUMMED:
            np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


@pytest.mark.parametrize(
    "row",
    ["chr1\t20000000\t20000160\n", "1\t20000000\t20000160\t60\n", "chr1\t20000000\t20000160\tname\t60\t+\n"],
)
def test_tally_table__other_numbers_of_columns_are_read(row):
    assert tally(row.encode()).counts["n_fragments"] == 1
    low = row.replace("60\n", "10\n").replace("\t60\t+", "\t10\t+")
    assert tally(low.encode()).counts["n_low_mapq"] == ("\t10" in low)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "chr1\t20000000\tx\t60\t+\n", r"line 2 \('chr1.*the end is no whole number of bp"),
        (GOOD + "chr1\t-5\t20\t60\t+\n", "line 2 .*the start is no whole number"),
        (
            "#head\n" + GOOD + "chr1\t20000001\t20000100\t300\t+\n",
            "line 3 .*the mapping quality is no whole number from 0 to 255",
        ),
        (GOOD + "chr1\t20000001\t20000100\t30\t*\n", "line 2 .*the strand"),
        (GOOD + "chr1\t20000001\t20000100\t30\n", "line 2 .*4 fields where the first row has 5"),
        (GOOD + "\n" + GOOD, "line 2 .*1 fields where the first row has 5"),
        (GOOD + "chrom\tstart\tend\tmapq\tstrand\n", "line 2 .*the start is no whole number of bp"),
        ("\n" + GOOD, "line 1 has 1 tab-separated fields"),
        (GOOD + "chr1\t20000001\t20000001\t30\t+\n", "line 2 .*the end is not beyond the start"),
        (GOOD + "chr1\t19999999\t20000100\t30\t+\n", "line 2 .*starts before the row ahead of it"),
        (GOOD + "chr2\t5\t50\t30\t+\n" + GOOD, "line 3: chromosome 'chr1' appears again after 'chr2'"),
        (
            GOOD + GOOD.replace("chr1", "chr2") + GOOD.replace("chr1", "1"),
            "line 3: chromosome 'chr1' appears again",
        ),
        (
            "chr1\t248956400\t248956500\t60\t+\n",
            "chr1 of hg38 has 248956422 bp; it would fit hg19; correct genome",
        ),
        ("chr1\t999999000\t999999100\t60\t+\n", "no genome of hg19, hg38, t2t is so long"),
        ("chr1,5,50\n", "line 1 has 1 tab-separated fields"),
        ("chr1\t5\t50\t30\t+\t1\t2\n", "line 1 has 7 tab-separated fields"),
        (GOOD[:-1], "line 1 is the last and has no line end: the file was cut short"),
    ],
)
def test_tally_table__fault_is_told_with_its_line(text, said):
    with pytest.raises(InputError, match=said):
        tally(text.encode())


@pytest.mark.parametrize("chunk_bytes", [1, 30, 4 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\r\n\n"])
def test_tally_table__empty_lines_behind_the_last_row_are_no_rows(end, chunk_bytes):
    found = tally((GOOD * 2 + end).encode(), chunk_bytes)
    assert (found.counts["n_records"], found.counts["n_fragments"]) == (2, 2)
    with pytest.raises(BadObject, match=r"line 3 .*1 fields where the first row has 5"):
        tally((GOOD * 2 + end + GOOD).encode(), chunk_bytes)


@pytest.mark.parametrize("chunk_bytes", [1, 30, 4 << 20])
@pytest.mark.parametrize("header", ["chrom\tstart\tend\tmapq\tstrand\n", "Chr\tStart\tEnd\tMapq\tStrand\r\n"])
def test_tally_table__a_first_line_of_names_is_no_row(header, chunk_bytes):
    assert tally((header + GOOD * 2).encode(), chunk_bytes).counts["n_records"] == 2
    with pytest.raises(InputError, match="line 2"):
        tally((header * 2 + GOOD).encode(), chunk_bytes)


def test_tally_table__offset_of_a_plain_file_is_that_of_the_line():
    with pytest.raises(BadObject) as refusal:
        tally((GOOD * 3 + "chr1\tx\t5\t60\t+\n" + GOOD).encode())
    assert refusal.value.offset == 3 * len(GOOD)


def test_tally_table__alternating_chromosomes_are_refused_not_stored():
    text = "".join(f"c{number}\t1\t2\n" for number in range(5000))
    with pytest.raises(BadObject, match=r"line 4097 .*the rows are not sorted"):
        tally(text.encode())
