"""Data preparation: what became of the documents, how fast, and whether the store keeps up."""

from __future__ import annotations

from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.boards.common import PLACES, ROUNDS, RUN, STAGE, STAGES, at, stat
from lehr.monitoring.panels.boards.evaluation import PROGRESS, SECONDS
from lehr.monitoring.panels.forms import counted, rate, ratio, total
from lehr.monitoring.panels.panel import Board, Panel, Row, Series
from lehr.monitoring.panels.query import Last, Quantile

READ = stat(
    "Documents",
    ("Documents that were read, kept or dropped.", "grows while the stage runs.", "row Progress."),
    "short",
    Series(counted(m.DOCUMENTS, "run"), "documents"),
)
KEPT = stat(
    "Kept",
    ("Share of the documents that went into the corpus.", "as for the same source before.", "Dropped, by reason."),
    "percentunit",
    Series(ratio(counted(m.DOCUMENTS, "run", where={"outcome": "kept"}), counted(m.DOCUMENTS, "run")), "of the documents"),
    at((0.05, "watch"), (0.2, "good")),
    "bad",
)
CHARACTERS = stat(
    "Characters kept",
    (
        "Characters of the kept documents; about four make a token of English.",
        "enough for the recipe's tokens.",
        "add sources.",
    ),
    "short",
    Series(counted(m.CHARACTERS, "run", where={"outcome": "kept"}), "characters"),
)
RATE_NOW = stat(
    "Speed",
    ("Documents in a second, of whatever pass is under way.", "steady.", "one slow source or a slow store: row Object store."),
    "documents/s",
    Series(rate(m.PREPARED, "run", window=ROUNDS), "documents"),
)
DROPPED = Panel(
    "Documents by what became of them",
    "Documents kept, and dropped by reason.",
    "the same shares as on a sample that you have read.",
    "one reason takes all: read dropped documents of it in the artifact, then change that filter.",
    "short",
    (Series(counted(m.DOCUMENTS, "run", "outcome"), "{outcome}"),),
    "bars",
    width=12,
    height=10,
    decimals=0,
)
LOST = Panel(
    "Characters by what became of them",
    "As beside it, weighted by length.",
    "dropped documents shorter than kept ones.",
    "long documents are dropped: a filter on shares of lines or words fits them badly.",
    "short",
    (Series(counted(m.CHARACTERS, "run", "outcome"), "{outcome}"),),
    "bars",
    width=12,
    height=10,
    decimals=0,
)
SPEED = Panel(
    "Documents per second",
    "By pass over the files: filter, overlap with evaluations and held-back documents, write. A part counts when it is done.",
    "steady over a source.",
    "falls: long documents, or a machine that swaps.",
    "documents/s",
    (Series(rate(m.PREPARED, "run", "pass", window=ROUNDS), "{pass}"),),
    axis="zero",
)
FILES = Panel(
    "Bytes of files per second",
    "By pass, of the files as they lie there, compressed or not.",
    "steady; in proportion to data.processes or data.pods.",
    "one slow source, or a slow store: row Object store.",
    "Bps",
    (Series(rate(m.PREPARED_BYTES, "run", "pass", window=ROUNDS), "{pass}"),),
    axis="zero",
)
MEMORY = Panel(
    "Memory",
    "Resident memory of the run's processes on all its machines.",
    "level: documents are streamed.",
    "rises with the number of documents: fewer workers, or a smaller table of hashes.",
    "bytes",
    (Series(total(Last(m.MEMORY_RESIDENT), "run"), "resident"),),
    axis="zero",
)

REQUESTS = Panel(
    "Requests to the store",
    "Requests that ended, after retries, by kind and outcome.",
    "nearly all ok.",
    "refused: rights or a wrong name; failed, unreachable: runbook LehrStoreErrors.",
    "requests/s",
    (Series(rate(m.STORE_REQUESTS, "operation", "outcome", window=ROUNDS), "{operation}: {outcome}"),),
    width=12,
    axis="zero",
)
RETRIES = Panel(
    "Sent again",
    "Requests that had to be sent again.",
    "single ones.",
    "runbook LehrStoreErrors; a store that throttles wants fewer parallel uploads.",
    "requests/s",
    (Series(rate(m.STORE_RETRIES, "operation", window=ROUNDS), "{operation}"),),
    width=12,
    axis="zero",
    thresholds=at((1.0, "bad")),
)
BYTES = Panel(
    "Bytes to and from the store",
    "Bytes of artifacts and saves.",
    "the network's speed while something is saved.",
    "far below: larger parts, more connections.",
    "Bps",
    (Series(rate(m.STORE_BYTES, "direction", window=ROUNDS), "{direction}"),),
    width=12,
    axis="zero",
)
LATENCY = Panel(
    "Time of a request",
    "99 in 100 requests of each kind are as fast or faster, retries included.",
    "below a second; uploads of parts a few.",
    "runbook LehrStoreErrors.",
    "s",
    (Series(Quantile(0.99, m.STORE_SECONDS, ("operation",), ROUNDS), "{operation}"),),
    width=12,
    axis="zero",
    thresholds=at((5.0, "watch"), (30.0, "bad")),
    base="good",
)
DATA = Board(
    "lehr-data",
    "Lehr / Data preparation",
    "What becomes of the documents, and how fast?",
    (RUN, STAGE),
    (
        Row("Kept, lost, fast", (READ, KEPT, CHARACTERS, RATE_NOW)),
        Row("Documents", (DROPPED, LOST, SPEED, FILES, MEMORY)),
        Row("Progress", (PROGRESS, SECONDS)),
        Row("Object store", (REQUESTS, RETRIES, BYTES, LATENCY)),
    ),
    (STAGES,),
    PLACES,
    ("LehrDataStall", "LehrStoreErrors"),
)
