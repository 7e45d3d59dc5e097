"""Serving: whether `lehr serve` answers, how fast, and how near it is to its limits."""

from __future__ import annotations

from lehr.monitoring.metrics import serving as m
from lehr.monitoring.panels.boards.common import PLACES, ROUNDS, at, stat
from lehr.monitoring.panels.forms import now, rate, ratio, total
from lehr.monitoring.panels.panel import Board, Panel, Row, Series, Variable
from lehr.monitoring.panels.query import Quantile

OPERATION = Variable("operation", m.REQUESTS, "Operation")

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
    Series(ratio(total(now(m.RUNNING)), total(now(m.ROWS)))),
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
    "rises with Answers in work: more rows; rises alone: longer prompts.",
    "s",
    (
        Series(Quantile(0.5, m.FIRST_TOKEN_SECONDS, (), ROUNDS), "median"),
        Series(Quantile(0.99, m.FIRST_TOKEN_SECONDS, (), ROUNDS), "99 %"),
    ),
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
        Series(total(now(m.RUNNING)), "decoded"),
        Series(total(now(m.WAITING)), "waiting"),
        Series(total(now(m.ROWS)), "rows"),
    ),
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
        Row("Engine", (FIRST_TOKEN, TOKENS, WORK)),
        Row("Weights from a trainer", (LOADS,)),
    ),
    (),
    PLACES,
)
