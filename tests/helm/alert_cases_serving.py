"""When alerts about `lehr serve` fire and when they stay silent. `chat` is the sick service, `code` a healthy one beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.helm.promtool import Case, Labels, served

SERVICE: Labels = {"namespace": "t", "job": "chat"}
SERVER: Labels = {**SERVICE, "pod": "chat-0", "instance": "chat-0:8000"}
CODE: Labels = {"namespace": "t", "job": "code"}
Fires = Mapping[str, Sequence[Labels]]


def of(name: str, job: str = "chat", number: int = 0, **labels: str) -> str:
    """One series of a service's server."""
    return served(name, job, f"{job}-{number}", **labels)


def grows(*phases: tuple[float, int]) -> str:
    """A counter in promtool's notation: so much a step, so many steps long. Each phase begins a millionth higher:
    promtool's own sums end a little above or below, and a counter that falls would have been reset."""
    made, value = ["0"], 0.0
    for amount, steps in phases:
        made.append(f"{value + amount:.12g}+{amount:g}x{steps - 1}")
        value += amount * steps + 1e-6
    return " ".join(made)


def asked(*phases: tuple[float, float, int], job: str = "chat") -> dict[str, str]:
    """Requests a step: answered, and failed, for so many steps. Beside them what neither helps nor harms: three times as many
    scrapes, and refusals."""
    steps = sum(phase[2] for phase in phases)
    counts = {
        ("chat", "200"): grows(*((good, n) for good, _, n in phases)),
        ("completions", "500"): grows(*((bad, n) for _, bad, n in phases)),
        ("metrics", "200"): grows((3.0, steps)),
        ("chat", "400"): grows((2.0, steps)),
        ("chat", "499"): grows((1.0, steps)),
    }
    return {of("requests_total", job, operation=operation, code=code): values for (operation, code), values in counts.items()}


def failing(title: str, series: Mapping[str, str], fires: Fires) -> Case:
    return Case("LehrServeFailing", title, series, fires)


FAILING = [
    failing(
        "a sixth of an hour's requests after a good hour with many, the other service's are well",
        asked((60, 0, 60), (8.4, 1.6, 100)) | asked((10, 0.3, 160), job="code"),
        {"118m": [], "120m": [], "122m": [SERVICE], "130m": [SERVICE]},
    ),
    failing(
        "half of a quarter of an hour's",
        asked((60, 0, 60), (10, 0, 46), (5, 5, 14), (10, 0, 60)),
        {"121m": [], "122m": [], "130m": []},
    ),
    failing(
        "it gets better before the hour is over",
        asked((60, 0, 60), (10, 0, 40), (7, 3, 40), (8.8, 1.2, 60)),
        {"125m": [], "135m": [SERVICE], "146m": [], "155m": []},
    ),
    failing(
        "few requests, and few of them failed: not six an hour",
        asked((6, 0, 60), (0.2, 0, 55), (0.108, 0.092, 60)),
        {"160m": [], "166m": [], "173m": [SERVICE]},
    ),
    failing("one request in fourteen, for long", asked((9.3, 0.7, 120)), {"2m": [], "20m": [SERVICE], "120m": [SERVICE]}),
    failing("one in ten, for an hour of two", asked((10, 0, 60), (9, 1, 60)), {"115m": [], "120m": []}),
    failing("that was an hour ago", asked((9, 1, 60), (9.5, 0.5, 60)), {"60m": [SERVICE], "100m": [], "119m": []}),
    failing(
        "one in fourteen of few",
        asked((1.2183, 0.0917, 60)),
        {"48m": [], "55m": [], "58m": [SERVICE]},
    ),
    failing(
        "a single failure in the night; clients' mistakes, refusals, and probes of a server that ends; nobody asks anything",
        {
            of("requests_total", "night", operation="chat", code="200"): grows((0, 30), (1, 1), (0, 90)),
            of("requests_total", "night", operation="chat", code="500"): grows((0, 40), (1, 1), (0, 80)),
            of("requests_total", "others", operation="chat", code="200"): "0+1x120",
            of("requests_total", "others", operation="chat", code="500"): "0x120",
            of("requests_total", "others", operation="chat", code="400"): "0+50x120",
            of("requests_total", "others", operation="completions", code="429"): "0+50x120",
            of("requests_total", "others", operation="health", code="503"): "0+6x120",
            of("requests_total", "others", operation="load", code="500"): "0+6x120",
            of("requests_total", "idle", operation="chat", code="200"): "0x120",
            of("requests_total", "idle", operation="chat", code="500"): "0x120",
        },
        {"10m": [], "42m": [], "43m": [], "60m": [], "120m": []},
    ),
    failing(
        "one of two servers fails all that it gets, and is started anew each time",
        {
            of("requests_total", operation="chat", code="200"): "0+5x60",
            of("requests_total", number=1, operation="chat", code="500"): "0+1x9 0+1x9 0+1x9 0+1x9 0+1x9 0+1x9",
        },
        {"30m": [SERVICE]},
    ),
]


def all_day(title: str, series: Mapping[str, str], fires: Fires) -> Case:
    return Case("LehrServeErrors", title, series, fires, every="5m", evaluated="5m")


ERRORS = [
    all_day(
        "3.5 %; the other service 2 %",
        asked((9.65, 0.35, 100)) | asked((9.8, 0.2, 100), job="code"),
        {"10m": [], "3h": [SERVICE]},
    ),
    all_day("5 % for the last half of it", asked((10, 0, 60), (9.5, 0.5, 60)), {"590m": [], "600m": []}),
    all_day("it is better for two hours", asked((9.5, 0.5, 60), (9.75, 0.25, 40)), {"5h": [SERVICE], "8h": []}),
    all_day("of few requests", asked((0.524, 0.019, 290)), {"19h": [], "21h": [], "23h": [SERVICE]}),
    all_day("a short spell of it", asked((10, 0, 3), (0, 8, 1), (200, 0, 20)), {"20m": [], "25m": [], "40m": []}),
]


def refused(*phases: tuple[float, float, int], job: str = "chat") -> dict[str, str]:
    """Requests a minute: answered, and refused."""
    steps = sum(phase[2] for phase in phases)
    return {
        of("requests_total", job, operation="chat", code="200"): grows(*((good, n) for good, _, n in phases)),
        of("requests_total", job, operation="completions", code="429"): grows(*((bad, n) for _, bad, n in phases)),
        of("requests_total", job, operation="metrics", code="200"): grows((100, steps)),
    }


REFUSING = [
    Case(
        "LehrServeRefusing",
        "6 %; of the other service's 4 %",
        refused((47, 3, 60)) | refused((48, 2, 60), job="code"),
        {"8m": [], "10m": [SERVICE], "60m": [SERVICE]},
    ),
    Case("LehrServeRefusing", "of few requests, ten in ten minutes", refused((2, 0.96, 60)), {"30m": [], "60m": []}),
    Case("LehrServeRefusing", "of few requests, eleven", refused((2, 1.05, 60)), {"30m": [SERVICE]}),
    Case(
        "LehrServeRefusing", "for a moment", refused((47, 0, 20), (20, 30, 1), (50, 0, 39)), {"22m": [], "25m": [], "35m": []}
    ),
    Case(
        "LehrServeRefusing",
        "who may not ask is refused otherwise, and what is asked wrongly",
        {of("requests_total", operation="chat", code=code): "0+50x60" for code in ("200", "400", "401", "499")},
        {"30m": []},
    ),
]


def queue(waiting: str, running: str = "4x200", number: int = 0) -> dict[str, str]:
    """A server of four rows."""
    return {
        of("answers_waiting", number=number): waiting,
        of("answers_running", number=number): running,
        of("rows", number=number): "4x200",
    }


def saturated(title: str, series: Mapping[str, str], fires: Fires) -> Case:
    return Case("LehrServeSaturated", title, series, fires)


SATURATED = [
    saturated(
        "two more every eight minutes; the other server of the service is idle",
        queue("0x20 0.3+0.25x80") | queue("0x200", "0x200", 1),
        {"39m": [], "41m": [SERVER], "100m": [SERVER]},
    ),
    saturated("it grows by less than half of the rows", queue("0x20 0.2+0.18x80"), {"45m": [], "60m": [], "100m": []}),
    saturated("never less than one", queue("1x20 1 6 1 12 1 18 1 24 1 30 1 36 1 42 1 48 1 54 1 60"), {"40m": [SERVER]}),
    saturated("now and then nobody waits", queue("1x20 0 6 0 12 0 18 0 24 0 30 0 36 0 42 0 48 0 54 0 60"), {"40m": []}),
    saturated("rows are free", queue("0x20 1+1x80", "3x200"), {"45m": [], "100m": []}),
    saturated("as long as ever", queue("0x20 60x150"), {"25m": [], "36m": [], "41m": [], "60m": [], "160m": []}),
    saturated("a batch, all at once", queue("0x20 200-2x99 0x60"), {"30m": [], "36m": [], "60m": [], "130m": []}),
    saturated(
        "it grows until the queue is full, and is told of for a while",
        queue("0x20 1+1x40 40x100"),
        {"45m": [SERVER], "75m": [SERVER], "95m": []},
    ),
    saturated("nobody asks anything", queue("0x200", "0x200"), {"60m": []}),
]


def decoding(tokens: str, running: str = "1x60", waiting: str = "0x60") -> dict[str, str]:
    made = {of("answers_running"): running, of("answers_waiting"): waiting}
    return made | ({of("tokens_total"): tokens} if tokens else {})


def stuck(title: str, series: Mapping[str, str], fires: Fires) -> Case:
    return Case("LehrServeStuck", title, series, fires)


STUCK = [
    stuck("it stops in the middle of an answer", decoding("0+900x10 9000x50"), {"18m": [], "20m": [SERVER], "60m": [SERVER]}),
    stuck("the decoding thread is gone, and one waits", decoding("900x60", "0x60", "0x10 1x50"), {"15m": [], "16m": [SERVER]}),
    stuck("there never was a token", decoding(""), {"4m": [], "5m": [SERVER]}),
    stuck("slow, at seven minutes a token", decoding("0+0.15x60"), {"30m": [], "60m": []}),
    stuck("nobody asks anything", decoding("900x60", "0x60"), {"30m": []}),
    stuck("a prompt of five minutes", decoding("0+900x10 9000x6 9900+900x40"), {"16m": [], "18m": [], "30m": []}),
]

BOUNDS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def first_tokens(*phases: tuple[Mapping[float, float], int], job: str = "chat") -> dict[str, str]:
    """First tokens a minute by the bucket that they fall into, for so many minutes."""
    made = {}
    for bound in BOUNDS:
        below = [(sum(n for upper, n in counts.items() if upper <= bound), steps) for counts, steps in phases]
        made[of("first_token_seconds_bucket", job, le=f"{bound:g}")] = grows(*below)
    everything = [(sum(counts.values()), steps) for counts, steps in phases]
    made[of("first_token_seconds_bucket", job, le="+Inf")] = grows(*everything)
    return made | {of("first_token_seconds_count", job): grows(*everything)}


def slow(title: str, series: Mapping[str, str], fires: Fires) -> Case:
    return Case("LehrServeSlow", title, series, fires)


USUAL = {0.25: 6.57, 0.5: 3.43}  # nine in ten within 0.427 s
SLOW_ONES = {2.5: 10.0}  # 2.35 s, 5.5 times as long
SLOW = [
    slow(
        "5.5 times as late for half of an hour; the other service as ever",
        first_tokens((USUAL, 120), (SLOW_ONES, 30), (USUAL, 60)) | first_tokens((USUAL, 210), job="code"),
        {"124m": [], "133m": [], "138m": [], "142m": [SERVICE], "150m": [SERVICE], "190m": []},
    ),
    slow("4.5 times", first_tokens(({0.5: 8.953, 1.0: 1.047}, 120), (SLOW_ONES, 60)), {"145m": [], "180m": []}),
    slow("much later, and still soon", first_tokens(({0.25: 10}, 120), ({1.0: 7, 2.5: 3}, 60)), {"145m": [], "180m": []}),
    slow("one in five is slow", first_tokens((USUAL, 120), ({0.5: 8, 10.0: 2}, 60)), {"180m": [SERVICE]}),
    slow("one in five was slow before", first_tokens(({0.25: 8, 2.5: 2}, 120), ({5.0: 10}, 60)), {"145m": [], "180m": []}),
    slow("20.5 of them in ten minutes", first_tokens((USUAL, 120), ({5.0: 2.05}, 60)), {"180m": [SERVICE]}),
    slow("19.5", first_tokens((USUAL, 120), ({5.0: 1.95}, 60)), {"180m": []}),
    slow("230 in the day before", first_tokens(({0.25: 3.84}, 60), ({}, 60), ({5.0: 10}, 60)), {"178m": [SERVICE]}),
    slow("170 in the day before", first_tokens(({0.25: 2.84}, 60), ({}, 60), ({5.0: 10}, 60)), {"178m": []}),
    slow("a server that is new", first_tokens(({5.0: 10}, 60)), {"30m": [], "60m": []}),
    slow(
        "a spell of six minutes",
        first_tokens((USUAL, 120), ({10.0: 10}, 6), (USUAL, 60)),
        {"125m": [], "130m": [], "135m": [], "138m": [], "145m": []},
    ),
]


def up(values: str, rows: str = "", job: str = "chat", number: int = 0) -> dict[str, str]:
    return {of("up", job, number): values} | ({of("rows", job, number): rows} if rows else {})


DOWN = [
    Case(
        "LehrServeDown",
        "one of two",
        up("1x10 0x60", "4x10 stale") | up("1x70", "4x70", number=1),
        {"15m": [], "16m": [SERVER], "70m": [SERVER]},
    ),
    Case("LehrServeDown", "restarted within four minutes", up("1x10 0x3 1x60", "4x10 stale _x3 4x60"), {"14m": [], "30m": []}),
    Case("LehrServeDown", "what is down is no server of ours", up("0x60", job="node") | up("1x60", "4x60"), {"30m": []}),
    Case(
        "LehrServeDown",
        "never seen, and named as one",
        up("0x60", job="lehr-serve") | up("0x60", job="t/lehr-serve", number=1),
        {
            "4m": [],
            "5m": [
                {"namespace": "t", "job": "lehr-serve", "pod": "lehr-serve-0", "instance": "lehr-serve-0:8000"},
                {"namespace": "t", "job": "t/lehr-serve", "pod": "t/lehr-serve-1", "instance": "t/lehr-serve-1:8000"},
            ],
        },
    ),
    Case("LehrServeDown", "taken out of the targets", up("1x10 stale", "4x10 stale"), {"16m": [], "60m": []}),
    Case("LehrServeDown", "idle, and well", up("1x60", "4x60") | up("1x60", "4x60", "lehr-serve"), {"30m": []}),
]
RESTARTING = [
    Case(
        "LehrServeRestarting",
        "three times; the other server twice",
        {
            of("started_timestamp_seconds"): "100x9 700x4 _x2 1200x4 1500x60",
            of("started_timestamp_seconds", number=1): "100x9 700x9 1300x60",
        },
        {"20m": [], "22m": [], "23m": [SERVER], "38m": [SERVER], "45m": []},
    ),
    Case("LehrServeRestarting", "once a night", {of("started_timestamp_seconds"): "100x30 1900x60"}, {"40m": [], "90m": []}),
]
CASES = [*FAILING, *ERRORS, *REFUSING, *SATURATED, *STUCK, *SLOW, *DOWN, *RESTARTING]
