"""How many reports are kept: a namespace may hold any number, and every decision about a node reads all kept for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lehr.infra.controller.objects import ReportObject
from lehr.infra.kube.cache import Dirty, Table

OF_A_PERSON_ON_A_NODE, OF_A_NODE, OF_A_PERSON, ALL = 4, 64, 256, 8192
BETWEEN = 256  # new reports between two counts


def bounded(reports: Iterable[ReportObject]) -> list[ReportObject]:
    """The reports to keep: everybody's newest on a node before anybody's second, so that no flood hides another's report."""
    of_pair: Counter[tuple[str, str]] = Counter()
    of_person: Counter[str] = Counter()
    ranked: list[tuple[int, ReportObject]] = []
    for report in sorted(reports, key=lambda r: (-r.view.at, r.key)):
        by, pair = report.view.by, (report.node, report.view.by)
        if of_pair[pair] < OF_A_PERSON_ON_A_NODE and of_person[by] < OF_A_PERSON:
            ranked.append((of_pair[pair], report))
            of_pair[pair] += 1
            of_person[by] += 1
    of_node: Counter[str] = Counter()
    kept: list[ReportObject] = []
    for _, report in sorted(ranked, key=lambda r: r[0]):
        if of_node[report.node] < OF_A_NODE and len(kept) < ALL:
            kept.append(report)
            of_node[report.node] += 1
    return kept


class ReportTable(Table[ReportObject]):
    """Never holds more than ALL + BETWEEN reports. One that was dropped returns with the next list if there is room by then."""

    def __init__(self, dirty: Dirty) -> None:
        super().__init__(dirty)
        self._new = 0

    def keep(self, objects: list[ReportObject]) -> list[ReportObject]:
        return bounded(objects) if len(objects) > 2 * ALL else objects

    def put(self, found: ReportObject) -> bool:
        news = super().put(found)
        self._new += news
        if self._new >= BETWEEN:
            self._new = 0
            self._let_go()
        return news

    def replace(self, objects: Iterable[ReportObject], version: int) -> None:
        super().replace(bounded(objects), version)
        self._let_go()

    def _let_go(self) -> None:
        kept = {report.key for report in bounded(self.all())}
        with self._lock:
            for key in [key for key in self._objects if key not in kept]:
                self._set(key, None)
