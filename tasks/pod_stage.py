"""One stage, or the report, in a pod without Flyte: `python -m lehr.tasks.pod_stage STAGE`.

It ends as a task of Flyte's does (tasks/owned.py), and leaves its error's line as the pod's termination message.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping

from lehr.artifacts.artifact import ArtifactRef
from lehr.pipeline.node import REPORT
from lehr.runtime.errors import Bug, LehrError, UserError, from_os_error
from lehr.runtime.redaction import masked
from lehr.tasks.opening import Opened, opened, publish, run_stage_of
from lehr.tasks.owned import owned
from lehr.tasks.refs import RunRef
from lehr.tasks.session import open_session
from lehr.tasks.termination import leave

SUBMISSION, INPUTS = "LEHR_SUBMISSION", "LEHR_INPUTS"  # lehr.infra.jobs writes them


def open_here(run: RunRef) -> Opened:
    """The run that `lehr submit` opened, and a session around it."""
    this = opened(run)
    open_session(run, this.recipe, [node.name for node in this.nodes])
    return this


def submitted_run() -> RunRef:
    """Raises UserError where this is no pod of `lehr submit`."""
    try:
        return RunRef.model_validate(json.loads(os.environ[SUBMISSION])["run"])
    except (KeyError, ValueError, TypeError) as error:
        raise UserError("this is no pod of `lehr submit`", where=SUBMISSION) from error


def _inputs() -> Mapping[str, ArtifactRef]:
    return {name: ArtifactRef.model_validate(ref) for name, ref in json.loads(os.environ.get(INPUTS, "{}")).items()}


@owned()
def work(stage: str) -> None:
    """Make `stage`, or find it again. Raises what it raises; in a pod, what a retry can mend ends the process."""
    run = submitted_run()
    open_here(run)
    if stage == REPORT:
        publish(run, _inputs())
    else:
        run_stage_of(run, stage, _inputs())


def ended(error: Exception) -> int:
    """Say `error` in the log and as the pod's last word; the exit code."""
    known = from_os_error(error) if isinstance(error, OSError) else error
    if not isinstance(known, LehrError) or isinstance(known, Bug):
        print(masked("".join(traceback.format_exception(error))), file=sys.stderr)
    text = masked(str(known) if isinstance(known, LehrError) else f"{type(error).__name__}: {error}")
    line = " ".join(text.split())
    print(f"error: {line}", file=sys.stderr, flush=True)
    leave(line)
    return known.exit_code if isinstance(known, LehrError) else Bug.exit_code


def main(arguments: list[str]) -> int:
    """The exit code of the pod."""
    try:
        work(arguments[0])
    except Exception as error:  # noqa: BLE001 - the outermost frame: said and counted, never lost
        return ended(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
