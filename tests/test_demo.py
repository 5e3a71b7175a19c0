"""Demo cohorts: what the wheel holds is written as users bring it; what goes wrong is one clear line."""

import hashlib
import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oncoarena.assays.expression import Options, read_matrix
from oncoarena.demo import fetch_demo
from oncoarena.errors import InputError
from oncoarena.samples import read_samples

N_GENES = 30
CODES = {"train": [2, 2, 4, 3, 1, 1, 4, 3], "test": [3, 2, 1, 4]}
LINES = ["CNS"] * 5 + ["RENAL"] * 4 + ["NSCLC"] * 7 + ["K562A-repro"] + ["CNS"]


def profiles(n_samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_samples, N_GENES)).round(6)


def wheel_members() -> dict[str, bytes]:
    """Files like those in the real wheel, of made-up values."""
    members = {"ISLP/__init__.py": b"raise SystemExit\n", "ISLP/data/Other.csv": b"a,b\n1,2\n"}
    for seed, (split, codes) in enumerate(CODES.items()):
        header = ",".join(f'"V{gene + 1}"' for gene in range(N_GENES))
        rows = [",".join(map(str, row)) for row in profiles(len(codes), seed)]
        members[f"ISLP/data/Khan_x{split}.csv"] = "\n".join([header, *rows, ""]).encode()
        members[f"ISLP/data/Khan_y{split}.csv"] = "\n".join(['"x"', *map(str, codes), ""]).encode()
    array = io.BytesIO()
    np.save(array, profiles(len(LINES), 9))
    members["ISLP/data/NCI60data.npy"] = array.getvalue()
    members["ISLP/data/NCI60labs.csv"] = "\n".join(["label", *(f'"{line}"' for line in LINES), ""]).encode()
    return members


def wheel_bytes(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def fetch(cohort: str, directory: Path, content: bytes, sha256: str | None = None) -> None:
    def put(folder: Path) -> Path:
        wheel = folder / "islp-0.6.0-py3-none-any.whl"
        wheel.write_bytes(content)
        return wheel

    fetch_demo(cohort, directory, put, sha256 or hashlib.sha256(content).hexdigest())


def read_block(path: Path, sample_ids: list[str]):
    with path.open("rb") as stream:
        return read_matrix(stream, str(path), sample_ids, Options())["expression"]


def assert_one_clear_line(refusal: pytest.ExceptionInfo, *said: str) -> None:
    message = str(refusal.value)
    assert "\n" not in message
    for words in (*said, "PIP_INDEX_URL", "ONCOARENA_ISLP_WHEEL"):
        assert words in message


def test_fetch_demo__srbct_is_written_with_its_official_split(tmp_path):
    fetch("srbct", tmp_path, wheel_bytes(wheel_members()))
    sheet = read_samples(str(tmp_path / "samples.tsv"), columns=["split"])
    assert sheet["sample_id"].tolist() == [
        *(f"srbct_train_{number:02d}" for number in range(1, 9)),
        *(f"srbct_test_{number:02d}" for number in range(1, 5)),
    ]
    assert sheet["split"].tolist() == ["train"] * 8 + ["test"] * 4
    assert sheet["label"].tolist() == [
        *("EWS", "EWS", "RMS", "NB", "BL", "BL", "RMS", "NB"),
        *("NB", "EWS", "BL", "RMS"),
    ]
    assert sheet["patient_id"].is_unique
    block = read_block(tmp_path / "expression.tsv.gz", sheet["sample_id"].tolist())
    expected = np.concatenate([profiles(8, 0), profiles(4, 1)]).astype(np.float32)
    np.testing.assert_array_equal(block.values, expected)
    assert block.features["id"].tolist()[:2] == ["gene_0001", "gene_0002"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["expression.tsv.gz", "samples.tsv"]


def test_fetch_demo__nci60_keeps_the_tissues_with_five_lines(tmp_path):
    fetch("nci60", tmp_path, wheel_bytes(wheel_members()))
    sheet = read_samples(str(tmp_path / "samples.tsv"))
    kept = [row for row, line in enumerate(LINES) if line in ("CNS", "NSCLC")]
    assert sheet["label"].tolist() == [LINES[row] for row in kept]
    assert sheet["sample_id"].tolist() == [f"nci60_{row + 1:02d}" for row in kept]
    block = read_block(tmp_path / "expression.parquet", sheet["sample_id"].tolist())
    np.testing.assert_array_equal(block.values, profiles(len(LINES), 9)[kept].astype(np.float32))


def test_fetch_demo__same_wheel_same_bytes(tmp_path):
    content = wheel_bytes(wheel_members())
    for cohort in ("srbct", "nci60"):
        for turn in ("first", "second"):
            fetch(cohort, tmp_path / turn / cohort, content)
        for path in (tmp_path / "first" / cohort).iterdir():
            assert path.read_bytes() == (tmp_path / "second" / cohort / path.name).read_bytes()


def test_fetch_demo__refuses_a_wheel_of_another_digest_and_writes_nothing(tmp_path):
    content = wheel_bytes(wheel_members())
    with pytest.raises(InputError) as refusal:
        fetch("srbct", tmp_path, content, sha256="0" * 64)
    digest = hashlib.sha256(content).hexdigest()
    assert_one_clear_line(refusal, f"its sha256 is {digest}, expected {'0' * 64}")
    assert not list(tmp_path.iterdir())


def damaged_wheels() -> dict[str, tuple[str, bytes]]:
    whole = wheel_members()
    no_codes = {name: content for name, content in whole.items() if name != "ISLP/data/Khan_ytest.csv"}
    pickled = io.BytesIO()
    np.save(pickled, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return {
        "no zip": ("srbct", b"<html>blocked by the proxy</html>"),
        "truncated": ("srbct", wheel_bytes(whole)[:-100]),
        "a member missing": ("srbct", wheel_bytes(no_codes)),
        "a code unknown": ("srbct", wheel_bytes(whole | {"ISLP/data/Khan_ytest.csv": b'"x"\n7\n2\n1\n4\n'})),
        "codes missing": ("srbct", wheel_bytes(whole | {"ISLP/data/Khan_ytest.csv": b'"x"\n2\n'})),
        "no numbers": ("srbct", wheel_bytes(whole | {"ISLP/data/Khan_xtest.csv": b"V1\na\nb\nc\nd\n"})),
        "labels missing": ("nci60", wheel_bytes(whole | {"ISLP/data/NCI60labs.csv": b'label\n"CNS"\n'})),
        "a pickle": ("nci60", wheel_bytes(whole | {"ISLP/data/NCI60data.npy": pickled.getvalue()})),
        "an array truncated": (
            "nci60",
            wheel_bytes(whole | {"ISLP/data/NCI60data.npy": whole["ISLP/data/NCI60data.npy"][:500]}),
        ),
    }


@pytest.mark.parametrize("case", damaged_wheels().values(), ids=damaged_wheels())
def test_fetch_demo__says_in_one_line_that_a_wheel_is_damaged(tmp_path, case):
    cohort, content = case
    with pytest.raises(InputError) as refusal:
        fetch(cohort, tmp_path, content)
    assert_one_clear_line(refusal, f"the data of {cohort} cannot be read")
    assert not list(tmp_path.iterdir())


def test_fetch_demo__takes_a_wheel_that_is_at_hand(tmp_path, monkeypatch):
    content = wheel_bytes(wheel_members())
    wheel = tmp_path / "wheel.whl"
    wheel.write_bytes(content)
    monkeypatch.setenv("ONCOARENA_ISLP_WHEEL", str(wheel))
    fetch_demo("srbct", tmp_path / "cohort", sha256=hashlib.sha256(content).hexdigest())
    assert len(read_samples(str(tmp_path / "cohort" / "samples.tsv"))) == 12
    assert wheel.read_bytes() == content
    monkeypatch.setenv("ONCOARENA_ISLP_WHEEL", str(tmp_path / "absent.whl"))
    with pytest.raises(InputError) as refusal:
        fetch_demo("srbct", tmp_path / "other")
    assert_one_clear_line(refusal, "absent.whl: cannot be read (No such file or directory)")


def test_fetch_demo__says_in_one_line_that_pip_found_no_wheel(tmp_path, monkeypatch):
    monkeypatch.delenv("ONCOARENA_ISLP_WHEEL", raising=False)
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    # An empty local index: the real pip runs and fails, without a network.
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InputError) as refusal:
        fetch_demo("srbct", tmp_path)
    assert_one_clear_line(
        refusal, "islp==0.6.0: pip could not download the wheel (ERROR: No matching distribution"
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import sys; sys.exit('No module named pip')", "could not download the wheel (No module named pip)"),
        ("", "could not download the wheel (no message)"),
    ],
)
def test_fetch_demo__says_in_one_line_that_pip_is_missing_or_brings_nothing(
    tmp_path, monkeypatch, body, said
):
    monkeypatch.delenv("ONCOARENA_ISLP_WHEEL", raising=False)
    (tmp_path / "pip.py").write_text(body)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    # A module of this name in the working directory goes before the installed one.
    monkeypatch.chdir(tmp_path)
    assert subprocess.run([sys.executable, "-m", "pip"], capture_output=True, check=False).stdout == b""
    with pytest.raises(InputError) as refusal:
        fetch_demo("nci60", tmp_path / "cohort")
    assert_one_clear_line(refusal, said)


def test_fetch_demo__says_in_one_line_that_python_cannot_be_run(tmp_path, monkeypatch):
    monkeypatch.delenv("ONCOARENA_ISLP_WHEEL", raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(InputError) as refusal:
        fetch_demo("nci60", tmp_path / "cohort")
    assert_one_clear_line(refusal, "pip could not be run to its end")


def test_fetch_demo__refuses_a_cohort_it_does_not_know(tmp_path):
    with pytest.raises(InputError, match=re.escape("found 'tcga', expected one of srbct, nci60")):
        fetch_demo("tcga", tmp_path)


def test_fetch_demo__asks_for_labels_that_are_text_and_complete(tmp_path):
    fetch("nci60", tmp_path, wheel_bytes(wheel_members()))
    sheet = pd.read_csv(tmp_path / "samples.tsv", sep="\t")
    assert sheet.columns.tolist() == ["sample_id", "patient_id", "label"]
    assert sheet.notna().all(axis=None)
