"""The loss breakdown as one self-contained SVG: a bar for each case, a colour for each cause; for light and dark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from itertools import groupby

from lehr.infra.simulate.scenario import LOSSES
from lehr.infra.simulate.study import Row

# Distinguishable under the common kinds of colour blindness (Okabe and Ito), and named in the legend in the bars' order.
COLOURS = {
    "rework": "#d55e00",
    "checkpoint": "#e69f00",
    "detection": "#cc79a7",
    "scheduling": "#56b4e9",
    "preflight": "#009e73",
    "startup": "#0072b2",
    "load": "#f0e442",
    "waiting": "#999999",
}
WORDS = {
    "rework": "done again",
    "checkpoint": "checkpoints",
    "detection": "noticing",
    "scheduling": "new pods",
    "preflight": "preflight",
    "startup": "starting",
    "load": "loading",
    "waiting": "no nodes",
}
STYLE = (
    "<style>svg{background:#fff;font:13px system-ui,sans-serif}text{fill:#222}.b{font-weight:600}"
    ".q{fill:#666}.g{stroke:#e2e2e2}"
    "@media(prefers-color-scheme:dark){svg{background:#16181c}text{fill:#e6e6e6}.q{fill:#aaa}.g{stroke:#33363b}}</style>"
)
LEFT, WIDTH, BAR, GAP, TOP = 186, 514, 20, 8, 84
Group = tuple[str, Sequence[tuple[str, Row]]]  # a heading, and under it bars with their names


def by_size(rows: Sequence[Row]) -> list[Group]:
    """The regimes of each size and checkpoint interval under one heading."""
    key: Callable[[Row], str] = lambda row: f"{row.gpus:,} GPUs, checkpoint every {row.checkpoint_minutes:g} min"
    return [(heading, [(row.regime, row) for row in same]) for heading, same in groupby(rows, key)]


def svg(groups: Sequence[Group], title: str = "Where training time is lost") -> str:
    """Bars of lost time in per cent of wall time; the number behind each is the effective training time."""
    most = max(0.01, *(1.0 - row.effective for _, bars in groups for _, row in bars))
    scale = WIDTH / most
    body, y = [], float(TOP)
    for number, (heading, bars) in enumerate(groups):
        y += 16 if number else 0
        body.append(f'<text x="20" y="{y + 14:.0f}" class="b">{escape(heading)}</text>')
        y += 24
        for name, row in bars:
            body.append(_bar(name, row, y, scale))
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


def _bar(name: str, row: Row, y: float, scale: float) -> str:
    items = [f'<text x="{LEFT - 12}" y="{y + 15:.0f}" text-anchor="end">{escape(name)}</text>']
    x = float(LEFT)
    for cause, colour in COLOURS.items():
        width = row.loss[cause] * scale
        tip = f"{WORDS[cause]}: {row.loss[cause]:.2%} of the time"
        items.append(
            f'<rect x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" height="{BAR}" fill="{colour}"><title>{tip}</title></rect>'
        )
        x += width
    share = f"{row.effective:.1%} effective"
    items.append(f'<text x="{x + 8:.1f}" y="{y + 15:.0f}" class="q">{share} ± {100 * row.half_width:.1f}</text>')
    return "".join(items)


assert tuple(COLOURS) == tuple(WORDS) == LOSSES
