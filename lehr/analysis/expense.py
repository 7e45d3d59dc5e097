"""What all that led to a model took: FLOPs, tokens, energy and money, over its ancestors and every attempt at them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lehr.analysis.ancestors import Ancestors, Opener, ancestors, is_given
from lehr.analysis.origins import Lost, Origin, Origins
from lehr.artifacts.artifact import Artifact, Cost
from lehr.config.hardware import Hardware
from lehr.pipeline.registry import STAGES
from lehr.report.footprint import ItJoules, kwh
from lehr.runtime.energy import NONE, added

QUANTITIES = ("flops", "tokens", "kwh", "money")
_DATA = ("text_model", "documents", "tokenizer", "shards")  # kinds behind which no model is that was trained on tokens
_METERED = {
    "nvml": "measured by nvml",
    "nvml_sampled": "measured by nvml, sampled",
    "rapl": "measured by rapl",
    "estimated": "estimated from CPU seconds",
}
_MOST_NAMED = 3  # stages, in a reason


@dataclass(frozen=True)
class Amount:
    """`value` is None where nothing is known of it; `missing` says in phrases what is not in it: then it is a lower bound.
    `how` says where it is from: by a formula, counted, measured or estimated, by which price."""

    value: float | None
    how: str = ""
    missing: tuple[str, ...] = ()

    @property
    def whole(self) -> float | None:
        """The value where it is all of it."""
        return None if self.missing else self.value

    @classmethod
    def of(cls, value: float, how: str, missing: Iterable[str]) -> Amount:
        """A sum of nothing with something missing is not known. Raises ValueError for what is no amount."""
        gone, found = tuple(dict.fromkeys(missing)), float(value)
        if not (math.isfinite(found) and found >= 0):
            raise ValueError(f"no amount: {found}")
        return cls(found if found or not gone else None, how, gone)


@dataclass(frozen=True)
class Expense:
    """Of one model: training FLOPs (of the steps alone), tokens trained on, IT energy in kWh, and `money` in `currency`."""

    flops: Amount
    tokens: Amount
    kwh: Amount
    money: Amount
    currency: str = ""

    def amount(self, quantity: str) -> Amount:
        """Of one of QUANTITIES."""
        found: Amount = getattr(self, quantity)
        return found


def unknown(why: str) -> Expense:
    """Of a model of which nothing is known, and why."""
    nothing = Amount(None, missing=(why,))
    return Expense(nothing, nothing, nothing, nothing)


def expense(model: Artifact, opener: Opener) -> Expense:
    """Of a checkpoint: every artifact that it was made from, itself too, each once however many ways lead to it, with all
    attempts at it; and the work on one of these stages in its run that led to no artifact. `opener` finds those at addresses.
    Scoring it is not part of it."""
    try:
        return _expense(ancestors(model, opener))
    except (OverflowError, ValueError):
        return unknown("its manifests hold costs that are no amounts")


def _expense(above: Ancestors) -> Expense:
    runs = Origins()
    origins = {key: runs.of(artifact) for key, artifact in above.found.items()}
    lost = _lost(above, origins)
    energy, unmetered = _energy(above, lost)
    tokens = sum(a.manifest.cost.tokens for a in above.found.values() if a.manifest.kind == "checkpoint")
    flops = sum(a.manifest.cost.flops for a in above.found.values())
    of_models, of_all = _unseen(above, models=True), _unseen(above, models=False)
    money, currency = _money(above, origins, lost)
    return Expense(
        Amount.of(flops, "by formula, of training steps alone", of_models),
        Amount.of(tokens, "counted", of_models),
        Amount.of(kwh(ItJoules(sum(energy.values()))), _how_metered(energy, above, lost), [*of_all, *unmetered]),
        Amount.of(money.value or 0.0, money.how, [*of_all, *money.missing]),
        currency,
    )


def mean(expenses: Sequence[Expense]) -> Expense:
    """Of models that differ in nothing but their seeds: what one of them takes."""
    currencies = {one.currency for one in expenses}

    def over(quantity: str) -> Amount:
        amounts = [one.amount(quantity) for one in expenses]
        values = [a.value for a in amounts if a.value is not None]
        missing = [why for a in amounts for why in a.missing]
        if quantity == "money" and len(currencies) > 1:
            return Amount(None, missing=(f"in {' and '.join(sorted(currencies))}, which are not added",))
        if len(values) < len(amounts):
            return Amount(None, missing=tuple(dict.fromkeys(missing)))
        how = "; ".join(dict.fromkeys(a.how for a in amounts if a.how))
        return Amount(sum(values) / len(values), how, tuple(dict.fromkeys(missing)))

    flops, tokens, energy, money = map(over, QUANTITIES)
    return Expense(flops, tokens, energy, money, currencies.pop() if len(currencies) == 1 else "")


def _unseen(above: Ancestors, *, models: bool) -> list[str]:
    """What of the ancestry nobody can count. `models`: only what models were trained in."""
    gone = [ref.stage for ref in above.gone if not (models and ref.kind in _DATA)]
    given = [a.manifest.stage for a in above.found.values() if is_given(a)]
    return [
        *([f"{_named(given)}: a model of somebody else, and what it took is not known"] if given else []),
        *([f"{_named(gone)} is not here" if len(gone) == 1 else f"{_named(gone)} are not here"] if gone else []),
    ]


def _named(stages: Sequence[str]) -> str:
    each = list(dict.fromkeys(stages))
    more = f" and {len(each) - _MOST_NAMED} more" if len(each) > _MOST_NAMED else ""
    return ", ".join(each[:_MOST_NAMED]) + more


def _lost(above: Ancestors, origins: Mapping[tuple[str, str], Origin | None]) -> list[tuple[Lost, Origin]]:
    """Work that led to nothing, in the runs of the ancestry. That on a stage which the run has, and of which the model is not
    made, is another model's."""
    own: dict[Origin, set[str]] = {}
    for key, artifact in above.found.items():
        if (origin := origins[key]) is not None:
            own.setdefault(origin, set()).add(artifact.manifest.stage)
    return [
        (lost, origin)
        for origin, stages in own.items()
        for lost in origin.lost
        if lost.stage in stages or lost.stage not in origin.stages
    ]


def _joules(cost: Cost) -> dict[str, float]:
    """By source; empty where no meter ran."""
    return cost.energy or ({} if cost.energy_source == NONE else {cost.energy_source: cost.energy_joules})


def _energy(above: Ancestors, lost: Sequence[tuple[Lost, Origin]]) -> tuple[dict[str, float], list[str]]:
    """Joules by source, and a phrase on the stages of which none are known. (Of what is given nothing is known at all.)"""
    parts = [_joules(a.manifest.cost) for a in above.found.values()] + [dict(one.energy) for one, _ in lost]
    own = [a.manifest for a in above.found.values() if not is_given(a)]
    took = [(m.stage, m.cost.seconds, _joules(m.cost)) for m in own]
    took += [(one.stage, one.seconds, dict(one.energy)) for one, _ in lost]
    without = [stage for stage, seconds, joules in took if seconds and not joules]
    return added(parts), [f"no meter ran in {_named(without)}"] if without else []


def _how_metered(energy: Mapping[str, float], above: Ancestors, lost: Sequence[tuple[Lost, Origin]]) -> str:
    """`measured by rapl`, `62 % measured by nvml, 38 % estimated from CPU seconds`."""
    total = sum(energy.values()) or 1.0
    words = {source: _METERED.get(source, source) for source in energy}
    said = [f"{100 * energy[s] / total:.0f} % {text}" if len(energy) > 1 else text for s, text in words.items()]
    gaps = any(a.manifest.cost.energy_gaps for a in above.found.values()) or any(one.gaps for one, _ in lost)
    return ", ".join(said) + ("; incomplete, as its report says" if gaps else "")


def _money(
    above: Ancestors, origins: Mapping[tuple[str, str], Origin | None], lost: Sequence[tuple[Lost, Origin]]
) -> tuple[Amount, str]:
    """Time x accelerators held x the price that the recipe of each stage's own run states; and the currency."""
    total, prices, unpriced, currencies, free = 0.0, dict[str, None](), list[str](), set[str](), False
    of_stage = {a.manifest.stage: a for a in above.found.values()}
    paid: list[tuple[str, Artifact | None, float, Origin | None]] = []
    paid += [(a.manifest.stage, a, a.manifest.cost.seconds, origins[key]) for key, a in above.found.items() if not is_given(a)]
    paid += [(one.stage, of_stage.get(one.stage), one.seconds, origin) for one, origin in lost]
    for stage, artifact, seconds, origin in paid:
        hardware = origin.hardware if origin else None
        held = accelerators(artifact, hardware) if hardware and hardware.price_per_hour else None
        if held is None or hardware is None:
            unpriced += [stage] if seconds else []
        elif held == 0:
            free = True
        else:
            total += seconds / 3600 * held * hardware.price_per_hour
            currencies.add(hardware.currency)
            prices[f"{hardware.price_per_hour:g} {hardware.currency} per {hardware.hours.removesuffix('s')}"] = None
    of = f"for {_named(unpriced)}" if prices else "by its recipe"
    missing = [f"no price is stated {of} (hardware.price_per_hour)"] if unpriced else []
    if len(currencies) > 1:
        return Amount(None, missing=(f"in {' and '.join(sorted(currencies))}, which are not added",)), ""
    how = f"time at {' and '.join(prices)}" + ("; stages on CPUs alone are not priced" if free else "") if prices else ""
    return Amount(total, how, tuple(missing)), next(iter(currencies), "")


def accelerators(artifact: Artifact | None, hardware: Hardware) -> int | None:
    """How many of the accelerators that a price is for a stage held: of a machine of cores all that the recipe describes; of
    GPUs one for each rank, and none in a stage that runs on CPUs. None where the kind of stage is not known."""
    if hardware.hours == "core-hours":
        return hardware.count
    spec = STAGES.get(artifact.manifest.stage_kind) if artifact else None
    if artifact is None or spec is None:
        return None
    return {"cpu": 0, "accelerator": 1, "ranked": artifact.manifest.cost.processes}[spec.resources]
