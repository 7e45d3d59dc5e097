"""The page of `lehr diagnose init`: growth exponents over width, after OLMo 2's figures 5 and 6."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from lehr.report import svg
from lehr.report.charts import Panel
from lehr.report.rendering import rendered

if TYPE_CHECKING:
    from lehr.analysis.initialisation import Growth

# A colour for each architecture, dashes for the other's initialisation: names as `initialisation.schemes` gives them.
_COLOURS = {"OLMo 0424": "var(--c-trunk-1)", "OLMo 2": "var(--c-merge-1)"}
_FORMS = ("d", "+.4f", "+.4f", ".4g", ".3g", "+.4f", "+.4f")
_PANELS = (
    ("activation_exponent", "Growth exponent of activations", "0 keeps the scale"),
    ("gradient_exponent", "Growth exponent of gradients", "0 keeps the scale"),
    ("activation_norm", "Norm of activations", "at the final layer"),
    ("gradient_norm", "Norm of gradients", "at the final layer"),
)


def diagnosis_page(found: Sequence[Growth], described: str) -> str:
    """One self-contained HTML page; `described` says what was measured."""
    rows = [
        [g.scheme, *(f"{value:{form}}" for value, form in zip(list(vars(g).values())[1:], _FORMS, strict=True))] for g in found
    ]
    schemes = dict.fromkeys(g.scheme for g in found)
    return rendered(
        "diagnosis.html",
        whole=True,
        title="Initialisation",
        described=described,
        own=[(name, _colour(name)) for name in schemes if name in _COLOURS],
        other=[(name, _colour(name)) for name in schemes if name not in _COLOURS],
        panels=[Panel(title, _chart(found, field, title), note) for field, title, note in _PANELS],
        rows=rows,
    )


def _chart(found: Sequence[Growth], field: str, label: str) -> Markup:
    """One field over the measured widths: exponents around a line at 0 (OLMo 2 figure 5), norms over sqrt(width) (6)."""
    is_norm = field.endswith("norm")
    widths = sorted({g.width for g in found})
    left, right, top, bottom = 50.0, 452.0, 10.0, 198.0
    low, high = svg.padded([getattr(g, field) for g in found], include=(0.0,))
    y = svg.Scale(0.0 if is_norm else low, high, bottom, top)
    x = svg.Scale(_place(widths[0], is_norm), _place(widths[-1], is_norm), left + 8, right - 8)
    body = [svg.y_axis(y, left, right), svg.line(left, y(0.0), right, y(0.0), "axis")]
    for width in widths:
        at = x(_place(width, is_norm))
        shown = f"√{width}" if is_norm else str(width)
        body += [svg.line(at, bottom, at, bottom + 4, "axis"), svg.text(at, bottom + 16, shown, "tick", "middle")]
    body.append(svg.text(right, bottom + 31, "√width" if is_norm else "width", "axis-label", "end"))
    for name in dict.fromkeys(g.scheme for g in found):
        points = [(x(_place(g.width, is_norm)), y(getattr(g, field))) for g in found if g.scheme == name]
        colour = _colour(name)
        body.append(svg.path(points, colour, dash="" if name in _COLOURS else "4 4"))
        fill = colour if name in _COLOURS else "var(--paper)"
        body += [f'<circle cx="{a:g}" cy="{b:g}" r="2.8" style="fill:{fill};stroke:{colour}"/>' for a, b in points]
    return svg.figure(460, 236, body, label)


def _colour(scheme: str) -> str:
    """Of its architecture, which comes before a comma."""
    return _COLOURS.get(scheme.partition(",")[0], "var(--muted)")


def _place(width: int, is_norm: bool) -> float:
    """Widths double, so exponents go over their logarithm."""
    return math.sqrt(width) if is_norm else math.log2(width)
