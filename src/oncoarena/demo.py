"""Two public cohorts to begin with, fetched once and written in the forms that users bring.

Both come with the data sets of the package ISLP ("An Introduction to Statistical Learning with Applications in
Python", doi:10.1007/978-3-031-38747-0; BSD-style licence, see METADATA in its wheel):

``srbct``  83 small round blue cell tumours of childhood and cell lines, 2,308 genes on cDNA arrays (log ratios), four
           classes, the official split into 63 for training and 20 for test (Khan 2001, doi:10.1038/89044).
``nci60``  57 of the NCI-60 cancer cell lines, 6,830 genes on cDNA arrays (log ratios), the eight tissues of origin
           with at least five lines (Ross 2000, doi:10.1038/73432).

The wheel holds neither gene names nor patients: genes are numbered in its order, and each sample counts as a
patient of its own.
"""

import csv
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from oncoarena.errors import InputError
from oncoarena.simulation.writing import write_matrix, write_sheet

ISLP = "islp==0.6.0"
ISLP_SHA256 = "ca772cecca1747a2f84ee799a5503ddddbdf0e98f90c235494790c1d036c694b"
WHEEL_VARIABLE = "ONCOARENA_ISLP_WHEEL"
"""Environment variable: path of the wheel where it is at hand already."""

_SRBCT_CLASSES = {"1": "BL", "2": "EWS", "3": "NB", "4": "RMS"}
"""Burkitt lymphoma, Ewing sarcoma, neuroblastoma, rhabdomyosarcoma."""
_MIN_LINES = 5
_TIMEOUT_S = 1800


def fetch_demo(
    cohort: str,
    directory: Path,
    download: Callable[[Path], Path] | None = None,
    sha256: str = ISLP_SHA256,
) -> None:
    """Fetch a demo cohort and write its samples.tsv and expression into a directory.

    Parameters: ``cohort`` is ``srbct`` (expression.tsv.gz, genes x samples) or ``nci60`` (expression.parquet, samples
    x genes); ``download`` puts the wheel into a directory and returns its path, by default with pip, or from the
    path in the environment variable ``ONCOARENA_ISLP_WHEEL``; ``sha256`` is the wheel's digest.
    Raises InputError if the wheel cannot be had or is not the expected one.
    """
    writers = {"srbct": _write_srbct, "nci60": _write_nci60}
    if cohort not in writers:
        raise InputError(f"demo cohort: found {cohort!r}, expected one of {', '.join(writers)}.")
    with tempfile.TemporaryDirectory() as temporary:
        wheel = (download or _download)(Path(temporary))
        try:
            content = wheel.read_bytes()
        except OSError as error:
            raise InputError(f"{wheel}: cannot be read ({error.strerror}). {_remedy()}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise InputError(
            f"{wheel.name}: this is not {ISLP}: its sha256 is {found}, expected {sha256}. {_remedy()}"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            writers[cohort](archive, Path(directory))
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, IndexError) as error:
        raise InputError(
            f"{wheel.name}: the data of {cohort} cannot be read ({error!r}). {_remedy()}"
        ) from None


def _remedy() -> str:
    return (
        f"Try again, let pip use another index (PIP_INDEX_URL), or get the wheel of {ISLP} elsewhere and set "
        f"{WHEEL_VARIABLE} to its path."
    )


def _download(directory: Path) -> Path:
    """Get the wheel by its path in the environment, or with pip."""
    if at_hand := os.environ.get(WHEEL_VARIABLE):
        return Path(at_hand)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(directory), ISLP]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{ISLP}: pip could not be run to its end ({error}). {_remedy()}") from None
    wheels = list(directory.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        complaints = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise InputError(
            f"{ISLP}: pip could not download the wheel ({complaints[-1].strip()[:300]}). {_remedy()}"
        )
    return wheels[0]


def _read_csv(archive: zipfile.ZipFile, name: str) -> list[list[str]]:
    """Read the rows under the header."""
    text = archive.read(f"ISLP/data/{name}").decode("utf-8")
    return list(csv.reader(io.StringIO(text, newline="")))[1:]


def _gene_ids(n_genes: int) -> list[str]:
    return [f"gene_{number:04d}" for number in range(1, n_genes + 1)]


def _write_srbct(archive: zipfile.ZipFile, directory: Path) -> None:
    samples: list[dict[str, str]] = []
    profiles: list[np.ndarray] = []
    for split in ("train", "test"):
        values = np.array(_read_csv(archive, f"Khan_x{split}.csv"), dtype=np.float64)  # (n_samples, n_genes)
        codes = [code for (code,) in _read_csv(archive, f"Khan_y{split}.csv")]
        for number, (code, profile) in enumerate(zip(codes, values, strict=True), 1):
            name = f"srbct_{split}_{number:02d}"
            samples.append(
                {"sample_id": name, "patient_id": name, "label": _SRBCT_CLASSES[code], "split": split}
            )
            profiles.append(profile)
    matrix = np.stack(profiles)  # (n_samples, n_genes)
    columns = {sample["sample_id"]: profile for sample, profile in zip(samples, matrix, strict=True)}
    table = pa.table({"gene_id": _gene_ids(matrix.shape[1]), **columns})
    write_matrix(directory / "expression.tsv.gz", table)
    write_sheet(directory / "samples.tsv", pd.DataFrame(samples))


def _write_nci60(archive: zipfile.ZipFile, directory: Path) -> None:
    with archive.open("ISLP/data/NCI60data.npy") as stream:
        values = np.load(io.BytesIO(stream.read()), allow_pickle=False)  # (n_lines, n_genes)
    labels = pd.Series([label for (label,) in _read_csv(archive, "NCI60labs.csv")])
    if values.ndim != 2 or len(values) != len(labels):
        raise ValueError(f"{len(labels)} labels for values of shape {values.shape}")
    kept = np.flatnonzero(labels.groupby(labels).transform("size") >= _MIN_LINES)
    # Numbered as in the wheel, so that a line can be found there.
    names = [f"nci60_{row + 1:02d}" for row in kept]
    samples = pd.DataFrame({"sample_id": names, "patient_id": names, "label": labels[kept].to_numpy()})
    columns = dict(zip(_gene_ids(values.shape[1]), values[kept].T, strict=True))
    write_matrix(directory / "expression.parquet", pa.table({"sample_id": names, **columns}))
    write_sheet(directory / "samples.tsv", samples)
