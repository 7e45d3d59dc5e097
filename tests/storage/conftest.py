"""One S3 server for all tests of object storage; each has a part of the bucket to itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.storage import s3_server


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the server listens; it has the bucket `lehr-tests`."""
    with s3_server.seaweed(tmp_path_factory.mktemp("seaweed")) as url:
        keys = {"aws_access_key_id": s3_server.KEY, "aws_secret_access_key": s3_server.SECRET}
        boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(Bucket="lehr-tests")
        yield url


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user's environment: keys, and no other source of them. Failures are not waited for."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


@pytest.fixture
def root(address: str, keys: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The root of a run in the bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    return f"s3://lehr-tests/{request.node.originalname}-{abs(hash(request.node.name))}"
