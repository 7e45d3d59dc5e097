"""A small MLflow tracking server: its REST routes for runs and metrics, over MLflow's own store and messages, in processes of
their own. MLflow's server needs packages that Lehr's environment does not have.

`python -m tests.monitoring.mlflow_server` reads lines, {"port", "file", "lose", "refuse"}, and starts a server for each in a
child process, which is there at once as MLflow is loaded already; it answers with the child's process ID and port. Of every
`lose`-th write the answer is lost, after it was done; requests with metrics of the key `refuse` are refused.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mlflow.entities import Metric, Param, RunStatus, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos import service_pb2 as api
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.proto_json_utils import message_to_json, parse_dict


def _create_experiment(store: Any, asked: Any) -> Any:
    return api.CreateExperiment.Response(experiment_id=store.create_experiment(asked.name))


def _by_name(store: Any, asked: Any) -> Any:
    found = store.get_experiment_by_name(asked.experiment_name)
    if found is None:
        raise MlflowException("no such experiment", error_code=api.databricks__pb2.RESOURCE_DOES_NOT_EXIST)
    return api.GetExperimentByName.Response(experiment=found.to_proto())


def _create_run(store: Any, asked: Any) -> Any:
    tags = [RunTag(tag.key, tag.value) for tag in asked.tags]
    run = store.create_run(asked.experiment_id, asked.user_id, asked.start_time, tags, asked.run_name)
    return api.CreateRun.Response(run=run.to_proto())


def _get_run(store: Any, asked: Any) -> Any:
    return api.GetRun.Response(run=store.get_run(asked.run_id).to_proto())


def _search(store: Any, asked: Any) -> Any:
    view = ViewType.from_proto(asked.run_view_type)
    found = store.search_runs(list(asked.experiment_ids), asked.filter, view, asked.max_results or 1000, list(asked.order_by))
    return api.SearchRuns.Response(runs=[run.to_proto() for run in found])


def _update(store: Any, asked: Any) -> Any:
    known = store.get_run(asked.run_id).info
    status = asked.status if asked.HasField("status") else RunStatus.from_string(known.status)
    info = store.update_run_info(asked.run_id, status, asked.end_time or None, asked.run_name or None)
    return api.UpdateRun.Response(run_info=info.to_proto())


def _delete(store: Any, asked: Any) -> Any:
    store.delete_run(asked.run_id)
    return api.DeleteRun.Response()


def _log_batch(store: Any, asked: Any) -> Any:
    metrics = [Metric.from_proto(metric) for metric in asked.metrics]
    params = [Param(param.key, param.value) for param in asked.params]
    store.log_batch(asked.run_id, metrics, params, [RunTag(tag.key, tag.value) for tag in asked.tags])
    return api.LogBatch.Response()


def _history(store: Any, asked: Any) -> Any:
    found = store.get_metric_history(asked.run_id, asked.metric_key)
    return api.GetMetricHistory.Response(metrics=[metric.to_proto() for metric in found])


ROUTES: dict[tuple[str, str], tuple[Any, Callable[[Any, Any], Any]]] = {
    ("POST", "experiments/create"): (api.CreateExperiment, _create_experiment),
    ("GET", "experiments/get-by-name"): (api.GetExperimentByName, _by_name),
    ("POST", "runs/create"): (api.CreateRun, _create_run),
    ("GET", "runs/get"): (api.GetRun, _get_run),
    ("POST", "runs/search"): (api.SearchRuns, _search),
    ("POST", "runs/update"): (api.UpdateRun, _update),
    ("POST", "runs/delete"): (api.DeleteRun, _delete),
    ("POST", "runs/log-batch"): (api.LogBatch, _log_batch),
    ("GET", "metrics/get-history"): (api.GetMetricHistory, _history),
}


class Handler(BaseHTTPRequestHandler):
    store: Any = None
    lose, refuse, writes = 0, "", 0
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes, of which the second would wait for 40 ms

    def do_GET(self) -> None:
        self._do(dict(parse_qsl(urlsplit(self.path).query)))

    def do_POST(self) -> None:
        self._do(json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}"))

    def _do(self, values: dict[str, Any]) -> None:
        name = urlsplit(self.path).path.removeprefix("/api/2.0/mlflow/")
        if (self.command, name) not in ROUTES:
            self._answer(404, {"error_code": "ENDPOINT_NOT_FOUND", "message": name})
            return
        kind, act = ROUTES[self.command, name]
        try:
            if self.refuse and any(metric["key"] == self.refuse for metric in values.get("metrics", ())):
                raise MlflowException(f"{self.refuse} is refused", error_code=api.databricks__pb2.INVALID_PARAMETER_VALUE)
            message = kind()
            parse_dict(values, message)
            text = message_to_json(act(self.store, message))
        except MlflowException as error:
            self._answer(error.get_http_status_code(), json.loads(error.serialize_as_json()))
            return
        if self.command == "POST" and name != "runs/search":
            Handler.writes += 1
            if self.lose and Handler.writes % self.lose == 0:
                self.close_connection = True
                self.connection.close()
                return
        self._answer(200, json.loads(text))

    def _answer(self, status: int, values: dict[str, Any]) -> None:
        body = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def serve(port: int, file: str, lose: int, refuse: str) -> None:
    """In a child process, until it is killed."""
    Handler.lose, Handler.refuse = lose, refuse
    Handler.store = SqlAlchemyStore(f"sqlite:///{file}", f"{file}.artifacts")
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(os.getpid(), server.server_address[1], flush=True)
    server.serve_forever()


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    for line in sys.stdin:
        if os.fork() == 0:
            serve(**json.loads(line))


if __name__ == "__main__":
    main()
