"""Serving: whether `lehr serve` answers, how fast, and how near it is to its limits."""

from __future__ import annotations

from lehr.monitoring.metrics import Metric
from lehr.monitoring.metrics import serving as m
from lehr.monitoring.panels.boards.common import PLACES, ROUNDS, at, stat
from lehr.monitoring.panels.forms import age, rate, ratio, total
from lehr.monitoring.panels.panel import Board, Panel, Row, Series, Variable
from lehr.monitoring.panels.query import Last, Quantile, Query

OPERATION = Variable("operation", m.REQUESTS, "Operation")
ALERTS = ("Failing", "Errors", "Refusing", "Saturated", "Stuck", "Slow", "Down", "Restarting")


def _all(gauge: Metric) -> Query:
    """The sum over all servers, which no label of their own tells apart."""
    return total(Last(gauge))


def _half_and_most(histogram: Metric) -> tuple[Series, Series]:
    return (
        Series(Quantile(0.5, histogram, (), ROUNDS), "median"),
        Series(Quantile(0.99, histogram, (), ROUNDS), "99 %"),
    )


REQUESTS_NOW = stat(
    "Requests",
    ("Requests per second, of all kinds.", "what its users ask.", "0 while they ask: is the server up, does its address hold?"),
    "requests/s",
    Series(rate(m.REQUESTS, window=ROUNDS)),
)
TOKENS_NOW = stat(
    "Tokens decoded",
    ("Tokens of answers per second, of all servers.", "level under load.", "look at Answers in work: a queue, or none?"),
    "tokens/s",
    Series(rate(m.TOKENS, window=ROUNDS)),
)
FIRST_TOKEN_NOW = stat(
    "First token, 99 %",
    ("99 in 100 answers begin as fast or faster.", "below a second.", "answers wait for rows: more rows or another server."),
    "s",
    Series(Quantile(0.99, m.FIRST_TOKEN_SECONDS, (), ROUNDS)),
    at((1.0, "watch"), (10.0, "bad")),
    "good",
)
FULL_NOW = stat(
    "Rows in use",
    ("Share of the rows that decode an answer now.", "below 0.9.", "full with a queue: more rows, or another server."),
    "percentunit",
    Series(ratio(_all(m.RUNNING), _all(m.ROWS))),
    at(
        (0.9, "watch"),
    ),
    "good",
)

REQUESTS = Panel(
    "Requests by status",
    "Requests per second by the HTTP status of the answer; 499: the client hung up.",
    "200 nearly alone.",
    "400: a client's mistake; 429: the queue is full; 500 and 503: read the server's log.",
    "requests/s",
    (Series(rate(m.REQUESTS, "operation", "code", window=ROUNDS), "{operation}: {code}"),),
    width=12,
    axis="zero",
)
TIME = Panel(
    "Time of a request",
    "Half and 99 in 100 of the requests are as fast or faster, from the head to the end of the answer.",
    "level at equal load; long answers take long.",
    "the 99th far above the middle: some wait for rows, see Answers in work.",
    "s",
    (
        Series(Quantile(0.5, m.REQUEST_SECONDS, ("operation",), ROUNDS), "{operation}: median"),
        Series(Quantile(0.99, m.REQUEST_SECONDS, ("operation",), ROUNDS), "{operation}: 99 %"),
    ),
    width=12,
    axis="zero",
)
FIRST_TOKEN = Panel(
    "Time to the first token",
    "Half and 99 in 100 answers begin as fast or faster, waiting for a row included.",
    "below a second.",
    "look at Wait for a row: that long too: more rows, or another server; short: longer prompts, or a slower machine.",
    "s",
    _half_and_most(m.FIRST_TOKEN_SECONDS),
    thresholds=at((1.0, "watch"), (10.0, "bad")),
    base="good",
    axis="zero",
)
TOKENS = Panel(
    "Tokens",
    "Tokens of answers decoded and of prompts read, per second.",
    "level under load.",
    "decoding falls while prompts rise: long prompts hold the rows.",
    "tokens/s",
    (
        Series(rate(m.TOKENS, window=ROUNDS), "decoded"),
        Series(rate(m.PROMPT_TOKENS, window=ROUNDS), "of prompts"),
    ),
    axis="zero",
)
WORK = Panel(
    "Answers in work",
    "Answers that are decoded and that wait for a row, and the rows that there are.",
    "few wait.",
    "many wait for long: more rows if memory allows, or another server.",
    "short",
    (
        Series(_all(m.RUNNING), "with a row"),
        Series(_all(m.WAITING), "waiting"),
        Series(_all(m.ROWS), "rows"),
    ),
    axis="zero",
)
QUEUE = Panel(
    "Wait for a row",
    "Half and 99 in 100 answers waited for a row so long or less; it is part of the time to the first token.",
    "near 0.",
    "LehrServeSaturated says what to do.",
    "s",
    _half_and_most(m.QUEUE_SECONDS),
    axis="zero",
)
BETWEEN = Panel(
    "Time between tokens",
    "Half and 99 in 100 tokens came so soon after the one before them, or sooner.",
    "level; it grows with the rows in use.",
    "the 99th far above the middle: the rows wait for prompts that are read; both high: the machine is busy with others.",
    "s",
    _half_and_most(m.TOKEN_SECONDS),
    axis="zero",
)
ENDS = Panel(
    "Answers by their end",
    "Answers per second: at a stop token or text, at their limit, cancelled since the client hung up, or in an error.",
    "stop and length.",
    "error: the server's log; cancelled beside many 499: clients lose patience, see Time to the first token.",
    "/s",
    (Series(rate(m.ANSWERS, "reason", window=ROUNDS), "{reason}"),),
    axis="zero",
)
LIMITS = Panel(
    "How near its limits",
    "Shares of the queue's places and of the connections that are taken. A request holds its connection until its answer.",
    "below 0.5.",
    "near 1 requests are refused with 429: LehrServeRefusing says what to do.",
    "percentunit",
    (
        Series(ratio(_all(m.WAITING), _all(m.WAITING_LIMIT)), "queue"),
        Series(ratio(_all(m.CONNECTIONS), _all(m.CONNECTIONS_LIMIT)), "connections"),
    ),
    thresholds=at((0.8, "watch"), (1.0, "bad")),
    base="good",
    axis="zero",
)
DROPPED = Panel(
    "Connections closed unheard",
    "Connections a second that were closed without an answer, since even those for scrapers and probes were taken.",
    "0.",
    "as with LehrServeRefusing; a client that opens connections and asks nothing is cut off after 20 s.",
    "/s",
    (Series(rate(m.DROPPED, window=ROUNDS)),),
    axis="zero",
)
CACHE = Panel(
    "Keys and values: memory",
    "Memory for keys and values. It grows to what was once needed, at most rows times twice the context, and is kept.",
    "level, and less than the device has.",
    "grows to the device's memory: fewer rows.",
    "bytes",
    (Series(_all(m.CACHE)),),
    axis="zero",
)
CACHED = Panel(
    "Keys and values: tokens",
    "Tokens of prompts and answers in work whose keys and values are held.",
    "follows the rows in use times the length of prompts and answers.",
    "longer for as many rows: longer prompts.",
    "short",
    (Series(_all(m.CACHED_TOKENS)),),
    axis="zero",
)
STARTED = Panel(
    "Since the last start",
    "Time since the server that began last did.",
    "grows.",
    "falls to 0 again and again: LehrServeRestarting says what to do.",
    "s",
    (Series(age(m.STARTED)),),
    axis="zero",
)
LOADS = Panel(
    "Weights handed over",
    "Times per second that a trainer handed over weights, by whether they were taken.",
    "one for each roll-out of the trainer, all taken.",
    "refused: the trainer's model is not the server's, or a file was damaged; the server's log says which.",
    "/s",
    (Series(rate(m.LOADS, "outcome", window=ROUNDS), "{outcome}"),),
    width=24,
    axis="zero",
)

SERVING = Board(
    "lehr-serving",
    "Lehr / Serving",
    "Does the server answer, and fast enough?",
    (OPERATION,),
    (
        Row("Answers, fast, with room", (REQUESTS_NOW, TOKENS_NOW, FIRST_TOKEN_NOW, FULL_NOW)),
        Row("Requests", (REQUESTS, TIME)),
        Row("Engine", (FIRST_TOKEN, TOKENS, WORK, QUEUE, BETWEEN, ENDS)),
        Row("Limits", (LIMITS, DROPPED, STARTED, CACHE, CACHED)),
        Row("Weights from a trainer", (LOADS,)),
    ),
    (),
    PLACES,
    tuple(f"LehrServe{name}" for name in ALERTS),
)
