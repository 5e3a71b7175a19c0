"""Are the buckets of a study where data may lie, versioned, encrypted and closed to the public?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oncoarena.aws.account import Account, error_code
from oncoarena.aws.settings import BUCKET, AwsSettings
from oncoarena.errors import InputError

PUBLIC_GROUPS = (
    "http://acs.amazonaws.com/groups/global/AllUsers",
    "http://acs.amazonaws.com/groups/global/AuthenticatedUsers",
)
"""Anyone, and anyone with an AWS account."""

ACCESS_BLOCK = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")

QUESTIONS = {
    "get_bucket_versioning": ("s3:GetBucketVersioning", "versioning"),
    "get_bucket_location": ("s3:GetBucketLocation", "region"),
    "get_bucket_encryption": ("s3:GetEncryptionConfiguration", "encryption"),
    "get_public_access_block": ("s3:GetBucketPublicAccessBlock", "block of public access"),
    "get_bucket_policy_status": ("s3:GetBucketPolicyStatus", "policy"),
    "get_bucket_acl": ("s3:GetBucketAcl", "access list"),
}
"""What is asked of a bucket: the permission that it needs, and what it tells."""

NOTHING_SET = (
    "ServerSideEncryptionConfigurationNotFoundError",
    "NoSuchPublicAccessBlockConfiguration",
    "NoSuchBucketPolicy",
)


@dataclass(frozen=True)
class BucketFacts:
    """What S3 says of a bucket; None where it does not tell."""

    name: str
    exists: bool = True
    region: str | None = None
    versioned: bool | None = None
    encryption: str | None = None
    """``AES256``, ``aws:kms``, ``aws:kms:dsse`` or "", the default for new objects."""
    public: str | None = None
    """What lets the public in; "" where nothing does."""
    blocked: bool | None = None
    """Whether public access is blocked, whatever policy and access list say."""
    denied: tuple[str, ...] = ()
    """Permissions without which the rest could not be asked."""
    untold: tuple[str, ...] = ()
    """What a server other than AWS does not know."""


def read_facts(account: Account, name: str) -> BucketFacts:
    """Ask S3 for what a bucket is.

    Raises InputError where S3 cannot be reached or answers with an error that has no meaning for a bucket.
    """
    if not BUCKET.fullmatch(name):
        return BucketFacts(name, exists=False)
    questions = _Questions(account, name)
    versioning = questions.ask("get_bucket_versioning")
    if not questions.exists:
        return BucketFacts(name, exists=False)
    encryption = questions.ask("get_bucket_encryption")
    if encryption == {} and not account.is_aws("s3"):
        encryption = None  # its disks may be encrypted; AWS encrypts every object, and says how
        questions.untold.append("encryption")
    block = questions.ask("get_public_access_block")
    blocked = None if block is None else _is_blocked(block)
    return BucketFacts(
        name,
        region=questions.region(),
        versioned=None if versioning is None else versioning.get("Status") == "Enabled",
        encryption=None if encryption is None else _algorithm(encryption),
        public="" if blocked else questions.public(),
        blocked=blocked,
        denied=tuple(questions.denied),
        untold=tuple(questions.untold),
    )


class _Questions:
    """Questions to S3 about one bucket, and those that it did not answer."""

    def __init__(self, account: Account, name: str):
        self.account, self.name = account, name
        self.exists = True
        self.denied: list[str] = []
        self.untold: list[str] = []

    def ask(self, operation: str) -> dict[str, Any] | None:
        """Return the answer, {} where nothing is set, None where there is no answer."""
        from botocore.exceptions import ClientError

        permission, fact = QUESTIONS[operation]
        try:
            return self.account.call("s3", operation, Bucket=self.name)
        except ClientError as error:
            code = error_code(error)
            if code in NOTHING_SET:
                return {}
            if code == "NoSuchBucket":
                self.exists = False
            elif code == "AccessDenied":
                self.denied.append(permission)
            elif not self.account.is_aws("s3"):
                self.untold.append(fact)
            else:
                raise InputError(
                    f"bucket {self.name}: S3 does not tell its {fact} ({error}); "
                    f"run: aws s3api {operation.replace('_', '-')} --bucket {self.name}"
                ) from error
            return None

    def region(self) -> str | None:
        """Region of the bucket: from a header that is there even where access is denied, else its location."""
        from botocore.exceptions import ClientError

        try:
            found = self.account.call("s3", "head_bucket", Bucket=self.name).get("BucketRegion")
        except ClientError as error:
            found = error.response["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region")
        if found or not self.account.is_aws("s3"):
            if not found:
                self.untold.append("region")
            return found
        answer = self.ask("get_bucket_location")
        # S3's oldest two regions have names of their own here.
        location = None if answer is None else answer.get("LocationConstraint") or "us-east-1"
        return "eu-west-1" if location == "EU" else location

    def public(self) -> str | None:
        """Say what lets the public in, "" where nothing does, None where that is not told."""
        status, access = self.ask("get_bucket_policy_status"), self.ask("get_bucket_acl")
        if status is not None and status.get("PolicyStatus", {}).get("IsPublic"):
            return "its policy"
        if access is not None and any(
            grant["Grantee"].get("URI") in PUBLIC_GROUPS for grant in access.get("Grants", ())
        ):
            return "its access list"
        return None if status is None or access is None else ""


def _is_blocked(answer: Mapping[str, Any]) -> bool:
    return all(answer.get("PublicAccessBlockConfiguration", {}).get(key) is True for key in ACCESS_BLOCK)


def _algorithm(answer: Mapping[str, Any]) -> str:
    rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", ())
    found = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", "") for rule in rules]
    return next(iter(found), "")


def bucket_faults(facts: BucketFacts, place: str, settings: AwsSettings, *, is_aws: bool) -> list[str]:
    """Say what is wrong with a bucket, a line each, with the command that mends it.

    Parameters: ``place`` says where the bucket is named; on servers other than AWS (``is_aws`` False) the
    server's own keys are as good as KMS, and what it does not know is not held against it.
    """
    name, bucket = facts.name, f"{place}: bucket {facts.name}"
    is_results = name == settings.results_bucket
    if not facts.exists:
        mend = "oncoarena aws init" if is_results else "aws s3 ls"
        return [f"{bucket} does not exist; correct the name, or run: {mend}"]
    lines = []
    if facts.region is not None and is_results and facts.region != settings.region:
        lines.append(
            f"{bucket} is in {facts.region}, the jobs run in {settings.region}; name a bucket there: "
            f"export ONCOARENA_RESULTS=s3://...   or: export ONCOARENA_REGION={facts.region}"
        )
    elif facts.region is not None and facts.region not in settings.allowed_regions:
        lines.append(
            f"{bucket} is in {facts.region}, where data may not lie (allowed_regions: "
            f"{', '.join(settings.allowed_regions)}); allow it in config/aws.yaml, or run: aws s3 sync s3://{name} "
            f"s3://... --source-region {facts.region} --region {settings.region}"
        )
    command = f"run: aws s3api {{}} --region {facts.region or settings.region} --bucket {name}"
    if facts.versioned is False:
        mend = command.format("put-bucket-versioning")
        lines.append(f"{bucket} is not versioned; {mend} --versioning-configuration Status=Enabled")
    if is_aws and facts.encryption is not None and not facts.encryption.startswith("aws:kms"):
        found = f"encrypts with {facts.encryption}, not with KMS" if facts.encryption else "does not encrypt"
        mend = command.format("put-bucket-encryption")
        rule = '{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"aws:kms"},"BucketKeyEnabled":true}]}'
        lines.append(f"{bucket} {found}; {mend} --server-side-encryption-configuration '{rule}'")
    if facts.public or facts.blocked is False:
        found = f"is public through {facts.public}" if facts.public else "does not block public access"
        block = ",".join(f"{key}=true" for key in ACCESS_BLOCK)
        mend = command.format("put-public-access-block")
        lines.append(f"{bucket} {found}; {mend} --public-access-block-configuration {block}")
    if facts.denied:
        lines.append(
            f"{bucket} cannot be checked: you lack {', '.join(facts.denied)}; ask its owner to allow that, "
            f"then: aws s3api get-bucket-versioning --bucket {name}"
        )
    return lines


def bucket_notes(facts: Sequence[BucketFacts], settings: AwsSettings) -> list[str]:
    """Say what is no fault but worth knowing: what was not told, and bytes that cross from region to region."""
    notes = []
    untold: dict[str, list[str]] = {}
    for item in facts:
        for fact in item.untold:
            untold.setdefault(fact, []).append(item.name)
    if untold:
        what = "; ".join(f"{fact} of {', '.join(names)}" for fact, names in untold.items())
        notes.append(f"the S3 server is not AWS and does not tell: {what}; see to that yourself")
    for item in facts:
        if item.region in settings.allowed_regions and item.region != settings.region:
            notes.append(
                f"bucket {item.name} is in {item.region}, the jobs run in {settings.region}: what they read crosses "
                "regions, which is slower and which AWS charges for"
            )
    return notes
