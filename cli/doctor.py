"""`lehr doctor`: what is wrong with a set-up, and how to mend it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lehr.cli.cluster import cluster_options, gpu_resource_option, namespace_option
from lehr.cli.flyte import flyte_options
from lehr.cli.places import RUN, Where
from lehr.cli.say import say
from lehr.runtime.errors import UserError
from lehr.runtime.redaction import masked

if TYPE_CHECKING:
    from lehr.runtime.findings import Finding

_PART_BYTES, _LARGE_BYTES = 5 << 20, 6 << 20  # the smallest part that S3 takes, and two of them
_ATTEMPTS = "2"
FAILED = 2


@dataclass(frozen=True)
class Section:
    """`findings` are made while they are asked for."""

    title: str
    findings: Iterable[Finding]


@click.command("doctor")
@click.option("--out", type=RUN, help="Try this folder of runs too, or s3://BUCKET/PREFIX.")
@click.option("--cluster", "with_cluster", is_flag=True, help="Look at the cluster of the kubeconfig too.")
@namespace_option
@click.option("--system-namespace", default="lehr-system", show_default=True, help="Of the chart's release.")
@click.option("--flyte-namespace", default="flyte", show_default=True, help="Of Flyte.")
@click.option("--stage-nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Nodes that one stage takes.")
@gpu_resource_option
@click.option("--flyte", "with_flyte", is_flag=True, help="Ask Flyte itself for project and domain too.")
@flyte_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@cluster_options
def doctor(
    out: Where | None, with_cluster: bool, namespace: str | None, system_namespace: str, flyte_namespace: str, stage_nodes: int,
    gpu_resource: str, with_flyte: bool, project: str, domain: str, flyte_config: str, as_json: bool, kubeconfig: Path | None,
    context_name: str | None,
) -> int:  # fmt: skip
    """Check this machine, and with --out, --cluster and --flyte a store, a cluster and its Flyte: a line for each check, with
    what was found and how to mend it.

    A store is really tried, with a few small objects below PREFIX/probe/ that are removed again. In the cluster nothing is
    written; what you may not read is "not looked at". The exit code is 2 if a check failed; warnings do not count.

    \b
    Examples:
      lehr doctor
      lehr doctor --out s3://BUCKET/runs
      lehr doctor --cluster -n training --json
      lehr doctor --cluster --flyte --domain production
    """
    if not with_cluster and (namespace or kubeconfig or context_name):
        raise UserError("a namespace, a kubeconfig or a context is given, and no cluster is looked at", remedy="add --cluster")
    sections = [Section("This machine", _machine())]
    if out is not None:
        sections.append(_place(out))
    if with_cluster:
        more = {"system": system_namespace, "flyte": flyte_namespace, "gpu_resource": gpu_resource, "stage_nodes": stage_nodes}
        pods = namespace or (f"{project}-{domain}" if with_flyte else None)  # Flyte's pods run there
        sections.append(Section("The cluster", _cluster(pods, kubeconfig, context_name, more)))
    if with_flyte:
        sections.append(Section("Flyte", _flyte(flyte_config, project, domain)))
    found = {masked(section.title): list(_shown(section.findings)) for section in sections}
    if as_json:
        say(json.dumps(_data(found), indent=1))
    else:
        _tables(found)
    failed = [finding for findings in found.values() for finding in findings if finding.verdict == "fail"]
    return FAILED if failed else 0


def _machine() -> Iterator[Finding]:
    """From what is quick to what is slow: torch is imported last, and nothing of Lehr's where its packages are not there."""
    from lehr.monitoring.doctor import packages as installed

    pins = installed.pins()
    needed = installed.packages(pins)
    yield from (installed.python(), needed, installed.extras(pins))
    if needed.verdict != "fail":
        yield from _hardware()


def _hardware() -> Iterator[Finding]:
    from lehr.artifacts.object_store.cache import cache_root
    from lehr.infra.doctor import preflight
    from lehr.monitoring.doctor import gpus, host

    for check in (host.processor, host.memory, host.shared_memory, host.compiler):
        yield check()
    yield host.folder("cache", cache_root)
    yield preflight.temporary_folder()
    yield preflight.clock()
    driver, build = gpus.driver(), gpus.build()
    yield gpus.torch_fits(build, driver, gpus.on_pci())
    yield gpus.devices(build, driver)
    if driver.gpus:
        yield preflight.gpu_state()


def _place(out: Where) -> Section:
    if isinstance(out, Path):
        return Section(f"The folder {out}", _folder(out))
    return Section(f"The store {out}", _store(out))


def _folder(out: Path) -> Iterator[Finding]:
    from lehr.monitoring.doctor.host import folder

    yield folder("folder", lambda: out.absolute())


def _store(out: str) -> Iterator[Finding]:
    from lehr.artifacts.object_store.store_checks import check_store
    from lehr.infra.storage import S3Objects

    os.environ.setdefault("AWS_MAX_ATTEMPTS", _ATTEMPTS)  # a run waits half a minute for a store
    objects = S3Objects(out)
    objects.part_bytes = _PART_BYTES
    yield from check_store(objects, objects.date, _LARGE_BYTES)


def _cluster(namespace: str | None, kubeconfig: Path | None, context: str | None, more: dict[str, Any]) -> Iterator[Finding]:
    from lehr import __version__
    from lehr.infra.doctor.cluster import check_cluster
    from lehr.infra.doctor.place import Place
    from lehr.infra.kube.api import Api
    from lehr.infra.kube.transport import connect, namespace_of

    api = Api(connect(kubeconfig, context))
    yield from check_cluster(Place(api, namespace or namespace_of(kubeconfig, context), __version__, **more))


def _flyte(config_file: str, project: str, domain: str) -> Iterator[Finding]:
    from lehr.cli.flyte import flyte
    from lehr.runtime.findings import ok

    asked = flyte(config_file, project, domain)
    asked.check()
    yield ok("Flyte", f"{asked.address} answers, and has the project {project} and the domain {domain}")


def _shown(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Each as it comes, without secrets; on a terminal its check is named while the next one is at work."""
    from lehr.runtime.findings import Finding

    with _progress() as at:
        for finding in _with_errors(findings):
            at(finding.check)
            yield Finding(finding.check, finding.verdict, masked(finding.found), masked(finding.remedy))


def _with_errors(findings: Iterable[Finding]) -> Iterator[Finding]:
    """What ends the checks of a section, such as a package or a kubeconfig that is missing, is its last finding."""
    from lehr.cli.failure import owned_error
    from lehr.runtime.findings import of_error

    try:
        yield from findings
    except Exception as error:
        known = owned_error(error)
        if known is None:
            raise
        yield of_error("set-up", known)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Says on standard error, where that is a terminal, what was looked at last."""
    if not sys.stderr.isatty() or not _drawn():
        yield lambda check: None
        return
    from lehr.monitoring.screen import Screen

    with Screen(file=sys.stderr).status("looking") as status:
        yield lambda check: status.update(f"looking: {check} is done")


def _drawn() -> bool:
    """Whether rich is there: it is one of the packages that may be missing."""
    try:
        import lehr.cli.tables  # noqa: F401
    except ImportError:
        return False
    return True


def _data(found: dict[str, list[Finding]]) -> dict[str, Any]:
    rows = [
        {"section": title, "check": f.check, "verdict": f.verdict.value, "found": f.found, "remedy": f.remedy}
        for title, findings in found.items()
        for f in findings
    ]
    return {"ok": not any(row["verdict"] == "fail" for row in rows), "checks": rows}


_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "not looked at": "dim"}


def _tables(found: dict[str, list[Finding]]) -> None:
    from collections import Counter

    tally = Counter(finding.verdict.value for findings in found.values() for finding in findings)
    total = ", ".join(f"{tally[name]} {name}" for name in _STYLES if tally[name])
    if not _drawn():
        for finding in (finding for findings in found.values() for finding in findings):
            say(f"{finding.check}: {finding.verdict.value}: {_words(finding)}")
        say(total)
        return
    from lehr.cli.tables import page, plain_table, text

    tables = []
    for title, findings in found.items():
        table = plain_table(title, ("check", "", "found"))
        for finding in findings:
            verdict = finding.verdict.value
            table.add_row(text(finding.check), text(verdict, _STYLES[verdict]), text(_words(finding)))
        tables.append(table)
    page(*tables, text(total))


def _words(finding: Finding) -> str:
    from lehr.runtime.errors import sentence

    return f"{sentence(finding.found)} {sentence(finding.remedy, begins=True)}" if finding.remedy else finding.found
