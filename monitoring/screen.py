"""The console for all output. Users' text is never interpreted as markup or emoji codes, and cannot control the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from lehr.runtime.environment import digits
from lehr.runtime.text import visible

_SIZES = ("COLUMNS", "LINES")


class Screen(Console):
    """rich's Console without markup, emoji codes and highlighting; control characters in text are shown escaped, not sent."""

    def __init__(self, file: IO[str] | None = None, **options: Any) -> None:
        # rich reads the terminal's size from the environment, with `int`, which raises for thousands of digits.
        sane = {name: text for name, text in os.environ.items() if name not in _SIZES or digits(text) is not None}
        super().__init__(file=file, **{"markup": False, "emoji": False, "highlight": False, "_environ": sane, **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
