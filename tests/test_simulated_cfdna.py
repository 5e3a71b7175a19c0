"""Simulated plasma cohorts: sheet, truth and files agree, and strength 0 leaves nothing to find."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pysam
import pytest
from scipy.stats import spearmanr, ttest_ind

from oncoarena import simulation
from oncoarena.errors import InputError
from oncoarena.samples import read_samples
from oncoarena.simulation.cfdna import ARMS_BY_TYPE, STAGE_TUMOUR_FRACTION, cohort_files, simulate_cohort


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def short_long_ratio(path: str) -> float:
    lengths = pd.read_csv(path, sep="\t", header=None, usecols=[1, 2]).diff(axis=1)[2]
    return float(lengths.between(100, 150).sum() / lengths.between(151, 220).sum())


@pytest.fixture(scope="module")
def strong(tmp_path_factory):
    """A cohort with a clear signal, as fragment files: sheet, truth."""
    folder = tmp_path_factory.mktemp("strong")
    simulate_cohort(folder, n_samples=60, n_reads=12_000, strength=3.0, format="bed", seed=3)
    return read_samples(str(folder / "samples.tsv")), pd.read_csv(folder / "truth.tsv", sep="\t")


def test_sheet__has_all_that_a_study_asks_for(strong):
    sheet, truth = strong
    assert sheet["label"].value_counts().to_dict() == {"cancer": 30, "healthy": 30}
    assert (sheet["sample_id"] == truth["sample_id"]).all()
    assert all(Path(path).is_file() for path in sheet["alignments"])
    is_healthy = sheet["label"] == "healthy"
    assert (sheet.loc[is_healthy, ["stage", "cancer_type"]] == "none").all(axis=None)
    assert set(sheet.loc[~is_healthy, "stage"]) == set(STAGE_TUMOUR_FRACTION)
    assert set(sheet.loc[~is_healthy, "cancer_type"]) == set(ARMS_BY_TYPE)
    men = ~is_healthy & (sheet["sex"] == "M")
    assert set(sheet.loc[men, "cancer_type"]) <= {"colorectal", "lung"}
    assert (sheet["simulation"] == sheet["simulation"][0]).all()
    assert set(sheet["split"]) == {"train", "test"}


def test_truth__tumour_fraction_rises_with_stage_and_is_0_without_cancer(strong):
    sheet, truth = strong
    is_healthy = sheet["label"] == "healthy"
    assert (truth.loc[is_healthy, "tumour_fraction"] == 0).all()
    ill = truth[~is_healthy]
    assert ((ill["tumour_fraction"] > 0) & (ill["tumour_fraction"] < 1)).all()
    median = ill["tumour_fraction"].groupby(sheet["stage"]).median()
    assert median["I"] < median["III"] < median["IV"]


def test_files__short_fragments_go_with_the_tumour_fraction(strong):
    sheet, truth = strong
    ratio = sheet["alignments"].map(short_long_ratio)
    ill = sheet["label"] == "cancer"
    assert spearmanr(ratio[ill], truth.loc[ill, "tumour_fraction"]).statistic > 0.6
    assert ttest_ind(ratio[ill], ratio[~ill]).pvalue < 1e-4


def test_files__gained_arms_of_late_tumours_are_covered_more_than_lost_ones(strong):
    sheet, truth = strong
    late = truth.index[truth["tumour_fraction"] > 0.4]
    assert len(late) >= 4
    # 8q and 8p of the long chromosome 8, of 100 Mb and 45 Mb.
    ratios = {}
    for row in truth.index:
        table = pd.read_csv(sheet["alignments"][row], sep="\t", header=None)
        starts = table.loc[table[0] == "chr8", 1]
        ratios[row] = (starts > 45_200_000).sum() / (starts < 45_200_000).sum()
    for arm, side in (("8q", 1), ("8p", -1)):
        column = "gained" if side == 1 else "lost"
        changed = [row for row in late if arm in str(truth[column][row]).split()]
        neither = [row for row in truth.index if truth["tumour_fraction"][row] == 0]
        assert changed
        assert np.mean([ratios[row] for row in changed]) > 1.1 * np.mean([ratios[row] for row in neither])


def test_strength_0__labels_have_nothing_to_do_with_the_files(tmp_path):
    simulate_cohort(tmp_path, n_samples=60, n_reads=6_000, strength=0.0, format="bed", seed=5)
    sheet = read_samples(str(tmp_path / "samples.tsv"))
    truth = pd.read_csv(tmp_path / "truth.tsv", sep="\t")
    assert (truth["tumour_fraction"] == 0).all()
    ratio = sheet["alignments"].map(short_long_ratio)
    ill = sheet["label"] == "cancer"
    assert ttest_ind(ratio[ill], ratio[~ill]).pvalue > 0.01
    for column in ("gc_slope", "short_share"):
        assert ttest_ind(truth.loc[ill, column], truth.loc[~ill, column]).pvalue > 0.01


def test_strength__changes_the_files_of_people_with_cancer_only(tmp_path):
    found = {}
    for strength in (0.0, 1.0):
        folder = tmp_path / str(strength)
        simulate_cohort(folder, n_samples=8, n_reads=400, strength=strength, format="bed", seed=2)
        found[strength] = folder_bytes(folder / "alignments")
    sheet = pd.read_csv(tmp_path / "1.0/samples.tsv", sep="\t").set_index("sample_id")
    for name in found[0.0]:
        if name.endswith(".bed.gz"):
            is_healthy = sheet["label"][name.removesuffix(".bed.gz")] == "healthy"
            assert (found[0.0][name] == found[1.0][name]) == is_healthy


def test_formats__hold_the_same_reads(tmp_path):
    arguments = {"n_samples": 4, "n_reads": 5_000, "seed": 11}
    for form in ("bam", "cram", "bed"):
        simulate_cohort(tmp_path / form, format=form, **arguments)
    name = "P0003_S1"
    with pysam.AlignmentFile(tmp_path / f"bam/alignments/{name}.bam") as file:
        reads = list(file.fetch(until_eof=True))
        lines = [read.to_string() for read in reads]
    with pysam.AlignmentFile(tmp_path / f"cram/alignments/{name}.cram", check_sq=False) as file:
        found = [read.to_string() for read in file.fetch(until_eof=True)]
        # CRAM brings the edit distance into another place among the tags.
        assert [line.split("\t")[:11] for line in found] == [line.split("\t")[:11] for line in lines]
        assert file.has_index()
    # Both reads have a place, and no flag of a copy, a failure or a further record.
    kept = [
        r for r in reads if r.is_proper_pair and r.is_forward and not r.flag & (0x100 | 0x200 | 0x400 | 0x800)
    ]
    with pysam.TabixFile(str(tmp_path / f"bed/alignments/{name}.bed.gz")) as file:
        rows = [line.split("\t") for line in file.fetch()]
        assert len(list(file.fetch("chr2", 0, 100_000_000))) == sum(
            read.reference_name == "chr2" and read.reference_start < 100_000_000 for read in kept
        )
    assert [[row[0], int(row[1]), int(row[2]), row[4]] for row in rows] == [
        [
            read.reference_name,
            read.reference_start,
            read.reference_start + read.template_length,
            "+" if read.is_read1 else "-",
        ]
        for read in kept
    ]
    mapq = {
        read.query_name: read.mapping_quality for read in reads if read.is_proper_pair and read.is_reverse
    }
    assert [int(row[3]) for row in rows] == [
        min(read.mapping_quality, mapq[read.query_name]) for read in kept
    ]


@pytest.mark.parametrize("form", ["bam", "cram", "bed"])
def test_same_arguments__same_bytes_whatever_the_number_of_processes(tmp_path, form):
    arguments = {"n_samples": 4, "n_reads": 300, "format": form}
    folder = tmp_path / "cohort"
    simulate_cohort(folder, seed=1, **arguments)
    first = folder_bytes(folder)
    assert {name for name in first if "/" not in name} == set(cohort_files({}))
    simulate_cohort(folder, seed=1, map_samples=lambda f, items: [f(x) for x in reversed(items)], **arguments)
    assert folder_bytes(folder) == first
    if form == "bam":
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            simulate_cohort(folder, seed=1, map_samples=pool.map, **arguments)
        assert folder_bytes(folder) == first
    simulate_cohort(folder, seed=2, **arguments)
    other = folder_bytes(folder)
    assert all(other[name] != first[name] for name in first if not name.endswith(".crai"))
    assert not list(folder.rglob(".*"))


def test_patients__their_samples_share_the_tumour_and_differ_in_reads(tmp_path):
    simulate_cohort(tmp_path, n_samples=12, samples_per_patient=3, n_reads=300, format="bed", seed=4)
    sheet = pd.read_csv(tmp_path / "samples.tsv", sep="\t", keep_default_na=False)
    truth = pd.read_csv(tmp_path / "truth.tsv", sep="\t", keep_default_na=False)
    truth["patient_id"] = sheet["patient_id"]
    assert sheet["patient_id"].value_counts().tolist() == [3, 3, 3, 3]
    assert len(truth[["patient_id", "gained", "lost"]].drop_duplicates()) == 4
    same = ["patient_id", "label", "stage", "sex", "age", "site", "split"]
    assert len(sheet[same].drop_duplicates()) == 4
    assert sheet["alignments"].map(lambda path: Path(path).read_bytes()).nunique() == 12


def test_confounding__sites_are_decided_by_labels_and_leave_their_mark(tmp_path):
    simulate_cohort(tmp_path, n_samples=60, n_reads=100, confounding=1.0, strength=0, format="bed", seed=6)
    sheet = pd.read_csv(tmp_path / "samples.tsv", sep="\t")
    truth = pd.read_csv(tmp_path / "truth.tsv", sep="\t")
    assert len(sheet[["label", "site"]].drop_duplicates()) == 2
    ill = sheet["label"] == "cancer"
    assert ttest_ind(truth.loc[ill, "gc_slope"], truth.loc[~ill, "gc_slope"]).pvalue < 1e-4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_samples", 3),
        ("n_reads", 99),
        ("n_reads", 1e6),
        ("strength", -0.1),
        ("strength", float("inf")),
        ("samples_per_patient", 0),
        ("confounding", 2),
        ("read_bp", 62),
        ("read_bp", 51),
        ("format", "sam"),
        ("level", 0),
        ("seed", -1),
    ],
)
def test_simulate__refuses_what_is_not_legal(tmp_path, key, value):
    with pytest.raises(InputError, match=f"simulate: {key}: found {value!r}, expected"):
        simulate_cohort(tmp_path, **{key: value})
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=f"simulate: {key}: found"):
        simulation.read_request({"kind": "cfdna", key: value})
