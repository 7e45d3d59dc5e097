"""Runs one controller in the foreground: `python -m lehr.infra.controller`, `lehr controller run`."""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from lehr.infra.controller.log_file import LogFile
from lehr.infra.controller.reconciler import Controller
from lehr.infra.controller.settings import Settings
from lehr.infra.kube.transport import connect
from lehr.runtime.errors import UserError


def run(settings: Settings, kubeconfig: Path | None = None, context: str | None = None) -> int:
    """Run until SIGTERM or SIGINT, then return 0. Raises UserError for what a person must fix before it can start."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = settings.with_webhook()
    transport = connect(kubeconfig, context)
    with ExitStack() as stack:
        log = _standard_output
        if settings.decision_log != "-":
            log = stack.enter_context(LogFile(Path(settings.decision_log), round(settings.decision_log_mib * 2**20))).write
        controller = Controller(transport, settings, log=log)
        _serve(controller, settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: controller.stop())
        if not settings.namespaces:
            logging.getLogger("lehr.infra.controller").warning("no training namespace is set: no pod will ever be deleted")
        try:
            controller.run()
        finally:
            controller.metrics.close()
            transport.close()
    return 0


def _serve(controller: Controller, settings: Settings) -> None:
    if not settings.metrics_port:
        return
    try:
        controller.metrics.serve(settings.metrics_address, settings.metrics_port)
    except OSError as error:
        place = f"{settings.metrics_address}:{settings.metrics_port}"
        remedy = "choose another metrics_port, or 0 for no metrics"
        raise UserError(f"cannot listen: {error.strerror or error}", where=place, remedy=remedy) from error


def _standard_output(line: str) -> None:
    print(line, flush=True)
