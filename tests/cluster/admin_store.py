"""The double of flyteadmin and the store: inputs and outputs, and addresses that clients may write to."""

from __future__ import annotations

import base64
import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from flyteidl.admin.common_pb2 import UrlBlob
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.service import dataproxy_pb2
from flyteidl.service.dataproxy_pb2_grpc import DataProxyServiceServicer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.cluster.admin_lists import check_place, invalid, missing
from tests.storage.s3_server import KEY, SECRET

MOST_SECONDS, USUAL_SECONDS = 3600, 600  # for which a signed address holds


class Store:
    """`bucket` of the S3 server at `address`."""

    def __init__(self, address: str, bucket: str) -> None:
        self.address, self.bucket = address, bucket
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        config = Config(signature_version="s3v4", request_checksum_calculation="when_required")
        self._client = boto3.client("s3", endpoint_url=address, config=config, **keys)

    def uri(self, path: str) -> str:
        return f"s3://{self.bucket}/{path}"

    def put(self, uri: str, data: bytes) -> None:
        self._client.put_object(**_named(uri), Body=data)

    def literals(self, uri: str) -> LiteralMap:
        """Empty, where no such object is."""
        if not uri:
            return LiteralMap()
        try:
            return LiteralMap.FromString(self._client.get_object(**_named(uri))["Body"].read())
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("NoSuchKey", "404", "NoSuchBucket"):
                raise
            return LiteralMap()

    def signed(self, kind: str, uri: str, seconds: float, **more: str) -> str:
        """`kind` is put_object or get_object."""
        return str(self._client.generate_presigned_url(kind, Params={**_named(uri), **more}, ExpiresIn=int(seconds)))


def _named(uri: str) -> dict[str, str]:
    bucket, _, name = uri.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": name}


def blob(uri: str, found: LiteralMap) -> UrlBlob:
    return UrlBlob(url=uri, bytes=found.ByteSize())


class Uploads(DataProxyServiceServicer):
    """flyteadmin's data proxy: where clients bring files, and fetch reports from."""

    def __init__(self, store: Store, decks: Any) -> None:
        self.store, self._deck = store, decks

    def CreateUploadLocation(self, request: Any, context: Any) -> Any:
        check_place(request.project, request.domain)
        if not request.filename and not request.content_md5:
            raise invalid("content_md5 or filename and filename_root are missing")
        if (request.filename_root or request.filename).startswith("/") or ".." in request.filename:
            raise invalid(f"invalid file name {request.filename}")
        root = request.filename_root or base64.b32encode(request.content_md5 or secrets.token_bytes(16)).decode()
        parts = (request.project, request.domain, root, request.filename or hashlib.md5(request.content_md5).hexdigest())
        uri = self.store.uri("/".join(parts))
        more = {"ContentMD5": base64.b64encode(request.content_md5).decode()} if request.content_md5 else {}
        seconds = _seconds(request.expires_in)
        return dataproxy_pb2.CreateUploadLocationResponse(
            signed_url=self.store.signed("put_object", uri, seconds, **more), native_url=uri, expires_at=_after(seconds)
        )

    def CreateDownloadLocation(self, request: Any, context: Any) -> Any:
        seconds = _seconds(request.expires_in)
        url = self.store.signed("get_object", request.native_url, seconds)
        return dataproxy_pb2.CreateDownloadLocationResponse(signed_url=url, expires_at=_after(seconds))

    def CreateDownloadLink(self, request: Any, context: Any) -> Any:
        """Of a node's report."""
        uri = self._deck(request.node_execution_id)
        if not uri:
            raise missing(f"no deckUrl found for request {request.node_execution_id}")
        seconds = _seconds(request.expires_in)
        urls = [self.store.signed("get_object", uri, seconds)]
        made = dataproxy_pb2.PreSignedURLs(signed_url=urls, expires_at=_after(seconds))
        return dataproxy_pb2.CreateDownloadLinkResponse(signed_url=urls, expires_at=_after(seconds), pre_signed_urls=made)


def _seconds(asked: Duration) -> float:
    return min(float(asked.seconds) or USUAL_SECONDS, MOST_SECONDS)


def _after(seconds: float) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(datetime.now(UTC) + timedelta(seconds=seconds))
    return made
