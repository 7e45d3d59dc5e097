"""What a store's refusals mean, and whose turn it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError, PartialCredentialsError
from s3transfer.exceptions import RetriesExceededError

from lehr.runtime.errors import InfraError, LehrError, UserError

NO_SUCH_KEY = ("NoSuchKey", "404")  # a HEAD has no body, hence no name for it
CONDITION_FAILED = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
# A store that knows no batches, or wants an MD5 with each, which boto3 sends no more: single deletes are for every store.
NO_BATCHES = ("MissingContentMD5", "InvalidDigest", "BadDigest", "MissingContentMd5", "NotImplemented", "MethodNotAllowed")
_NO_BUCKET = ("NoSuchBucket", "InvalidBucketName")
# Refusals that a new pod, with a new token or a set clock, can meet with success.
_FOR_A_WHILE = ("ExpiredToken", "RequestTimeTooSkewed", "RequestTimeout", "SlowDown")
_NO_KEYS = "give boto3 keys: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the pod's identity"


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def owned(where: str, bucket: str) -> Iterator[None]:
    """Turn boto3's errors into ours: UserError for a bucket, an object or a right that is not there, else InfraError."""
    try:
        yield
    except ClientError as error:
        raise _refused(error, where, bucket) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        flyte = "; FLYTE_AWS_* are Flyte's own and not read" if "FLYTE_AWS_ACCESS_KEY_ID" in os.environ else ""
        raise UserError("there are no keys for this store", where=where, remedy=_NO_KEYS + flyte) from error
    except ParamValidationError as error:  # before anything is sent: a bucket's name, most likely
        raise UserError(_one_line(error), where=where, remedy="check --out") from error
    except (BotoCoreError, RetriesExceededError) as error:
        raise InfraError(f"{where}: the store is not reached ({_one_line(error)}); run the same command again") from error


def _refused(error: ClientError, where: str, bucket: str) -> LehrError:
    code, status = code_of(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _NO_BUCKET:
        return UserError(f"there is no bucket {bucket}", where=where, remedy="make it, or choose another --out")
    if code in NO_SUCH_KEY:
        return UserError("an object is missing there", where=where, remedy="run the stage that makes it again")
    if code in _FOR_A_WHILE or not 400 <= status < 500:
        return InfraError(f"{where}: the store failed ({code}, status {status}); run the same command again")
    if status in (401, 403):
        remedy = "check the keys that boto3 finds, and that they may read, write, list and delete there"
        return UserError(f"the store refuses these keys ({code})", where=where, remedy=remedy)
    return UserError(f"the store refuses: {_one_line(error)}", where=where, remedy="check --out and boto3's configuration")


def deleted(answer: dict[str, Any], where: str) -> None:
    """Raise what a DeleteObjects, which succeeds as a whole, says of single keys."""
    for said in answer.get("Errors", []):
        if said["Code"] not in NO_SUCH_KEY:
            raise InfraError(f"{where}: {said['Key']} was not deleted ({said['Code']}); check that these keys may delete there")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
