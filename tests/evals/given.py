"""Examples of any split, for tests of the examples themselves."""

from __future__ import annotations

from typing import Any

from lehr.data.synthetic.splits import Split
from lehr.evals import suites
from lehr.evals.held_out import unscored
from lehr.evals.task import Example


def examples(task: str, split: Split, *rest: Any, **more: Any) -> list[Example]:
    return unscored(suites.examples(task, split, *rest, **more), "lengths")
