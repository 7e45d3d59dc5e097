"""A store that cuts connections, wants an MD5 with each batch, and judges buckets' names itself."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from threading import Thread

import pytest

from lehr.artifacts.object_store.capability_probe import require_conditions
from lehr.infra.storage import S3Objects
from lehr.runtime.errors import UserError
from tests.storage.s3_server import Careless


class Faulty(Careless):
    """Conditions hold here. The first answer to each GET of an object ends in the middle of its body."""

    objects: dict[str, bytes]
    cut: set[str]

    def do_PUT(self) -> None:
        body, known = self.rfile.read(int(self.headers.get("Content-Length") or 0)), self.objects.get(self.path)
        match = self.headers.get("If-Match")
        if (known is not None and self.headers.get("If-None-Match")) or (match and match != self._tag(known or b"")):
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return
        self.objects[self.path] = body
        self._answer(200, etag=self._tag(body).strip('"'))

    def do_GET(self) -> None:
        body = self.objects.get(self.path)
        if body is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif self.path in self.cut:
            self._answer(200, body, self._tag(body).strip('"'))
        else:
            self.cut.add(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:-1])
            self.close_connection = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(400, b"<Error><Code>MissingContentMD5</Code></Error>")

    def do_DELETE(self) -> None:
        self.objects.pop(self.path, None)
        self._answer(204)

    @staticmethod
    def _tag(body: bytes) -> str:
        return f'"{len(body)}-{body.hex()}"'


@pytest.fixture
def faulty(keys: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    objects: dict[str, bytes] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Faulty,), {"objects": objects, "cut": set()}))
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield objects
    server.shutdown()
    server.server_close()


def test_a_connection_that_is_cut_in_a_body_is_made_again(faulty: dict[str, bytes]) -> None:
    store = S3Objects("s3://bucket/run")
    version = store.put("key", "a record", None)
    assert store.get("key") == ("a record", version)


@pytest.mark.long
def test_a_store_without_batches_deletes_one_by_one_and_keeps_no_probe(faulty: dict[str, bytes]) -> None:
    store = S3Objects("s3://bucket/run")
    require_conditions(store)
    assert not faulty
    for name in ("a", "b"):
        store.put(name, "x", None)
    store.delete(["a", "b"])
    assert not faulty


@pytest.mark.parametrize(
    ("root", "bucket", "prefix"),
    [("s3://my_bucket", "my_bucket", ""), ("s3://MyBucket/a//b/", "MyBucket", "a//b"), ("s3://b/r", "b", "r")],
)
def test_the_store_judges_names(root: str, bucket: str, prefix: str, faulty: dict[str, bytes]) -> None:
    store = S3Objects(root)
    assert (store.bucket, store.prefix) == (bucket, prefix)
    assert store.get("missing") is None


def test_a_name_that_cannot_be_sent_is_the_users(keys: None) -> None:
    with pytest.raises(UserError, match="Invalid bucket name"):
        S3Objects("s3://b ucket/x").get("key")
    for root in ("s3://", "s3:///x"):
        with pytest.raises(UserError, match="has no bucket"):
            S3Objects(root)
