"""How fast training went: tokens a second, utilisation, the time of a step, and what of a stage's time its steps took."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lehr.report import format as fmt
from lehr.report.charts import Panel, stage_colours
from lehr.report.curves import Axes, Series, curve_panel
from lehr.report.data import ReportData, StageReport
from lehr.report.learning import TokenAxis, is_post_training

Points = list[tuple[float, float]]
_SLOW = 0.99  # the quantile of the slow steps


@dataclass(frozen=True)
class Row:
    """A stage that trained. `tokens_per_second` and `mfu` (None: no peak is known, or no FLOPs) are over its steps alone,
    `in_steps_seconds` their sum: of a run that was interrupted, what its log holds."""

    stage: StageReport
    steps: int
    median_seconds: float
    slow_seconds: float
    in_steps_seconds: float
    tokens_per_second: float
    mfu: float | None

    @classmethod
    def of(cls, stage: StageReport, peak_flops: float) -> Row | None:
        """Nothing where the log has no times."""
        seconds = step_seconds(stage)
        if not seconds:
            return None
        total = sum(seconds)
        mfu = stage.flops / total / peak_flops if peak_flops and stage.flops else None
        slow = sorted(seconds)[min(int(_SLOW * len(seconds)), len(seconds) - 1)]
        return cls(stage, len(seconds), statistics.median(seconds), slow, total, stage.tokens / total, mfu)

    @property
    def share_in_steps(self) -> float | None:
        """Of the stage's time. None where the log has more: the stage's own clock began with a later attempt."""
        share = self.in_steps_seconds / self.stage.seconds if self.stage.seconds else 2.0
        return share if share <= 1 else None


@dataclass(frozen=True)
class Speed:
    """Curves of pretraining over tokens seen and of the stages after it, `folded` those that say it once more, and a row for
    each stage."""

    panels: list[Panel]
    folded: list[Panel]
    rows: list[Row]
    peak: str


def step_seconds(stage: StageReport) -> list[float]:
    return [float(s) for point in stage.curves if (s := point.get("seconds")) and 0 < s < math.inf]


def speed(data: ReportData) -> Speed | None:
    """Nothing where no log has the time of a step."""
    rows = [row for s in data.stages if (row := Row.of(s, data.peak_flops)) is not None]
    if not rows:
        return None
    before = [s for s in data.stages if s.curves and not is_post_training(s)]
    axis, colours = TokenAxis.of(data, before), stage_colours(data)
    after = [s for s in data.stages if s.curves and is_post_training(s)]
    drawn = [quantity.panels(axis, after, colours) for quantity in _quantities(data)]
    panels = [panel for panels in drawn[:-1] for panel in panels]
    return Speed(panels, drawn[-1], rows, f"{fmt.number(data.peak_flops / 1e12)} TFLOP/s" if data.peak_flops else "")


@dataclass(frozen=True)
class _Quantity:
    """What a step's time makes of a stage's log, over tokens."""

    title: str
    points: Callable[[StageReport], Points]
    percent: bool = False
    note: str = ""

    def panels(self, axis: TokenAxis, after: Sequence[StageReport], colours: dict[str, str]) -> list[Panel]:
        """Of pretraining one, and one of the stages after it, each of which counts its own tokens."""
        own = [Series(s.name, colours[s.name], self.points(s), band=False) for s in after]
        own = [series for series in own if series.points]
        before = [axis.series(s, self.points(s)) for s in axis.stages]
        legend, after_title = [(s.name, s.colour) for s in own], f"{self.title}, post-training"
        made = [
            curve_panel(self.title, before, self._axes("tokens seen"), self.note),
            curve_panel(after_title, own, self._axes("tokens of the stage"), self.note, legend=legend),
        ]
        return [panel for panel in made if panel.chart]

    def _axes(self, x_label: str) -> Axes:
        return Axes(self.title, x_label, zero=True, percent=self.percent)


def _quantities(data: ReportData) -> list[_Quantity]:
    """Tokens a second, and the share that model FLOPs have of the machines' peak where the recipe says what that is."""
    found = [_Quantity("Speed, tokens per second", StageReport.speeds, note="all ranks together")]
    if peak := data.peak_flops:

        def utilisation(s: StageReport) -> Points:
            per_token = s.flops / s.tokens if s.tokens else 0.0
            return [(place, 100 * rate * per_token / peak) for place, rate in s.speeds()] if per_token else []

        note = f"of {fmt.number(peak / 1e12)} TFLOP/s"
        found.append(_Quantity("Model FLOPs utilisation, %", utilisation, percent=True, note=note))
    return [*found, _Quantity("Time of a step, seconds", lambda s: s.series("seconds"))]
