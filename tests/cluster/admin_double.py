"""A double of flyteadmin, Flyte's control plane, which is on no package registry: for `pyflyte register`, FlyteRemote and
`lehr submit` in tests.

It compiles with the engine's own compiler and hands what it made to the real engine, whose events say how a run goes. It
listens on loopback alone. It is no flyteadmin: it keeps everything in memory, knows one project and one domain, and has no
accounts, no schedules, no notifications, no recovery of runs, no executions of single tasks, no launch plans inside workflows,
no catalogue and no console.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from flyteidl.core.execution_pb2 import NodeExecution as NodePhases
from flyteidl.core.execution_pb2 import WorkflowExecution as Phases
from flyteidl.service.admin_pb2_grpc import add_AdminServiceServicer_to_server
from flyteidl.service.dataproxy_pb2_grpc import add_DataProxyServiceServicer_to_server

from lehr.infra.kube.api import Api
from tests.cluster.admin_executions import Admin
from tests.cluster.admin_lists import Refused
from tests.cluster.admin_store import Store, Uploads
from tests.storage.s3_server import KEY, SECRET

HOST = "127.0.0.1"
MOST_BYTES = 20 * 2**20  # of one message, as flyteadmin's
ENDED = {"SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT"}


class Answers(grpc.ServerInterceptor):
    """One call at a time; a refusal is its code and message, and a mistake of the double's own is kept in `errors`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.calls: list[str] = []
        self.errors: list[str] = []

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        name = details.method.rpartition("/")[2]

        def answer(request: Any, context: Any) -> Any:
            with self.lock:
                self.calls.append(name)
                return self._answered(handler.unary_unary, name, request, context)

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, _serialised)

    def _answered(self, call: Callable[[Any, Any], Any], name: str, request: Any, context: Any) -> bytes:
        """Serialised here, while nothing else changes it."""
        try:
            made: bytes = call(request, context).SerializeToString()
            return made
        except Refused as refusal:
            context.set_trailing_metadata(refusal.metadata())
            context.abort(refusal.code, str(refusal))
        except NotImplementedError:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the double of flyteadmin has no {name}")
        except Exception as error:  # noqa: BLE001 a client is to see it, and so is the test
            self.errors.append(f"{name}: {traceback.format_exc()}")
            context.abort(grpc.StatusCode.INTERNAL, f"the double of flyteadmin failed: {type(error).__name__}: {error}")
        raise AssertionError("abort has raised")


def _serialised(made: bytes) -> bytes:
    return made


class AdminDouble:
    """The running double. `address` is HOST:PORT, for clients and for the engine; `store` that of the S3 server."""

    def __init__(self, api: Api, store: str, bucket: str) -> None:
        self.store, self.answers = store, Answers()
        kept = Store(store, bucket)
        self.admin = Admin(api, kept)
        options = [("grpc.max_receive_message_length", MOST_BYTES), ("grpc.max_send_message_length", MOST_BYTES)]
        options += [("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 5000)]
        self._server = grpc.server(ThreadPoolExecutor(16), interceptors=[self.answers], options=options)
        add_AdminServiceServicer_to_server(self.admin, self._server)
        add_DataProxyServiceServicer_to_server(Uploads(kept, lambda i: self.admin.node(i).told.closure.deck_uri), self._server)
        port = self._server.add_insecure_port(f"{HOST}:0")
        self.address = f"{HOST}:{port}"
        self._server.start()

    def environment(self) -> dict[str, str]:
        """Variables for a client's process: whose control plane this is, and a user's keys of the store."""
        flyte = {"FLYTE_PLATFORM_URL": self.address, "FLYTE_PLATFORM_INSECURE": "true"}
        flyte |= {"FLYTE_AWS_ENDPOINT": self.store, "FLYTE_AWS_ACCESS_KEY_ID": KEY, "FLYTE_AWS_SECRET_ACCESS_KEY": SECRET}
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": self.store}
        keys |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
        known = {name: value for name, value in os.environ.items() if not name.startswith(("FLYTE", "AWS_"))}
        return {**known, **flyte, **keys}

    def execution(self, name: str) -> Any:
        """A copy of flyteidl's Execution. Raises KeyError if there is none."""
        with self.answers.lock:
            made = type(self.admin.runs[name].told)()
            made.CopyFrom(self.admin.runs[name].told)
            return made

    def phase(self, name: str) -> str:
        """Such as RUNNING."""
        return str(Phases.Phase.Name(self.execution(name).closure.phase))

    def nodes(self, name: str) -> dict[str, str]:
        """The phase of every node, those inside others too, by its id."""
        with self.answers.lock:
            nodes = self.admin.runs[name].nodes
            return {node: str(NodePhases.Phase.Name(found.told.closure.phase)) for node, found in nodes.items()}

    def ended(self, name: str, seconds: float = 600) -> str:
        """The phase in which the run has ended. Raises AssertionError if it does not end in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.phase(name) in ENDED:
                return self.phase(name)
            time.sleep(0.1)
        raise AssertionError(f"{name} has not ended: {self.phase(name)} {self.nodes(name)}\n{self.answers.errors}")

    def stop(self) -> None:
        self._server.stop(0).wait(5)


@contextlib.contextmanager
def admin_double(api: Api, store: str, bucket: str) -> Iterator[AdminDouble]:
    """A double for the cluster of `api` and the S3 server at `store`, whose `bucket` is the engine's own."""
    made = AdminDouble(api, store, bucket)
    try:
        yield made
    finally:
        made.stop()
