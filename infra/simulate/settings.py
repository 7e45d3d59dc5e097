"""One setting of a scenario from a command line: NAME=NUMBER, or NAME=on."""

from __future__ import annotations

import math
from dataclasses import fields

from lehr.infra.simulate.scenario import Scenario
from lehr.runtime.errors import UserError

_ELSEWHERE = ("gpus", "regime", "days", "checkpoint_interval", "policy")  # have an option of their own
DEFAULTS = {f.name: f.default for f in fields(Scenario) if f.name not in _ELSEWHERE}
_SWITCH = {"on": True, "off": False}


def setting(text: str) -> tuple[str, float | bool]:
    """Raises UserError for a name that is none, and for a value that it cannot have."""
    name, equals, value = text.partition("=")
    if not equals or name not in DEFAULTS:
        raise UserError("not a setting", where=text, remedy=f"NAME=NUMBER with one of {', '.join(DEFAULTS)}")
    if isinstance(DEFAULTS[name], bool):
        if value not in _SWITCH:
            raise UserError("neither on nor off", where=text, remedy=f"{name}=on")
        return name, _SWITCH[value]
    return name, _number(name, value, text)


def _number(name: str, value: str, text: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    least, most = (1.0 if name.endswith("_interval") else 0.0), (1.0 if name.endswith("_fraction") else 1e7)
    if not least <= number <= most:
        raise UserError(f"not a number from {least:g} to {most:g}", where=text, remedy=f"{name}={DEFAULTS[name]:g}")
    return number
