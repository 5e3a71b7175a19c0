"""An AWS account of moto's, and a study in a repository of its own that may run there."""

import contextlib
import http.client
import http.server
import logging
import os
import shutil
import subprocess
import threading
from pathlib import Path

import boto3
import pandas as pd
import pytest

from oncoarena.aws.checks import check_aws
from oncoarena.aws.settings import AwsSettings
from oncoarena.errors import InputError
from oncoarena.study import Study, read_study
from studies import ROOT

REGION = "eu-central-1"
SETTINGS = AwsSettings(
    region=REGION,
    results="s3://onco-results/team",
    raw_buckets=("onco-raw",),
    allowed_regions=(REGION, "eu-west-1"),
    queues={"memory": "memory-queue", "gpu": "gpu-queue", "small": "small-queue"},
    job_definitions={
        "cpu": "onco-cpu",
        "tensorflow": "onco-tf",
        "torch": "onco-torch",
        "cuda": "onco-cuda:1",
    },
)
KEYS = {"AWS_ACCESS_KEY_ID": "testkey", "AWS_SECRET_ACCESS_KEY": "testsecret"}
ACCESS_KEY = "AKIA" + "Q3EGRYTK5VXW2HJN"
"""Looks like an access key, and stands in no file of the repository."""

LONELY = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "none",
    "AWS_SHARED_CREDENTIALS_FILE": "none",
}
"""No credentials from elsewhere on this machine."""


@contextlib.contextmanager
def environment(changed):
    """Set variables, and remove all others that could lead to a real account or past a proxy."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("AWS_") or name.lower() in ("http_proxy", "no_proxy", "all_proxy"):
            del os.environ[name]
    os.environ.update(LONELY | changed)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def moto_server():
    """Start moto's server in this process and yield its URL."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


def as_aws(url):
    """Variables with which requests carry AWS's own host names, and a proxy leads all of them to moto."""
    hosts = {
        f"AWS_ENDPOINT_URL_{name.upper()}": f"http://{name}.{REGION}.amazonaws.com"
        for name in ("s3", "sts", "batch", "iam")
    }
    return KEYS | hosts | {"HTTP_PROXY": url, "http_proxy": url}


class CleanAccount:
    """Buckets, queues and job definitions as they should be, ready to be spoilt."""

    def __init__(self, url):
        self.url = url
        with environment(KEYS):
            self.s3, self.batch, self.iam = (
                boto3.client(name, region_name=REGION, endpoint_url=url) for name in ("s3", "batch", "iam")
            )

    def reset(self):
        """Undo whatever was done to the account."""
        tell_moto(self.url, "reset")
        for name in ("onco-results", "onco-raw"):
            self.add_bucket(name)
        role = self.iam.create_role(RoleName="batch", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        self.machines = self.batch.create_compute_environment(
            computeEnvironmentName="machines", type="UNMANAGED", state="ENABLED", serviceRole=role
        )["computeEnvironmentArn"]
        for name in SETTINGS.queues.values():
            self.batch.create_job_queue(
                jobQueueName=name,
                state="ENABLED",
                priority=1,
                computeEnvironmentOrder=[{"order": 1, "computeEnvironment": self.machines}],
            )
        for name in SETTINGS.job_definitions.values():
            self.define(name.partition(":")[0])

    def add_bucket(self, name, region=REGION):
        """Make a bucket that is versioned, encrypted with KMS and closed to the public."""
        client = (
            self.s3 if region == REGION else boto3.client("s3", region_name=region, endpoint_url=self.url)
        )
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        client.create_bucket(Bucket=name, **place)
        self.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        self.encrypt(name, "aws:kms")
        self.s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=closed())

    def encrypt(self, name, algorithm):
        """Set a bucket's default encryption."""
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm}}
        self.s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})

    def define(self, name, attempts=1, environment=()):
        """Register a revision of a job definition."""
        self.batch.register_job_definition(
            jobDefinitionName=name,
            type="container",
            containerProperties={
                "image": "oncoarena",
                "vcpus": 1,
                "memory": 2000,
                "environment": list(environment),
            },
            retryStrategy={"attempts": attempts},
        )


def tell_moto(url, command, body=b""):
    """Give moto itself a command."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("POST", f"/moto-api/{command}", body, {"Content-Type": "text/plain"})
    assert connection.getresponse().status == 200
    connection.close()


@contextlib.contextmanager
def access_control(url):
    """Let moto check keys and policies, which it does not do otherwise."""
    tell_moto(url, "reset-auth", b"0")
    try:
        yield
    finally:
        tell_moto(url, "reset-auth", b"inf")


@contextlib.contextmanager
def one_answer(status, body):
    """Start a server that answers every POST alike and yield its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def closed(**but):
    """A block of all public access, but for the parts given."""
    parts = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    return dict.fromkeys(parts, True) | but


MODULE = """from shared import alpha
FRAMEWORK = "numpy"
BLOCKS = "all"
class Config:
    strength: int = alpha
"""


def write_repository(folder: Path, cell="s3://onco-raw/{}.tsv") -> None:
    """Write a study with a hypothesis of its own below a folder, and let git track all of it."""
    for name in ("config/hypotheses", "workflow/rules", "claims"):
        (folder / name).mkdir(parents=True)
    shutil.copy(ROOT / "config/hypotheses/prior_only.yaml", folder / "config/hypotheses")
    (folder / "config/hypotheses/idea.yaml").write_text("title: An idea\nmodule: claims/idea.py\n")
    (folder / "claims/idea.py").write_text(MODULE)
    (folder / "claims/shared.py").write_text("alpha = 1\n")
    (folder / "workflow/rules/train.smk").write_text("# rules\n")
    (folder / ".gitignore").write_text("*.pyc\n/private/\n")
    write_sheet(folder, cell)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")


def write_sheet(folder: Path, cell: str) -> None:
    """Write a sample sheet whose column ``expression`` holds ``cell`` with the sample's name filled in."""
    ids = [f"s{row}" for row in range(8)]
    sheet = pd.DataFrame({"sample_id": ids, "patient_id": ids, "label": ["a", "b"] * 4})
    sheet["expression"] = [cell.format(name) for name in ids]
    sheet.to_csv(folder / "samples.tsv", sep="\t", index=False)


def git(folder: Path, *arguments: str) -> None:
    """Give git a command."""
    subprocess.run(["git", *arguments], cwd=folder, check=True)


def study_of(**changes) -> Study:
    """Read the study of the repository in which this process is."""
    config = {
        "study": "toy",
        "samples": "samples.tsv",
        "assays": {"expression": {"column": "expression"}},
        "splits": {"scheme": "kfold", "folds": 2},
        "hypotheses": ["idea", "prior_only"],
    }
    return read_study(
        config | changes,
        where="my.yaml",
        schemas=ROOT / "workflow/schemas",
        hypothesis_dirs=[Path("config/hypotheses")],
    )


def complaints(settings=SETTINGS, **changes) -> list[str]:
    """Lines that the check of the study raises, with changes of its config."""
    with pytest.raises(InputError) as caught:
        check_aws(settings, study_of(**changes), root=Path.cwd())
    return str(caught.value).splitlines()


def only_complaint(settings=SETTINGS, **changes) -> str:
    """The one line that the check of the study raises."""
    (line,) = complaints(settings, **changes)
    return line
