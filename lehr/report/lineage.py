"""The lineage as a drawing: layers from top to bottom, each artifact below everything that it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from markupsafe import Markup

from lehr.report import svg
from lehr.report.format import esc

_BOX_W, _BOX_H, _GAP_X, _GAP_Y, _THREAD_W = 132.0, 38.0, 16.0, 26.0, 14.0
_SWEEPS = 6
Node = str | tuple[str, str, int]  # a stage, or the passage of the edge (parent, child) through a layer


def layers_of(parents: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Longest path from a root: every stage lies below all of its parents."""
    depth: dict[str, int] = {}

    def visit(name: str, trail: frozenset[str]) -> int:
        if name not in depth:
            above = [visit(p, trail | {name}) for p in parents.get(name, ()) if p not in trail and p != name]
            depth[name] = max(above, default=-1) + 1
        return depth[name]

    for name in parents:
        visit(name, frozenset())
    return depth


def needed_edges(parents: Mapping[str, Sequence[str]]) -> set[tuple[str, str]]:
    """Edges (parent, child) that no longer way implies: the drawing shows these, the table beside it shows all."""
    reach: dict[str, set[str]] = {}

    def ancestors(name: str) -> set[str]:
        if name not in reach:
            reach[name] = set()  # set first: a circle ends here instead of never
            reach[name] = {a for p in parents.get(name, ()) for a in {p, *ancestors(p)}}
        return reach[name]

    edges = set()
    for child, above in parents.items():
        for parent in above:
            if not any(parent in ancestors(other) for other in above if other != parent):
                edges.add((parent, child))
    return edges


def _place(edges: set[tuple[str, str]], depth: Mapping[str, int]) -> tuple[list[list[Node]], list[list[Node]]]:
    """Layers of nodes in drawing order, and each edge as the chain of nodes that it runs through."""
    rows: list[list[Node]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name, layer in depth.items():
        rows[layer].append(name)
    chains: list[list[Node]] = []
    for parent, child in sorted(edges, key=lambda e: (depth[e[0]], depth[e[1]], e)):
        chain: list[Node] = [parent]
        for layer in range(depth[parent] + 1, depth[child]):
            rows[layer].append((parent, child, layer))
            chain.append((parent, child, layer))
        chains.append([*chain, child])
    return rows, chains


def _untangle(rows: list[list[Node]], chains: list[list[Node]]) -> None:
    """Order each layer by the mean place of its neighbours above, then below, a few times (barycentres)."""
    above: dict[Node, list[Node]] = {}
    below: dict[Node, list[Node]] = {}
    for chain in chains:
        for a, b in pairwise(chain):
            above.setdefault(b, []).append(a)
            below.setdefault(a, []).append(b)
    for sweep in range(_SWEEPS):
        near, order = (above, rows[1:]) if sweep % 2 == 0 else (below, rows[-2::-1])
        for row in order:
            place = {node: i / max(len(r) - 1, 1) if len(r) > 1 else 0.5 for r in rows for i, node in enumerate(r)}
            mean = {n: sum(place[m] for m in near[n]) / len(near[n]) if near.get(n) else place[n] for n in row}
            row.sort(key=lambda n: mean[n])


def _width(node: Node) -> float:
    return _BOX_W if isinstance(node, str) else _THREAD_W


def draw(parents: Mapping[str, Sequence[str]], notes: Mapping[str, str], colours: Mapping[str, str]) -> Markup:
    """`parents` maps each stage to the stages it was made from; `notes` is the second line in its box."""
    depth = layers_of(parents)
    rows, chains = _place(needed_edges(parents), depth)
    _untangle(rows, chains)
    spans = [sum(map(_width, row)) + _GAP_X * (len(row) - 1) for row in rows]
    width = max(spans, default=0.0) + 2
    centre: dict[Node, tuple[float, float]] = {}
    for layer, (row, span) in enumerate(zip(rows, spans, strict=True)):
        x = (width - span) / 2
        for node in row:
            centre[node] = (x + _width(node) / 2, 1 + layer * (_BOX_H + _GAP_Y) + _BOX_H / 2)
            x += _width(node) + _GAP_X
    body = [_thread([centre[n] for n in chain]) for chain in chains]
    body += [
        _box(n, centre[n], notes.get(n, ""), colours.get(n, "var(--muted)")) for row in rows for n in row if isinstance(n, str)
    ]
    height = len(rows) * (_BOX_H + _GAP_Y) - _GAP_Y + 2
    spoken = "; ".join(f"{child} from {', '.join(above)}" for child, above in parents.items() if above)
    return svg.figure(width, height, body, f"Lineage: {spoken}", "dag")


def _thread(points: Sequence[tuple[float, float]]) -> str:
    """A smooth line from box to box, straight through the layers that it only passes."""
    d = f"M{points[0][0]:g} {points[0][1] + _BOX_H / 2:g}"
    for i, (x, y) in enumerate(points[1:], 1):
        x0, y0 = points[i - 1]
        start, end = y0 + _BOX_H / 2, y - _BOX_H / 2
        bend = (end - start) * 0.55
        d += f"C{x0:g} {start + bend:g} {x:g} {end - bend:g} {x:g} {end:g}"
        if i < len(points) - 1:
            d += f"L{x:g} {y + _BOX_H / 2:g}"
    return f'<path d="{d}" class="thread"/>'


def _box(name: str, centre: tuple[float, float], note: str, colour: str) -> str:
    x, y = centre[0] - _BOX_W / 2, centre[1] - _BOX_H / 2
    size = f'width="{_BOX_W:g}" height="{_BOX_H:g}"'
    shape = f'<rect x="{x:g}" y="{y:g}" {size} rx="5" class="box" style="stroke:{colour}"/>'
    label = svg.text(centre[0], centre[1] - 2.5, name, "box-name", "middle")
    below = svg.text(centre[0], centre[1] + 12, note, "box-note", "middle")
    return f"<g><title>{esc(name)} {esc(note)}</title>{shape}{label}{below}</g>"
