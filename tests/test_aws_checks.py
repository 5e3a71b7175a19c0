"""What an account lacks is one line with the command that mends it.

moto answers in the place of AWS, under AWS's own host names; nothing here leaves this machine.
"""

import dataclasses
import json
import shlex
import shutil
import time
from pathlib import Path

import boto3
import pandas as pd
import pytest

from aws_account import (
    ACCESS_KEY,
    REGION,
    SETTINGS,
    CleanAccount,
    as_aws,
    closed,
    complaints,
    environment,
    moto_server,
    only_complaint,
    study_of,
    write_repository,
)
from oncoarena.aws.checks import buckets_of, check_aws


@pytest.fixture(scope="module")
def moto():
    with moto_server() as url:
        yield CleanAccount(url)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_repository(tmp_path)
    return tmp_path


@pytest.fixture
def account(moto, repository):
    """A clean account at AWS."""
    with environment(as_aws(moto.url)):
        moto.reset()
        yield moto


def test_check_aws__clean_account_passes_and_nothing_is_printed(account, capsys):
    check_aws(SETTINGS, study_of(), root=Path.cwd())
    assert capsys.readouterr() == ("", "")


def test_check_aws__several_problems_are_told_together(account):
    account.s3.put_bucket_versioning(Bucket="onco-raw", VersioningConfiguration={"Status": "Suspended"})
    account.batch.update_job_queue(jobQueue="gpu-queue", state="DISABLED")
    Path("workflow/rules/new.smk").write_text("# new\n")
    assert len(complaints()) == 3


def test_check_aws__no_repository_is_told_once(account, repository):
    shutil.rmtree(".git")
    assert "jobs on AWS get what git tracks" in only_complaint()


# Buckets


def test_check_aws__missing_results_bucket(account):
    line = only_complaint(dataclasses.replace(SETTINGS, results="s3://onco-reslts/team"))
    assert line.startswith("results: bucket onco-reslts does not exist;")
    assert line.endswith("run: oncoarena aws init")


def test_check_aws__missing_raw_bucket(account):
    line = only_complaint(dataclasses.replace(SETTINGS, raw_buckets=("onco-row",)))
    assert line.startswith("raw_buckets: bucket onco-row does not exist;")


@pytest.mark.parametrize("bucket", ["onco-results", "onco-raw"])
def test_check_aws__bucket_without_versions(account, bucket):
    account.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    line = only_complaint()
    assert f"bucket {bucket} is not versioned; run: aws s3api put-bucket-versioning --region {REGION}" in line
    mend(line)
    check_aws(SETTINGS, study_of(), root=Path.cwd())


@pytest.mark.parametrize("bucket", ["onco-results", "onco-raw"])
def test_check_aws__bucket_without_kms(account, bucket):
    account.encrypt(bucket, "AES256")
    line = only_complaint()
    assert f"bucket {bucket} encrypts with AES256, not with KMS; run: aws s3api put-bucket-encryption" in line
    mend(line)
    check_aws(SETTINGS, study_of(), root=Path.cwd())


def test_check_aws__bucket_without_encryption(account):
    account.s3.delete_bucket_encryption(Bucket="onco-raw")
    assert "bucket onco-raw does not encrypt" in only_complaint()


def test_check_aws__double_layer_of_kms_is_as_good(account):
    account.encrypt("onco-raw", "aws:kms:dsse")
    check_aws(SETTINGS, study_of(), root=Path.cwd())


def test_check_aws__bucket_that_could_be_made_public(account):
    account.s3.put_public_access_block(
        Bucket="onco-raw", PublicAccessBlockConfiguration=closed(RestrictPublicBuckets=False)
    )
    line = only_complaint()
    assert "bucket onco-raw does not block public access; run: aws s3api put-public-access-block" in line
    mend(line)
    check_aws(SETTINGS, study_of(), root=Path.cwd())


def test_check_aws__public_policy(account):
    account.s3.delete_public_access_block(Bucket="onco-raw")
    anyone = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::onco-raw/*",
    }
    account.s3.put_bucket_policy(
        Bucket="onco-raw", Policy=json.dumps({"Version": "2012-10-17", "Statement": [anyone]})
    )
    assert "bucket onco-raw is public through its policy; run: aws s3api put-public" in only_complaint()


@pytest.mark.parametrize("list_of", ["public-read", "authenticated-read"])
def test_check_aws__public_access_list(account, list_of):
    account.s3.delete_public_access_block(Bucket="onco-raw")
    account.s3.put_bucket_acl(Bucket="onco-raw", ACL=list_of)
    assert "bucket onco-raw is public through its access list; run: aws s3api put-public" in only_complaint()


def test_check_aws__results_in_another_region(account):
    account.add_bucket("onco-ireland", "eu-west-1")
    line = only_complaint(dataclasses.replace(SETTINGS, results="s3://onco-ireland/team"))
    assert "bucket onco-ireland is in eu-west-1, the jobs run in eu-central-1" in line
    assert "export ONCOARENA_REGION=eu-west-1" in line


def test_check_aws__raw_data_where_they_may_not_lie(account):
    account.add_bucket("onco-virginia", "us-east-1")
    line = only_complaint(dataclasses.replace(SETTINGS, raw_buckets=("onco-virginia",)))
    assert "is in us-east-1, where data may not lie (allowed_regions: eu-central-1, eu-west-1)" in line
    assert "run: aws s3 sync s3://onco-virginia s3://... --source-region us-east-1" in line


def test_check_aws__allowed_traffic_between_regions_is_named(account, capsys):
    account.add_bucket("onco-ireland", "eu-west-1")
    check_aws(dataclasses.replace(SETTINGS, raw_buckets=("onco-ireland",)), study_of(), root=Path.cwd())
    assert "bucket onco-ireland is in eu-west-1, the jobs run in eu-central-1" in capsys.readouterr().err


def test_check_aws__bucket_of_one_sample_among_many_is_checked(account, repository):
    account.add_bucket("onco-virginia", "us-east-1")
    sheet = Path("samples.tsv").read_text()
    Path("samples.tsv").write_text(sheet.replace("s3://onco-raw/s5", "s3://onco-virginia/s5"))
    line = only_complaint()
    assert line.startswith("samples.tsv: column 'expression': bucket onco-virginia is in us-east-1")


def test_check_aws__buckets_of_config_are_checked(account):
    line = only_complaint(
        assays={"expression": {"matrix": "s3://no-matrix/m.tsv", "annotation": "s3://onco-raw/genes.tsv"}}
    )
    assert line.startswith("assays.expression.matrix: bucket no-matrix does not exist")
    line = only_complaint(external=[{"id": "paper", "predictions": "s3://no-paper/p.tsv"}])
    assert line.startswith("external paper: bucket no-paper does not exist")
    line = only_complaint(
        assays={"alignments": {"column": "expression", "reference": "s3://No_Bucket/hg38.fa"}}
    )
    assert line.startswith("assays.alignments.reference: bucket No_Bucket does not exist")


def test_buckets_of__a_million_samples_in_bounded_time(repository):
    cells = [f"s3://bucket-{row % 7}/batch{row % 1000}/sample{row}.bam" for row in range(1_000_000)]
    samples = pd.DataFrame({"expression": cells})
    began = time.process_time()
    found = buckets_of(SETTINGS, study_of(), samples)
    assert len(found) == 9
    assert time.process_time() - began < 10


# Queues and job definitions


def test_check_aws__missing_queue(account):
    line = only_complaint(dataclasses.replace(SETTINGS, queues=SETTINGS.queues | {"gpu": "gpu-quue"}))
    assert line.startswith(
        "queues.gpu: job queue gpu-quue does not exist in eu-central-1; did you mean 'gpu-queue'?"
    )
    assert line.endswith("run: oncoarena aws init")


def test_check_aws__queue_by_its_arn(account):
    queues = account.batch.describe_job_queues()["jobQueues"]
    arn = {queue["jobQueueName"]: queue["jobQueueArn"] for queue in queues}["gpu-queue"]
    check_aws(
        dataclasses.replace(SETTINGS, queues=SETTINGS.queues | {"gpu": arn}), study_of(), root=Path.cwd()
    )


def test_check_aws__disabled_queue(account):
    account.batch.update_job_queue(jobQueue="memory-queue", state="DISABLED")
    line = only_complaint()
    assert line.startswith(
        "queues.memory: job queue memory-queue is DISABLED; run: aws batch update-job-queue"
    )
    mend(line)
    check_aws(SETTINGS, study_of(), root=Path.cwd())


def test_check_aws__missing_job_definition(account):
    definitions = SETTINGS.job_definitions | {"torch": "onco-troch"}
    line = only_complaint(dataclasses.replace(SETTINGS, job_definitions=definitions))
    assert line.startswith("job_definitions.torch: job definition onco-troch does not exist in eu-central-1")


def test_check_aws__retired_revision_of_a_job_definition(account):
    account.define("onco-cuda")
    account.batch.deregister_job_definition(jobDefinition="onco-cuda:1")
    line = only_complaint()
    assert line.startswith("job_definitions.cuda: job definition onco-cuda:1 does not exist in")
    definitions = SETTINGS.job_definitions | {"cuda": "onco-cuda"}
    check_aws(dataclasses.replace(SETTINGS, job_definitions=definitions), study_of(), root=Path.cwd())


def test_check_aws__retries_behind_the_back_of_snakemake(account):
    account.define("onco-cpu", attempts=3)
    line = only_complaint()
    assert line.startswith("job_definitions.cpu: job definition onco-cpu makes 3 attempts by itself")


def test_check_aws__secret_in_a_job_definition(account):
    account.define("onco-cpu", environment=[{"name": "AWS_ACCESS_KEY_ID", "value": ACCESS_KEY}])
    line = only_complaint()
    assert "onco-cpu holds a credential in its variable AWS_ACCESS_KEY_ID" in line
    assert ACCESS_KEY not in line


def mend(line):
    """Do what a line says after "run: aws": the same call, by the SDK that the command line is made of."""
    _, service, operation, *rest = shlex.split(line.partition("; run: ")[2])
    given = dict(zip(rest[::2], rest[1::2], strict=True))
    region = given.pop("--region")
    client = boto3.client({"s3api": "s3"}.get(service, service), region_name=region)
    arguments = {_member(client, operation, name): _value(text) for name, text in given.items()}
    getattr(client, operation.replace("-", "_"))(**arguments)


def _member(client, operation, flag):
    """The parameter that a flag of the command line stands for: its name with dashes and in lower case."""
    name = "".join(word.title() for word in operation.split("-"))
    members = client.meta.service_model.operation_model(name).input_shape.members
    (found,) = [member for member in members if member.lower() == flag.replace("-", "").lower()]
    return found


def _value(text):
    """JSON or the command line's shorthand, Key=value,Key=value."""
    if text.startswith("{"):
        return json.loads(text)
    if "=" not in text:
        return text
    pairs = dict(pair.split("=") for pair in text.split(","))
    return {key: {"true": True, "false": False}.get(value, value) for key, value in pairs.items()}
