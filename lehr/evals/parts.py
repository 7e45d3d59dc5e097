"""Scores of texts that have sources, and sources that have domains: of each of them, of all, and the means over them.

A text gives its negative log-likelihood, and the bytes or tokens by which that is divided. Over any set of texts a score is the
one sum divided by the other: bits per byte (Gao et al. 2020), or perplexity per token, the exponential of nats per token. Over
all texts that is Paloma's ordinary perplexity. Its macro average is the plain mean of its domains' scores (Magnusson et al.
2024, section 4.1), for each source or for all; the mean over sources is that of the sources' macro averages.

Domains and sources are taken as given, and texts as drawn within each (stratified sampling: Cochran, Sampling Techniques, 5.6):
errors are those of the linearised score (the delta method, as in lehr.evals.estimate), and where one domain has a single text,
nothing is known of it nor of a mean over it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from lehr.evals.estimate import Estimate, ratio
from lehr.evals.task import Items, Mean, Over, Part

OVER: tuple[Over, ...] = ("sources", "domains")
_BASES = ("bits_per_byte", "perplexity")
_MOST_NATS = 700.0  # a token, of a model that is broken: its perplexity would be more than a float holds


def text_metrics(sources: bool, domains: bool) -> dict[str, tuple[str, Over]]:
    """The metrics of a task of texts, each with the one of which it is a mean, and over what."""
    if not sources:
        return {"bits_per_byte": ("bits_per_byte", "")}
    means = ("", *(over for over in OVER if over == "sources" or domains))
    return {mean_of(base, over): (base, over) for over in means for base in _BASES}


REPEATED = frozenset({"perplexity", *(f"{base}_over_{over}" for base in _BASES for over in OVER)})  # as bits per byte say


def mean_of(metric: str, over: Over) -> str:
    """The name of the mean of a metric over sources or domains."""
    return f"{metric}_over_{over}" if over else metric


def of_source(metric: str, source: str) -> str:
    """The name of a metric of one source."""
    return f"{metric}@{source}"


def estimate(items: Items) -> Estimate:
    """The score that these items are of."""
    if not items.exp and not items.over:
        return ratio(items.values, items.weights or [1.0] * len(items.values), items.clusters)
    found = _linear(items)
    return Estimate(found.value, found.stderr, len(items.values), found.clusters)


def difference(a: Items, b: Items) -> Estimate:
    """The score of `b` less that of `a`, with its error; both are of the same texts, in the same order."""
    one, other = _linear(a), _linear(b)
    apart = [y - x for x, y in zip(one.influence, other.influence, strict=True)]
    both = replace(other, influence=apart)
    return Estimate(other.value - one.value, both.stderr, len(b.values), both.clusters)


def parts(items: Items) -> list[Part]:
    """The score of each source and, behind it, of each of its domains; sources and domains in the order of their names."""
    divided = Counter(source for source, domain in items.names if domain)
    found = []
    for source, domain, places in places_of_parts(items):
        own = subset(items, places)
        domains = 0 if domain else divided[source]
        mean = estimate(replace(own, over="domains")) if domains else None
        found.append(
            Part(
                source=source, domain=domain, domains=domains, **estimate(own)._asdict(),
                mean=Mean(value=mean.value, stderr=mean.stderr) if mean else None,
            )
        )  # fmt: skip
    return found


def places_of_parts(items: Items) -> Iterator[tuple[str, str, list[int]]]:
    """Source, domain and where their texts stand, in the order of `parts`."""
    places = _by_stratum(items.groups)
    for source, numbers in _sources(items).items():
        yield source, "", sorted(place for number in numbers for place in places.get(number, ()))
        for number in numbers:
            if items.names[number][1]:
                yield source, items.names[number][1], places.get(number, [])


def subset(items: Items, places: Sequence[int]) -> Items:
    """The items at these places."""
    return replace(
        items,
        values=[items.values[place] for place in places],
        weights=[items.weights[place] for place in places] if items.weights else [],
        clusters=[items.clusters[place] for place in places] if items.clusters else [],
        groups=[items.groups[place] for place in places] if items.groups else [],
    )


def variants(metric: str, items: Items) -> Iterator[tuple[str, Items]]:
    """Names and items of all scores that one score's items give: itself, its means, and it of each source."""
    yield metric, items
    for over in OVER if items.names else ():
        yield mean_of(metric, over), replace(items, over=over)
    for source, domain, places in places_of_parts(items):
        if not domain:
            yield of_source(metric, source), subset(items, places)


def stratified(groups: Sequence[Hashable], limit: int) -> list[int]:
    """The places of `limit` texts, of every group equally many as far as it has them, its first ones, in their own order: a
    stratified sample, as Paloma's of domains (Magnusson et al. 2024, appendix C.2.1)."""
    seen = Counter[Hashable]()
    ranks = []
    for group in groups:
        ranks.append(seen[group])
        seen[group] += 1
    return sorted(sorted(range(len(groups)), key=lambda place: (ranks[place], place))[:limit])


def _sources(items: Items) -> dict[str, list[int]]:
    """Each source with the numbers of its domains' names, in the order of their names."""
    found: dict[str, list[int]] = {}
    for number in sorted(range(len(items.names)), key=lambda number: items.names[number]):
        found.setdefault(items.names[number][0], []).append(number)
    return found


def _by_stratum(strata: Sequence[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for place, stratum in enumerate(strata):
        found.setdefault(stratum, []).append(place)
    return found


@dataclass(frozen=True)
class _Linear:
    """A score, and how much each text moves it (sums to 0); `strata` and `grouped` number their domains and clusters."""

    value: float
    influence: list[float]
    strata: list[int]
    grouped: list[int]

    @property
    def clusters(self) -> int:
        return len(set(zip(self.strata, self.grouped, strict=True)))

    @property
    def stderr(self) -> float | None:
        """Of each stratum the sum over its clusters, with the correction for their number; None where one has a single one."""
        sums: dict[int, dict[int, float]] = {}
        for moved, stratum, cluster in zip(self.influence, self.strata, self.grouped, strict=True):
            of_stratum = sums.setdefault(stratum, {})
            of_stratum[cluster] = of_stratum.get(cluster, 0.0) + moved
        if any(len(one) < 2 for one in sums.values()):
            return None
        return math.sqrt(math.fsum(len(one) / (len(one) - 1) * math.fsum(s * s for s in one.values()) for one in sums.values()))


def _linear(items: Items) -> _Linear:
    strata = items.groups if items.over else [0] * len(items.values)
    places_of = _by_stratum(strata)
    influence, values = [0.0] * len(items.values), []
    for stratum, share in _shares(items, sorted(places_of)).items():
        places = places_of[stratum]
        numbers = [(items.values[place], items.weights[place] if items.weights else 1.0) for place in places]
        total = math.fsum(weight for _, weight in numbers)
        rate = math.fsum(value for value, _ in numbers) / total
        score = math.exp(min(rate, _MOST_NATS)) if items.exp else rate
        values.append(share * score)
        scale = share / total * (score if items.exp else 1.0)
        for place, (value, weight) in zip(places, numbers, strict=True):
            influence[place] = scale * (value - rate * weight)
    return _Linear(math.fsum(values), influence, list(strata), items.clusters or list(range(len(items.values))))


def _shares(items: Items, there: Sequence[int]) -> dict[int, float]:
    """What each stratum counts in the mean: all of them equally, or each source equally and in it each of its domains."""
    if items.over != "sources":
        return dict.fromkeys(there, 1 / len(there))
    sources = [items.names[stratum][0] for stratum in there]
    each = Counter(sources)
    return {stratum: 1 / len(each) / each[source] for stratum, source in zip(there, sources, strict=True)}
