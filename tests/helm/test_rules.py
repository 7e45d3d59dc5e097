"""The chart's rules as Prometheus' own tool reads them: when each alert fires, when it stays silent, and that cases notice a
changed threshold, selector or hysteresis."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from tests.helm import alert_cases, alert_cases_fleet, alert_cases_pace, alert_cases_serving, ordinary_day
from tests.helm.promtool import RULES, Case, Sheet, mutants, promtool, rules, with_needs

pytestmark = pytest.mark.cluster
KNOWN = rules()
CASES: dict[str, list[Case]] = defaultdict(list)
for _case in (*alert_cases.CASES, *alert_cases_pace.CASES, *alert_cases_fleet.CASES, *alert_cases_serving.CASES):
    CASES[_case.alert].append(_case)
A_RUN, A_STAGE = '{namespace="t", run="a"}', '{namespace="t", run="a", stage="s"}'
A_MEGATRON = A_STAGE[:-1] + ', nemo_run_id="a"}'
ALERTS = sorted(name for name, rule in KNOWN.items() if "alert" in rule)


def test_promtool_takes_every_file() -> None:
    files = [*RULES.glob("*.yaml"), *RULES.glob("optional/*.yaml")]
    done = promtool("check", "rules", *map(str, files))
    assert done.returncode == 0 and len(files) == 5, done.stdout + done.stderr


def test_every_alert_has_cases_of_both_kinds() -> None:
    assert sorted(CASES) == ALERTS
    for name, cases in CASES.items():
        assert any(any(case.fires.values()) for case in cases), f"{name} never fires"
        assert any(not any(case.fires.values()) for case in cases), f"{name}: in every case it fires"


def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    sheet = Sheet(tmp_path)
    for name, cases in CASES.items():
        sheet.add(with_needs(name, KNOWN), cases)
    wrong = [promtool("test", "rules", str(path)).stderr for path, holds in sheet.run().items() if not holds]
    assert not wrong, "\n".join(wrong)


def test_an_ordinary_day_is_silent(tmp_path: Path) -> None:
    """All rules at once: a pod that is replaced, an evaluation, a short stage, the end of a run, an idle fleet, a server."""
    sheet = Sheet(tmp_path)
    path = sheet.add(list(KNOWN.values()), [Case("", "a day", ordinary_day.values(), {})])
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["tests"][0]["alert_rule_test"] = [
        {"eval_time": f"{at}m", "alertname": name, "exp_alerts": []} for at in ordinary_day.TIMES for name in ALERTS
    ]
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert sheet.run() == {path: True}, promtool("test", "rules", str(path)).stderr


# One second of preflight more, where there was none: below what a ratio of hours shows.
EQUAL = {"LehrGoodputLow: run:lehr_preflight_seconds:increase6h: nds[6h]))), [0 -> 1]"}


@pytest.mark.long
def test_cases_notice_a_changed_threshold_selector_or_hysteresis(tmp_path: Path) -> None:
    sheet, made = Sheet(tmp_path), {}
    for name, cases in CASES.items():
        needed = with_needs(name, KNOWN)
        for index, rule in enumerate(needed):
            for change, mutant in mutants(rule):
                path = sheet.add([*needed[:index], mutant, *needed[index + 1 :]], cases)
                made[path] = f"{name}: {rule.get('alert') or rule['record']}: {change}"
    unnoticed = {made[path] for path, holds in sheet.run().items() if holds}
    assert len(made) >= 100 and unnoticed == EQUAL, f"{len(unnoticed)} of {len(made)}\n" + "\n".join(unnoticed)
