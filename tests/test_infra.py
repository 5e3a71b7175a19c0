"""infra/oncoarena.yaml keeps its promises, and a template that is spoilt on purpose is noticed."""

import copy
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

import infra_promises as promises
from cloudformation import Stack, decide, read_template
from studies import ROOT

PATH = ROOT / "infra/oncoarena.yaml"
TEMPLATE = read_template(PATH)
NEEDED = {"Email": "a@example.org", "ImageTag": "v0.1.0"}
OWN_NETWORK = {"VpcId": "vpc-1", "SubnetIds": "subnet-1,subnet-2"}
CHOICES = {
    "defaults": NEEDED,
    "everything of one's own": NEEDED
    | OWN_NETWORK
    | {
        "ExistingRawBucket": "hospital-raw",
        "ExistingRawKeyArn": "arn:aws:kms:::key/raw",
        "RouteTableIds": "rtb-1,rtb-2",
        "GitHubRepository": "lab/oncoarena",
    },
}
GONE = object()
PUBLIC = "RawBucket.Properties.PublicAccessBlockConfiguration.RestrictPublicBuckets"
ENCRYPTION = "ResultsBucket.Properties.BucketEncryption.ServerSideEncryptionConfiguration.0"
DATA = "DataPolicy.Properties.PolicyDocument.Statement"
RUN = "WorkflowPolicy.Properties.PolicyDocument.Statement"
RAW_POLICY = "RawBucketPolicy.Properties.PolicyDocument.Statement"
ANY_OBJECT = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
SPOILT = {
    promises.buckets_are_versioned_encrypted_and_private: {
        "RawBucket.Properties.VersioningConfiguration.Status": "Suspended",
        f"{ENCRYPTION}.ServerSideEncryptionByDefault.SSEAlgorithm": "AES256",
        f"{ENCRYPTION}.BucketKeyEnabled": False,
        PUBLIC: False,
        "ResultsBucket.DeletionPolicy": "Delete",
        "DataKey.Properties.EnableKeyRotation": False,
    },
    promises.buckets_speak_tls_only_and_nobody_deletes_them: {
        f"{RAW_POLICY}.0.Condition.Bool.aws:SecureTransport": "true",
        f"{RAW_POLICY}.1.Action": "s3:GetObject",
        "ResultsBucketPolicy": GONE,
    },
    promises.jobs_only_read_raw_data: {
        f"{DATA}.4": ANY_OBJECT,
        f"{DATA}.0.Action": ["s3:GetObject", "s3:PutObjectAcl"],
    },
    promises.jobs_write_results_and_nothing_else: {
        f"{DATA}.1.Resource": "*",
        f"{DATA}.6": GONE,
        f"{DATA}.3.Condition.StringEquals": {},
    },
    promises.nobody_creates_or_deletes_buckets: {
        f"{DATA}.5.Action": "s3:CreateBucket",
        f"{DATA}.5.Effect": "Allow",
    },
    promises.roles_name_what_they_may_do: {
        f"{RUN}.2.Action": "batch:*",
        f"{DATA}.1.Action": "s3:Get*",
        f"{DATA}.2.Resource": "*",
        "DataKey.Properties.KeyPolicy.Statement.0.Principal": "*",
    },
    promises.roles_are_taken_by_those_they_are_for: {
        "JobRole.Properties.AssumeRolePolicyDocument.Statement.0.Principal": {"AWS": "*"},
        "InstanceRole.Properties.ManagedPolicyArns.0": "arn:aws:iam::aws:policy/AdministratorAccess",
    },
    promises.whoever_runs_the_workflow_may_do_just_that: {
        f"{RUN}.0.Resource": "*",
        f"{RUN}.1.Action": "batch:CancelJob",
        f"{RUN}.3": {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*"},
    },
    promises.preprocessing_runs_on_memory_optimised_spot_first: {
        "MemoryQueue.Properties.ComputeEnvironmentOrder.0.Order": 3,
        "MemoryOnDemand.Properties.ComputeResources.InstanceTypes": ["m5"],
    },
    promises.training_runs_on_gpus_spot_first: {
        "GpuSpot.Properties.ComputeResources.Type": "EC2",
        "GpuSpot.Properties.ComputeResources.InstanceTypes": ["g5"],
        "GpuOnDemand.Properties.ComputeResources.Ec2Configuration.0.ImageType": "ECS_AL2023",
    },
    promises.the_small_queue_cannot_be_reclaimed: {"SmallOnDemand.Properties.ComputeResources.Type": "SPOT"},
    promises.machines_cost_nothing_when_idle_and_are_bounded: {
        "MemorySpot.Properties.ComputeResources.MinvCpus": 4,
        "GpuOnDemand.Properties.ComputeResources.MaxvCpus": 10000,
        "MemoryOnDemand.Properties.ComputeResources.InstanceTypes": ["r7g"],
        "GpuSpot.Properties.ComputeResources.AllocationStrategy": "BEST_FIT",
    },
    promises.machines_have_encrypted_disks_and_no_open_port: {
        "JobInstances.Properties.LaunchTemplateData.BlockDeviceMappings.0.Ebs.Encrypted": False,
        "JobSecurityGroup.Properties.SecurityGroupIngress": [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}],
        "GpuSpot.Properties.ComputeResources.SecurityGroupIds": ["sg-1"],
    },
    promises.bytes_from_s3_pass_no_nat: {
        "S3Endpoint": GONE,
        "S3Endpoint.Properties.VpcEndpointType": "Interface",
        "SubnetRoutesB.Properties.RouteTableId": "rtb-9",
        "Nat": {"Type": "AWS::EC2::NatGateway"},
    },
    promises.every_image_has_a_definition_that_leaves_retries_to_snakemake: {
        "TorchJob": GONE,
        "CpuJob.Properties.RetryStrategy.Attempts": 3,
        "CudaJob.Properties.Timeout": {"AttemptDurationSeconds": 60},
        "TensorflowJob.Properties.ContainerProperties.Environment.0.Name": "AWS_SECRET_ACCESS_KEY",
        "CpuJob.Properties.ContainerProperties.Privileged": True,
    },
    promises.jobs_write_logs_that_are_kept_for_a_while: {
        "CudaJob.Properties.ContainerProperties.LogConfiguration.LogDriver": "json-file",
        "JobLogs.Properties.RetentionInDays": 1,
    },
    promises.images_are_scanned_and_never_replaced: {"Images.Properties.ImageTagMutability": "MUTABLE"},
    promises.a_budget_alarm_reaches_the_user: {
        "MonthlyBudget.Properties.NotificationsWithSubscribers.0.Subscribers": [],
        "MonthlyBudget.Properties.NotificationsWithSubscribers.2": GONE,
        "MonthlyBudget.Properties.Budget.TimeUnit": "ANNUALLY",
    },
    promises.outputs_name_what_was_made: {"GpuQueue.Properties.JobQueueName": "another"},
}


def spoil(path, value):
    """Return the template with one value below Resources replaced, added or taken out."""
    template = copy.deepcopy(TEMPLATE)
    *outer, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place = template["Resources"]
    for part in outer:
        place = place[part]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return template


def named(value):
    return value.__name__ if callable(value) else str(value)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("promise", SPOILT, ids=named)
def test_template__keeps_its_promise(promise, choice):
    promise(Stack(TEMPLATE, **CHOICES[choice]))


@pytest.mark.parametrize(
    ("promise", "path"), [(promise, path) for promise in SPOILT for path in SPOILT[promise]], ids=named
)
def test_template__a_spoilt_one_breaks_its_promise(promise, path):
    stack = Stack(spoil(path, SPOILT[promise][path]), **NEEDED)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        promise(stack)


def test_template__makes_no_network_where_there_is_one():
    stack = Stack(TEMPLATE, **NEEDED | OWN_NETWORK)
    assert not stack.of("AWS::EC2::VPC")
    assert not stack.of("AWS::EC2::VPCEndpoint"), "whose route tables it would change was not said"
    assert stack.of("AWS::EC2::SecurityGroup")["JobSecurityGroup"]["VpcId"] == "vpc-1"


def test_template__a_raw_bucket_that_is_there_is_left_alone():
    stack = Stack(
        TEMPLATE, **NEEDED, ExistingRawBucket="hospital-raw", ExistingRawKeyArn="arn:aws:kms:::key/raw"
    )
    assert set(stack.of("AWS::S3::Bucket")) == {"ResultsBucket"}
    assert decide(stack.statements("JobRole"), "kms:Decrypt", "arn:aws:kms:::key/raw") == "allow"
    lines = Stack(TEMPLATE, **NEEDED).statements("JobRole")
    assert decide(lines, "kms:Decrypt", "arn:aws:kms:::key/raw") == "nothing"


def test_template__names_no_region_no_account_and_fits_a_request():
    text = PATH.read_text()
    assert not re.findall(r"\b(?:us|eu|ap|ca|sa|me|af|il)-[a-z]+-\d\b", text)
    assert not re.findall(r"\b\d{12}\b", text)
    assert len(text.encode()) < 51_200, "CloudFormation takes no larger template in a request"


def test_guide__names_parameters_outputs_and_files_that_exist():
    text = (ROOT / "docs/aws.md").read_text()
    named = set(re.findall(r"--parameter (\w+)=", text)) | set(
        re.findall(r"`((?:Max|Min)?\w+(?:Vcpus|Types|Gb))`", text)
    )
    assert {"VpcId", "MaxGpuVcpus", "ScratchGb"} <= named <= set(TEMPLATE["Parameters"])
    outputs = set(re.findall(r"outputs? `(\w+)`", text))
    assert {"ImageRepository", "ImagePushRoleArn"} <= outputs <= set(TEMPLATE["Outputs"])
    files = re.findall(r"\]\(\.\./([^)]+)\)", text)
    assert files
    assert all((ROOT / name).is_file() for name in files)


def test_cfn_lint__finds_nothing_in_it_and_something_in_a_spoilt_one(tmp_path):
    spoilt = tmp_path / "spoilt.yaml"
    spoilt.write_text(PATH.read_text().replace("RetentionInDays: 90", "RetentionInDays: 91"))
    command = [str(Path(sysconfig.get_path("scripts"), "cfn-lint")), "--format", "parseable", "--"]
    done = subprocess.run([*command, str(PATH), str(spoilt)], capture_output=True, text=True, check=False)
    assert not done.stderr
    (found,) = done.stdout.splitlines()
    assert found.startswith(f"{spoilt}:")
    assert "91" in found
