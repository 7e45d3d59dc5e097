"""A double of MLflow's server: its command line and variables, its check of the Host header, one route. Not MLflow."""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        hosts = os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
        known = self.path == "/health" or any(fnmatch.fnmatch(self.headers["Host"], pattern) for pattern in hosts)
        body = b"OK" if known else b"Invalid Host header"
        self.send_response(200 if known else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def main() -> None:
    assert sys.argv[1] == "server", sys.argv
    parser = argparse.ArgumentParser()
    for name in ("--host", "--port", "--workers"):
        parser.add_argument(name, required=True)
    given = parser.parse_args(sys.argv[2:])
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).write_text("a database", encoding="utf-8")  # as user 1000, on the volume
    ThreadingHTTPServer((given.host, int(given.port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
