"""``oncoarena aws init`` against moto's CloudFormation, S3, Batch, EC2, IAM, KMS, ECR and logs.

moto knows no AWS::S3::BucketPolicy and no AWS::Budgets::Budget, and wants a service role for compute environments:
the template used here is the real one without the first two and with the third. It makes resources at once, runs no
job, and its S3 takes no notice of versioning in a template: tests/test_infra.py reads those promises. Updates and
failures, which it does not imitate well, are in tests/test_aws_stacks.py.
"""

import json
import sys
import urllib.request

import boto3
import pytest
import yaml

from aws_account import KEYS, REGION, environment, moto_server
from cloudformation import read_template
from oncoarena import __version__
from oncoarena.aws.init import CONFIG, fill_in, init, read_parameters
from oncoarena.aws.settings import read_settings
from oncoarena.errors import InputError
from studies import ROOT

LEFT_OUT = ("RawBucketPolicy", "ResultsBucketPolicy", "MonthlyBudget")


@pytest.fixture(scope="module")
def server():
    with moto_server() as url:
        yield url


@pytest.fixture
def account(server):
    with environment(KEYS | {"AWS_ENDPOINT_URL": server}):
        urllib.request.urlopen(urllib.request.Request(f"{server}/moto-api/reset", method="POST")).close()
        yield lambda service: boto3.client(service, region_name=REGION)


@pytest.fixture
def template(tmp_path):
    """Write the template as far as moto knows it."""
    content = read_template(ROOT / "infra/oncoarena.yaml")
    for name in LEFT_OUT:
        del content["Resources"][name]
    for item in content["Resources"].values():
        if item["Type"] == "AWS::Batch::ComputeEnvironment":
            item["Properties"]["ServiceRole"] = {"Fn::GetAtt": ["InstanceRole", "Arn"]}
    path = tmp_path / "template.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


class Deployment:
    """Calls init with a config of its own and keeps what it says."""

    def __init__(self, template, folder):
        self.template, self.config, self.lines = template, folder / "aws.yaml", []
        self.config.write_text((ROOT / CONFIG).read_text())

    def __call__(self, stack="oncoarena", region=REGION, **options):
        self.lines.clear()
        return init(
            stack,
            region,
            config=self.config,
            template=self.template,
            poll_s=0,
            say=self.lines.append,
            **options,
        )

    def settings(self):
        return read_settings(self.config, {}, schemas=ROOT / "workflow/schemas")


@pytest.fixture
def deploy(account, template, tmp_path):
    return Deployment(template, tmp_path)


def comments(path):
    return [line for line in path.read_text().splitlines() if line.lstrip().startswith("#")]


def test_init__makes_what_the_settings_then_name(deploy, account):
    outputs = deploy(email="a@example.org", monthly_budget_usd=50)
    assert comments(deploy.config) == comments(ROOT / CONFIG) != []
    settings = deploy.settings()
    assert settings.region == REGION
    assert settings.allowed_regions == (REGION,)
    made = {item["jobQueueName"]: item for item in account("batch").describe_job_queues()["jobQueues"]}
    assert dict(settings.queues) == {kind: f"oncoarena-{kind}" for kind in ("memory", "gpu", "small")}
    assert set(settings.queues.values()) == set(made)
    spot = {
        item["computeEnvironmentArn"]: item["computeResources"]["type"]
        for item in account("batch").describe_compute_environments()["computeEnvironments"]
    }
    for kind in ("memory", "gpu"):
        order = made[f"oncoarena-{kind}"]["computeEnvironmentOrder"]
        assert [spot[item["computeEnvironment"]] for item in order] == ["SPOT", "EC2"]
    found = account("batch").describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    images = {item["jobDefinitionName"]: item["containerProperties"]["image"] for item in found}
    assert set(settings.job_definitions.values()) == set(images)
    for target, name in settings.job_definitions.items():
        assert images[name] == f"{outputs['ImageRepository']}:{target}-v{__version__}"
    buckets = {item["Name"] for item in account("s3").list_buckets()["Buckets"]}
    assert buckets == {settings.results_bucket, *settings.raw_buckets}
    for bucket in buckets:
        note = account("s3").get_object(Bucket=bucket, Key=".keep")["Body"].read().decode()
        assert "Leave it here" in note
        rule = account("s3").get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"][
            "Rules"
        ][0]
        assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert deploy.lines[0].endswith(f"region {REGION}, stack oncoarena")
    assert any("create complete" in line for line in deploy.lines)
    parameters = account("cloudformation").describe_stacks(StackName="oncoarena")["Stacks"][0]["Parameters"]
    assert {"ParameterKey": "MonthlyBudgetUsd", "ParameterValue": "50"} in parameters


def test_init__takes_the_instance_families_that_the_region_offers(deploy):
    region = "af-south-1"
    deploy(region=region, email="a@example.org")
    pages = boto3.client("ec2", region_name=region).get_paginator("describe_instance_type_offerings")
    offered = {
        item["InstanceType"].partition(".")[0]
        for page in pages.paginate(LocationType="region")
        for item in page["InstanceTypeOfferings"]
    }
    machines = boto3.client("batch", region_name=region).describe_compute_environments()[
        "computeEnvironments"
    ]
    named = {family for item in machines for family in item["computeResources"]["instanceTypes"]}
    assert {"g4dn", "r5", "m5"} <= named <= offered
    assert "p4d" not in named | offered


def test_init__a_region_without_gpus_is_told_before_anything_is_made(deploy):
    region = "ap-southeast-4"
    with pytest.raises(InputError, match=rf"{region} offers none of g4dn, .*--parameter GpuInstanceTypes="):
        deploy(region=region, email="a@example.org")
    assert not boto3.client("cloudformation", region_name=region).describe_stacks()["Stacks"]


def test_init__a_raw_bucket_that_is_there_is_used_and_not_written_to(deploy, account):
    account("s3").create_bucket(
        Bucket="hospital-raw", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    deploy(email="a@example.org", raw_bucket="hospital-raw")
    assert deploy.settings().raw_buckets == ("hospital-raw",)
    assert "Contents" not in account("s3").list_objects_v2(Bucket="hospital-raw")
    assert len(account("s3").list_buckets()["Buckets"]) == 2


def test_init__a_raw_bucket_elsewhere_is_refused_before_anything_is_made(deploy, account):
    boto3.client("s3", region_name="eu-west-1").create_bucket(
        Bucket="hospital-raw", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    with pytest.raises(InputError, match=r"hospital-raw: lies in eu-west-1, .*use --region eu-west-1"):
        deploy(email="a@example.org", raw_bucket="hospital-raw")
    assert not account("cloudformation").describe_stacks()["Stacks"]
    with pytest.raises(InputError, match="s3 get_bucket_location: AWS answered NoSuchBucket"):
        deploy(email="a@example.org", raw_bucket="hospital-rwa")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "the budget alarm needs an address; add --email"),
        ({"stack": "Onco_Arena", "email": "a@b.org"}, "expected a lower-case name"),
        ({"email": "a@b.org", "parameters": {"VpcID": "x"}}, r"'VpcID'.*did you mean 'VpcId'"),
    ],
)
def test_init__tells_what_is_missing_or_misspelt(deploy, options, message):
    before = deploy.config.read_text()
    with pytest.raises(InputError, match=message):
        deploy(**options)
    assert deploy.config.read_text() == before


def test_init__without_credentials_says_how_to_sign_in(deploy, server):
    with (
        environment({"AWS_ENDPOINT_URL": server}),
        pytest.raises(InputError, match="no AWS credentials were found; run"),
    ):
        deploy(email="a@example.org")


def test_init__a_broken_config_is_told_before_anything_is_made(deploy, account):
    deploy.config.write_text("region: [\n")
    with pytest.raises(InputError, match=r"aws\.yaml: line 2"):
        deploy(email="a@example.org")
    assert not account("cloudformation").describe_stacks()["Stacks"]


def test_init__without_boto3_says_how_to_install_it(deploy, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(InputError, match=r"boto3 is not installed; run: pip install .*\[aws\]"):
        deploy(email="a@example.org")


def test_init__outside_a_clone_says_so(tmp_path, account):
    with pytest.raises(
        InputError, match=r"no\.yaml: there is no such file; run this at the top of your clone"
    ):
        init("oncoarena", REGION, email="a@b.org", template=tmp_path / "no.yaml")


def test_read_parameters__takes_values_with_commas_and_signs():
    found = read_parameters(["SubnetIds=subnet-1,subnet-2", "ExistingRawKeyArn=a=b", "VpcId="])
    assert found == {"SubnetIds": "subnet-1,subnet-2", "ExistingRawKeyArn": "a=b", "VpcId": ""}
    with pytest.raises(InputError, match="--parameter VpcId: expected NAME=VALUE"):
        read_parameters(["VpcId"])


def test_fill_in__keeps_what_the_user_chose():
    outputs = {"Region": REGION, "ResultsBucket": "r", "RawBucket": "w"}
    outputs |= {f"{kind}Queue": f"q-{kind}" for kind in ("Memory", "Gpu", "Small")}
    outputs |= {f"{kind}Job": f"j-{kind}" for kind in ("Cpu", "Tensorflow", "Torch", "Cuda")}
    text = "# mine\nresults: s3://r/liver\nraw_buckets: [old]\nallowed_regions: [eu-west-1, eu-central-1]\n"
    found = yaml.safe_load(fill_in(text, outputs))
    assert found["results"] == "s3://r/liver"
    assert found["raw_buckets"] == ["old", "w"]
    assert found["allowed_regions"] == ["eu-west-1", "eu-central-1"]
    assert found["job_definitions"]["cuda"] == "j-Cuda"
    assert yaml.safe_load(fill_in("results: s3://rr/liver\n", outputs))["results"] == "s3://r"
    again = fill_in(fill_in("", outputs), outputs)
    assert again == fill_in("", outputs)
    assert json.loads(json.dumps(yaml.safe_load(again))) == yaml.safe_load(again)
