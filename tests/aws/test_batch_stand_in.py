"""The stand-in for AWS Batch keeps to what the tests of the profile lean on: capacity, attempts, timeouts, Spot."""

import time

import boto3
import pytest
from botocore.exceptions import ClientError

from batch_stand_in import RECLAIMED, REGION, BatchStandIn, Definition, Queue
from object_store import KEYS


@pytest.fixture
def batch(tmp_path):
    path = {"PATH": "/usr/bin:/bin"}
    definitions = {
        "once": Definition(path),
        "twice": Definition(path, attempts=2),
        "short": Definition(path, timeout_s=0.5),
    }
    with BatchStandIn(tmp_path, {"queue": Queue(2, 4000, gpus=1)}, definitions, KEYS) as stand_in:
        yield stand_in


@pytest.fixture
def client(batch):
    keys = {name.lower(): value for name, value in KEYS.items()}
    return boto3.client("batch", endpoint_url=f"http://127.0.0.1:{batch.port}", region_name=REGION, **keys)


def submit(client, command, definition="once", vcpus=1, gpus=0, queue="queue"):
    asked = {"VCPU": vcpus, "MEMORY": 1000, "GPU": gpus}
    override = {
        "command": ["/bin/bash", "-c", command],
        "resourceRequirements": [{"type": kind, "value": str(n)} for kind, n in asked.items() if n],
    }
    answer = client.submit_job(
        jobName="job", jobQueue=queue, jobDefinition=definition, containerOverrides=override
    )
    return answer["jobId"]


def described(client, name):
    return client.describe_jobs(jobs=[name])["jobs"][0]


def wait_until(client, name, *statuses):
    for _ in range(100):
        job = described(client, name)
        if job["status"] in statuses:
            return job
        time.sleep(0.1)
    raise AssertionError(job)


def test_job__runs_in_a_fresh_folder_with_a_clean_environment_and_its_role(batch, client, monkeypatch):
    monkeypatch.setenv("OF_THE_USER", "x")
    name = submit(client, "pwd; ls -A; env")
    assert wait_until(client, name, "SUCCEEDED", "FAILED")["container"]["exitCode"] == 0
    text = batch.jobs[name].text()
    assert "OF_THE_USER" not in text
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1" in text
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in text


@pytest.mark.parametrize("asked", [{"vcpus": 2}, {"gpus": 1}])
def test_queue__job_waits_until_there_is_room(client, asked):
    first, second = (submit(client, "sleep 1", **asked) for _ in range(2))
    wait_until(client, first, "RUNNING")
    assert described(client, second)["status"] == "RUNNABLE"
    wait_until(client, second, "SUCCEEDED")
    assert described(client, first)["status"] == "SUCCEEDED"


def test_job__failure_is_tried_again_as_often_as_its_definition_says(batch, client):
    for definition, n_started in (("once", 1), ("twice", 2)):
        name = submit(client, "exit 3", definition)
        assert wait_until(client, name, "FAILED")["container"]["exitCode"] == 3
        assert batch.jobs[name].n_started == n_started


def test_job__time_out_reclaim_and_termination_end_it_with_their_reasons(batch, client):
    late = submit(client, "sleep 60", "short")
    assert wait_until(client, late, "FAILED")["statusReason"] == "Job attempt duration exceeded timeout"
    lost = submit(client, "sleep 60")
    wait_until(client, lost, "RUNNING")
    batch.reclaim(batch.running("sleep 60"))
    job = wait_until(client, lost, "FAILED")
    assert (job["statusReason"], job["container"]) == (RECLAIMED, {})
    ended = submit(client, "sleep 60")
    client.terminate_job(jobId=ended, reason="by hand")
    assert wait_until(client, ended, "FAILED")["statusReason"] == "by hand"


def test_stand_in__unknown_names_are_refused_and_every_call_is_kept(batch, client):
    with pytest.raises(ClientError, match="nowhere"):
        submit(client, "true", queue="nowhere")
    assert [item["jobQueueName"] for item in client.describe_job_queues()["jobQueues"]] == ["queue"]
    found = client.describe_job_definitions(jobDefinitionName="twice")["jobDefinitions"]
    assert [item["retryStrategy"] for item in found] == [{"attempts": 2}]
    assert [name for name, _ in batch.calls] == ["submitjob", "describejobqueues", "describejobdefinitions"]
