"""An S3 bucket, or a part of one, through boto3."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

from lehr.infra.storage.failures import CONDITION_FAILED, NO_BATCHES, NO_SUCH_KEY, code_of, deleted, owned
from lehr.runtime.errors import UserError
from lehr.runtime.ports import Conflict

_MIB = 1 << 20
_STREAMS = 8  # a process
_ATTEMPTS = 8  # in boto3's standard mode: a store that is away for about half a minute is waited for
_BATCH = 1000  # keys that one DeleteObjects takes


class S3Objects:
    """See lehr.runtime.ports.Objects. Endpoint, region and keys come from boto3's own configuration (AWS_ENDPOINT_URL,
    profiles, workload identity): none of them is read, kept or written here. Every part travels with its SHA-256."""

    part_bytes = 64 * _MIB  # S3 takes at most 10,000 parts; s3transfer takes larger ones for files beyond that

    def __init__(self, root: str) -> None:
        parts = re.fullmatch(r"s3://([^/]+)((?:/.*)?)", root)  # which names a bucket may have is the store's to say
        if parts is None:
            raise UserError(f"{root} names no bucket", where="--out", remedy="write s3://BUCKET/PREFIX")
        self.bucket, self.prefix = parts[1], parts[2].strip("/")
        self._lock, self._made = threading.Lock(), None

    def __reduce__(self) -> tuple[Any, ...]:
        return (S3Objects, (self.root,))  # connections stay with their process

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

    def get(self, key: str) -> tuple[str, str] | None:
        """See Objects.get. A version is an ETag."""
        with self._owned(key):
            for attempt in range(_ATTEMPTS):
                try:
                    answer = self._client.get_object(**self._at(key))
                    return answer["Body"].read().decode(), answer["ETag"]
                except ClientError as error:
                    if code_of(error) in NO_SUCH_KEY:
                        return None
                    raise
                except (IncompleteReadError, HTTPClientError):  # cut off in the body, where boto3 itself retries nothing
                    if attempt == _ATTEMPTS - 1:
                        raise
                    time.sleep(min(2.0**attempt / 8, 4.0))
            raise AssertionError("unreachable")

    def put(self, key: str, value: str, version: str | None) -> str:
        """See Objects.put."""
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        with self._owned(key):
            try:
                answer = self._client.put_object(**self._at(key), Body=value.encode(), **condition)
            except ClientError as error:
                if code_of(error) in CONDITION_FAILED or (version is not None and code_of(error) in NO_SUCH_KEY):
                    raise Conflict(key) from error
                raise
            return str(answer["ETag"])

    def upload(self, files: Mapping[str, Path]) -> None:
        """See Objects.upload. What fails in the middle is aborted; what is killed leaves parts that `abort_uploads` finds."""
        extra = {"ChecksumAlgorithm": "SHA256"}
        with self._transfers() as manager:
            _await([manager.upload(str(path), self.bucket, self._key(key), extra) for key, path in files.items()])

    def download(self, files: Mapping[str, Path]) -> None:
        """See Objects.download. Each file appears whole."""
        with self._transfers() as manager:
            _await([manager.download(self.bucket, self._key(key), str(path)) for key, path in files.items()])

    @contextmanager
    def _transfers(self) -> Iterator[Any]:
        """Ends when everything that was begun inside has ended; an error inside cancels the rest."""
        size = self.part_bytes
        config = TransferConfig(multipart_threshold=size, multipart_chunksize=size, max_concurrency=_STREAMS)
        with self._owned(), create_transfer_manager(self._client, config) as manager:
            yield manager

    def keys(self, prefix: str) -> list[str]:
        start = len(self._key(""))
        with self._owned(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._key(prefix))
            return [item["Key"][start:] for page in pages for item in page.get("Contents", [])]

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
                    if code_of(error) != "NoSuchUpload":  # it has ended by itself
                        raise


def _connect() -> Any:
    retries: dict[str, Any] = {"mode": "standard"}
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        retries["total_max_attempts"] = _ATTEMPTS
    # Stores other than AWS's are reached by one name for all buckets.
    style = "path" if {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"} & os.environ.keys() else "auto"
    config = Config(
        retries=retries, s3={"addressing_style": style}, connect_timeout=10, read_timeout=60, max_pool_connections=16,
        tcp_keepalive=True,
    )  # fmt: skip
    try:
        return boto3.session.Session().client("s3", config=config)
    except (ValueError, BotoCoreError) as error:  # an endpoint that is no address, a profile that does not exist
        raise UserError(str(error), where="boto3", remedy="mend AWS_ENDPOINT_URL, AWS_PROFILE or ~/.aws/config") from error


def _await(transfers: list[Any]) -> None:
    for transfer in transfers:
        transfer.result()
