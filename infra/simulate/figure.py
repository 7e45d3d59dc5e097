"""The loss breakdown as one self-contained SVG: a bar for each size and regime, a colour for each cause; for light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lehr.infra.simulate.scenario import TIMES
from lehr.infra.simulate.study import Row

# Distinguishable under the common kinds of colour blindness (Okabe and Ito), and named in the legend in the bars' order.
COLOURS = {
    "rework": "#d55e00",
    "startup": "#0072b2",
    "hanging": "#cc79a7",
    "preflight": "#009e73",
    "checkpoint": "#e69f00",
    "waiting": "#56b4e9",
}
WORDS = {
    "rework": "done again",
    "startup": "starting",
    "hanging": "hanging",
    "preflight": "preflight",
    "checkpoint": "checkpoints",
    "waiting": "no nodes",
}
STYLE = (
    "<style>svg{background:#fff;font:13px system-ui,sans-serif}text{fill:#222}.b{font-weight:600}"
    ".q{fill:#666}.g{stroke:#e2e2e2}"
    "@media(prefers-color-scheme:dark){svg{background:#16181c}text{fill:#e6e6e6}.q{fill:#aaa}.g{stroke:#33363b}}</style>"
)
LEFT, WIDTH, BAR, GAP, TOP = 140, 560, 20, 8, 84


def svg(rows: Sequence[Row], title: str = "Where training time is lost") -> str:
    """Bars of lost time in per cent of wall time; the number behind each is the effective training time."""
    most = max(0.01, *(1.0 - row.effective for row in rows))
    scale = WIDTH / most
    body, y, last = [], float(TOP), None
    for row in rows:
        group = (row.gpus, row.checkpoint_minutes)
        if group != last:
            y += 16 if last is not None else 0
            label = f"{row.gpus:,} GPUs, checkpoint every {row.checkpoint_minutes:g} min"
            body.append(f'<text x="20" y="{y + 14:.0f}" class="b">{label}</text>')
            y, last = y + 24, group
        body.append(_bar(row, y, scale))
        y += BAR + GAP
    axis, height = _axis(most, scale, y), y + 56
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 {height:.0f}" role="img" aria-labelledby="t">',
        STYLE,
        f'<title id="t">{escape(title)}</title><text x="20" y="28" class="b" font-size="16">{escape(title)}</text>',
        _legend(),
        axis,
        *body,
        "</svg>\n",
    ]
    return "\n".join(parts)


def _axis(most: float, scale: float, bottom: float) -> str:
    """Grid lines at round percentages of the wall time, from 0 to the longest bar, with labels below the bars."""
    step = next((s for s in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if most / s <= 8), 0.5)
    items = []
    for number in range(int(most / step + 1e-9) + 1):
        x = LEFT + number * step * scale
        items.append(f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom:.0f}" class="g"/>')
        items.append(f'<text x="{x:.1f}" y="{bottom + 18:.0f}" text-anchor="middle" class="q">{100 * number * step:g}</text>')
    what = "time lost, per cent of wall time"
    return "".join([*items, f'<text x="{LEFT + WIDTH}" y="{bottom + 38:.0f}" text-anchor="end" class="q">{what}</text>'])


def _legend() -> str:
    items, x = [], 20.0
    for name, colour in COLOURS.items():
        items.append(f'<rect x="{x:.0f}" y="46" width="12" height="12" fill="{colour}"/>')
        items.append(f'<text x="{x + 17:.0f}" y="57" class="q">{WORDS[name]}</text>')
        x += 40 + 7.5 * len(WORDS[name])
    return "".join(items)


def _bar(row: Row, y: float, scale: float) -> str:
    items = [f'<text x="{LEFT - 12}" y="{y + 15:.0f}" text-anchor="end">{escape(row.regime)}</text>']
    x = float(LEFT)
    for name, colour in COLOURS.items():
        width = row.shares[name] * scale
        tip = f"{WORDS[name]}: {row.shares[name]:.2%} of the time"
        items.append(
            f'<rect x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" height="{BAR}" fill="{colour}"><title>{tip}</title></rect>'
        )
        x += width
    share = f"{row.effective:.1%} effective"
    items.append(f'<text x="{x + 8:.1f}" y="{y + 15:.0f}" class="q">{share} ± {100 * row.half_width:.1f}</text>')
    return "".join(items)


assert set(COLOURS) == set(TIMES) - {"productive"}
