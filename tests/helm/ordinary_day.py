"""Three hours in which nothing is wrong: a stage with evaluations, a pod that is replaced, a short stage after it, the end of
the run, a change of leaders, and a fleet that idles afterwards. Beside it a server of a model: idle, then asked by a few with a
mistake and a failure among them, then by a batch that fills its queue; a second one takes its place."""

from __future__ import annotations

from tests.helm.promtool import series, served

END, LAST = 100, 108  # minutes: of the first stage, and of the run


def _both(name: str, first: str, second: str, **labels: str) -> dict[str, str]:
    """Of two pods: the first dies at 60, the second goes on at 64, from a save at 55."""
    return {
        series(name, pod="p1", **labels): f"{first} stale",
        series(name, pod="p2", **labels): f"_x64 {second} stale",
    }


def _stage() -> dict[str, str]:
    """An evaluation of a quarter of an hour at 40, in which no step is made."""
    made: dict[str, str] = {}
    for name, first, second in (
        ("train_heartbeat_timestamp_seconds", "0+60x40 2400x14 3300+60x4", "3840+60x36 6000x2"),
        ("train_active", "1x60", "1x35 0x3"),
        ("train_paused", "0x40 1x14 0x4", "0x38"),
        ("train_step_seconds_sum", "0+59x60", "0+59x38"),
        ("train_step_seconds_count", "0+6x60", "0+6x38"),
        ("train_step", "0+6x40 240x14 240+6x4", "240+6x36 456x2"),
        ("train_steps_planned", "456x60", "456x38"),
        ("train_steps_total", "0+6x40 240x14 240+6x4", "1+6x36 216x2"),
        ("train_loss", "9-0.05x60", "6.2-0.02x38"),
        ("train_straggler_ratio", "1.02x60", "1.03x38"),
        ("checkpoint_timestamp_seconds", "_x10 600x9 1200x9 1800x9 2400x14 3300x7", "_x10 4440x9 5040x9 5640x10"),
        ("checkpoint_interval_steps", "_x10 60x50", "_x10 60x28"),
    ):
        made |= _both(f"lehr_{name}", first, second)
    made |= _both("lehr_train_part_seconds_total", "0+1x60", "0+1x38", part="data")
    made |= _both("lehr_train_part_seconds_total", "0+58x60", "0+58x38", part="forward")
    made |= _both("lehr_pod_info", "1x60", f"1x{LAST - 64}", node="n", first_rank="0")
    return made


def _run() -> dict[str, str]:
    made: dict[str, str] = {}
    for category, first, second in (
        ("productive", "0+59x40 2360x14 2360+59x4", "0+59x44"),
        ("evaluation", "_x55 900x5", "_x1"),
        ("startup", "30x60", "30x44"),
        ("rework", "_x60", "_x2 120x42"),
    ):
        made |= _both("lehr_node_seconds_total", first, second, category=category)
    made |= _both("lehr_store_requests_total", "0+30x60", "0+30x44", operation="put", outcome="ok")
    made |= _both("lehr_store_requests_total", "0+1x60", "0+1x44", operation="put", outcome="failed")
    short = {"stage": "scores", "pod": "p2"}
    made[series("lehr_train_heartbeat_timestamp_seconds", **short)] = "_x103 6180+60x5 stale"
    made[series("lehr_stage_seconds", pod="p2")] = f"_x{END} 2160x{LAST - END} stale"
    return made


def _fleet() -> dict[str, str]:
    one, two = 'instance="c1"', 'instance="c2"'
    return {
        f"lehr_fleet_leader{{{one}}}": "1x70 0x200",
        f"lehr_fleet_leader{{{two}}}": "0x71 1x200",
        f"lehr_fleet_reconcile_timestamp_seconds{{{one}}}": "0+60x70 4200x200",
        f"lehr_fleet_reconcile_timestamp_seconds{{{two}}}": "0x72 4380+60x200",
        f'lehr_fleet_spare_nodes{{{one},pool="h"}}': "3x70 stale",
        f'lehr_fleet_spare_nodes{{{two},pool="h"}}': "_x73 3x200",
        f'lehr_fleet_nodes{{{one},pool="h",state="healthy"}}': "4x70 stale",
        f'lehr_fleet_nodes{{{two},pool="h",state="healthy"}}': "_x73 4x200",
        f'lehr_fleet_breaker_open{{{one},breaker="pool/h"}}': "0x70 stale",
        f'lehr_fleet_breaker_open{{{two},breaker="pool/h"}}': "_x73 0x200",
        f'lehr_fleet_run_pods{{{one},run="a"}}': "1x60 0x3 1x5 stale",
        f'lehr_fleet_run_pods{{{two},run="a"}}': f"_x73 1x{LAST - 73} stale",
        f'lehr_fleet_run_preflight_seconds{{{one},run="a"}}': "45x62 90x7 stale",
        f'lehr_fleet_run_preflight_seconds{{{two},run="a"}}': f"_x73 90x{LAST - 73} stale",
        f'lehr_fleet_cordons_total{{{one},source="preflight",reason="matmul"}}': "1x200",
    }


def _server() -> dict[str, str]:
    """The first server ends at 120, the second begins at 121 in another pod."""
    made: dict[str, str] = {}
    for name, first, second in (
        ("up", "1x120 stale", "_x121 1x80"),
        ("started_timestamp_seconds", "50x120 stale", "_x121 7300x80"),
        ("rows", "32x120 stale", "_x121 32x80"),
        ("answers_running", "0x30 2x30 32x30 0x28 stale", "_x121 1x80"),
        ("answers_waiting", "0x60 900-30x29 0x28 stale", "_x121 0x80"),
        ("tokens_total", "0x30 0+900x88 stale", "_x121 0+400x80"),
        ("first_token_seconds_count", "_x31 1+2x29 61+30x29 933x28 stale", "_x122 1+1x80"),
    ):
        made |= {served(name, "t/lehr-serve", "s1"): first, served(name, "t/lehr-serve", "s2"): second}
    for code, values in (("200", "0x30 0+2x29 61+30x59"), ("400", "_x40 1x79"), ("429", "0x119"), ("500", "0x50 1x69")):
        made[served("requests_total", "t/lehr-serve", "s1", operation="chat", code=code)] = f"{values} stale"
    made[served("requests_total", "t/lehr-serve", "s2", operation="chat", code="200")] = "_x121 0+1x80"
    for bound, early, late in (("0.5", "1+2x29 61x59", "1+1x80"), ("300.0", "1+2x29 61+30x29 933x28", "1+1x80")):
        made[served("first_token_seconds_bucket", "t/lehr-serve", "s1", le=bound)] = f"_x31 {early} stale"
        made[served("first_token_seconds_bucket", "t/lehr-serve", "s2", le=bound)] = f"_x122 {late}"
    return made


def values() -> dict[str, str]:
    """Every series by name."""
    return _stage() | _run() | _fleet() | _server()


TIMES = (10, 45, 52, 54, 58, 62, 66, 75, 78, 85, 99, 101, 105, 112, 122, 130, 180)
