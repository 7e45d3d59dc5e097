"""Verdicts of filters against dolma's taggers and IBM's data-prep-toolkit, rule by rule, on the same documents.

`python -m benchmarks.verdicts` writes docs/verdicts.md (some minutes). Each peer runs in an environment of its own, which
`make taggers` makes: their pins agree neither with Lehr's nor with each other's. Where both have a rule, both scores are
held against the same threshold. Ends with an error if one verdict differs for which no reason is known
(benchmarks/taggers/rules.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.taggers import ours
from benchmarks.taggers.rules import DOLMA, TOOLKIT, Rule
from benchmarks.taggers.texts import documents

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs/verdicts.md"
PLACE = Path(os.environ.get("LEHR_TAGGERS") or Path.home() / ".cache/lehr/taggers")
PEERS = (
    ("dolma 1.2.1", "dolma", DOLMA),
    ("data-prep-toolkit 1.1.8", "toolkit", TOOLKIT),
)
_HEAD = """# Verdicts beside other tools

Written by `python -m benchmarks.verdicts`. Of {documents:,} documents (pieces of the shipped text, and pieces into which
was put what the rules look for) each rule that both have was asked of both, with the same threshold: that of the rule's
default. "Dropped" is by ours; without a threshold it is where ours counts any. Where a table names a reason, the peer's
rule is another one; where it names none, not one verdict may differ, or the command fails. `python -m benchmarks.filters`
does the same with datatrove, whose rules are ours but for its words (docs/decisions.md). Rules that only one of the two
has, or that need a model from a hub there (languages, toxicity, presidio's personal information), are not here.
"""


@dataclass(frozen=True)
class Comparison:
    """How one rule judged: documents that had both scores, that ours drops (or that have what it counts), and the ids where
    verdicts differ, with both scores."""

    rule: Rule
    asked: int
    dropped: int
    differing: list[tuple[str, float, float]]


def compared(rule: Rule, ids: Sequence[str], mine: Sequence[dict[str, float]], peer: Sequence[dict[str, float]]) -> Comparison:
    both = [
        (name, own[rule.ours], theirs.get(rule.theirs, 0.0) * rule.times)
        for name, own, theirs in zip(ids, mine, peer, strict=True)
        if rule.ours in own
    ]
    low, high = ours.bounds(rule.ours, rule.name) if rule.name else (0.0, 0.0)

    def judged(score: float) -> float:
        return float(low <= score <= high) if rule.name else score

    differing = [(name, own, theirs) for name, own, theirs in both if judged(own) != judged(theirs)]
    return Comparison(rule, len(both), sum(not low <= own <= high for _, own, _ in both), differing)


def their_scores(folder: str, rows: Sequence[str]) -> list[dict[str, float]]:
    """Raises SystemExit with the peer's last words, if it fails."""
    command = [str(PLACE / folder / "bin/python"), str(HERE / f"taggers/{folder}_scores.py")]
    done = subprocess.run(command, input="".join(rows), capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"error: {folder} failed:\n{done.stderr[-3000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def tables(found: Sequence[tuple[str, Sequence[Comparison]]]) -> Iterator[str]:
    for peer, comparisons in found:
        yield f"\n## {peer}\n"
        yield "| rule | its score there | documents | dropped | verdicts that differ | in what the peer's rule is another |"
        yield "|---|---|---:|---:|---:|---|"
        for c in comparisons:
            yield (
                f"| `{c.rule.ours}` | `{c.rule.theirs}` | {c.asked:,} | {c.dropped:,} | {len(c.differing):,} | {c.rule.why} |"
            )


def main() -> int:
    texts = documents()
    about = [{"path": d.metadata.get("path", ""), "stars": d.metadata.get("max_stars_count", 0)} for d in texts]
    rows = [json.dumps({"id": d.id, "text": d.text} | known) + "\n" for d, known in zip(texts, about, strict=True)]
    ids, mine = [d.id for d in texts], [ours.scores(d) for d in texts]
    found, unexplained = [], 0
    for peer, folder, rules in PEERS:
        if not (PLACE / folder).is_dir():
            print(f"error: {PLACE / folder}: {peer} is not there; try make taggers", file=sys.stderr)
            return 2
        scores = their_scores(folder, rows)
        found.append((peer, [compared(rule, ids, mine, scores) for rule in rules]))
        for c in found[-1][1]:
            unexplained += 0 if c.rule.why else len(c.differing)
            for name, own, theirs in c.differing[:5] if not c.rule.why or "-v" in sys.argv else []:
                print(f"{peer}: {c.rule.ours} {own:.6g}, {c.rule.theirs} {theirs:.6g}: {name}", file=sys.stderr)
    PAGE.write_text("\n".join([_HEAD.format(documents=len(texts)), *tables(found)]) + "\n", encoding="utf-8")
    print(f"{PAGE}: {unexplained} verdicts differ without a known reason")
    return 1 if unexplained else 0


if __name__ == "__main__":
    raise SystemExit(main())
