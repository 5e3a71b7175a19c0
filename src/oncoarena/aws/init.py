"""``oncoarena aws init``: one stack from infra/oncoarena.yaml, and config/aws.yaml filled in from its outputs."""

import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from oncoarena import __version__, schema, store
from oncoarena.aws.account import Account
from oncoarena.aws.stacks import FAILED_AT_FIRST, ask, create, describe, update
from oncoarena.errors import InputError

TEMPLATE = Path("infra/oncoarena.yaml")
CONFIG = Path("config/aws.yaml")

STACK_NAME = re.compile(r"[a-z][a-z0-9-]{1,40}")
"""Lower case, because the image repository bears the stack's name."""

FAMILIES = {
    "MemoryInstanceTypes": ("r5", "r5a", "r6i", "r6a", "r7i", "r7a"),
    "GpuInstanceTypes": ("g4dn", "g5", "g6", "g6e", "p4d", "p5"),
    "SmallInstanceTypes": ("m5", "m5a", "m6i", "m6a", "m7i"),
}
"""x86-64 families that each parameter takes from what the region offers: Spot finds capacity in many places. Batch
refuses an environment that names a family which the region lacks. From g4dn (Turing) on they can run CUDA 13."""

KEEP = (
    "This object keeps the bucket from being empty: Snakemake's storage plugin deletes a bucket with its last "
    "object. Leave it here.\n"
)


def init(
    stack: str,
    region: str,
    *,
    email: str | None = None,
    monthly_budget_usd: int | None = None,
    raw_bucket: str | None = None,
    parameters: Mapping[str, str] | None = None,
    config: Path = CONFIG,
    template: Path = TEMPLATE,
    poll_s: float = 5.0,
    say: Callable[[str], None] = print,
) -> dict[str, str]:
    """Create or update all that oncoarena needs on AWS, write ``config``, and return the stack's outputs.

    Parameters: ``email`` receives the budget alarm (needed the first time); ``raw_bucket`` is one that holds
    the raw data already; ``parameters`` are further ones of the template, by name. What is left out keeps its
    value in an update; the first time it has the template's default, images the version of this oncoarena, and
    machines the families that the region offers. Raises InputError with what AWS refused and what to do.
    """
    if not STACK_NAME.fullmatch(stack):
        raise InputError(f"stack {stack!r}: expected a lower-case name such as oncoarena or oncoarena-liver")
    text = _read(template)
    if config.exists():
        schema.read_yaml(config)  # what is wrong with it is told before anything is made
    chosen = _given(text, email, monthly_budget_usd, raw_bucket, parameters or {})
    try:
        import boto3  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError("boto3 is not installed; run: pip install -c constraints.txt -e '.[aws]'") from error
    account = Account(region)
    who = ask(account, "sts", "get_caller_identity")["Account"]
    say(f"Account {who}, region {region}, stack {stack}")
    if chosen.get("ExistingRawBucket"):
        _check_raw_bucket(account, chosen["ExistingRawBucket"])
    known = describe(account, stack)
    if known is None or known["StackStatus"] == FAILED_AT_FIRST:
        if "Email" not in chosen:
            raise InputError("the budget alarm needs an address; add --email YOU@EXAMPLE.ORG")
        first = {"ImageTag": f"v{__version__}"} | _families(account)
        made = create(account, stack, text, first | chosen, poll_s=poll_s, say=say)
    else:
        made = update(account, known, text, chosen, poll_s=poll_s, say=say)
    outputs = {item["OutputKey"]: item["OutputValue"] for item in made["Outputs"]}
    used = {item["ParameterKey"]: item.get("ParameterValue", "") for item in made["Parameters"]}
    owned = [outputs["ResultsBucket"]] + ([] if used.get("ExistingRawBucket") else [outputs["RawBucket"]])
    for bucket in owned:
        ask(account, "s3", "put_object", Bucket=bucket, Key=".keep", Body=KEEP.encode())
    store.write_text(str(config), fill_in(config.read_text("utf-8") if config.exists() else "", outputs))
    say(f"Wrote {config}. Raw data: s3://{outputs['RawBucket']}; results: s3://{outputs['ResultsBucket']}")
    say(f"Next: push the images {used['ImageTag']} to {outputs['ImageRepository']} (docs/aws.md, step 2)")
    return outputs


def read_parameters(words: Sequence[str]) -> dict[str, str]:
    """Read what the command line gives as ``NAME=VALUE``; raise InputError where there is no name or no sign."""
    for word in words:
        if not re.match(r"\w+=", word):
            raise InputError(f"--parameter {word}: expected NAME=VALUE, e.g. MaxGpuVcpus=96")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def fill_in(text: str, outputs: Mapping[str, str]) -> str:
    """Return config/aws.yaml with a stack's outputs in it; comments and what the user added stay.

    A prefix that was chosen inside the same results bucket stays too, and so do further raw buckets and regions.
    """
    before = yaml.safe_load(text) or {}
    results = f"s3://{outputs['ResultsBucket']}"
    chosen = before.get("results") or ""
    values: dict[str, Any] = {
        "region": outputs["Region"],
        "results": chosen if f"{chosen}/".startswith(f"{results}/") else results,
        "raw_buckets": list(dict.fromkeys([*(before.get("raw_buckets") or []), outputs["RawBucket"]])),
        "allowed_regions": before.get("allowed_regions") or [outputs["Region"]],
        "queues": {kind: outputs[f"{kind.capitalize()}Queue"] for kind in ("memory", "gpu", "small")},
        "job_definitions": {
            target: outputs[f"{target.capitalize()}Job"] for target in ("cpu", "tensorflow", "torch", "cuda")
        },
    }
    wanted = before | values
    with contextlib.suppress(yaml.YAMLError):
        filled = _replace_values(text, values)
        if filled is not None and yaml.safe_load(filled) == wanted:
            return filled
    # Written in a way that lines cannot be replaced in: the comments are lost.
    return yaml.safe_dump(wanted, sort_keys=False)


def _replace_values(text: str, values: Mapping[str, Any]) -> str | None:
    """Put values into the lines ``key: value`` of a YAML file of at most two levels; None where a key has no line."""
    flat = {(key,): value for key, value in values.items() if not isinstance(value, dict)}
    flat |= {
        (outer, key): value
        for outer in values
        if isinstance(values[outer], dict)
        for key, value in values[outer].items()
    }
    lines, section = [], ""
    for line in text.splitlines():
        found = re.match(r"( *)(\w+):", line)
        if found:
            indent, key = found.groups()
            section = section if indent else key
            path = (section, key) if indent else (key,)
            if path in flat:
                line = f"{indent}{key}: {json.dumps(flat.pop(path))}"
        lines.append(line)
    return None if flat else "\n".join(lines) + "\n"


def _read(template: Path) -> str:
    if not template.is_file():
        raise InputError(f"{template}: there is no such file; run this at the top of your clone of oncoarena")
    return template.read_text(encoding="utf-8")


def _given(
    template: str, email: str | None, budget: int | None, raw_bucket: str | None, others: Mapping[str, str]
) -> dict[str, str]:
    """Return the template's parameters that were given, and refuse those that it does not have."""
    named = re.search(r"^Parameters:\n(.*?)^\S", template, re.MULTILINE | re.DOTALL)
    known = re.findall(r"^  (\w+):", named.group(1), re.MULTILINE)
    for name in others:
        if name not in known:
            raise InputError(
                f"parameter {name!r}: the template has none of that name{schema.suggestion(name, known)}"
            )
    short = {
        "Email": email,
        "MonthlyBudgetUsd": None if budget is None else str(budget),
        "ExistingRawBucket": raw_bucket,
    }
    return {name: value for name, value in short.items() if value is not None} | dict(others)


def _families(account: Account) -> dict[str, str]:
    """Return the instance families of each parameter that the region offers."""
    found = ask(account, "ec2", "describe_instance_type_offerings", LocationType="region")
    offered = {item["InstanceType"].partition(".")[0] for item in found["InstanceTypeOfferings"]}
    chosen = {
        name: [family for family in families if family in offered] for name, families in FAMILIES.items()
    }
    for name, families in chosen.items():
        if not families:
            raise InputError(
                f"{account.region} offers none of {', '.join(FAMILIES[name])}; name families that it has with "
                f"--parameter {name}=FAMILY,FAMILY or choose another region"
            )
    return {name: ",".join(families) for name, families in chosen.items()}


def _check_raw_bucket(account: Account, bucket: str) -> None:
    """Refuse a bucket that is not there or lies elsewhere: its bytes would be paid for and would cross a border."""
    # AWS says None for its first region.
    found = ask(account, "s3", "get_bucket_location", Bucket=bucket).get("LocationConstraint") or "us-east-1"
    if found != account.region:
        raise InputError(
            f"bucket {bucket}: lies in {found}, and the jobs would run in {account.region}; use --region {found}"
        )
