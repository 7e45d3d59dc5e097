"""What judges are told of the rows of a task of one's own, tried on every row before anything is generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from lehr.config.judged_checks import JudgeCheck
from lehr.config.own_task import OwnTask
from lehr.evals.judge import prompt_of
from lehr.evals.judged import Judged, ToJudge
from lehr.evals.own_rows import Templates, filled, text_of
from lehr.evals.task import Asked
from lehr.post.sets.files import Row
from lehr.runtime.errors import UserError

_TRIED = ("an answer", "another one")


def to_be_judged(task: OwnTask, asked: Asked, row: Row, known: Mapping[str, str]) -> Judged:
    """`asked` with what its judges are told; `known`: the digest of each check that a model makes. Raises UserError, with file
    and row, for a template that does not fit the row or does not show the answer."""
    templates = Templates(task.prompt or "", task.target, None, False, False)
    targets = filled(templates, row.values, row.where).targets
    by = []
    for name, check in task.judged_checks().items():
        against = ""
        if isinstance(check, JudgeCheck) and check.against is not None:
            against = text_of(f"metrics.{name}.against", check.against, row.values, row.where)
        to = ToJudge(name, check, known[name], row.values, asked.compared, targets[0] if targets else "", against)
        if isinstance(check, JudgeCheck):
            _try(to, row.where)
        by.append(to)
    checks = tuple((name, {"by": known[name], **_pairs(task, name)} if name in known else args) for name, args in asked.checks)
    values = {one.name: getattr(asked, one.name) for one in fields(asked)}
    return Judged(**{**values, "checks": checks}, by=tuple(by))


def _pairs(task: OwnTask, name: str) -> dict[str, object]:
    said = (task.metrics or {})[name]
    return {"against": said["against"]} if said.get("against") is not None else {}


def _try(to: ToJudge, where: str) -> None:
    try:
        shown = [prompt_of(to, text, swapped) for text in _TRIED for swapped in (False, True)]
    except UserError as error:
        raise UserError(f"metrics.{to.name}.prompt: {error.what}", where=where, remedy=error.remedy) from None
    if len(set(shown)) < (4 if to.check.against is not None else 2):  # type: ignore[union-attr]
        names = "{{ first }} and {{ second }}" if to.check.against is not None else "{{ answer }}"  # type: ignore[union-attr]
        what = f"metrics.{to.name}.prompt: it does not show {names}"
        raise UserError(what, where=where, remedy=f"put {names} where the judge is to read it")
