"""`python -m lehr.cli.driver`: what runs in the small pod of a run that `lehr submit` started. It starts the others."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from lehr.cli.say import say

if TYPE_CHECKING:
    from lehr.artifacts.artifact import ArtifactRef
    from lehr.infra.jobs.drive import Stage
    from lehr.infra.jobs.submission import Submission
    from lehr.infra.pod.pod_request import PodRequest
    from lehr.pipeline.node import Node
    from lehr.tasks.opening import Opened


def main() -> int:
    """Run the graph of the run that this pod was submitted with: every stage as a Job, independent ones at once. The exit
    code of the pod."""
    from lehr.infra.jobs.submission import VARIABLE, parse
    from lehr.runtime.preemption import listening
    from lehr.tasks.pod_stage import ended

    try:
        with listening():
            _drive(parse(os.environ.get(VARIABLE, "")))
    except Exception as error:  # noqa: BLE001 - the outermost frame: said and counted, never lost
        return ended(error)
    return 0


def _drive(submission: Submission) -> None:
    from lehr.infra.jobs.drive import Drive, RunJobs
    from lehr.infra.kube.api import Api
    from lehr.infra.kube.transport import connect
    from lehr.tasks.opening import start
    from lehr.tasks.pod_stage import open_here, submitted_run

    this = open_here(submitted_run())
    refs = start(this)
    jobs = RunJobs(Api(connect()), submission)
    say(f"{submission.name}: {len(this.nodes)} stages, {sum(node.name in refs for node in this.nodes)} of them found again")
    sys.stdout.flush()
    plan = _Plan(this, submission, jobs.owner, refs)
    Drive(plan.stages(), set(refs), jobs, plan.finished, _line, submission.parallel).run()
    _line(f"report: {this.run.root}/report.html")


def _line(text: str) -> None:
    say(text)
    sys.stdout.flush()


class _Plan:
    """The graph's nodes, then the report, as Jobs; and the artifacts that are there by now."""

    def __init__(self, this: Opened, submission: Submission, owner: dict[str, Any], refs: dict[str, ArtifactRef]) -> None:
        self._this, self._submission, self._owner, self.refs = this, submission, owner, refs

    def stages(self) -> list[Stage]:
        from lehr.infra.jobs.drive import Stage
        from lehr.pipeline.node import REPORT
        from lehr.tasks.requests import requests

        asked, names = requests(self._this.recipe, self._this.nodes), [node.name for node in self._this.nodes]
        found = [
            Stage(node.name, frozenset(node.sources), partial(self._job, node, asked[node.name]), asked[node.name].nodes)
            for node in self._this.nodes
        ]
        return [*found, Stage(REPORT, frozenset(names), partial(self._report, asked[REPORT]))]

    def finished(self, name: str) -> None:
        """Find what the Job of `name` made. Raises InfraError where it is not in the store: its Job said that it was."""
        from lehr.pipeline.local import locate
        from lehr.pipeline.node import REPORT
        from lehr.runtime.errors import InfraError
        from lehr.tasks.session import session

        if name == REPORT:
            return
        open_session = session(self._this.run, self._this.recipe, [])
        self.refs |= locate(self._this.nodes, self.refs, open_session.context(self._this.run))
        if name not in self.refs:
            raise InfraError(f"{name}: its pod ended well, and the store has nothing of it")

    def _job(self, node: Node, request: PodRequest, attempt: int) -> dict[str, Any]:
        several = ("lehr.tasks.pod_ranks", node.name, str(request.nodes), str(request.ranks))
        program = several if request.nodes > 1 else ("lehr.tasks.pod_stage", node.name)
        return self._made(node.name, program, request, node.sources, attempt)

    def _report(self, request: PodRequest, attempt: int) -> dict[str, Any]:
        from lehr.pipeline.node import REPORT

        return self._made(REPORT, ("lehr.tasks.pod_stage", REPORT), request, tuple(self.refs), attempt)

    def _made(
        self, name: str, program: tuple[str, ...], request: PodRequest, sources: tuple[str, ...], attempt: int
    ) -> dict[str, Any]:
        from lehr.infra.jobs.specs import StagePod, stage_job

        inputs = {source: self.refs[source].model_dump(mode="json") for source in sources}
        return stage_job(self._submission, StagePod(name, ("python", "-m", *program), request, inputs), self._owner, attempt)


if __name__ == "__main__":
    sys.exit(main())
