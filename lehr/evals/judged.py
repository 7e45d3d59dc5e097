"""Generated answers that a model judges, and the interface through which it is asked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from lehr.artifacts.artifact import canonical, sha256_text
from lehr.config.judged_checks import JudgeCheck, JudgedCheck
from lehr.evals.judged_by import JudgedBy
from lehr.evals.task import Asked
from lehr.runtime.errors import UserError


@dataclass(frozen=True, slots=True)
class ToJudge:
    """What a check's judge may be told of a row: its fields, its own prompt, the right answer and, of pairs, the reference
    answer. `known` is the digest of the check without its address."""

    name: str
    check: JudgedCheck = field(repr=False)
    known: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = ""
    target: str = ""
    against: str = ""

    @property
    def scored_by(self) -> JudgedBy:
        c = self.check
        if isinstance(c, JudgeCheck):
            prompt = sha256_text(c.template)[:16]
            return JudgedBy(
                kind="judge", model=c.model, digest=self.known, prompt=prompt, temperature=c.temperature, samples=c.samples
            )
        return JudgedBy(kind="classifier", model=c.model, digest=self.known, label=c.label, threshold=c.threshold)


@dataclass(frozen=True, slots=True)
class Judged(Asked):
    """A prompt some of whose `checks` are models', `by` which its answers are judged."""

    by: tuple[ToJudge, ...] = ()


class Gave(NamedTuple):
    """What each example gave to a metric: weight 0 leaves it out; no weights: all 1."""

    values: list[float]
    weights: list[float] = []
    scored_by: JudgedBy | None = None


class Judging(Protocol):
    """Asks judges and classifiers. Every rank calls it with the same arguments and gets the same results."""

    def values(self, examples: Sequence[Judged], parts: Mapping[str, Sequence[str]]) -> dict[str, Gave]:
        """Each metric of the examples' judged checks, `METRIC@WAY` where ways have names. `parts`: of each way what it takes
        out of the answers, equally many for each example. Raises InfraError and UserError."""
        ...


def address(url: str, variable: str, path: bool, missing: str, remedy: str) -> str:
    """A server's address: the task's `url`, else that of the environment's `variable`; `path` says whether it may have one.
    Raises UserError, `missing`, where neither is given."""
    found = url or os.environ.get(variable, "")
    if not re.fullmatch(r"https?://[^\s/@?#]+" + (r"(/[^\s@?#]*)?" if path else "/?"), found):
        what = f"{variable} is no address such as http://127.0.0.1:8000{'/predict' if path else ''}" if found else missing
        raise UserError(what, where="metrics", remedy=f"{remedy}, or set {variable}")
    return found


def digest_of_check(check: JudgedCheck, content: Mapping[str, str]) -> str:
    """Of all that tells a check from others, with the content of a classifier's files."""
    return sha256_text(canonical([check.identity(), dict(content)]))[:16]
