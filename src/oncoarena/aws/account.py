"""Calls of AWS whose failures are told in plain lines: no credentials, expired ones, no network, no such region."""

from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from oncoarena.errors import InputError
from oncoarena.schema import suggestion

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 15
ATTEMPTS = 2

SIGN_IN = "run: aws sso login   or: aws configure   then: aws sts get-caller-identity"

CREDENTIALS = {
    "ExpiredToken": "the AWS credentials have expired",
    "ExpiredTokenException": "the AWS credentials have expired",
    "RequestExpired": "the AWS credentials have expired, or this machine's clock is wrong",
    "RequestTimeTooSkewed": "this machine's clock is wrong, and signatures carry the time",
    "InvalidAccessKeyId": "AWS_ACCESS_KEY_ID is not known there",
    "InvalidClientTokenId": "the AWS access key or session token is not known there",
    "InvalidToken": "the AWS session token is not valid",
    "UnrecognizedClientException": "the AWS access key or session token is not known there",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID",
    "InvalidSignatureException": "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID",
    "AuthFailure": "the AWS credentials were refused",
}
"""What codes of errors say of the caller's credentials, whatever was asked."""


class Account:
    """The account that this machine's credentials open, in one region."""

    def __init__(self, region: str):
        self.region = region
        self._clients: dict[str, Any] = {}

    @cached_property
    def _session(self) -> Any:
        import boto3

        return boto3.session.Session(region_name=self.region)

    def client(self, service: str) -> Any:
        """Return the client of a service, with short time-outs. Raises InputError without usable credentials."""
        from botocore import exceptions
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        )
        try:
            if service not in self._clients:
                self._clients[service] = self._session.client(service, config=config)
        except exceptions.ProfileNotFound as error:
            raise InputError(
                f"AWS: {error}; run: aws configure list-profiles   then: export AWS_PROFILE=..."
            ) from error
        except exceptions.BotoCoreError as error:  # half a pair of keys, a region that is no word
            raise InputError(f"AWS: {error}; {SIGN_IN}") from error
        return self._clients[service]

    def endpoint(self, service: str) -> str:
        """URL at which a service is asked."""
        return self.client(service).meta.endpoint_url

    def is_aws(self, service: str) -> bool:
        """Tell whether a service is asked at AWS itself, not at a server that speaks its protocol."""
        host = urlsplit(self.endpoint(service)).hostname or ""
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))

    def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call an operation of a service and return its answer; list operations give all their pages.

        Raises InputError where credentials or network are at fault, and ``botocore.exceptions.ClientError``
        where the service has another objection.
        """
        from botocore import exceptions

        client = self.client(service)
        try:
            if client.can_paginate(operation):
                return client.get_paginator(operation).paginate(**arguments).build_full_result()
            return getattr(client, operation)(**arguments)
        except exceptions.ClientError as error:
            code = error_code(error)
            if code in CREDENTIALS:
                raise InputError(f"{self.endpoint(service)}: {CREDENTIALS[code]}; {SIGN_IN}") from error
            raise
        except exceptions.NoCredentialsError as error:
            raise InputError(f"no AWS credentials were found; {SIGN_IN}") from error
        except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
            raise InputError(self._unreachable(service)) from error
        except exceptions.BotoCoreError as error:  # single sign-on, roles to assume
            raise InputError(f"AWS credentials: {error}; {SIGN_IN}") from error

    def check_credentials(self, bucket: str) -> None:
        """Ask who the credentials belong to; raise InputError where they are absent, expired or wrong.

        Where all services are other servers than AWS, nothing is asked of AWS: the S3 server is asked for ``bucket``.
        """
        from botocore.exceptions import ClientError

        asks_aws = self.is_aws("s3") or self.is_aws("batch")
        try:
            if asks_aws or not self.is_aws("sts"):
                self.call("sts", "get_caller_identity")
            else:
                self.call("s3", "get_bucket_location", Bucket=bucket)
        except ClientError:
            return  # whatever it objects to, it took the credentials

    def _unreachable(self, service: str) -> str:
        line = f"{self.endpoint(service)} cannot be reached"
        if not self.is_aws(service):
            return f"{line}; start that server, or: unset AWS_ENDPOINT_URL_{service.upper()} AWS_ENDPOINT_URL"
        known = self._session.get_available_regions(service)
        if self.region not in known:
            return f"{line}, and {self.region} is no region of AWS known here{suggestion(self.region, known)}"
        return f"{line}; check the network, then: curl --head {self.endpoint(service)}"


def error_code(error: Any) -> str:
    """Code of a ``ClientError``, e.g. NoSuchBucket; the HTTP status where the answer has no body."""
    return str(error.response.get("Error", {}).get("Code", ""))
