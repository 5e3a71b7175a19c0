"""The tiny study through real Snakemake, from a clone-like copy of the repository."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from clones import copy_clone, run_snakemake
from oncoarena import plan, store

HYPOTHESES = [
    "patient_similarity",
    "l2_logistic",
    "prior_only",
    "covariates_only",
    "permuted_labels",
    "my_idea",
]
TABLES = ("predictions", "splits", "samples", *plan.TABLES)

IDEA = '''"""Some gene or other decides. Refuted if chance does as well. Reference: none."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

FRAMEWORK = "numpy"
BLOCKS = ("expression",)
FILES = ("known",)


@dataclass(frozen=True)
class Config:
    known: str = "a file with the number of a gene"


class Predictor:
    def __init__(self, gene, low, high):
        self.gene, self.low, self.high = gene, low, high

    def predict_proba(self, cohort):
        x = cohort.blocks["expression"].values[:, self.gene].astype(float)
        p = 1 / (1 + np.exp(-(x - (self.low + self.high) / 2) * np.sign(self.high - self.low)))
        return np.stack([1 - p, p], axis=1)


def fit(config, train, validation, *, seed, device):
    gene = int(Path(config.known).read_text())
    x = train.blocks["expression"].values[:, gene]
    low, high = (x[train.labels == code].mean() for code in (0, 1))
    return Predictor(gene, low, high)
'''


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the repository with a study of the user's own: per-sample files, an idea, an external model."""
    folder = copy_clone(tmp_path_factory.mktemp("clone"))
    write_cohort(folder)
    (folder / "my_idea.py").write_text(IDEA)
    for number in range(2):
        (folder / f"known{number}.txt").write_text(str(number))
    (folder / "config/hypotheses/my_idea.yaml").write_text(
        "title: One gene\nmodule: my_idea.py\nconfig: {known: known0.txt}\n"
    )
    (folder / "tiny.yaml").write_text(json.dumps(study()))
    return folder


def study(**changes):
    return {
        "study": "tiny",
        "samples": "samples.tsv",
        "seed": 1,
        "assays": {"expression": {"column": "quantification", "transform": "log2p1"}},
        "splits": {"scheme": "kfold", "folds": 3, "repeats": 2, "seed": 0, "parts": 2},
        "hypotheses": HYPOTHESES,
        "covariates": ["age", "sex"],
        "strata": ["sex"],
        "primary_metric": "auroc_macro",
        "positive": "cancer",
        "bootstrap": 200,
        "shard_samples": 16,
        "thresholds": {"inner_folds": 0},
        "external": [{"id": "published", "title": "A published model", "predictions": "published.tsv"}],
        **changes,
    }


def write_cohort(folder):
    rng = np.random.default_rng(0)
    (folder / "quant").mkdir()
    rows = []
    for number in range(40):
        label = "cancer" if number % 2 else "healthy"
        counts = rng.poisson(20 + 30 * (number % 2) * (np.arange(12) < 4))
        pd.DataFrame({"gene": [f"ENSG{g:03d}" for g in range(12)], "count": counts}).to_csv(
            folder / f"quant/s{number}.tsv", sep="\t", index=False
        )
        rows.append(
            (f"s{number}", f"p{number}", label, 40 + number, "mf"[number // 2 % 2], f"quant/s{number}.tsv")
        )
    sheet = pd.DataFrame(rows, columns=["sample_id", "patient_id", "label", "age", "sex", "quantification"])
    sheet.to_csv(folder / "samples.tsv", sep="\t", index=False)
    p = np.where(sheet["label"] == "cancer", 0.7, 0.2)
    pd.DataFrame({"sample_id": sheet["sample_id"], "p_cancer": p, "p_healthy": 1 - p}).to_csv(
        folder / "published.tsv", sep="\t", index=False
    )


def snakemake(folder, *arguments, configfile="tiny.yaml"):
    return run_snakemake(folder, *arguments, configfile=configfile)


def planned(folder, configfile="tiny.yaml"):
    """Which jobs a dry run would start, as {rule: set of hypotheses or count}."""
    done = snakemake(folder, "-n", configfile=configfile)
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout + done.stderr
    rules = [
        line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith(("rule ", "localrule "))
    ]
    trained = {
        part.partition("hypothesis=")[2].partition(",")[0]
        for part in text.splitlines()
        if "wildcards:" in part and "hypothesis=" in part
    }
    return {rule: rules.count(rule) for rule in rules}, trained


@pytest.fixture(scope="module")
def finished(clone):
    done = snakemake(clone)
    assert done.returncode == 0, done.stdout + done.stderr
    return clone


def test_dry_run__works_where_no_framework_can_be_imported(clone):
    blocked = clone / "blocked"
    blocked.mkdir()
    for name in ("tensorflow", "keras", "torch"):
        (blocked / f"{name}.py").write_text("raise ImportError('must not be imported while planning')\n")
    (clone / "all.yaml").write_text(
        json.dumps(study(study="all", hypotheses=["wide_deep", "genome_neighbours", "sparse_markers"]))
    )
    environment = os.environ | {"PYTHONPATH": f"{blocked}:{clone / 'src'}"}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--configfile", "all.yaml"],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sparse_markers" in done.stdout + done.stderr


def test_run__leaves_every_promised_result(finished):
    results = finished / "results/tiny"
    tables = {name: store.read_table(str(results / f"{name}.parquet")) for name in TABLES}
    assert tables["predictions"].columns.tolist() == [
        "hypothesis",
        "repeat",
        "fold",
        "sample_id",
        "p_cancer",
        "p_healthy",
        "raw_cancer",
        "raw_healthy",
    ]
    competitors = {*HYPOTHESES, "published"}
    assert set(tables["predictions"]["hypothesis"]) == competitors
    assert (tables["predictions"].groupby("hypothesis").size() == 80).all()
    wanted = ["hypothesis", "metric", "stratum", "estimate", "ci_low", "ci_high", "n_samples", "n_patients"]
    assert tables["evaluation"].columns.tolist()[:8] == wanted
    assert {"accuracy", "balanced_accuracy", "auroc_macro", "log_loss", "brier"} <= set(
        tables["evaluation"]["metric"]
    )
    assert {"all", "sex=f", "sex=m"} == set(tables["evaluation"]["stratum"])
    pairs = tables["comparison"][["hypothesis_a", "hypothesis_b"]].drop_duplicates()
    assert len(pairs) == len(competitors) * (len(competitors) - 1) / 2
    assert {"CHK001", "CHK003", "CHK005"} <= set(tables["checks"]["code"])
    assert "label" not in tables["splits"].columns
    for name in HYPOTHESES:
        for part in ("0", "1"):
            record = json.loads((results / f"runs/{name}/{part}/run.json").read_text())
            assert record["status"] == "trained"
            assert record["versions"]["python"]


def test_run__planted_signal_is_found_and_the_controls_do_not_find_it(finished):
    table = store.read_table(str(finished / "results/tiny/evaluation.parquet"))
    overall = table[(table["stratum"] == "all") & (table["metric"] == "auroc_macro")].set_index("hypothesis")
    assert overall.loc[["patient_similarity", "l2_logistic", "published"], "ci_low"].min() > 0.8
    # Chance for 40 patients: DeLong's largest standard error is sqrt((n1 + n2 + 1) / (12 n1 n2)) = 0.092.
    assert overall.loc["permuted_labels", "estimate"] < 0.5 + 3.3 * 0.092
    assert overall.loc["prior_only", "estimate"] <= 0.55


def test_run__report_is_one_file_that_names_every_competitor(finished):
    text = (finished / "results/tiny/report.html").read_text()
    # A page for screens, one for paper, and what each step took, the extraction of forty objects among them.
    assert (finished / "results/tiny/report.pdf").read_bytes().startswith(b"%PDF")
    assert "How fast objects were read" in text
    steps = pd.read_csv(finished / "results/tiny/export/tables/steps.tsv", sep="\t")
    assert {"check_samples", "split", "extract", "freeze", "train", "evaluate"} <= set(steps["step"])
    assert "<script src" not in text
    assert "http-equiv" in text
    for name in (*HYPOTHESES, "published"):
        assert name in text


def test_run__export_holds_every_table_as_text_and_metadata_that_vouch_for_it(finished):
    export = finished / "results/tiny/export"
    crate = json.loads((export / "ro-crate-metadata.json").read_text())
    files = {item["@id"] for item in crate["@graph"] if item["@type"] == "File"}
    assert {f"tables/{name}.tsv" for name in plan.TABLES} <= files
    assert all((export / name).exists() for name in files if name != "ro-crate-metadata.json")
    table = pd.read_csv(export / "tables/evaluation.tsv", sep="\t")
    assert len(table) == len(store.read_table(str(finished / "results/tiny/evaluation.parquet")))


def test_run__look_at_the_test_samples_is_logged(finished):
    log = pd.read_csv(finished / "results/tiny/looks.tsv", sep="\t")
    assert len(log) == 1
    assert log["hypotheses"][0].split(",") == [*HYPOTHESES, "published"]


def test_run__second_run_has_nothing_to_do(finished):
    assert planned(finished) == ({}, set())


@pytest.mark.parametrize(
    ("path", "trained"),
    [
        ("my_idea.py", {"my_idea"}),
        ("src/oncoarena/hypotheses/l2_logistic.py", {"l2_logistic", "permuted_labels"}),
        ("src/oncoarena/kernels/gram.py", {"patient_similarity"}),
    ],
)
def test_run__edit_of_a_hypothesis_trains_exactly_it_again_and_what_follows(finished, path, trained):
    file = finished / path
    original = file.read_text()
    file.write_text(original + "\n# an edit\n")
    try:
        rules, found = planned(finished)
    finally:
        file.write_text(original)
    assert found == trained
    assert rules == {"train": 2 * len(trained), "evaluate": 1, "report": 1, "all": 1}


def test_run__edit_of_title_or_memory_trains_nothing(finished):
    entry = finished / "config/hypotheses/my_idea.yaml"
    original = entry.read_text()
    entry.write_text(original.replace("One gene", "A single gene") + "resources: {mem_mb: 9000}\n")
    try:
        rules, trained = planned(finished)
    finally:
        entry.write_text(original)
    assert trained == set()
    assert "train" not in rules


def test_run__edit_of_a_hyper_parameter_trains_it_again(finished):
    entry = finished / "config/hypotheses/my_idea.yaml"
    original = entry.read_text()
    entry.write_text(original.replace("known0", "known1"))
    try:
        _, trained = planned(finished)
    finally:
        entry.write_text(original)
    assert trained == {"my_idea"}


def test_run__edit_of_a_file_that_a_hypothesis_reads_trains_it_again(finished):
    file = finished / "known0.txt"
    times = file.stat()
    file.write_text("3")
    try:
        _, trained = planned(finished)
    finally:
        file.write_text("0")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert trained == {"my_idea"}


def test_run__shards_do_not_change_the_block(finished):
    (finished / "one.yaml").write_text(
        json.dumps(study(study="one", shard_samples=1000, hypotheses=["prior_only"]))
    )
    done = snakemake(finished, "results/one/blocks/expression.json", configfile="one.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    many, one = (
        json.loads((finished / f"results/{name}/blocks/expression/receipt.json").read_text())
        for name in ("tiny", "one")
    )
    assert len(list((finished / "results/tiny/shards/expression").glob("*/receipt.json"))) == 3
    assert many["digest"] == one["digest"]
    assert [part["digest"] for part in many["parts"]] == [part["digest"] for part in one["parts"]]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sampels": "x"}, "unknown key 'sampels'; did you mean 'samples'?"),
        ({"samples": "nothing.tsv"}, "nothing.tsv: there is no such file"),
        ({"strata": ["stage"]}, "column 'stage' is missing"),
    ],
)
def test_run__user_mistake_is_told_without_a_traceback_before_any_job(clone, changes, complaint):
    (clone / "broken.yaml").write_text(json.dumps(study(study="broken", **changes)))
    done = snakemake(clone, configfile="broken.yaml")
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert complaint in text
    assert "Traceback" not in text
    assert not (clone / "results/broken").exists()


def test_run__bad_cell_in_a_sample_file_names_sample_file_and_row_on_the_terminal(clone):
    (clone / "quant/bad.tsv").write_text("gene\tcount\nENSG000\t3\nENSG001\tmany\n")
    sheet = (clone / "samples.tsv").read_text().replace("quant/s7.tsv", "quant/bad.tsv")
    (clone / "bad.tsv").write_text(sheet)
    (clone / "badcell.yaml").write_text(
        json.dumps(study(study="badcell", samples="bad.tsv", hypotheses=["prior_only"]))
    )
    done = snakemake(clone, configfile="badcell.yaml")
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert "sample s7: quant/bad.tsv" in text
    assert "many" in text
    assert "Traceback" not in text


def test_run__excluded_sample_takes_no_part_and_the_report_tells_why(clone):
    (clone / "quant/cut.tsv").write_text("gene\tcount\nENSG000\tmany\n")
    sheet = (clone / "samples.tsv").read_text().replace("quant/s7.tsv", "quant/cut.tsv")
    (clone / "cut.tsv").write_text(sheet.replace("quant/s9.tsv", "quant/nowhere.tsv"))
    content = study(study="cut", samples="cut.tsv", hypotheses=["l2_logistic", "prior_only"], external=[])
    content |= {"on_bad_sample": "exclude"}
    (clone / "cut.yaml").write_text(json.dumps(content))
    done = snakemake(clone, configfile="cut.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    results = clone / "results/cut"
    splits = pd.read_parquet(results / "splits.parquet")
    assert set(splits["sample_id"]) == {f"s{number}" for number in range(40)} - {"s7", "s9"}
    predictions = pd.read_parquet(results / "predictions.parquet")
    assert set(predictions["sample_id"]) == set(splits["sample_id"])
    page = (results / "report.html").read_text()
    assert "quant/nowhere.tsv" in page
    assert "there is no such file" in page
