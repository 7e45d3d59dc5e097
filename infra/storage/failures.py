"""Which of a store's errors are the user's to correct, and which a retry can overcome."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError, PartialCredentialsError
from s3transfer.exceptions import RetriesExceededError

from lehr.runtime.errors import InfraError, LehrError, UserError

NO_SUCH_KEY = ("NoSuchKey", "404")  # a response to HEAD has no body and so no error code but the status
NOTHING_THERE = ("InvalidRange", "416")  # of a range that begins after the end
CONDITION_FAILED = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
# Some stores have no batch deletes, or want a Content-MD5 with each, which boto3 no longer sends. All stores delete singly.
NO_BATCHES = ("MissingContentMD5", "InvalidDigest", "BadDigest", "MissingContentMd5", "NotImplemented", "MethodNotAllowed")
_NO_BUCKET = ("NoSuchBucket", "InvalidBucketName")
# Errors that pass: a new pod gets a new token or a correct clock, and an overloaded store recovers.
_FOR_A_WHILE = ("ExpiredToken", "RequestTimeTooSkewed", "RequestTimeout", "SlowDown")
_NO_KEYS = "give boto3 credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the pod's identity"


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def owned(where: str, bucket: str) -> Iterator[None]:
    """Convert boto3's errors: UserError for a missing bucket, object or permission, else InfraError."""
    try:
        yield
    except ClientError as error:
        raise _refused(error, where, bucket) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        flyte = "; FLYTE_AWS_* are Flyte's own and not read" if "FLYTE_AWS_ACCESS_KEY_ID" in os.environ else ""
        raise UserError("no credentials were found for this store", where=where, remedy=_NO_KEYS + flyte) from error
    except ParamValidationError as error:  # raised before anything is sent, most likely for the bucket's name
        raise UserError(_one_line(error), where=where, remedy="check --out") from error
    except (BotoCoreError, RetriesExceededError) as error:
        raise InfraError(f"{where}: the store cannot be reached ({_one_line(error)}); run the same command again") from error


def _refused(error: ClientError, where: str, bucket: str) -> LehrError:
    code, status = code_of(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _NO_BUCKET:
        return UserError(f"there is no bucket {bucket}", where=where, remedy="create it, or choose another --out")
    if code in NO_SUCH_KEY:
        return UserError("an object is missing there", where=where, remedy="run the stage that makes it again")
    if code in _FOR_A_WHILE or not 400 <= status < 500:
        return InfraError(f"{where}: the store failed ({code}, status {status}); run the same command again")
    if status in (401, 403):
        remedy = "check the credentials that boto3 finds, and that they allow reading, writing, listing and deleting there"
        return UserError(f"the store refuses these credentials ({code})", where=where, remedy=remedy)
    return UserError(f"the store refuses: {_one_line(error)}", where=where, remedy="check --out and boto3's configuration")


def deleted(answer: dict[str, Any], where: str) -> None:
    """Raise InfraError for keys that a DeleteObjects call could not delete: the call itself succeeds even then."""
    for said in answer.get("Errors", []):
        if said["Code"] not in NO_SUCH_KEY:
            raise InfraError(
                f"{where}: {said['Key']} was not deleted ({said['Code']}); check that these credentials allow deleting there"
            )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
