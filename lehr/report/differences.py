"""A difference of two scores in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lehr.report import format as fmt
from lehr.runtime.metrics import Metric

if TYPE_CHECKING:
    from lehr.evals.differences import Difference


def difference_text(found: Difference | None, about: Metric) -> tuple[str, str]:
    """`+1.2`, `[−0.3, 2.7] paired, p 0.12, detectable 2.1`."""
    value, interval, p, detectable, note = difference_cells(found, about)
    if not interval:
        return value, note
    return value, ", ".join(filter(None, (interval, f"p {p}", f"detectable {detectable}", note)))


def difference_cells(found: Difference | None, about: Metric) -> tuple[str, str, str, str, str]:
    """The difference, its interval, p, what is detectable, and a note; those between are empty where no interval is known."""
    if found is None:
        return "–", "", "", "", ""
    value = _signed(found.value, about, "+")
    if found.low is None or found.high is None:
        return value, "", "", "", found.note or "no interval is known"
    interval = f"[{_signed(found.low, about)}, {_signed(found.high, about)}] {found.how}"
    return value, interval, _p_value(found.adjusted), fmt.value(found.detectable, about), found.note


def _p_value(p: float | None) -> str:
    return fmt.number(p, 2) if p is None or p >= 0.001 else "< 0.001"


def _signed(value: float, about: Metric, plus: str = "") -> str:
    return f"{'−' if value < 0 else plus}{fmt.value(abs(value), about)}"
