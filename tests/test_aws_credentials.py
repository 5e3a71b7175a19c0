"""Credentials that are absent, wrong, expired or too weak, and servers that do not answer, said in plain lines.

moto answers in the place of AWS; what depends on real signatures is asked of SeaweedFS.
"""

import dataclasses
import json
import time
from pathlib import Path

import boto3
import pytest

from aws_account import (
    REGION,
    SETTINGS,
    CleanAccount,
    access_control,
    as_aws,
    complaints,
    environment,
    moto_server,
    one_answer,
    only_complaint,
    study_of,
    write_repository,
    write_sheet,
)
from object_store import KEYS, free_port, s3_server
from oncoarena.aws.checks import check_aws


@pytest.fixture(scope="module")
def moto():
    with moto_server() as url:
        yield CleanAccount(url)


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("weed")) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def account(moto, tmp_path, monkeypatch):
    """A clean account at AWS, and a study that may run there."""
    monkeypatch.chdir(tmp_path)
    write_repository(tmp_path)
    with environment(as_aws(moto.url)):
        moto.reset()
        yield moto


def test_check_aws__right_that_the_caller_lacks_is_named(account):
    """moto's own access control, with a user who may do all but look at versions."""
    account.iam.create_user(UserName="reader")
    rules = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "s3:GetBucketVersioning", "Resource": "*"},
    ]
    account.iam.put_user_policy(
        UserName="reader",
        PolicyName="reader",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": rules}),
    )
    keys = account.iam.create_access_key(UserName="reader")["AccessKey"]
    with access_control(account.url):
        mine = {"AWS_ACCESS_KEY_ID": keys["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"]}
        with environment(as_aws(account.url) | mine):
            lines = complaints()
        with environment(as_aws(account.url)):
            unknown = only_complaint()
    assert len(lines) == 2
    assert all("cannot be checked: you lack s3:GetBucketVersioning; ask" in line for line in lines)
    assert "the AWS access key or session token is not known there; run: aws sso login" in unknown


def test_check_aws__no_credentials(account):
    without = {name: value for name, value in as_aws(account.url).items() if name not in KEYS}
    with environment(without):
        line = only_complaint()
    assert line == (
        "no AWS credentials were found; run: aws sso login   or: aws configure   then: aws sts get-caller-identity"
    )


def test_check_aws__half_a_pair_of_keys(account):
    half = {name: value for name, value in as_aws(account.url).items() if name != "AWS_SECRET_ACCESS_KEY"}
    with environment(half):
        assert "Partial credentials found" in only_complaint()


def test_check_aws__profile_that_is_not_there(account):
    with environment(as_aws(account.url) | {"AWS_PROFILE": "oncolgy"}):
        line = only_complaint()
    assert "The config profile (oncolgy) could not be found; run: aws configure list-profiles" in line


def test_check_aws__expired_token(account):
    """The answer that AWS's own documentation gives for an expired session."""
    body = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        "<Code>ExpiredToken</Code><Message>The security token included in the request is expired</Message>"
        "</Error></ErrorResponse>"
    )
    with (
        one_answer(403, body) as url,
        environment({"AWS_ENDPOINT_URL": account.url, "AWS_ENDPOINT_URL_STS": url} | KEYS),
    ):
        assert "the AWS credentials have expired; run: aws sso login" in only_complaint()


def test_check_aws__region_that_is_not_one(account):
    """A proxy at which nobody answers stands for a network that does not know the region's host."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    with environment({**as_aws(nowhere), "AWS_ENDPOINT_URL_STS": "http://sts.eu-centrl-1.amazonaws.com"}):
        line = only_complaint(dataclasses.replace(SETTINGS, region="eu-centrl-1"))
    assert (
        "cannot be reached, and eu-centrl-1 is no region of AWS known here; did you mean 'eu-central-1'?"
        in line
    )


def test_check_aws__server_that_does_not_answer(account):
    nowhere = f"http://127.0.0.1:{free_port()}"
    began = time.monotonic()
    with environment(KEYS | {"AWS_ENDPOINT_URL": nowhere}):
        line = only_complaint()
    assert f"{nowhere} cannot be reached; start that server, or: unset AWS_ENDPOINT_URL" in line
    assert time.monotonic() - began < 15


# A server of one's own


@pytest.fixture
def own_server(account, seaweed):
    """Objects in SeaweedFS, jobs at a server that speaks for Batch; nothing is asked of AWS."""
    own = KEYS | {"AWS_ENDPOINT_URL_S3": seaweed, "AWS_ENDPOINT_URL_BATCH": account.url}
    with environment(own):
        s3 = boto3.client("s3", region_name=REGION)
        wait_for_bucket(s3, "genomics")
        s3.put_bucket_versioning(Bucket="genomics", VersioningConfiguration={"Status": "Enabled"})
        yield own


OWN = dataclasses.replace(SETTINGS, results="s3://genomics/results", raw_buckets=())


def test_check_aws__what_an_own_server_does_not_tell_is_said(own_server, capsys):
    write_sheet(Path.cwd(), "s3://genomics/{}.tsv")
    check_aws(OWN, study_of(), root=Path.cwd())
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith(
        "oncoarena: note: the S3 server is not AWS and does not tell: encryption of genomics"
    )
    assert "block of public access of genomics" in note


def test_check_aws__missing_bucket_of_an_own_server(own_server):
    write_sheet(Path.cwd(), "s3://genomics/{}.tsv")
    line = only_complaint(dataclasses.replace(OWN, results="s3://genomcs/results"))
    assert line.startswith(
        "results: bucket genomcs does not exist; correct the name, or run: oncoarena aws init"
    )


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (
            {"AWS_SECRET_ACCESS_KEY": "other"},
            "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID; run",
        ),
        ({"AWS_ACCESS_KEY_ID": "other"}, "AWS_ACCESS_KEY_ID is not known there; run: aws sso login"),
    ],
)
def test_check_aws__wrong_keys_for_an_own_server(own_server, wrong, complaint):
    with environment(own_server | wrong):
        assert complaint in only_complaint(OWN)


def wait_for_bucket(s3, name):
    """SeaweedFS answers a moment before it has made its bucket."""
    for _ in range(50):
        if name in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
            return
        time.sleep(0.1)
    pytest.fail(f"the S3 server did not make bucket {name}")
