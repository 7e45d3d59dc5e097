"""How many examples a property is tried with: few and always the same in the suite, many fresh ones in `make fuzz`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings

FACTOR = int(os.environ.get("FUZZ_FACTOR", "0"))  # set by `make fuzz`: how many times as many examples


def tried(examples: int) -> Callable[[Any], Any]:
    """`examples` in the suite, FACTOR times as many when fuzzing. They are whole commands, whose time `tests.fuzz.watch`
    bounds."""
    return settings(
        max_examples=examples * max(1, FACTOR),
        derandomize=not FACTOR,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),  # a failing command leaves its files: what is small in them is seen by eye
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
