"""Everything of an AWS account that can be known to be wrong before the first job, said in plain lines."""

import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from oncoarena import plan
from oncoarena.aws.account import Account, error_code
from oncoarena.aws.buckets import bucket_faults, bucket_notes, read_facts
from oncoarena.aws.settings import AwsSettings
from oncoarena.aws.sources import SECRETS, check_data, check_sources, data_uris, tracked_files
from oncoarena.errors import Faults, InputError
from oncoarena.samples import read_samples
from oncoarena.schema import suggestion
from oncoarena.study import Study

S3_URI = re.compile(r"s3a?://([^/]*)")

N_THREADS = 8
"""Buckets that are asked about at a time."""


def check_aws(settings: AwsSettings, study: Study, *, root: Path, configfiles: Sequence[Path] = ()) -> None:
    """Check that a study can run on AWS: sources, credentials, buckets, queues and job definitions.

    Parameters: ``root`` is the folder of the Snakefile; ``configfiles`` are those that Snakemake read.
    What is no fault but worth knowing is printed.
    Raises InputError with a line for each problem, with the command that mends it.
    """
    faults = Faults()
    tracked = faults.collect(tracked_files, root)
    if tracked is not None:
        faults.collect(check_sources, study, root, tracked, configfiles)
    faults.collect(_check_account, settings, study, root, tracked)
    faults.tell()


def _check_account(settings: AwsSettings, study: Study, root: Path, tracked: list[str] | None) -> None:
    account = Account(settings.region)
    account.check_credentials(settings.results_bucket)
    faults = Faults()
    samples = faults.collect(_read_sheet, study)
    if tracked is not None:
        faults.collect(check_data, study, samples, settings, root, tracked)
    faults.collect(_check_buckets, account, settings, study, samples)
    faults.collect(_check_queues, account, settings)
    for key, name in settings.job_definitions.items():
        faults.collect(_check_definition, account, f"job_definitions.{key}", name)
    faults.tell()


def _read_sheet(study: Study) -> pd.DataFrame | None:
    """Read the sample sheet; None where a rule makes it."""
    if study.samples in plan.made_by_rules(study):
        return None
    try:
        return read_samples(study.samples, **study.sheet_needs())
    except PermissionError as error:
        raise InputError(
            f"{study.samples}: you may not read it ({error}); ask its owner, then: aws s3 ls {study.samples}"
        ) from error


def buckets_of(settings: AwsSettings, study: Study, samples: pd.DataFrame | None) -> dict[str, str]:
    """Return every bucket that a study reads or writes, and where it is first named."""
    places = {settings.results_bucket: "results"}
    for name in settings.raw_buckets:
        places.setdefault(name, "raw_buckets")
    for place, uri in data_uris(study, samples):
        found = S3_URI.match(uri)
        if found:
            places.setdefault(found.group(1), place)
    return places


def _check_buckets(
    account: Account, settings: AwsSettings, study: Study, samples: pd.DataFrame | None
) -> None:
    places = buckets_of(settings, study, samples)
    with ThreadPoolExecutor(N_THREADS) as pool:
        facts = list(pool.map(partial(read_facts, account), places))
    faults = Faults()
    for item in facts:
        for line in bucket_faults(item, places[item.name], settings, is_aws=account.is_aws("s3")):
            faults.add(line)
    for note in bucket_notes(facts, settings):
        print(f"oncoarena: note: {note}", file=sys.stderr)
    faults.tell()


def _check_queues(account: Account, settings: AwsSettings) -> None:
    found = _describe(account, "describe_job_queues")["jobQueues"]
    by_name = {queue[key]: queue for queue in found for key in ("jobQueueName", "jobQueueArn")}
    known = [queue["jobQueueName"] for queue in found]
    faults = Faults()
    for key, name in settings.queues.items():
        place, queue = f"queues.{key}: job queue {name}", by_name.get(name)
        if queue is None:
            faults.add(
                f"{place} does not exist in {account.region}{suggestion(name, known)}; run: oncoarena aws init"
            )
        elif queue["state"] != "ENABLED":
            command = (
                f"aws batch update-job-queue --region {account.region} --job-queue {name} --state ENABLED"
            )
            faults.add(f"{place} is {queue['state']}; run: {command}")
        elif queue["status"] != "VALID":
            reason = f" ({queue['statusReason']})" if queue.get("statusReason") else ""
            faults.add(
                f"{place} is {queue['status']}, not VALID{reason}; "
                f"run: aws batch describe-compute-environments --region {account.region}"
            )
    faults.tell()


def _check_definition(account: Account, key: str, name: str) -> None:
    short, _, revision = name.rpartition("job-definition/")[2].partition(":")
    found = _describe(account, "describe_job_definitions", jobDefinitionName=short, status="ACTIVE")
    active = [
        item
        for item in found["jobDefinitions"]
        if item["jobDefinitionName"] == short and revision in ("", str(item["revision"]))
    ]
    place = f"{key}: job definition {name}"
    if not active:
        raise InputError(
            f"{place} does not exist in {account.region}, or is not ACTIVE; run: oncoarena aws init"
        )
    definition = max(active, key=lambda item: item["revision"])
    faults = Faults()
    attempts = definition.get("retryStrategy", {}).get("attempts", 1)
    if attempts != 1:
        faults.add(
            f"{place} makes {attempts} attempts by itself, of which Snakemake sees the last: memory would not grow and "
            "retries would multiply; set its retryStrategy to 1 attempt: oncoarena aws init"
        )
    for variable in definition.get("containerProperties", {}).get("environment", ()):
        if _is_secret(variable):
            faults.add(
                f"{place} holds a credential in its variable {variable['name']}, which anyone who may list job "
                "definitions can read; give rights to its jobRoleArn instead: oncoarena aws init"
            )
    faults.tell()


def _is_secret(variable: Mapping[str, str]) -> bool:
    text = f"{variable['name']}={variable.get('value', '')}".encode()
    return any(pattern.search(text) for pattern in SECRETS.values())


def _describe(account: Account, operation: str, **arguments: Any) -> dict[str, Any]:
    """Ask AWS Batch; raise InputError where it refuses to answer."""
    from botocore.exceptions import ClientError

    try:
        return account.call("batch", operation, **arguments)
    except ClientError as error:
        command = f"aws batch {operation.replace('_', '-')} --region {account.region}"
        denied = error_code(error).startswith("AccessDenied")
        permission = "batch:" + operation.title().replace("_", "")
        what = f"you lack {permission}; ask for it" if denied else f"AWS Batch does not answer ({error})"
        raise InputError(f"{what}, then: {command}") from error
