"""A metric that is declared here, and nowhere else, wherever numbers are shown."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest
from rich.console import Console

from lehr.monitoring.exporter import About, PrometheusTracker
from lehr.monitoring.live_view import RunState, live_view
from lehr.monitoring.score_table import score_tables
from lehr.report import ReportData, ScoreRecord, StageReport, model_card, render
from lehr.report import format as fmt
from lehr.report.scores import score_matrix
from lehr.runtime.errors import Bug
from lehr.runtime.metrics import Metric, declare, find, metric, ordered, require

SURPRISE = declare(Metric("surprise", "surprise at the end", "nats/sheep", "lower", ".2f"))
CALM = declare(Metric("calm", "calm of the herd", "share", "higher", short="calm"))


def scored(stage: str, metric: str, value: float) -> ScoreRecord:
    return ScoreRecord(stage=stage, task="sheep", split="held_out", metric=metric, value=value, stderr=0.05, n=9)


SCORES = [
    *(scored("stage1", name, value) for name, value in (("surprise", 3.0), ("calm", 0.5))),
    *(scored("ppo", name, value) for name, value in (("surprise", 2.0), ("calm", 0.75))),
]


def text_of(renderable: object, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(renderable)
    return console.export_text()


def test_report_and_card_show_title_unit_and_direction() -> None:
    curve = [{"step": step, "surprise": 3.0 - step / 9, "calm": step / 9, "unheard_of": 1.0} for step in (1.0, 2.0, 3.0)]
    stages = [
        StageReport(name="stage1", phase="pretraining", stage_kind="pretrain", curves=curve),
        StageReport(name="ppo", phase="post-training", stage_kind="ppo", parents=["stage1"], curves=curve),
    ]
    data = ReportData(run="x", stages=stages, scores=SCORES)
    page = render(data).replace("\N{NO-BREAK SPACE}", " ")
    for section in ("learning", "post-training"):
        panels = re.findall(r"<h3>(.*?)</h3>", page.partition(f'<section id="{section}">')[2].partition("</section>")[0])
        shown = [panel.partition(" <span")[0] for panel in panels]
        assert shown == ["surprise at the end, nats per sheep ↓", "calm of the herd, %", "unheard of"]
    table = page.partition('<table class="scores">')[2].partition("</table>")[0]
    assert "<small>surprise at the end, nats per sheep ↓</small>" in table and "<small>calm of the herd, %</small>" in table
    assert "2.00" in table and "75.0" in table and "<strong>" not in table
    card = model_card(data).replace("\N{NO-BREAK SPACE}", " ")
    assert "| sheep | surprise at the end, nats per sheep ↓ | 9 | 3.00 ± 0.05 | 2.00 ± 0.05 |" in card
    assert "| sheep | calm of the herd, % | 9 | 50.0 ± 5.0 | 75.0 ± 5.0 |" in card


def test_the_terminal_shows_title_unit_and_direction() -> None:
    state = RunState("", ["stage1", "ppo"])
    state.advance("ppo", 1, 10, {"surprise": 2.0, "calm": 0.75, "loss": 1.0, "unheard_of": 3.0, "learning_rate": 1.0}, 0.0)
    state.scored("stage1", [r.model_dump() for r in SCORES[:2]])
    shown = text_of(live_view(state, 1.0)).replace("\N{NO-BREAK SPACE}", " ")
    facts = "loss 1.00   surprise at the end ↓ 2.00 nats/sheep   calm 75.0 %"
    assert facts in shown and "unheard_of" not in shown and "learning" not in shown
    assert "sheep 3.00 nats/sheep  sheep 50.0 %" in shown
    table = " ".join(text_of(score_tables(SCORES, 80)[0]).replace("\N{NO-BREAK SPACE}", " ").split())
    assert all(words in table for words in ("surprise at", "the end,", "nats per", "sheep ↓", "calm", "%", "75.0 ±5.0"))


def test_prometheus_shows_what_is_declared_under_its_name() -> None:
    tracker = PrometheusTracker(About("x"))
    tracker.progress("ppo", 1, 10, {"surprise": 2.0, "reward": 0.5, "unheard_of": 3.0, "seconds": 9.0})

    def value(name: str, **labels: str) -> float | None:
        return tracker.registry.get_sample_value(name, {"run": "x", "stage": "ppo", **labels})

    assert value("lehr_train_metric", metric="surprise") == 2.0 and value("lehr_train_reward") == 0.5
    assert [value("lehr_train_metric", metric=name) for name in ("reward", "unheard_of", "seconds")] == [None] * 3
    tracker.close()


def test_declarations_cost_nothing_to_import() -> None:
    code = "import sys, lehr.runtime.metrics; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "lehr" in loaded and not set(loaded) & {"torch", "numpy", "pydantic", "rich", "yaml"}


def test_a_name_has_one_meaning() -> None:
    assert declare(SURPRISE) is SURPRISE and metric("surprise") is SURPRISE
    with pytest.raises(Bug, match="surprise is declared twice"):
        declare(Metric("surprise", "surprise", better="higher"))
    require(["surprise", "dev_surprise", "loss"])
    with pytest.raises(Bug, match="undeclared metrics: dev_x, x, y;"):
        require(["x", "y", "loss", "dev_x"])
    assert find("error_rate") is None


@pytest.mark.parametrize(
    ("name", "heading", "better", "shown"),
    [
        ("bits_per_byte", "bits per byte ↓", "lower", "0.500 bits/byte"),
        ("acc_per_char", "accuracy per character, %", "higher", "50.0 %"),
        ("exact_match", "exact match, %", "higher", "50.0 %"),
        ("kl", "KL from reference, nats per token", "", "0.500 nats/token"),
        ("dev_bits_per_byte", "dev bits per byte ↓", "lower", "0.500 bits/byte"),
        ("error_rate", "error rate", "", "0.500"),  # nobody declared it, so nothing is guessed from its name
        ("pass_accuracy_loss", "pass accuracy loss", "", "0.500"),
    ],
)
def test_what_the_declarations_say(name: str, heading: str, better: str, shown: str) -> None:
    m = metric(name)
    assert (m.heading.replace("\N{NO-BREAK SPACE}", " "), m.better, fmt.with_unit(0.5, m)) == (heading, better, shown)
    assert fmt.value(float("nan"), m) == fmt.value(None, m) == "–"


def test_where_no_way_is_better_nothing_is_best() -> None:
    table = score_matrix([scored("a", "error_rate", 1.0), scored("b", "error_rate", 2.0)])
    assert table.best(table.columns[0]) == set()


def test_metrics_stand_in_the_order_of_their_declarations() -> None:
    names = ["zebra", "learning_rate", "calm", "dev_reward", "tokens_per_second", "loss", "apple", "reward"]
    want = ["loss", "dev_reward", "reward", "calm", "apple", "zebra", "learning_rate", "tokens_per_second"]
    assert [m.name for m in ordered(names)] == [m.name for m in ordered(reversed(names))] == want
