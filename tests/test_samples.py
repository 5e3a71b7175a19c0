"""The sample sheet, read as a hostile newcomer would write it."""

import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoarena.errors import InputError
from oncoarena.samples import covariate_table, read_samples

GOOD = "sample_id\tpatient_id\tlabel\tage\ns1\tp1\ta\t60\ns2\tp2\tb\tNA\ns3\tp3\ta\t40\ns4\tp4\tb\t55\n"


def write(tmp_path, content):
    path = tmp_path / "samples.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_read_samples__good_sheet_is_read_as_text(tmp_path):
    table = read_samples(write(tmp_path, GOOD.replace("s1", "001")), columns=["age"])
    assert table["sample_id"].tolist() == ["001", "s2", "s3", "s4"]
    assert table["age"].tolist() == ["60", "", "40", "55"]


@pytest.mark.parametrize(
    "dress",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\t", ","),
        lambda text: text + "\n\n",
        lambda text: "# made by hand\n" + text,
        lambda text: text.replace("\n", "\t\n"),
        lambda text: text.replace("s1", " s1 ").replace("p2", '"p2"'),
        lambda text: text.rstrip("\n"),
    ],
    ids=[
        "BOM",
        "CRLF",
        "commas",
        "blank lines",
        "comment",
        "trailing tab",
        "spaces and quotes",
        "no newline",
    ],
)
def test_read_samples__harmless_differences_are_accepted(tmp_path, dress):
    plain = read_samples(write(tmp_path, GOOD), columns=["age"])
    dressed = dress(GOOD)
    if dressed.endswith("\t\n"):  # a trailing tab in the header would be a column without a name
        dressed = dressed.replace("age\t", "age", 1)
    pd.testing.assert_frame_equal(read_samples(write(tmp_path, dressed), columns=["age"]), plain)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "is empty; expected a header line with sample_id, patient_id, label"),
        ("sample_id\tpatient_id\tlabel\n", "has a header but no samples"),
        (GOOD.replace("label", "labl", 1), r"column 'label' is missing; did you mean 'labl'\?"),
        (GOOD.replace("age", "label", 1), "column 'label' is there twice"),
        (GOOD.replace("\tage", "\t", 1), "row 1: column 4 has no name"),
        (GOOD.replace("s2\t", "s1\t"), "row 3: column 'sample_id': 's1' stands on row 2 too"),
        (GOOD.replace("p3", ""), "row 4: column 'patient_id': is empty; every sample needs one"),
        (GOOD.replace("s4\tp4\tb", "s4\tp4\tNA"), "row 5: column 'label': found 'NA'"),
        (GOOD.replace("\t40", ""), "row 4: has 3 cells, the header has 4"),
        (GOOD.replace("\tb\t", "\ta\t"), "only one label"),
        (GOOD.replace("s4\tp4\tb", "s4\tp4\tc"), r"'b' has 1 patient, .* at least 2"),
        (GOOD.encode().replace(b"s3", b"s\xff"), "row 4: byte .* is not UTF-8"),
        (b"\x00\x01" * 50, "zero bytes"),
        (GOOD.replace("age", "split"), "row 2: column 'split': found '60', expected train or test"),
        (GOOD.replace("age", "fold"), "column 'fold' has a name that oncoarena's own tables use"),
        (
            "sample_id\tpatient_id\tlabel\tsplit\ns1\tp1\ta\ttrain\ns2\tp1\ta\ttest\ns3\tp3\tb\ttrain\ns4\tp4\tb\ttest\n",
            r"patient 'p1' is in train and in test \(rows 2 \(train\), 3 \(test\)\)",
        ),
    ],
)
def test_read_samples__each_fault_is_named_with_its_place(tmp_path, content, complaint):
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=complaint) as caught:
        read_samples(path)
    assert path in str(caught.value)


def test_read_samples__all_faults_are_told_at_once_but_no_more_than_twenty(tmp_path):
    rows = "".join(f"s1\tp{row}\ta\n" for row in range(40))
    with pytest.raises(InputError) as caught:
        read_samples(write(tmp_path, "sample_id\tpatient_id\tlabel\n" + rows))
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert "and 19 more problems" in lines[-1]


QUOTED = (
    "sample_id,patient_id,label,site,stage\n"
    's1,p1,a,"Berlin, Charite",\n'
    's2,p2,b,"the ""old"" clinic", II \n'
    's3,p3,a, "Ulm" ,III\n'
    "s4,p4,b,Bonn,I,\n"
)


@pytest.mark.parametrize("separator", [",", "\t"])
def test_read_samples__quoted_cells_hold_separators_and_quotes(tmp_path, separator):
    text = QUOTED.replace(",", separator)
    table = read_samples(write(tmp_path, text), columns=["site", "stage"])
    assert table["site"].tolist() == [f"Berlin{separator} Charite", 'the "old" clinic', "Ulm", "Bonn"]
    assert table["stage"].tolist() == ["", "II", "III", "I"]
    assert table["label"].tolist() == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (
            's1,p1,a,"Berlin, Charite",,',
            "row 2: has 6 cells, the header has 5; .* stands in .quotation marks.",
        ),
        ('s1,p1,a,"Berlin, Charite,', "row 2: a quotation mark opens a cell and none closes it on this line"),
        (f's1,p1,a,"{"x" * 140_000}",', "row 2: cannot be taken apart .*limit"),
    ],
)
def test_read_samples__quotes_that_leave_a_doubt_are_refused(tmp_path, line, complaint):
    lines = QUOTED.splitlines()
    with pytest.raises(InputError, match=complaint):
        read_samples(write(tmp_path, "\n".join([lines[0], line, *lines[2:]])))


def test_read_samples__one_file_of_two_samples_is_refused(tmp_path):
    uri = write(tmp_path, GOOD.replace("\t40", "\t60").replace("NA", "61"))
    complaint = (
        r"row 4: column 'age': '60' of sample s3 stands on row 2 \(sample s1\) too; every sample needs"
    )
    with pytest.raises(InputError, match=complaint):
        read_samples(uri, paths=["age"])
    read_samples(uri, columns=["age"])


@pytest.mark.parametrize("word", ["na", "NA", "n/a", "N/a", "NAN", "nan", "NULL", "None", ""])
def test_read_samples__missing_words_are_told_in_capitals_or_not(tmp_path, word):
    table = read_samples(write(tmp_path, GOOD.replace("\tNA", f"\t{word}")), typed=["age"])
    assert table["age"].tolist() == ["60", "", "40", "55"]
    assert covariate_table(table, ["age"])["age"].dtype == "float64"


def test_read_samples__none_is_a_category(tmp_path):
    table = read_samples(write(tmp_path, sheet(["none", "II", "none", "III"], "stage")), typed=["stage"])
    assert table["stage"].tolist() == ["none", "II", "none", "III"]


def sheet(values, column="age"):
    rows = [f"s{row}\tp{row}\t{'ab'[row % 2]}\t{value}\n" for row, value in enumerate(values)]
    return f"sample_id\tpatient_id\tlabel\t{column}\n" + "".join(rows)


@pytest.mark.parametrize("odd", ["unknown", "?", "6O", "61,5", "inf", "-Infinity", "1e999"])
def test_read_samples__word_among_measurements_is_named_with_its_row(tmp_path, odd):
    uri = write(tmp_path, sheet([*range(40, 60), odd, odd, *range(60, 70)]))
    with pytest.raises(InputError) as caught:
        read_samples(uri, typed=["age"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert f"row 22: column 'age': found {odd!r}, expected a finite number as in 30 other rows" in lines[0]
    assert "row 23" in lines[1]
    assert read_samples(uri, columns=["age"])["age"][20] == odd  # no covariate, no stratum: any text will do


def test_read_samples__infinity_among_codes_is_refused_too(tmp_path):
    with pytest.raises(InputError, match="row 8: column 'age': found 'inf'"):
        read_samples(write(tmp_path, sheet([*"121212", "inf"])), typed=["age"])


@pytest.mark.parametrize(
    "values", [[*"1234" * 8, "4S"], [*"abcdefgh", "1", "2"], ["0-9", "10", "10-19", "20-29"], [""] * 4]
)
def test_read_samples__categories_may_hold_digits(tmp_path, values):
    read_samples(write(tmp_path, sheet(values)), typed=["age"])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (GOOD.replace("\t", ";"), "row 1: cells are separated by semicolons, expected tabs or commas"),
        (GOOD.replace("\t", ";").replace("60", "60,5"), "row 1: cells are separated by semicolons"),
        (
            "#" + GOOD,
            "row 1: begins with # and was skipped as a comment, but looks like the header; remove the #",
        ),
        ("# by hand\n# " + GOOD.replace("\t", ","), "row 2: begins with # .* remove the #"),
        (
            GOOD.replace("sample_id", "Sample_ID"),
            r"column 'sample_id' is missing; did you mean 'Sample_ID'\?",
        ),
    ],
)
def test_read_samples__header_of_another_kind_gets_a_hint(tmp_path, content, complaint):
    with pytest.raises(InputError, match=complaint):
        read_samples(write(tmp_path, content))


def test_read_samples__column_in_capitals_is_suggested(tmp_path):
    with pytest.raises(InputError, match=r"column 'age' is missing; did you mean 'AGE'\?"):
        read_samples(write(tmp_path, sheet(range(4), "AGE")), typed=["age"])


def test_read_samples__what_is_asked_of_the_sheet_does_not_change_the_table(tmp_path):
    uri = write(tmp_path, GOOD)
    asked = read_samples(uri, columns=["age"], typed=["age"], positive="b", prevalence=0.1)
    pd.testing.assert_frame_equal(asked, read_samples(uri))


@pytest.mark.parametrize("uri", ["gs://bucket/samples.tsv", "nosuch://bucket/samples.tsv"])
def test_read_samples__sheet_in_a_store_that_cannot_be_asked_is_one_line(uri):
    with pytest.raises(InputError, match=f"{uri}: could not be asked for") as caught:
        read_samples(uri)
    assert "\n" not in str(caught.value)


def test_read_samples__missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_samples(str(tmp_path / "nothing.tsv"))


def test_read_samples__column_that_the_study_needs_is_asked_for(tmp_path):
    with pytest.raises(InputError, match="column 'stage' is missing"):
        read_samples(write(tmp_path, GOOD), columns=["stage"])
    with pytest.raises(InputError, match="row 3: column 'age': is empty"):
        read_samples(write(tmp_path, GOOD), paths=["age"])


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_read_samples__damaged_sheet_is_read_or_refused_never_a_crash(tmp_path_factory, data):
    content = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not content:
            content = bytearray(b"\n")
    path = tmp_path_factory.mktemp("sheet") / "samples.tsv"
    path.write_bytes(bytes(content))
    try:
        table, message = read_samples(str(path)), ""
    except InputError as error:
        table, message = None, str(error)
    if table is None:
        assert str(path) in message
    else:
        assert table["sample_id"].is_unique
        assert not (table[["sample_id", "patient_id", "label"]] == "").any(axis=None)


def test_covariate_table__numbers_become_numbers_and_words_stay_words():
    samples = pd.DataFrame({"age": ["60", "", "4e1"], "sex": ["f", "m", ""], "none": ["", "", ""]})
    typed = covariate_table(samples, ["age", "sex", "none"])
    assert typed["age"].dtype == "float64"
    assert typed["age"].isna().tolist() == [False, True, False]
    assert typed["sex"].tolist() == ["f", "m", ""]
    assert typed["none"].tolist() == ["", "", ""]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["s", "", "#", " ", "s\tp\ta\t", "s\tp\ta"]), max_size=12), st.integers(1, 5))
def test_read_samples__batches_change_neither_rows_nor_messages(tmp_path_factory, kinds, rows_per_batch):
    lines = ["sample_id\tpatient_id\tlabel\tage"]
    for number, kind in enumerate(kinds):
        lines.append(f"s{number}\tp{number}\t{'ab'[number % 2]}\t{number}" if kind == "s" else kind)
    uri = write(tmp_path_factory.mktemp("sheet"), "\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        told = []
        for size in (1000, rows_per_batch):
            patch.setattr("oncoarena.samples.ROWS_PER_BATCH", size)
            try:
                told.append(read_samples(uri, columns=["age"]).to_dict("list"))
            except InputError as error:
                told.append(str(error))
    assert told[0] == told[1]


def test_read_samples__memory_grows_by_little_more_than_the_text(tmp_path):
    rows = "".join(
        f"s{row}\tp{row // 2}\t{'ab'[row % 2]}\t{row % 90}\ts3://bucket/{row}.bam\n" for row in range(100_000)
    )
    uri = write(tmp_path, "sample_id\tpatient_id\tlabel\tage\tfile\n" + rows)
    code = (
        "import resource, sys; from oncoarena.samples import read_samples\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); table = read_samples(sys.argv[1], paths=['file']); print(len(table), peak() - before)"
    )
    ran = subprocess.run([sys.executable, "-c", code, uri], capture_output=True, text=True, check=True)
    n_rows, grown_kb = map(int, ran.stdout.split())
    assert n_rows == 100_000
    assert grown_kb < 80_000  # 15 MB; Python strings for every cell took 130 MB
