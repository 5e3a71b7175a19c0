"""A clone of this repository, an S3 server and a stand-in for AWS Batch: what `snakemake --profile aws` needs."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pandas as pd
import yaml

from batch_stand_in import REGION, BatchStandIn, Definition, Queue
from object_store import KEYS, CountingProxy, s3_server
from studies import ROOT

RAW, RESULTS = "genomics-raw", "genomics-results"
QUEUES = {
    "oncoarena-memory": Queue(8, 64_000),
    "oncoarena-gpu": Queue(8, 64_000, gpus=2),
    "oncoarena-small": Queue(4, 32_000),
}
PATH = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])
DEFINITIONS = ("cpu", "tensorflow", "torch", "cuda")
SETTINGS = {
    "ONCOARENA_REGION": REGION,
    "ONCOARENA_RESULTS": f"s3://{RESULTS}/studies",
    **{f"ONCOARENA_QUEUE_{key.upper()}": f"oncoarena-{key}" for key in ("memory", "gpu", "small")},
    **{f"ONCOARENA_JOB_{key.upper()}": f"oncoarena-{key}" for key in DEFINITIONS},
}


def clone_repository(folder):
    """Clone what git would track of this working tree, edits and new files included, into an empty folder."""
    origin, clone = folder / "origin", folder / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (origin / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, origin / name)
    git(origin, "init", "--quiet")
    commit(origin)
    subprocess.run(["git", "clone", "--quiet", origin, clone], check=True)
    return clone


def git(folder, *arguments):
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder):
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "as it is")


def s3_client(port, region=REGION):
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=region,
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )


def make_buckets(s3):
    """Make the buckets as infra/ does: versioned, and never empty."""
    for bucket in (RAW, RESULTS):
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        s3.put_object(Bucket=bucket, Key=".keep", Body=b"")


def put_cohort(s3, n_samples=24, n_genes=12):
    """Put a sample sheet and a file of counts a sample on S3; a third of the genes tell the labels apart."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(n_samples):
        shift = 30 * (number % 2) * (np.arange(n_genes) < n_genes // 3)
        counts = pd.DataFrame(
            {"gene": [f"G{g:02d}" for g in range(n_genes)], "count": rng.poisson(20 + shift)}
        )
        key = f"quant/s{number:02d}.tsv"
        s3.put_object(Bucket=RAW, Key=key, Body=counts.to_csv(sep="\t", index=False).encode())
        rows.append(
            (f"s{number:02d}", f"p{number:02d}", "cancer" if number % 2 else "healthy", f"s3://{RAW}/{key}")
        )
    sheet = pd.DataFrame(rows, columns=["sample_id", "patient_id", "label", "quantification"])
    s3.put_object(Bucket=RAW, Key="samples.tsv", Body=sheet.to_csv(sep="\t", index=False).encode())


def study(**changes):
    return {
        "study": "tiny",
        "samples": f"s3://{RAW}/samples.tsv",
        "seed": 1,
        "assays": {"expression": {"column": "quantification", "transform": "log2p1"}},
        "splits": {"scheme": "kfold", "folds": 2, "seed": 0},
        "hypotheses": ["patient_similarity", "prior_only"],
        "thresholds": {"inner_folds": 0},
        "bootstrap": 100,
        "shard_samples": 12,
        **changes,
    }


def write_study(clone, name="tiny.yaml", **changes):
    (clone / name).write_text(yaml.safe_dump(study(**changes)))
    return name


class Terminal:
    """A user's `snakemake ...`, running in a clone, and what it has said so far."""

    def __init__(self, clone, environment, *arguments):
        self._said = clone.parent / f"{clone.name}-{time.monotonic_ns()}.out"
        with open(self._said, "wb") as out:
            self.process = subprocess.Popen(
                ["snakemake", *arguments], cwd=clone, env=environment, stdout=out, stderr=out
            )

    def text(self):
        return self._said.read_text(errors="replace")

    def wait(self, timeout_s=600):
        """Return the exit status; a command that hangs is ended."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait(60)
            raise AssertionError(f"snakemake hangs:\n{self.text()[-5000:]}") from None


@dataclass
class Site:
    """All that is there: a clone, an S3 server with a proxy before it, and AWS Batch."""

    folder: Path
    clone: Path
    port: int
    proxy: CountingProxy
    batch: BatchStandIn
    s3: Any

    def user(self, **changes):
        """The environment of a user's shell: their keys, the settings, and nothing of this process."""
        return {
            "PATH": PATH,
            "HOME": str(self.folder),
            "PYTHONPATH": "src",
            "OMP_NUM_THREADS": "1",
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.port}",
            "AWS_ENDPOINT_URL_BATCH": f"http://127.0.0.1:{self.batch.port}",
            **KEYS,
            **SETTINGS,
            **changes,
        }

    def keys(self, prefix):
        """Keys of the results bucket."""
        listed = self.s3.list_objects_v2(Bucket=RESULTS, Prefix=prefix).get("Contents", [])
        return [item["Key"] for item in listed]

    def body(self, key):
        return self.s3.get_object(Bucket=RESULTS, Key=key)["Body"].read().decode("latin-1")


@contextlib.contextmanager
def cloud(folder):
    """Start everything, with a cohort on S3."""
    data = folder / "s3"
    data.mkdir()
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(s3_server(data))
        proxy = CountingProxy(port)
        stack.callback(proxy.close)
        container = {
            "PATH": PATH,
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.port}",
            "OMP_NUM_THREADS": "1",
        }
        definitions = {f"oncoarena-{key}": Definition(container) for key in DEFINITIONS}
        batch = stack.enter_context(BatchStandIn(folder / "jobs", QUEUES, definitions, KEYS))
        s3 = s3_client(port)
        make_buckets(s3)
        put_cohort(s3)
        yield Site(folder, clone_repository(folder), port, proxy, batch, s3)
