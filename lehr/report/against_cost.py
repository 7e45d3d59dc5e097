"""Scores against what the models took, in words and drawings: for the page of `lehr compare`, and for its terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lehr.report import format as fmt
from lehr.report.charts import Panel
from lehr.report.differences import difference_text
from lehr.report.footprint import JOULES_PER_KWH
from lehr.report.scatter import Field, Spot, scatter

if TYPE_CHECKING:
    from lehr.analysis.expense import Amount, Expense
    from lehr.analysis.side_by_side import SideBySide
    from lehr.analysis.tradeoff import Mark, Tradeoff

NAMES = {"flops": "FLOPs", "tokens": "tokens", "kwh": "IT energy", "money": "money"}
UNKNOWN = "not known"
_MOST_DRAWN = 24  # scores: a task by source and domain has hundreds


@dataclass(frozen=True)
class Model:
    """A row of the table, as text: `amounts` in the order of NAMES; `frontier` names those of whose Pareto frontier it is."""

    name: str
    value: str
    error: str
    amounts: list[str]
    frontier: str


@dataclass(frozen=True)
class Against:
    """`rows` are for the score that `title` names, `panels` draws each score, `provenance` has sentences on the amounts."""

    title: str
    tasks: str
    headings: list[str]  # of the amounts
    rows: list[Model]
    panels: list[tuple[str, list[Panel]]]
    differences: list[str]  # of a mean, from the first model's
    provenance: list[str]


def against_cost(found: SideBySide, colours: Sequence[str] = ()) -> Against | None:
    """None where no group has a score with a better way. Drawings are made where there are `colours`, one for each group."""
    if not any(any(row.marks) for row in found.tradeoffs):
        return None
    first = found.tradeoffs[0]
    rows = [_model(found, first, i) for i in range(len(found.groups))]
    drawn = found.tradeoffs[:_MOST_DRAWN] if colours else []
    panels = [(_heading(row), [_panel(found, row, quantity, colours) for quantity in NAMES]) for row in drawn]
    panels = [(title, shown) for title, each in panels if (shown := [p for p in each if p.chart])]
    more = len(found.tradeoffs) - len(drawn)
    left = [f"Not drawn: {more} more of the scores, whose frontiers --json has."] if drawn and more else []
    currency = _one_currency(found)
    headings = [f"{name}, {currency}" if name == NAMES["money"] and currency else name for name in NAMES.values()]
    return Against(
        _heading(first),
        ", ".join(map(fmt.words, first.tasks)),
        headings,
        rows,
        panels,
        _apart(found, first),
        [*_provenance(found), *left],
    )


def _apart(found: SideBySide, row: Tradeoff) -> list[str]:
    """`b − a: +1.2 [−0.3, 2.7] paired, p 0.12, detectable 2.1.`"""
    first, names = found.groups[0].name, [group.name for group in found.groups[1:]]
    texts = [difference_text(d, row.about) for d in row.differences]
    return [f"{name} − {first}: {value} {said}." for name, (value, said) in zip(names, texts, strict=False)]


def _one_currency(found: SideBySide) -> str:
    """That of all prices; empty where there are none, or of several."""
    known = {one.currency for one in found.expenses if one.money.value is not None}
    return known.pop() if len(known) == 1 else ""


def _heading(row: Tradeoff) -> str:
    title = fmt.words(row.title)
    return f"{title}, %" if row.tasks else f"{title}, {row.about.heading}"


def names_of(found: SideBySide) -> list[str]:
    """Each group with the stage that is compared, unless it is called so."""
    pairs = zip(found.groups, found.stages, strict=True)
    return [f"{g.name}, {stage}" if stage and not g.name.endswith(f" {stage}") else g.name for g, stage in pairs]


def _model(found: SideBySide, row: Tradeoff, number: int) -> Model:
    taken, mark = found.expenses[number], row.marks[number]
    short = replace(taken, currency="") if _one_currency(found) else taken
    amounts = [amount_text(quantity, short) for quantity in NAMES]
    on = [name for quantity, name in NAMES.items() if number in row.frontier(found.expenses, quantity)]
    value, error = _mark_text(mark, row)
    return Model(names_of(found)[number], value, error, amounts, "all" if len(on) == len(NAMES) else ", ".join(on) or "–")


def _mark_text(mark: Mark | None, row: Tradeoff) -> tuple[str, str]:
    if mark is None:
        return "–", ""
    return fmt.value(mark.value, row.about), f"± {fmt.value(mark.error, row.about)}" if mark.error else ""


def amount_text(quantity: str, of: Expense) -> str:
    """`2.02e10`, `172k`, `143 J`, `1,200 USD`; of a lower bound `≥ 2.02e10`."""
    amount = of.amount(quantity)
    if amount.value is None:
        return UNKNOWN
    shown = _shown(quantity, amount.value, of.currency)
    return f"≥ {shown}" if amount.missing else shown


def _shown(quantity: str, value: float, currency: str) -> str:
    match quantity:
        case "tokens":
            return fmt.count(value)
        case "kwh":
            return fmt.energy(value * JOULES_PER_KWH)
        case "money":
            return f"{fmt.number(value)} {currency}".rstrip()
        case _:
            return fmt.number(value)


def _panel(found: SideBySide, row: Tradeoff, quantity: str, colours: Sequence[str]) -> Panel:
    """An empty chart where fewer than two models can be drawn, which compares nothing."""
    best = row.frontier(found.expenses, quantity)
    title = f"against {NAMES[quantity]}"
    known = {i: whole for i, one in enumerate(found.expenses) if (whole := one.amount(quantity).whole) is not None}
    known = {i: value for i, value in known.items() if row.marks[i] is not None}
    if len(known) < 2 or not best:
        return Panel(title, scatter([], Field("", "", str)))
    size, unit, show = _axis(quantity, max(known.values()), found.expenses[min(known)].currency)
    spots = []
    for i, value in known.items():
        if (mark := row.marks[i]) is not None:
            worth = " ".join(_mark_text(mark, row)).strip()
            end = ", on the Pareto frontier" if i in best else ""
            said = f"{names_of(found)[i]}: {worth} for {amount_text(quantity, found.expenses[i])}{end}"
            spots.append(Spot(found.groups[i].name, value / size, mark.value, mark.error, said, colours[i], i in best))
    field = Field(f"{_heading(row)} against {NAMES[quantity]}", unit, show, row.about.is_share)
    left = [name for i, name in enumerate(names_of(found)) if i not in known]
    return Panel(title, scatter(spots, field), f"not drawn: {', '.join(left)}" if left else "")


def _axis(quantity: str, most: float, currency: str) -> tuple[float, str, Callable[[float], str]]:
    """By what amounts are divided, what stands below the axis, and how a tick is written."""
    if quantity == "kwh":
        joules, unit = fmt.energy_unit(most * JOULES_PER_KWH)
        return joules / JOULES_PER_KWH, f"IT energy, {unit}", _tick
    label = {"flops": "training FLOPs", "tokens": "tokens trained on", "money": f"money, {currency}"}[quantity]
    return 1.0, label, {"flops": fmt.number, "tokens": fmt.count, "money": _tick}[quantity]


def _tick(value: float) -> str:
    """Without zeros that say nothing."""
    return fmt.count(value) if value >= 1e5 else f"{value:,g}"


def _provenance(found: SideBySide) -> list[str]:
    """For each quantity where its amounts are from, then for each model what is not known of it."""
    names, lines = [group.name for group in found.groups], []
    for quantity, label in NAMES.items():
        hows: dict[str, list[str]] = {}
        for name, one in zip(names, found.expenses, strict=True):
            amount: Amount = one.amount(quantity)
            if amount.value is not None and amount.how:
                hows.setdefault(amount.how, []).append(name)
        said = [how if len(of) == len(names) else f"{how} ({', '.join(of)})" for how, of in hows.items()]
        lines += [f"{label}: {'; '.join(said)}."] if said else []
    for name, one in zip(names, found.expenses, strict=True):
        whys: dict[tuple[str, ...], list[str]] = {}
        for quantity, label in NAMES.items():
            if missing := one.amount(quantity).missing:
                whys.setdefault(missing, []).append(label)
        lines += [f"{name} has no point for {' and '.join(labels)}: {'; '.join(why)}." for why, labels in whys.items()]
    currencies = sorted({one.currency for one in found.expenses if one.money.whole is not None})
    if len(currencies) > 1:
        lines.append(f"Prices in {' and '.join(currencies)} are not compared.")
    return lines
