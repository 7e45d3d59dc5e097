"""Small pieces of HTML. Arguments named `html` are markup already; everything else is escaped here."""

from __future__ import annotations

from collections.abc import Sequence

from lehr.report.format import esc


def section(anchor: str, title: str, html: str, lede: str = "") -> str:
    intro = f'<p class="lede">{lede}</p>' if lede else ""
    return f'<section id="{anchor}"><h2>{esc(title)}</h2>{intro}{html}</section>'


def missing(what: str) -> str:
    """A section without data says so: an empty space would look like a zero."""
    return f'<p class="missing">{esc(what)}</p>'


def panel(title: str, html: str, note: str = "") -> str:
    """A small chart with its title; `note` stands beside the title."""
    aside = f' <span class="note">{esc(note)}</span>' if note else ""
    return f'<div class="panel"><h3>{esc(title)}{aside}</h3>{html}</div>'


def grid(panels: Sequence[str], css: str = "two") -> str:
    return f'<div class="grid {css}">{"".join(panels)}</div>'


def caption(text: str) -> str:
    return f'<p class="caption">{esc(text)}</p>'


def legend(entries: Sequence[tuple[str, str]], dashed: Sequence[tuple[str, str]] = ()) -> str:
    """(name, colour) pairs, and those whose lines are dashed."""
    items = [f'<span><i style="background:{colour}"></i>{esc(name)}</span>' for name, colour in entries]
    items += [f'<span><i class="dashed" style="color:{colour}"></i>{esc(name)}</span>' for name, colour in dashed]
    return f'<p class="legend">{"".join(items)}</p>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], css: str = "", numeric_from: int = 1) -> str:
    """A table whose cells are markup already; columns from `numeric_from` on are set right, in tabular figures."""
    ths = "".join(f'<th scope="col"{_align(i, numeric_from)}>{esc(h)}</th>' for i, h in enumerate(head))
    trs = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row">{cell}</th>' if i == 0 else f"<td{_align(i, numeric_from)}>{cell}</td>"
            for i, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table class="{css}"><thead><tr>{ths}</tr></thead><tbody>{trs}</tbody></table></div>'


def _align(i: int, numeric_from: int) -> str:
    return ' class="num"' if i >= numeric_from else ""


def bar(parts: Sequence[tuple[float, str, str]], offset: float = 0.0, css: str = "") -> str:
    """A horizontal bar of (share of the full width, colour, tooltip); `offset` is empty space before it."""
    spans = "".join(
        f'<span style="width:{100 * share:.3f}%;background:{colour}" title="{esc(tip)}"></span>'
        for share, colour, tip in parts
        if share > 0
    )
    lead = f'<span style="width:{100 * offset:.3f}%"></span>' if offset > 0 else ""
    return f'<div class="bar {css}">{lead}{spans}</div>'


def folded(summary: str, html: str, *, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{esc(summary)}</summary>{html}</details>"


def pre(text: str) -> str:
    return f"<pre>{esc(text)}</pre>"


def digest(value: str) -> str:
    """The first twelve characters, the whole one as a tooltip."""
    return f'<code title="{esc(value)}">{esc(value[:12])}</code>' if value else "–"
