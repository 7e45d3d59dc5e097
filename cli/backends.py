"""The two ways to run a recipe on a cluster: what each looks at before anything starts, and how it starts."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lehr.cli.cluster import refusals
from lehr.cli.flyte import KUBERNETES, flyte
from lehr.cli.say import say, this_command

if TYPE_CHECKING:
    from lehr.config import Recipe
    from lehr.infra.kube.api import Api
    from lehr.infra.pod.pod_request import PodRequest
    from lehr.tasks.refs import RunRef

Asked = Mapping[str, "PodRequest"]  # by stage


@dataclass(frozen=True)
class Given:
    """What the command was told, whatever runs the stages."""

    out: str
    image: str
    secret: str
    account: str
    parallel: int
    kubeconfig: Path | None
    context: str | None
    gpu_resource: str


class Backend(Protocol):
    """What runs a recipe's stages."""

    def check(self, asked: Asked) -> None:
        """Raises UserError for what cannot work there; says what could not be looked at."""

    def start(self, recipe: Recipe, run: RunRef) -> None:
        """Start the run that is pinned in its store, and say how to follow it."""


class KubernetesBackend:
    """A Job for each stage, started by a small pod."""

    def __init__(self, given: Given, namespace: str | None) -> None:
        from lehr.infra.kube.api import Api
        from lehr.infra.kube.transport import connect, namespace_of

        self.given = given
        self.api = Api(connect(given.kubeconfig, given.context))
        self.namespace = namespace or namespace_of(given.kubeconfig, given.context)

    def check(self, asked: Asked) -> None:
        from lehr.infra.jobs.checks import check
        from lehr.infra.jobs.refused import check_quotas
        from lehr.infra.jobs.specs import DRIVER_POD
        from lehr.infra.jobs.submission import DRIVER, Submission
        from lehr.runtime.errors import UserError

        if DRIVER in asked:
            raise UserError(f"a step may not be named {DRIVER!r} here", where="posttraining", remedy="give it another name")
        with refusals(self.namespace):
            submission = Submission("checked", run={}, recipe="", **self._wanted())
            for note in [*check(self.api, submission, asked), check_quotas(self.api, self.namespace, asked, DRIVER_POD)]:
                if note:
                    say(note, err=True)

    def _wanted(self) -> dict[str, Any]:
        given = self.given
        told = {"image": given.image, "secret": given.secret, "account": given.account, "parallel": given.parallel}
        return {"namespace": self.namespace, "gpu_resource": given.gpu_resource, **told}

    def start(self, recipe: Recipe, run: RunRef) -> None:
        from lehr.infra.jobs.specs import driver_job
        from lehr.infra.jobs.submission import Submission
        from lehr.infra.jobs.submitted import submit
        from lehr.infra.pod.pod_request import run_name

        name = run_name(recipe.name, run.key)
        submission = Submission(name, run=run.model_dump(mode="json"), recipe=recipe.name, **self._wanted())
        with refusals(self.namespace):
            begun = submit(self.api, driver_job(submission, ["python", "-m", "lehr.cli.driver"]))
        say(f"{'started' if begun else 'at work already'}: {name} in the namespace {self.namespace}")
        _follow(name, f" --backend {KUBERNETES} -n {shlex.quote(self.namespace)}", self.given.out)


class FlyteBackend:
    """A workflow of Flyte's. Its nodes and namespace are looked at where a kubeconfig leads to them."""

    def __init__(self, given: Given, config_file: str, project: str, domain: str) -> None:
        self.given, self.flyte = given, flyte(config_file, project, domain)
        self._options = "".join(
            f" {option} {shlex.quote(value)}"
            for option, value in (("--project", project), ("--domain", domain), ("--flyte-config", config_file))
            if value
        )

    def check(self, asked: Asked) -> None:
        from lehr.infra.jobs.checks import check_image, check_namespace, check_nodes, check_operator
        from lehr.infra.jobs.refused import check_quotas

        check_image(self.given.image)
        self.flyte.check()
        api = self._api()
        if api is None:
            return
        with refusals(self.flyte.namespace):
            named = check_namespace(api, self.flyte.namespace, "--project, --domain", _FLYTES.format(self.flyte.namespace))
            notes = [named, check_nodes(api, asked, self.given.gpu_resource)]
            notes.append(check_quotas(api, self.flyte.namespace, asked))
            notes.append(check_operator(api, next((name for name, one in asked.items() if one.nodes > 1), "")))
        for note in filter(None, notes):
            say(note, err=True)

    def _api(self) -> Api | None:
        from lehr.infra.kube.api import Api
        from lehr.infra.kube.transport import connect
        from lehr.runtime.errors import LehrError

        try:
            return Api(connect(self.given.kubeconfig, self.given.context))
        except LehrError as error:
            if self.given.kubeconfig or self.given.context:
                raise
            say(f"not looked at: the namespace {self.flyte.namespace} and its nodes ({error})", err=True)
            return None

    def start(self, recipe: Recipe, run: RunRef) -> None:
        from lehr.tasks.requests import GPU, SECRET

        if self.given.secret:
            os.environ[SECRET] = self.given.secret  # before the tasks are declared
        os.environ[GPU] = self.given.gpu_resource
        from lehr.workflows.run import submitted

        plan, fresh = self.flyte.registered(submitted, self.given.image)
        if fresh:
            say(f"registered: {submitted.name}, version {plan.id.version}")
        begun = self.flyte.start(plan, run, recipe.name, self.given.account, self.given.parallel)
        where = f"in the project {self.flyte.project}, domain {self.flyte.domain}"
        say(f"{'started' if begun.begun else 'at work already'}: {begun.name} {where}")
        say(f"console: {begun.url}")
        _follow(begun.name, self._options, self.given.out)


_FLYTES = "Flyte makes it for a project that it knows; where it does not, an operator runs: kubectl create namespace {}"


def _follow(name: str, options: str, out: str) -> None:
    lehr = this_command()
    for word in ("status", "logs", "cancel"):
        say(f"{word + ':':9}{lehr} {word} {name}{options}")
    if tracked := os.environ.get("MLFLOW_TRACKING_URI"):
        say(f"mlflow:  {tracked}")
    say(f"report:  {out.rstrip('/')}/report.html, at the end")
