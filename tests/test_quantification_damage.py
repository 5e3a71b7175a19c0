"""Damaged tables of one sample: a sound sample or a refusal, whatever was read before it."""

import gzip
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoarena.assays import SampleFeatures, sample_genes, text_chunks
from oncoarena.errors import InputError
from oncoarena.kernels.known_rows import find_rows, join_rows, read_known_rows
from quantification_files import (
    feature_counts,
    gdc,
    htseq,
    kallisto,
    read,
    read_again,
    rsem_genes,
    rsem_isoforms,
    salmon,
    star,
)

FILES = [
    write().encode()
    for write in (gdc, star, htseq, salmon, kallisto, rsem_genes, rsem_isoforms, feature_counts)
]


def outcome(reader, raw: bytes, **keys) -> SampleFeatures | str:
    """What is read, or why it is refused."""
    try:
        return reader(raw, **keys)
    except InputError as refusal:
        return str(refusal)


def assert_sound(found: SampleFeatures | str) -> None:
    if isinstance(found, str):
        assert found.startswith("s1: ")
        return
    assert len(found.values) == len(found.features) == found.qc["n_features"] > 0
    assert found.features["id"].is_unique
    assert not np.isinf(found.values).any()
    assert (found.values[~np.isnan(found.values)] >= 0).all() or found.qc["layout"] == "table"


def assert_equal(found: SampleFeatures | str, expected: SampleFeatures | str) -> None:
    if isinstance(expected, str):
        assert found == expected
        return
    np.testing.assert_array_equal(found.values, expected.values)
    pd.testing.assert_frame_equal(found.features, expected.features)
    assert found.qc == expected.qc


@st.composite
def damaged(draw, files: list[bytes]) -> bytes:
    raw = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, len(raw) - 1))
        raw[position] = draw(st.sampled_from(b'\t\n\r"-+.,;# 0159eENa\0\xff'))
    if draw(st.booleans()):
        first = draw(st.integers(0, len(raw)))
        raw[first:first] = raw[: draw(st.integers(0, 60))]
    return bytes(raw[: draw(st.integers(0, len(raw)) | st.just(len(raw)))])


@settings(deadline=None, max_examples=300)
@given(damaged(FILES), st.sampled_from(["allow", "refuse"]), st.sampled_from(["auto", "cpm", "counts"]))
def test_read_object__damaged_tables_are_sound_or_refused_the_same_after_any_other(raw, missing, quantity):
    keys = {"missing_values": missing, "quantity": quantity}
    alone = outcome(read, raw, **keys)
    assert_sound(alone)
    for before in FILES:
        if before[:8] == raw[:8]:
            read(before, **keys)
            read_again(before, **keys)
            assert_equal(outcome(read_again, raw, **keys), alone)
            assert_equal(outcome(read_again, raw, **keys), alone)


@settings(deadline=None, max_examples=60)
@given(damaged([gzip.compress(raw, mtime=0) for raw in FILES]))
def test_read_object__damaged_gzip_is_read_right_or_refused(raw):
    found = outcome(read, raw)
    assert_sound(found)
    if not isinstance(found, str):
        assert any(np.array_equal(found.values, read(content).values) for content in FILES)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(FILES) - 1), st.floats(0, 0.9999))
def test_read_object__a_table_cut_within_a_row_is_refused(which, share):
    content = FILES[which]
    cut = content[: int(share * len(content))]
    if not cut.endswith(b"\n"):
        found = outcome(read, cut)
        assert isinstance(found, str)
        assert found.startswith("s1: ")


@settings(deadline=None, max_examples=60)
@given(st.lists(damaged([FILES[0]]), min_size=1, max_size=4), st.sampled_from([64, 200, 8 << 20]))
def test_read_object__a_cohort_of_any_files_is_read_as_each_alone(cohort, chunk_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_chunks, "CHUNK_BYTES", chunk_bytes)
        patch.setattr(sample_genes, "_last", None)
        for raw in [FILES[0], FILES[0], *cohort, *cohort, FILES[0]]:
            together = outcome(read_again, raw)
            with pytest.MonkeyPatch.context() as alone:
                alone.setattr(sample_genes, "_last", None)
                expected = outcome(read_again, raw)
            assert_equal(together, expected)


def test_read_object__known_rows_are_never_split_by_arrow(monkeypatch):
    first = read(gdc())
    assert_equal(read_again(gdc()), first)

    def refuse(*_):
        raise AssertionError("a table of known rows was split by Arrow")

    monkeypatch.setattr("oncoarena.assays.text_table.TextTable._read_plain", refuse)
    assert_equal(read_again(gdc()), first)
    with pytest.raises(AssertionError, match="split by Arrow"):
        read_again(gdc().replace("TP53", "TP53L"))


# The kernel against pandas.

DECIMALS = st.integers(0, 10**12).flatmap(
    lambda n: st.integers(0, 9).map(lambda k: f"{n // 10**k}.{n % 10**k:0{k}d}" if k else str(n))
)
PLAIN = st.sampled_from(["0", "0.0000", "", "5."]) | DECIMALS | DECIMALS.map(lambda text: f"-{text}")
ODD = st.sampled_from(
    ["1e5", "+1", " 1", "1 ", "NA", ".5", "1.2.3", "--1", "-", "0x1", "9" * 16, '"1"', "1,5"]
)
# The kernel looks at 64 bytes at once.
NAMES = st.text("ABCxyz019._-", min_size=1, max_size=40) | st.sampled_from("AB").map(lambda name: name * 70)


def table(names: list[str], cells: list[list[str]]) -> bytes:
    return "".join("\t".join([name, *row]) + "\n" for name, row in zip(names, cells, strict=True)).encode()


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_read_known_rows__gives_the_nearest_float_of_every_plain_number(data):
    n_rows, n_fields = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 5))
    names = data.draw(st.lists(NAMES, min_size=n_rows, max_size=n_rows))
    row = st.lists(PLAIN, min_size=n_fields, max_size=n_fields) | st.just(["0"] * n_fields)
    cells = data.draw(st.lists(row, min_size=n_rows, max_size=n_rows))
    known = find_rows(table(names, [["1"] * n_fields] * n_rows), n_fields + 1, 1)
    split = data.draw(st.integers(0, n_rows))
    wanted = np.array(data.draw(st.permutations(range(n_fields))))
    wanted[wanted >= data.draw(st.integers(1, n_fields))] = -1
    expected = np.array(
        [
            [float(cells[r][list(wanted).index(c)] or "nan") for c in range(wanted.max() + 1)]
            for r in range(n_rows)
        ]
    )
    parts = [
        read_known_rows(table(names[rows], cells[rows]), known, rows.start, wanted)
        for rows in (slice(0, split), slice(split, n_rows))
        if rows.start < rows.stop
    ]
    found = np.concatenate(parts)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


@settings(deadline=None, max_examples=100)
@given(st.lists(PLAIN, min_size=3, max_size=3), ODD, st.integers(0, 2), st.integers(0, 40))
def test_read_known_rows__leaves_what_is_odd_to_others(cells, odd, place, n_after):
    known = find_rows(table(["gene"] * 42, [["1"] * 3] * 42), 4, 1)
    for wanted in ([0, 1, 2], [-1, 0, 1]):
        rows = [*[cells] * (40 - n_after), [*cells[:place], odd, *cells[place + 1 :]], *[cells] * n_after]
        raw = table(["gene"] * 41, rows)
        found = read_known_rows(raw, known, 0, np.array(wanted))
        if found is not None:  # of what is not asked for, only the fields are counted
            assert wanted[place] == -1
            frame = pd.read_csv(io.BytesIO(raw), sep="\t", header=None, dtype=str, keep_default_na=False)
            asked = frame[[1 + field for field, column in enumerate(wanted) if column >= 0]]
            np.testing.assert_array_equal(found, asked.replace("", "nan").astype(float).to_numpy())


def test_read_known_rows__reads_rows_of_any_length_alike():
    wanted = np.array([0, -1, 1])
    for length in range(1, 140):
        for names in (["a" * length, "b"] * 70, ["ab", "cd"] * 70):
            cells = [["12", "3" * length, "4.5"], ["6", "", "-7"]] * 70
            raw = table(names, cells)
            known = find_rows(raw, 4, 1)
            assert read_known_rows(raw, known, 0, wanted).tolist() == [[12, 4.5], [6, -7]] * 70
            for n_rows in (1, 2, 3):
                short = table(names[:n_rows], cells[:n_rows])
                assert len(read_known_rows(short, known, 0, wanted)) == n_rows
            for wrong in (b"\t4.5 \n", b"\t4.5\t\n", b"\t4.5\r\n", b" 4.5\n", b"\n4.5\n", b"\t4.5x\n"):
                assert read_known_rows(raw.replace(b"\t4.5\n", wrong, 1), known, 0, wanted) is None


def test_read_known_rows__knows_every_byte_of_a_name():
    for length in (1, 8, 63, 64, 65, 130):
        names = ["n" * length, "m" * 80]
        known = find_rows(table(names, [["1"]] * 2), 2, 1)
        for at in range(length):
            other = names[0][:at] + "o" + names[0][at + 1 :]
            changed = table([other, names[1]], [["1"]] * 2)
            assert read_known_rows(changed, known, 0, np.array([0])) is None


def test_read_known_rows__knows_rows_by_every_byte_and_their_count():
    raw = table(["a", "bc", "d"], [["1", "2"]] * 3)
    known = find_rows(raw, 3, 1)
    wanted = np.array([0, 1])
    assert read_known_rows(raw, known, 0, wanted).tolist() == [[1, 2]] * 3
    for changed in (
        raw.replace(b"bc", b"bd"),
        raw.replace(b"bc", b"b"),
        raw[:-1],
        raw[:-2],
        raw + b"e\t1\t2\n",
        raw.replace(b"bc\t1", b"bc\t1\t1"),
        raw.replace(b"bc\t1\t2", b"bc\t1"),
        raw.replace(b"\nbc", b"\n\nbc"),
        b"",
    ):
        assert read_known_rows(changed, known, 0, wanted) is None
    assert read_known_rows(raw, known, 1, wanted) is None
    assert len(read_known_rows(raw[: raw.index(b"d")], known, 0, wanted)) == 2


def test_find_rows__refuses_ragged_rows_and_joins_parts():
    assert find_rows(b"a\t1\t2\nb\t1\n", 3, 1) is None
    assert find_rows(b"a\t1\nb\t1\t2\t3\n", 3, 1) is None
    assert find_rows(b"a\t1\t2\t3\nb\t1\n", 3, 1) is None
    joined = join_rows([find_rows(b"a\tx\t1\nb\ty\t2\n", 3, 2), find_rows(b"ccc\tz\t3", 3, 2)])
    assert joined.text.tobytes() == b"a\tx\tb\ty\tccc\tz\t"
    assert joined.bounds.tolist() == [0, 4, 8, 14]
