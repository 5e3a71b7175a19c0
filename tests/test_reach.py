"""Results on S3: where cohorts that rules make go, what jobs are told, which logs are shown."""

import pytest

from oncoarena import reach, schema
from oncoarena.aws.settings import ACTIVE, read_settings
from oncoarena.errors import InputError
from oncoarena.logs import failed_logs
from oncoarena.study import read_study
from studies import ROOT
from test_resources import AWS


def demo_study(**changes):
    config = schema.read_yaml(ROOT / "config/config.yaml") | changes
    return read_study(
        config,
        where="config",
        schemas=ROOT / "workflow/schemas",
        hypothesis_dirs=[ROOT / "config/hypotheses"],
    )


def test_environment__a_job_reads_the_same_settings_from_it():
    environ = reach.environment(AWS)
    assert environ[ACTIVE] == "1"
    assert read_settings(None, environ, schemas=ROOT / "workflow/schemas") == AWS


def test_remote_results__a_uri_of_the_study_goes_before_that_of_the_account():
    assert reach.remote_results({"results": "results"}, "s3://bucket/a") == "s3://bucket/a"
    assert reach.remote_results({}, "s3://bucket/a") == "s3://bucket/a"
    assert reach.remote_results({"results": "s3://own/b"}, "s3://bucket/a") == "s3://own/b"


def test_made_in_reach__demo_cohort_lies_beside_remote_results_and_in_the_clone_for_local_ones():
    local = demo_study()
    assert reach.made_in_reach(local) == local
    remote = reach.made_in_reach(demo_study(results="s3://bucket/studies"))
    assert remote.samples == "s3://bucket/studies/resources/srbct/samples.tsv"
    assert remote.assays[0].matrix == "s3://bucket/studies/resources/srbct/expression.tsv.gz"


def test_refuse_out_of_reach__files_of_single_simulated_samples_are_on_one_machine():
    reach.refuse_out_of_reach(demo_study())
    study = read_study(
        schema.read_yaml(ROOT / "config/studies/cfdna.yaml"),
        where="config",
        schemas=ROOT / "workflow/schemas",
        hypothesis_dirs=[ROOT / "config/hypotheses"],
    )
    with pytest.raises(InputError, match=r"simulate: the files of single samples \(column alignments\)"):
        reach.refuse_out_of_reach(study)


def test_tracked__what_snakemake_cannot_watch_is_left_out():
    assay = reach.made_in_reach(demo_study(results="s3://bucket/studies")).assays[0]
    assert reach.tracked(assay) == [assay.matrix]
    plan = demo_study(
        assays={"expression": {"matrix": "https://host/x.tsv", "annotation": "genes.tsv"}}
    ).assays[0]
    assert reach.tracked(plan) == ["genes.tsv"]


def test_failed_logs__each_failed_job_once_and_others_not(tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a.log").write_text("a line for the reader\n")
    for name in ("a", "lost"):
        line = f"    log: {logs}/{name}.log (send to storage) (check log file(s) for error details)\n"
        with open(tmp_path / "snakemake.log", "a") as stream:
            stream.write(f"rule train:\n    log: {logs}/{name}.log\nError in rule train:\n{line}{line}")
            stream.write(f"rule other:\n    log: {logs}/other.log (send to storage)\n")
    (first, text), (second, told) = failed_logs(str(tmp_path / "snakemake.log"), str(logs))
    assert (first, text) == (f"{logs}/a.log", "a line for the reader\n")
    assert second == f"{logs}/lost.log"
    assert "stopped before it stored its log" in told
