"""`snakemake --profile aws` from a clone, against a real S3 server and a stand-in for AWS Batch.

A job of preprocessing and one of training lose their nodes; a plain `snakemake --cores 2` with its results on S3
runs beside, undisturbed, and says what must come out.
"""

import collections
import json
import re
import time

import pandas as pd
import pytest
from moto.server import ThreadedMotoServer

from batch_stand_in import RECLAIMED
from clouds import RAW, REGION, RESULTS, Terminal, cloud, commit, git, s3_client, write_study
from object_store import KEYS, s3_environment
from oncoarena import plan, store
from oncoarena.aws.settings import ACTIVE, VARIABLES

RUN = ("--profile", "aws", "--max-threads", "2")
TINY, PLAIN = f"s3://{RESULTS}/studies/tiny", f"s3://{RESULTS}/plain/tiny"
HELD = {
    "shard=0": f"GET /{RAW}/quant/s05.tsv ",
    "hypothesis=patient_similarity": f"PUT /{RESULTS}/studies/tiny/runs/patient_similarity/0/predictions.parquet ",
}
"""The requests at which a shard and a training job lose their nodes: objects were read, a model was trained."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with cloud(tmp_path_factory.mktemp("aws")) as found, s3_environment(found.port):
        yield found


@pytest.fixture(scope="module")
def finished(site):
    """The terminals of the disturbed run on AWS and of the plain one."""
    write_study(site.clone)
    commit(site.clone)
    second = site.folder / "second"
    git(site.folder, "clone", "--quiet", site.clone, second)
    write_study(second, results=f"s3://{RESULTS}/plain")
    come = site.proxy.hold(*HELD.values())
    ours = Terminal(site.clone, site.user(), *RUN, "--configfile", "tiny.yaml")
    plain = Terminal(second, site.user(), "--cores", "2", "--configfile", "tiny.yaml")
    for wildcards, event in zip(HELD, come, strict=True):
        wait_for(event.is_set, ours)
        if wildcards == "shard=0":
            # Until the other worker has nothing left to do: where a client dies between the head and the body of a
            # PUT, SeaweedFS keeps an empty object, which AWS does not.
            wait_for(settled(lambda: site.keys("studies/tiny/shards/expression/0/objects/")), ours)
        site.batch.reclaim(site.batch.running(wildcards))
    assert ours.wait() == 0, ours.text()[-5000:]
    assert plain.wait() == 0, plain.text()[-5000:]
    return ours, plain


def wait_for(condition, terminal, timeout_s=300):
    end = time.monotonic() + timeout_s
    while not condition():
        assert terminal.process.poll() is None, terminal.text()[-5000:]
        assert time.monotonic() < end, terminal.text()[-5000:]
        time.sleep(0.1)


def settled(found, quiet_s=5):
    """A condition: something is found, and nothing was added for some seconds."""
    seen = {"n": 0, "since": time.monotonic()}

    def condition():
        n = len(found())
        if n != seen["n"]:
            seen.update(n=n, since=time.monotonic())
        return n > 0 and time.monotonic() - seen["since"] > quiet_s

    return condition


def asked(request):
    """Rule (and hypothesis), queue, definition, vCPU, MB and GPUs of a submitted job."""
    override = request["containerOverrides"]
    needs = {item["type"]: int(item["value"]) for item in override["resourceRequirements"]}
    rule = request["jobName"].split("-")[1]
    command = override["command"][-1]
    if rule == "train":
        rule += " " + command.partition("hypothesis=")[2].partition(",")[0]
    places = (request["jobQueue"], request["jobDefinition"])
    return rule, *places, needs["VCPU"], needs["MEMORY"], needs.get("GPU", 0)


def timeless(table):
    """A table without the times of day that its words tell."""
    return table.replace(r"\d{4}-\d\d-\d\dT[\d:]+", "then", regex=True)


def test_profile_aws__study_reaches_its_report_on_s3(finished, site):
    with store.open_input(f"{TINY}/report.html") as stream:
        page = stream.read().decode()
    for name in ("patient_similarity", "prior_only"):
        assert name in page
    assert "--profile aws" in page
    assert {f"{name}.parquet" for name in plan.TABLES} <= {
        key.rpartition("/")[2] for key in site.keys("studies/tiny/")
    }
    assert not (site.clone / "results").exists()


def test_profile_aws__every_job_goes_to_its_queue_and_container(finished, site):
    jobs = collections.Counter(asked(request) for request in site.batch.submitted())
    memory, small = ("oncoarena-memory", "oncoarena-cpu"), ("oncoarena-small", "oncoarena-cpu")
    gpu = ("oncoarena-gpu", "oncoarena-cuda")
    shard_mb = 2 * 1500
    assert jobs == {
        ("extract", *memory, 2, shard_mb, 0): 2,
        ("extract", *memory, 2, 2 * shard_mb, 0): 1,
        ("freeze", *small, 1, 4000, 0): 1,
        ("split", *small, 1, 2000, 0): 1,
        ("train patient_similarity", *gpu, 1, 4000, 1): 1,
        ("train patient_similarity", *gpu, 1, 8000, 1): 1,
        ("train prior_only", *small, 1, 1000, 0): 1,
        ("evaluate", *small, 2, 4000, 0): 1,
        ("report", *small, 1, 4000, 0): 1,
    }
    timeouts = {request["timeout"]["attemptDurationSeconds"] for request in site.batch.submitted()}
    assert {60 * 240, 2 * 60 * 240} <= timeouts


def test_profile_aws__reclaimed_jobs_go_on_and_change_nothing(finished, site):
    ours, _ = finished
    lost = [job for job in site.batch.jobs.values() if job.reason == RECLAIMED]
    assert sorted(job.queue for job in lost) == ["oncoarena-gpu", "oncoarena-memory"]
    assert RECLAIMED in ours.text()
    with store.open_input(f"{TINY}/logs/extract/expression.0.log") as stream:
        assert b"objects were read by an earlier attempt" in stream.read()
    for name in ("predictions", "splits", "samples", *plan.TABLES):
        here, there = (timeless(store.read_table(f"{place}/{name}.parquet")) for place in (TINY, PLAIN))
        pd.testing.assert_frame_equal(here, there, obj=name)
    digests = [
        store.read_json(f"{place}/blocks/expression/receipt.json")["digest"] for place in (TINY, PLAIN)
    ]
    assert digests[0] == digests[1]


def test_profile_aws__no_secret_is_in_a_request_a_log_or_a_result(finished, site):
    secret = KEYS["AWS_SECRET_ACCESS_KEY"]
    texts = {
        "calls": json.dumps(site.batch.calls),
        "terminal": finished[0].text(),
        **{job.name: job.text() for job in site.batch.jobs.values()},
        **{key: site.body(key) for key in site.keys("")},
    }
    told = {
        variable["name"]
        for request in site.batch.submitted()
        for variable in request["containerOverrides"]["environment"]
    }
    assert told == {*VARIABLES.values(), ACTIVE, "SNAKEMAKE_STORAGE_S3_REGION"}
    assert any(key.endswith(".html") for key in texts)
    assert any(key.endswith(".log") for key in texts)
    assert [name for name, text in texts.items() if secret in text or KEYS["AWS_ACCESS_KEY_ID"] in text] == []


def test_profile_aws__dry_run_prints_the_plan_and_then_that_nothing_is_to_be_done(finished, site):
    again = Terminal(site.clone, site.user(), *RUN, "--configfile", "tiny.yaml", "-n")
    assert again.wait() == 0, again.text()
    assert "Nothing to be done" in again.text()
    assert re.search(r"^extract expression +memory +2 ", again.text(), re.MULTILINE)
    assert re.search(r"^Price +at most USD", again.text(), re.MULTILINE)


def test_profile_aws__log_of_a_job_that_failed_reaches_the_terminal(finished, site):
    site.s3.put_object(Bucket=RAW, Key="quant/s13.tsv", Body=b"gene\tcount\nG00\tmany\n")
    name = write_study(site.clone, "bad.yaml", study="bad", shard_samples=24)
    failed = Terminal(site.clone, site.user(), *RUN, "--configfile", name, "--retries", "0")
    assert failed.wait() == 1
    assert f"s3://{RESULTS}/studies/bad/logs/extract/expression.0.log:" in failed.text()
    assert "sample s13: " in failed.text()
    assert "What could be read is kept" in failed.text()


def refused(site, *arguments, **environment):
    """What the terminal says of a run that must not begin."""
    n_before = len(site.batch.submitted())
    terminal = Terminal(site.clone, site.user(**environment), *RUN, "--configfile", "tiny.yaml", *arguments)
    assert terminal.wait() == 1
    assert len(site.batch.submitted()) == n_before
    assert "Traceback" not in terminal.text()
    return terminal.text()


def test_profile_aws__wrong_credentials_are_told_before_any_job(finished, site):
    said = refused(site, AWS_SECRET_ACCESS_KEY="anothersecret")
    assert "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID; run: aws sso login" in said


def test_profile_aws__missing_bucket_is_told_and_not_made(finished, site):
    said = refused(site, ONCOARENA_RESULTS="s3://genomics-resluts/studies")
    assert "genomics-resluts does not exist; correct the name" in said
    assert "genomics-resluts" not in [item["Name"] for item in site.s3.list_buckets()["Buckets"]]


def test_profile_aws__bucket_in_another_region_is_refused(finished, site):
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        place = {"LocationConstraint": "us-west-2"}
        s3_client(port, "us-west-2").create_bucket(Bucket=RESULTS, CreateBucketConfiguration=place)
        said = refused(site, AWS_ENDPOINT_URL_S3=f"http://{host}:{port}")
    finally:
        server.stop()
    assert f"{RESULTS} is in us-west-2, the jobs run in {REGION}" in said


def test_profile_aws__untracked_hypothesis_is_told_before_any_job(finished, site):
    entry = site.clone / "config/hypotheses/fresh.yaml"
    entry.write_text("title: Fresh\nmodule: oncoarena.hypotheses.prior_only\n")
    name = write_study(site.clone, "fresh.yaml", hypotheses=["fresh", "prior_only"])
    try:
        said = refused(site, "--configfile", name)
    finally:
        entry.unlink()
    assert (
        "config/hypotheses/fresh.yaml: git does not track it, so jobs on AWS would not get it; run: git add"
        in said
    )
