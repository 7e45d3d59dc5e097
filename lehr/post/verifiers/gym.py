"""Questions of reasoning-gym, scored by its own rules, which may run what they are given: in the sandbox alone."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, model_validator

from lehr.data.reasoning import dataset
from lehr.post.served import gym_score, ready_for_gym
from lehr.post.verifiers.arguments import Args, Arguments, Text
from lehr.post.verifiers.sandbox import check_machine
from lehr.post.verifiers.worker import Worker

_SECONDS = 10.0
_WORKER = Worker("reasoning-gym", ("reasoning_gym",), ready_for_gym, walled=True)
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def answer_in(text: str) -> str:
    """What stands in the last <answer> tags of a response; all of it if there are none."""
    tagged = _TAGGED.findall(text)
    return str(tagged[-1] if tagged else text).strip()


def reasoning_gym(args: Args, text: str) -> float:
    """The generator's own score of the answer, 0 to 1: what it gives for a part of an answer counts. 0 if scoring
    fails or takes over ten seconds. Raises UserError where the sandbox cannot be had."""
    asked = [args["name"], args.get("settings", {}), args["index"], answer_in(text)]
    return float(_WORKER.ask(gym_score, asked, _SECONDS) or 0.0)


class Entry(Arguments):
    """A question by its generator, the generator's settings, and its index."""

    name: Text
    index: Annotated[int, Field(ge=0)]
    settings: dict[str, Any] = {}

    @model_validator(mode="after")
    def _exists(self) -> Entry:
        dataset(self.name, self.settings)
        check_machine("reasoning_gym")
        return self
