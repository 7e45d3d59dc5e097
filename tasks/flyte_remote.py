"""Runs on a Flyte cluster, over its admin service: registered where they are not, started, looked at, cancelled."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lehr.infra.pod.pod_request import run_labels, run_name, slug
from lehr.runtime.errors import InfraError, UserError
from lehr.tasks.refs import RunRef

if TYPE_CHECKING:
    from flytekit import WorkflowBase
    from flytekit.configuration import SerializationSettings

_CONFIG = "FLYTECTL_CONFIG"
_ADDRESS = "FLYTE_PLATFORM_URL"
_HOW = f"give --flyte-config, or set {_CONFIG} to a configuration file, or {_ADDRESS} to HOST:PORT"
NAME_CHARACTERS = 20  # of an execution: what every flyteadmin takes
MOST_ATTEMPTS = 999


@dataclass(frozen=True)
class Execution:
    """`running`: it had not ended when it was looked for. `begun`: this call started it."""

    name: str
    url: str
    begun: bool = False
    running: bool = True


class Flyte:
    """One project and domain of a Flyte. Raises UserError for what Flyte refuses, InfraError where it does not answer."""

    def __init__(self, config_file: str, project: str, domain: str) -> None:
        from flytekit.configuration import Config, PlatformConfig
        from flytekit.remote import FlyteRemote

        with answers(config_file or "Flyte"):
            config = Config.auto(config_file or None)
        if config.platform.endpoint == PlatformConfig().endpoint and _ADDRESS not in os.environ:
            raise UserError("no Flyte is named", where=config_file or "~/.flyte/config.yaml", remedy=_HOW)
        self.address, self.project, self.domain = config.platform.endpoint, project, domain
        self.remote = FlyteRemote(config, default_project=project, default_domain=domain)

    @property
    def namespace(self) -> str:
        """Of its pods."""
        return f"{self.project}-{self.domain}"

    def check(self) -> None:
        """Raises UserError if there is no such project or domain."""
        with answers(self.address):
            projects, _ = self.remote.client.list_projects_paginated(limit=1000)
            domains = [domain.id for domain in self.remote.client.get_domains()]
        ids = [project.id for project in projects]
        for kind, name, known in (("project", self.project, ids), ("domain", self.domain, domains)):
            if name not in known:
                there = f"there are: {', '.join(sorted(known))}" if known else "there is none"
                raise UserError(f"this Flyte has no {kind} {name!r}", where=f"--{kind}", remedy=there)

    def registered(self, workflow: WorkflowBase, image: str) -> tuple[Any, bool]:
        """The launch plan of `workflow` with its tasks in `image`, and whether it was registered just now. The version is a
        hash of what is registered, so the same is registered once and another never takes its place."""
        from flytekit.exceptions.user import FlyteEntityNotExistException

        settings = _settings(image, self.project, self.domain)
        version = _version(workflow, settings)
        with answers(self.address):
            try:
                return self.remote.fetch_launch_plan(name=workflow.name, version=version), False
            except FlyteEntityNotExistException:
                self.remote.register_workflow(workflow, _settings(image, self.project, self.domain, version), version)
                return self.remote.fetch_launch_plan(name=workflow.name, version=version), True

    def start(self, plan: Any, run: RunRef, recipe: str, account: str, parallel: int) -> Execution:
        """Start `run` of the recipe of that name, unless an execution of it is under way. An execution's name is the run's with
        a number: Flyte takes each once."""
        from flytekit import Labels
        from flytekit.core.options import Options
        from flytekit.models.security import Identity, SecurityContext

        name, last = self._next(recipe, run.key)
        if last is not None:
            return last
        # On an execution they are every pod's, and stronger than a task's own: so no stage is among them.
        context = SecurityContext(run_as=Identity(k8s_service_account=account)) if account else None
        options = Options(
            labels=Labels(run_labels(run_name(recipe, run.key), recipe)), max_parallelism=parallel, security_context=context
        )
        with answers(self.address):
            begun = self.remote.execute(
                plan, inputs={"run": run}, execution_name=name, options=options, type_hints={"run": RunRef}
            )
        return Execution(name, self.remote.generate_console_url(begun), begun=True)

    def _next(self, recipe: str, key: str) -> tuple[str, Execution | None]:
        """A name that is free, or the execution of the run that is under way."""
        for number in range(1, MOST_ATTEMPTS):
            name = execution_name(recipe, key, number)
            found = self.find(name)
            if found is None:
                return name, None
            if found.running:
                return name, found
        raise UserError("this run was started too often", remedy="give it another --out")

    def find(self, name: str) -> Execution | None:
        found = self._fetched(name)
        return found and Execution(name, self.remote.generate_console_url(found), running=not found.is_done)

    def execution(self, name: str) -> Any:
        """Raises UserError if there is none of that name."""
        if (found := self._fetched(name)) is None:
            remedy = "`lehr submit` prints a run's name"
            raise UserError(f"no execution {name} in {self.project}, {self.domain}", remedy=remedy)
        return found

    def _fetched(self, name: str) -> Any:
        from flytekit.exceptions.user import FlyteEntityNotExistException

        with answers(self.address):
            try:
                return self.remote.fetch_execution(name=name)
            except FlyteEntityNotExistException:
                return None

    def cancel(self, name: str) -> bool:
        """Stop an execution: its pods save what they have. False if it had ended."""
        found = self.execution(name)
        if found.is_done:
            return False
        with answers(self.address):
            self.remote.terminate(found, "cancelled with `lehr cancel`")
        return True


def execution_name(recipe: str, key: str, number: int) -> str:
    """Of the `number`th execution of the run of a recipe: a part of the recipe's name, and of the run's key."""
    tail = f"-{key[:8]}-{number}"
    head = slug(recipe, NAME_CHARACTERS - len(tail))
    return (head if head[0].isalpha() else "r") + tail


def _settings(image: str, project: str, domain: str, version: str = "0") -> SerializationSettings:
    from flytekit.configuration import Image, ImageConfig, SerializationSettings

    try:
        named = Image.look_up_image_info("default", image)
    except Exception as error:
        remedy = "give --image REGISTRY/lehr:VERSION, or REGISTRY/lehr@sha256:DIGEST"
        raise UserError(f"{image[:200]!r} is not the name of an image", where="--image", remedy=remedy) from error
    return SerializationSettings(image_config=ImageConfig(default_image=named), project=project, domain=domain, version=version)


def _version(workflow: WorkflowBase, settings: SerializationSettings) -> str:
    from flytekit.tools.translator import get_serializable

    from lehr import __version__

    found: OrderedDict[Any, Any] = OrderedDict()
    get_serializable(found, settings, workflow)
    parts = [model.to_flyte_idl().SerializeToString(deterministic=True) for model in found.values() if model is not None]
    return f"{__version__}-{hashlib.sha256(b''.join(sorted(parts))).hexdigest()[:16]}"


@contextmanager
def answers(address: str) -> Iterator[None]:
    """Turn flytekit's errors into ours."""
    import grpc
    from flytekit.exceptions.base import FlyteException
    from flytekit.exceptions.system import FlyteSystemException
    from flytekit.exceptions.user import FlyteAuthenticationException, FlyteEntityNotExistException

    try:
        yield
    except FlyteEntityNotExistException:
        raise
    except FlyteAuthenticationException as error:
        what = f"Flyte does not know you ({_line(error)})"
        raise UserError(what, where=address, remedy="log in again, as its configuration says") from error
    except FlyteSystemException as error:
        raise InfraError(f"{address}: Flyte does not answer ({_line(error)}); {_HOW}") from error
    except grpc.RpcError as error:
        raise InfraError(f"{address}: Flyte refused it ({_line(error)})") from error
    except FlyteException as error:
        raise UserError(f"Flyte refused it ({_line(error)})", where=address) from error


def _line(error: BaseException) -> str:
    said = error.details() if hasattr(error, "details") and callable(error.details) else str(error)
    return " ".join(str(said).split())[:300]
