"""The connection to S3, and its faults in words: what is wrong with `storage`, and what to do about
it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

from orchestrator.store.place import StorageError, StorageRefusedError

T = TypeVar("T")

ATTEMPTS = (
    5  # of each request by botocore, with growing pauses; it gives up sooner where very many fail
)
PAUSES = (
    0.5,
    1.0,
    2.0,
    4.0,
    8.0,
    15.0,
    30.0,
    60.0,
)  # seconds before it is asked to begin anew: two minutes in all
HASTY = 2  # so many of them for a service that has never answered this process: it may well be none
REACHED = threading.Event()
RIGHTS = "s3:ListBucket on the bucket and s3:GetObject, s3:PutObject and s3:DeleteObject on what is in it"
LOG_IN = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine an instance role"
EXPIRED = "the credentials have expired: log in again (aws sso login), or renew AWS_SESSION_TOKEN"
UNKNOWN = f"the credentials are not known there: {LOG_IN}"
ELSEWHERE = "the bucket lies in another region: set AWS_DEFAULT_REGION to the bucket's own"
REFUSALS = {
    "NoSuchBucket": "there is no such bucket: make it (aws s3 mb), or name another",
    "ExpiredToken": EXPIRED,
    "ExpiredTokenException": EXPIRED,
    "TokenRefreshRequired": EXPIRED,
    "InvalidToken": UNKNOWN,
    "InvalidAccessKeyId": UNKNOWN,
    "SignatureDoesNotMatch": UNKNOWN,
    "AccessDenied": f"the credentials do not allow it: they need {RIGHTS}",
    "AllAccessDisabled": f"the credentials do not allow it: they need {RIGHTS}",
    "PermanentRedirect": ELSEWHERE,
    "AuthorizationHeaderMalformed": ELSEWHERE,
    "IllegalLocationConstraintException": ELSEWHERE,
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
}
# botocore's own exceptions, by their names: it raises them before it asks anybody
NO_CREDENTIALS = {
    "NoCredentialsError": f"no credentials are found: {LOG_IN}",
    "PartialCredentialsError": f"the credentials are not complete: {LOG_IN}",
    "CredentialRetrievalError": f"the credentials cannot be had: {LOG_IN}",
    "ProfileNotFound": "there is no such profile: set AWS_PROFILE to one that ~/.aws/config has",
    "UnauthorizedSSOTokenError": EXPIRED,
    "SSOTokenLoadError": EXPIRED,
    "TokenRetrievalError": EXPIRED,
}


@lru_cache(maxsize=1)
def client() -> Any:
    """This process's client of S3, or of what AWS_ENDPOINT_URL_S3 names."""
    from boto3.session import Session
    from botocore.config import Config

    retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
    common: dict[str, Any] = {"retries": retries, "connect_timeout": 10, "read_timeout": 60}
    made = Session().client("s3", config=Config(**common))
    if "amazonaws.com" in made.meta.endpoint_url:
        return made
    # the names of buckets are no hosts of a service of one's own
    return Session().client("s3", config=Config(**common, s3={"addressing_style": "path"}))


def ask(address: str, bucket: str, question: Callable[[Any], T]) -> T:
    """What `question` gets of the client. Raises FileNotFoundError, or StorageRefusedError, or,
    once it has failed for long, StorageError, each on `address`."""
    for number, pause in enumerate((*PAUSES, None)):
        try:
            with _asking(address, bucket):
                answer = question(client())
        except StorageRefusedError:
            raise
        except StorageError:
            if pause is None or (number >= HASTY and not REACHED.is_set()):
                raise
            time.sleep(pause)
        except FileNotFoundError:
            REACHED.set()
            raise
        else:
            REACHED.set()
            return answer
    raise AssertionError("unreachable")


@contextmanager
def _asking(address: str, bucket: str) -> Iterator[None]:
    """What S3 answers to this is raised in our own words."""
    try:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
        from s3transfer.exceptions import RetriesExceededError
        from urllib3.exceptions import HTTPError
    except ImportError:
        raise StorageRefusedError(f"{address}: S3 needs boto3: pip install '.[s3]'") from None
    try:
        yield
    except ClientError as e:
        code = str(e.response.get("Error", {}).get("Code", ""))
        if code in ("NoSuchKey", "404"):
            raise FileNotFoundError(f"{address}: no such object") from None
        raise _answered(address, _said(code, bucket), e) from None
    except (
        BotoCoreError,
        Boto3Error,
        RetriesExceededError,
        HTTPError,
    ) as e:  # the last: a refusal that broke off
        if (name := type(e).__name__) in NO_CREDENTIALS:
            raise StorageRefusedError(f"{address}: {NO_CREDENTIALS[name]}") from None
        text = str(e).strip().rstrip(".")
        raise StorageError(
            f"{address}: {text}: check the network and AWS_ENDPOINT_URL_S3"
        ) from None


def region_problem(s3: Any, bucket: str) -> str:
    """What is wrong with the region that is set on this machine, in words that begin with "but";
    empty where it is the bucket's or none is set. A question for `ask`."""
    from boto3.session import Session

    here = Session().region_name
    there = s3.head_bucket(Bucket=bucket).get("BucketRegion")
    if here is None or there is None or here == there:
        return ""
    return f"but the bucket lies in {there} and the region here is {here}: set AWS_DEFAULT_REGION={there}"


def _said(code: str, bucket: str) -> str:
    """The answer to a HEAD has a number and no words: ask what is meant."""
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    if code not in ("301", "400", "403"):
        return code
    try:
        client().list_objects_v2(Bucket=bucket, MaxKeys=1)
    except ClientError as e:
        return str(e.response.get("Error", {}).get("Code", code))
    except (BotoCoreError, HTTPError):
        return code
    return "AccessDenied" if code == "403" else code


def _answered(address: str, code: str, error: Exception) -> StorageError:
    if code in REFUSALS:
        return StorageRefusedError(f"{address}: {REFUSALS[code]}")
    return StorageError(
        f"{address}: {str(error).strip()}: run the same command again when it answers"
    )
