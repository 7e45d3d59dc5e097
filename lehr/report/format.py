"""Numbers and texts as people read them, and nothing that a browser or terminal could misread."""

from __future__ import annotations

import html
import math

from lehr.runtime.metrics import Metric
from lehr.runtime.text import visible

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def count(value: float) -> str:
    """1,234 up to 99,999; above that 1.23M, 4.1B: as tokens, parameters and characters are spoken."""
    if not math.isfinite(value):
        return "–"
    if abs(value) < 99_999.5:
        return f"{value:,.0f}"
    for size, prefix in _PREFIXES:
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{prefix}"
    return f"{value:.3g}"


def number(value: float | None, digits: int = 3) -> str:
    """`digits` significant digits without an exponent where that stays short."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size < -4 or size >= 6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}"
    return f"{value:,.{max(digits - 1 - size, 0)}f}"


def duration(seconds: float | None) -> str:
    """0.4 s, 42 s, 3 min 07 s, 2 h 05 min, 3 d 04 h."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 172_800:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def clock(seconds: float) -> str:
    """m:ss or h:mm:ss, for a display that counts."""
    if not math.isfinite(seconds):
        return "–:––"
    whole = max(int(seconds), 0)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    for size, unit in steps:
        if abs(value) >= size:
            return f"{number(value / size)} {unit}"
    size, unit = steps[-1]
    return f"{number(value / size)} {unit}"


_ENERGY = ((3.6e9, "MWh"), (3.6e6, "kWh"), (360.0, "Wh"), (0.0, "J"))


def energy(joules: float | None, like: float | None = None) -> str:
    """In watt hours and their multiples, below 0.1 Wh in joules; in the unit of `like` where a column shares one."""
    if joules is None:
        return "–"
    size, unit = energy_unit(like or joules)
    return f"{number(joules / size)} {unit}"


def energy_unit(joules: float) -> tuple[float, str]:
    """The unit in which `energy` shows that amount: its joules, and its name."""
    unit = next(unit for size, unit in _ENERGY if abs(joules) >= size)
    return {"MWh": 3.6e9, "kWh": 3.6e6, "Wh": 3.6e3, "J": 1.0}[unit], unit


def mass(kilograms: float | None) -> str:
    if kilograms is None:
        return "–"
    return _scaled(kilograms, ((1e3, "t"), (1.0, "kg"), (1e-3, "g"), (1e-6, "mg")))


def volume(liters: float | None) -> str:
    if liters is None:
        return "–"
    return _scaled(liters, ((1e3, "kL"), (1.0, "L"), (1e-3, "mL")))


def value(amount: float | None, of: Metric) -> str:
    """A number as its declaration has it, without its unit; shares in per cent."""
    if amount is None or not math.isfinite(amount):
        return "–"
    if of.is_share:
        return f"{100 * amount:{of.format or '.1f'}}"
    return f"{amount:{of.format}}" if of.format else number(amount)


def error(amount: float, stderr: float | None, n: int, of: Metric) -> str:
    """What stands behind a value: `± 1.2`, one standard error. Where all or none of `n` examples were right the formula says 0,
    which is not so: there it is Wilson's interval for one standard error, 1 / (n + 1) to the only side that is left, `− 0.5` or
    `+ 0.5`. Empty where nothing is known: a single example, a compressor."""
    if stderr is None or not math.isfinite(stderr):
        return ""
    if stderr:
        return f"± {value(stderr, of)}"
    if of.is_share and amount in (0.0, 1.0) and n > 1:
        return f"{'+' if amount == 0 else '−'} {value(1 / (n + 1), of)}"
    return ""


def sample(n: int, clusters: int) -> str:
    """How many examples, and how many independent clusters they came in where those are fewer: `60`, `60 in 12`."""
    return f"{n:,} in {clusters:,}" if 0 < clusters < n else f"{n:,}"


def with_unit(amount: float | None, of: Metric) -> str:
    """`75.0 %`, `2.036 bits/byte`."""
    return f"{value(amount, of)} {of.shown_unit}".rstrip()


def words(name: str) -> str:
    """A task, a split or a reason as it is spoken."""
    return name.replace("_", " ")


def esc(value: object) -> str:
    """Text for a drawing, attributes included. Control and direction characters are made visible, not obeyed."""
    return html.escape(visible(str(value)), quote=True)
