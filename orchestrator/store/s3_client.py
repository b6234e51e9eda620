"""The connection to S3, its retries, and its errors as messages with a remedy."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

from orchestrator.store.place import StorageError, StorageRefusedError

T = TypeVar("T")

# botocore's attempts at each request, with growing pauses; it makes fewer where very many fail
ATTEMPTS = 5
# seconds between the retries of a whole operation: two minutes in all
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
# fewer retries before the service has answered this process once: the address may be wrong
FIRST_RETRIES = 2
REACHED = threading.Event()  # set once the service has answered
RIGHTS = (
    "s3:ListBucket on the bucket and s3:GetObject, s3:PutObject and s3:DeleteObject on its objects"
)
LOG_IN = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine an instance role"
EXPIRED = "the credentials have expired: log in again (aws sso login), or renew AWS_SESSION_TOKEN"
UNKNOWN = f"the credentials are not known there: {LOG_IN}"
WRONG_REGION = "the bucket is in another region: set AWS_DEFAULT_REGION to the bucket's own"
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
    "PermanentRedirect": WRONG_REGION,
    "AuthorizationHeaderMalformed": WRONG_REGION,
    "IllegalLocationConstraintException": WRONG_REGION,
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
}
# botocore's own exceptions, by their names, raised before any request
NO_CREDENTIALS = {
    "NoCredentialsError": f"no credentials are found: {LOG_IN}",
    "PartialCredentialsError": f"the credentials are not complete: {LOG_IN}",
    "CredentialRetrievalError": f"the credentials cannot be retrieved: {LOG_IN}",
    "ProfileNotFound": "there is no such profile: set AWS_PROFILE to one of ~/.aws/config",
    "UnauthorizedSSOTokenError": EXPIRED,
    "SSOTokenLoadError": EXPIRED,
    "TokenRetrievalError": EXPIRED,
}


@lru_cache(maxsize=1)
def client() -> Any:
    """This process's client of S3, or of the service at AWS_ENDPOINT_URL_S3."""
    from boto3.session import Session
    from botocore.config import Config

    retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
    common: dict[str, Any] = {"retries": retries, "connect_timeout": 10, "read_timeout": 60}
    made = Session().client("s3", config=Config(**common))
    if "amazonaws.com" in made.meta.endpoint_url:
        return made
    # a self-hosted service has no host name for each bucket
    return Session().client("s3", config=Config(**common, s3={"addressing_style": "path"}))


def call(address: str, bucket: str, operation: Callable[[Any], T]) -> T:
    """The result of `operation`, called with the client and retried. Raises FileNotFoundError,
    StorageRefusedError, or StorageError after the last retry; messages name `address`."""
    for number, pause in enumerate((*PAUSES, None)):
        try:
            with _translated_errors(address, bucket):
                answer = operation(client())
        except StorageRefusedError:
            raise
        except StorageError:
            if pause is None or (number >= FIRST_RETRIES and not REACHED.is_set()):
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
def _translated_errors(address: str, bucket: str) -> Iterator[None]:
    """Errors of boto3 become FileNotFoundError, StorageRefusedError or StorageError."""
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
        raise _storage_error(address, _error_code(code, bucket), e) from None
    # HTTPError: an error response that broke off
    except (BotoCoreError, Boto3Error, RetriesExceededError, HTTPError) as e:
        name = type(e).__name__
        if name in NO_CREDENTIALS:
            raise StorageRefusedError(f"{address}: {NO_CREDENTIALS[name]}") from None
        what = f"{address}: {str(e).strip().rstrip('.')}"
        raise StorageError(f"{what}: check the network and AWS_ENDPOINT_URL_S3") from None


def region_problem(s3: Any, bucket: str) -> str:
    """What is wrong with the region that is set on this machine, as a message that begins with
    "but"; empty where it is the bucket's or none is set. An operation for `call`."""
    from boto3.session import Session

    own_region = Session().region_name
    bucket_region = s3.head_bucket(Bucket=bucket).get("BucketRegion")
    if own_region is None or bucket_region is None or own_region == bucket_region:
        return ""
    what = f"but the bucket is in {bucket_region} and the region here is {own_region}"
    return f"{what}: set AWS_DEFAULT_REGION={bucket_region}"


def _error_code(code: str, bucket: str) -> str:
    """S3's error code. The response to a HEAD has only the HTTP status: then list the bucket, whose
    response has the code."""
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


def _storage_error(address: str, code: str, error: Exception) -> StorageError:
    if code in REFUSALS:
        return StorageRefusedError(f"{address}: {REFUSALS[code]}")
    what = f"{address}: {str(error).strip()}"
    return StorageError(f"{what}: run the same command again when it answers")
