"""Where a study runs on AWS: config/aws.yaml and the environment variables that overrule it, checked and typed."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oncoarena import schema
from oncoarena.errors import Faults

ACTIVE = "ONCOARENA_AWS"
"""Set to 1 by aws/profile.yaml: this Snakemake submits its jobs to AWS Batch."""

VARIABLES = {
    "region": "ONCOARENA_REGION",
    "results": "ONCOARENA_RESULTS",
    "queues.memory": "ONCOARENA_QUEUE_MEMORY",
    "queues.gpu": "ONCOARENA_QUEUE_GPU",
    "queues.small": "ONCOARENA_QUEUE_SMALL",
    "job_definitions.cpu": "ONCOARENA_JOB_CPU",
    "job_definitions.tensorflow": "ONCOARENA_JOB_TENSORFLOW",
    "job_definitions.torch": "ONCOARENA_JOB_TORCH",
    "job_definitions.cuda": "ONCOARENA_JOB_CUDA",
}
"""Keys that must have a value, and the environment variable that overrules each."""

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""

REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")


@dataclass(frozen=True)
class AwsSettings:
    """What oncoarena must know of an AWS account."""

    region: str
    """Of the results bucket, the queues and the job definitions."""
    results: str
    """``s3://bucket`` or ``s3://bucket/prefix``, without a slash at its end."""
    raw_buckets: tuple[str, ...]
    allowed_regions: tuple[str, ...]
    """Regions in which data may lie."""
    queues: Mapping[str, str]
    """Name or ARN of the queue for ``memory``, ``gpu`` and ``small`` jobs."""
    job_definitions: Mapping[str, str]
    """Name, name:revision or ARN of the definition for each container: ``cpu``, ``tensorflow``, ``torch``, ``cuda``."""

    @property
    def results_bucket(self) -> str:
        """Name of the bucket that results go to."""
        return self.results.removeprefix("s3://").partition("/")[0]


def active(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this Snakemake runs with the profile ``aws``."""
    return environ.get(ACTIVE) == "1"


def read_settings(
    path: Path | None = Path("config/aws.yaml"),
    environ: Mapping[str, str] = os.environ,
    *,
    schemas: Path = Path("workflow/schemas"),
) -> AwsSettings:
    """Read the settings from a file, if there is one, and from the environment, which overrules it.

    Parameters: ``path`` is None where the environment says all; ``schemas`` is the folder of the schemas.
    Raises InputError with a line for each problem; of a missing value it says which key, which environment
    variable and which command fill it.
    """
    content = _filled(schema.read_yaml(path)) if path is not None and path.exists() else {}
    schema.check(content, schema.read_yaml(schemas / "aws.schema.yaml"), str(path))
    faults = Faults()
    values, sources = {}, {}
    for key, variable in VARIABLES.items():
        values[key], sources[key] = _of_file(content, key).strip(), f"{path}: {key}"
        if environ.get(variable, "").strip():
            values[key], sources[key] = environ[variable].strip(), variable
        if not values[key]:
            where = f"{path}: {key} is empty" if path is not None else f"{variable} is not set"
            faults.add(f"{where}; run: oncoarena aws init   or: export {variable}=...")
    raw_buckets = tuple(content.get("raw_buckets", ()))
    allowed_regions = tuple(content.get("allowed_regions", ())) or (values["region"],)

    if not _is_prefix(values["results"]):
        faults.add(f"{sources['results']}: found {values['results']!r}, expected s3://bucket/prefix")
    for name in raw_buckets:
        if not BUCKET.fullmatch(name):
            faults.add(f"{path}: raw_buckets: found {name!r}, expected the name of a bucket, without s3://")
    named = [(sources["region"], values["region"])]
    named += [(f"{path}: allowed_regions", region) for region in content.get("allowed_regions", ())]
    for source, region in named:
        if region and not REGION.fullmatch(region):
            faults.add(f"{source}: found {region!r}, expected a region such as eu-central-1")
    if values["region"] not in allowed_regions:
        faults.add(
            f"{sources['region']}: {values['region']} is not among allowed_regions "
            f"({', '.join(allowed_regions)}), where data may lie; correct one of the two"
        )
    faults.tell()
    return AwsSettings(
        region=values["region"],
        results=values["results"].rstrip("/"),
        raw_buckets=raw_buckets,
        allowed_regions=allowed_regions,
        queues=_below("queues", values),
        job_definitions=_below("job_definitions", values),
    )


def _filled(content: Any) -> Any:
    """Leave out keys without a value, which YAML reads as None."""
    if content is None:
        return {}
    if not isinstance(content, dict):
        return content
    return {
        key: _filled(value) if isinstance(value, dict) else value
        for key, value in content.items()
        if value is not None
    }


def _of_file(content: Mapping[str, Any], key: str) -> str:
    outer, _, inner = key.partition(".")
    return content.get(outer, {}).get(inner, "") if inner else content.get(outer, "")


def _is_prefix(results: str) -> bool:
    """Tell whether results may go there; an empty value is told elsewhere."""
    scheme, _, rest = results.partition("://")
    return not results or (scheme == "s3" and BUCKET.fullmatch(rest.partition("/")[0]) is not None)


def _below(outer: str, values: Mapping[str, str]) -> dict[str, str]:
    return {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{outer}.")}
