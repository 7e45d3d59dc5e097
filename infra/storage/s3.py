"""An S3 bucket, or a part of one, through boto3."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import mktime_tz, parsedate_tz
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

from lehr.infra.storage.counting import BYTES, watch
from lehr.infra.storage.failures import CONDITION_FAILED, NO_BATCHES, NO_SUCH_KEY, NOTHING_THERE, code_of, deleted, owned
from lehr.runtime.errors import UserError
from lehr.runtime.ports import Conflict

_MIB = 1 << 20
_STREAMS = 8  # concurrent parts per process
_ATTEMPTS = 8  # in boto3's standard mode: outages of a store up to about half a minute are waited for
_BATCH = 1000  # the most keys in one DeleteObjects


class S3Objects:
    """See lehr.runtime.ports.Objects. Endpoint, region and credentials come from boto3's own configuration
    (AWS_ENDPOINT_URL, profiles, workload identity) and are never read, stored or logged here. Every part is sent with its
    SHA-256."""

    part_bytes = 64 * _MIB  # S3 allows at most 10,000 parts; s3transfer enlarges them for files beyond that

    def __init__(self, root: str) -> None:
        parts = re.fullmatch(r"s3://([^/]+)((?:/.*)?)", root)  # which bucket names are valid is left to the store to judge
        if parts is None:
            raise UserError(f"{root} has no bucket", where="--out", remedy="write s3://BUCKET/PREFIX")
        self.bucket, self.prefix = parts[1], parts[2].strip("/")
        self._lock, self._made = threading.Lock(), None

    def __reduce__(self) -> tuple[Any, ...]:
        return (S3Objects, (self.root,))  # connections and locks cannot be pickled: another process opens its own

    @property
    def root(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = _connect()
            return self._made

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._key(key)}

    def _owned(self, key: str = "") -> Any:
        return owned(f"{self.root}/{key}".rstrip("/"), self.bucket)

    def date(self) -> float | None:
        """The store's clock in Unix seconds, to the second; None if its answers have none. Raises InfraError if there is no
        answer; a refusal is one, and often the clock is its reason."""
        with self._owned():
            try:
                answer = self._client.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                answer = error.response
            headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            said = parsedate_tz(headers.get("date", ""))
            return None if said is None else mktime_tz(said)

    def get(self, key: str) -> tuple[str, str] | None:
        """See Objects.get. The version is the ETag."""
        with self._owned(key):
            try:
                body, version = self._body(key)
            except ClientError as error:
                if code_of(error) in NO_SUCH_KEY:
                    return None
                raise
            return body.decode(), version

    def read(self, key: str, start: int, size: int) -> bytes:
        """See Objects.read."""
        with self._owned(key):
            try:
                body, _ = self._body(key, Range=f"bytes={start}-{start + size - 1}")
            except ClientError as error:
                if code_of(error) in NOTHING_THERE:
                    return b""
                raise
            BYTES.add(len(body), direction="received")
            return body

    def _body(self, key: str, **options: str) -> tuple[bytes, str]:
        """An object's content, or a part of it, and its ETag."""
        for attempt in range(_ATTEMPTS):
            try:
                answer = self._client.get_object(**self._at(key), **options)
                return answer["Body"].read(), answer["ETag"]
            except (IncompleteReadError, HTTPClientError):  # cut off in the body, whose reading boto3 itself does not retry
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(min(2.0**attempt / 8, 4.0))
        raise AssertionError("unreachable")

    def put(self, key: str, value: str, version: str | None) -> str:
        """See Objects.put."""
        # A conditional write: of two processes only one can create the object or replace this version of it. The fence needs
        # it.
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        with self._owned(key):
            try:
                answer = self._client.put_object(**self._at(key), Body=value.encode(), **condition)
            except ClientError as error:
                # A 404 for If-Match means that the version to be replaced was deleted: also a lost race.
                if code_of(error) in CONDITION_FAILED or (version is not None and code_of(error) in NO_SUCH_KEY):
                    raise Conflict(key) from error
                raise
            return str(answer["ETag"])

    def upload(self, files: Mapping[str, Path]) -> None:
        """See Objects.upload. A failed upload is aborted; a killed process leaves parts, which `abort_uploads` removes."""
        extra = {"ChecksumAlgorithm": "SHA256"}
        with self._transfers() as manager:
            _await([manager.upload(str(path), self.bucket, self._key(key), extra) for key, path in files.items()])
        BYTES.add(_size(files), direction="sent")

    def download(self, files: Mapping[str, Path]) -> None:
        """See Objects.download. Each file appears complete or not at all."""
        with self._transfers() as manager:
            _await([manager.download(self.bucket, self._key(key), str(path)) for key, path in files.items()])
        BYTES.add(_size(files), direction="received")

    def copy(self, keys: Mapping[str, str]) -> None:
        """See Objects.copy."""
        with self._transfers() as manager:
            _await([manager.copy(self._at(key), self.bucket, self._key(to)) for key, to in keys.items()])

    @contextmanager
    def _transfers(self) -> Iterator[Any]:
        """Returns when all transfers begun inside have ended; an error inside cancels the others."""
        size = self.part_bytes
        config = TransferConfig(multipart_threshold=size, multipart_chunksize=size, max_concurrency=_STREAMS)
        with self._owned(), create_transfer_manager(self._client, config) as manager:
            yield manager

    def keys(self, prefix: str) -> list[str]:
        return list(self.versions(prefix))

    def versions(self, prefix: str) -> dict[str, str]:
        """The keys that begin with `prefix`, each with its size in bytes and its ETag, which another content changes."""
        start = len(self._key(""))
        with self._owned(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._key(prefix))
            found = [item for page in pages for item in page.get("Contents", [])]
        return {item["Key"][start:]: f"{item['Size']} {item['ETag']}" for item in found}

    def delete(self, keys: Collection[str]) -> None:
        wanted = [{"Key": self._key(key)} for key in keys]
        with self._owned():
            for at in range(0, len(wanted), _BATCH):
                batch: dict[str, Any] = {"Objects": wanted[at : at + _BATCH], "Quiet": True}
                try:
                    deleted(self._client.delete_objects(Bucket=self.bucket, Delete=batch), self.root)
                except ClientError as error:
                    if code_of(error) not in NO_BATCHES:
                        raise
                    for item in batch["Objects"]:
                        self._client.delete_object(Bucket=self.bucket, Key=item["Key"])

    def abort_uploads(self, prefix: str) -> None:
        with self._owned(prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=self._key(prefix))
            for upload in [upload for page in pages for upload in page.get("Uploads", [])]:
                try:
                    self._client.abort_multipart_upload(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                except ClientError as error:
                    if code_of(error) != "NoSuchUpload":  # it has ended in the meantime
                        raise


def _connect() -> Any:
    retries: dict[str, Any] = {"mode": "standard"}
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        retries["total_max_attempts"] = _ATTEMPTS
    # Stores other than AWS's usually have one host name, not one for each bucket.
    style = "path" if {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"} & os.environ.keys() else "auto"
    config = Config(
        retries=retries, s3={"addressing_style": style}, connect_timeout=10, read_timeout=60, max_pool_connections=16,
        tcp_keepalive=True,
    )  # fmt: skip
    try:
        client = boto3.session.Session().client("s3", config=config)
    except (ValueError, BotoCoreError) as error:  # an invalid endpoint, or a profile that does not exist
        raise UserError(str(error), where="boto3", remedy="correct AWS_ENDPOINT_URL, AWS_PROFILE or ~/.aws/config") from error
    watch(client)
    return client


def _size(files: Mapping[str, Path]) -> int:
    """Bytes in all; a file that is gone by now, such as a save that the next one replaced, counts as none."""
    total = 0
    for path in files.values():
        with suppress(OSError):
            total += path.stat().st_size
    return total


def _await(transfers: list[Any]) -> None:
    for transfer in transfers:
        transfer.result()
