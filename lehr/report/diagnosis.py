"""The page of `lehr diagnose init`: growth exponents over width, after OLMo 2's figures 5 and 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lehr.report import markup
from lehr.report.charts import Series, curve_chart
from lehr.report.format import esc
from lehr.report.style import CSS

if TYPE_CHECKING:
    from lehr.diagnose import Growth

_COLOURS = ("var(--c-stage1)", "var(--c-ramp)", "var(--c-dpo)", "var(--c-soup)")
_FORMS = ("d", "+.4f", "+.4f", ".4g", ".3g")
_PANELS = (
    ("activation_exponent", "Growth exponent of activations", "0 keeps the scale"),
    ("gradient_exponent", "Growth exponent of gradients", "0 keeps the scale"),
    ("activation_norm", "Norm of activations", "behind the last block"),
    ("gradient_norm", "Norm of gradients", "behind the first block"),
)


def diagnosis_page(found: Sequence[Growth], described: str) -> str:
    """One self-contained HTML page; `described` says what was measured."""
    names = list(dict.fromkeys(g.scheme for g in found))
    colours = dict(zip(names, _COLOURS, strict=False))
    panels = []
    for field, title, note in _PANELS:
        series = [
            Series(n, colours.get(n, "var(--muted)"), [(float(g.width), getattr(g, field)) for g in found if g.scheme == n])
            for n in names
        ]
        chart = curve_chart(series, label=title, x_label="width", zero="exponent" in field, log="norm" in field)
        panels.append(markup.panel(title, chart, note))
    rows = [
        [esc(g.scheme), *(f"{value:{form}}" for value, form in zip(list(vars(g).values())[1:], _FORMS, strict=True))]
        for g in found
    ]
    head = ["scheme", "width", "activations λ", "gradients λ", "activation norm", "gradient norm"]
    body = markup.legend([(n, colours.get(n, "var(--muted)")) for n in names]) + markup.grid(panels) + markup.table(head, rows)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        f"<title>Initialisation</title><style>body{{margin:0}}{CSS}</style></head><body><div class='lehr-report'><main>"
        f"{markup.section('init', 'Initialisation', body, esc(described))}</main></div></body></html>\n"
    )
