"""What `lehr show` prints: lineage, cost, scores, as rich renderables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from lehr.artifacts.artifact import Artifact, Manifest
from lehr.cli.locate import latest, of_run, run_folder, whole
from lehr.evals.scores import SCORES
from lehr.monitoring.score_table import record_table
from lehr.report.merge_words import how
from lehr.report.scores import ScoreRecord, read_records
from lehr.runtime.energy import label
from lehr.runtime.metrics import DEV


def duration(seconds: float) -> str:
    """`41 s`, `3 min 20 s`, `5 h 12 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def energy(joules: float) -> str:
    """`820 J`, `12.3 kJ`, `4.56 MJ`, with watt-hours beside."""
    if joules <= 0:
        return ""
    for unit, size in (("MJ", 1e6), ("kJ", 1e3), ("J", 1.0)):
        if joules >= size or unit == "J":
            return f"{joules / size:.3g} {unit} ({joules / 3600:.3g} Wh)"
    return ""


def _label(artifact: Artifact) -> Text:
    m = artifact.manifest
    facts = [m.kind, m.digest[:12]]
    if m.cost.tokens:
        facts.append(f"{m.cost.tokens:,} tokens")
    if m.cost.seconds:
        facts.append(duration(m.cost.seconds))
    if "merged" in m.meta:
        facts.append(how(m.meta, m.meta["ingredients"]))
    return Text.assemble((m.stage, "bold"), "  ", ("  ".join(facts), "dim"))


def lineage_tree(artifact: Artifact) -> Tree:
    """The artifact at the root, what it was made from below it; an ancestor met again is named, not unfolded."""
    seen: set[str] = set()

    def grow(tree: Tree, node: Artifact) -> None:
        parents = node.parents()
        found = {p.manifest.digest for p in parents}
        for parent in parents:
            if parent.manifest.digest in seen:
                tree.add(Text.assemble((parent.manifest.stage, "bold"), ("  (as above)", "dim")))
                continue
            seen.add(parent.manifest.digest)
            grow(tree.add(_label(parent)), parent)
        for ref in node.manifest.parents:
            if ref.digest not in found:
                tree.add(
                    Text.assemble((ref.stage, "bold"), (f"  {ref.kind}  {ref.digest[:12]}  no longer at {ref.uri}", "dim"))
                )

    root = Tree(_label(artifact))
    grow(root, artifact)
    return root


def cost_table(artifact: Artifact) -> Table:
    """Cost of each stage in the lineage, oldest first, and their sum: of tokens, what models were trained on, as the report has
    it, and not what was cut into tokens for them."""
    table = Table(title="Cost, with all ancestors", title_justify="left", box=None, pad_edge=False)
    for heading in ("stage", "tokens", "FLOPs", "time", "energy", "source"):
        table.add_column(heading, justify="left" if heading in ("stage", "source") else "right")
    costs = [(a.manifest.stage, a.manifest.cost) for a in artifact.lineage()]
    for stage, c in costs:
        source = c.energy_source if c.energy_joules else ""
        table.add_row(stage, f"{c.tokens:,}", f"{c.flops:.2e}", duration(c.seconds), energy(c.energy_joules), source)
    everything = [c for _, c in costs]
    trained = [a.manifest.cost.tokens for a in artifact.lineage() if a.manifest.kind == "checkpoint"]
    named = [source for c in everything if c.energy_joules for source in c.energy_source.split("+")]
    sources = label(named) if named else ""
    table.add_section()
    table.add_row(
        "sum",
        f"{sum(trained):,}",
        f"{sum(c.flops for c in everything):.2e}",
        duration(sum(c.seconds for c in everything)),
        energy(sum(c.energy_joules for c in everything)),
        sources,
        style="bold",
    )
    return table


def verdict(verified: Sequence[Artifact]) -> str:
    """Of artifacts whose files were all hashed, and what of their ancestry is no longer there to be."""
    files = [record for artifact in verified for record in artifact.manifest.files.values()]
    known = {artifact.manifest.digest for artifact in verified}
    gone = {p.digest: p.stage for a in verified for p in a.manifest.parents if p.digest not in known}
    size = sum(f.bytes for f in files)
    said = f"verified: {len(files):,} files of {len(verified)} artifacts, {size:,} bytes, are as they were sealed"
    return said + (f"; not verified, no longer there: {', '.join(gone.values())}" if gone else "")


def score_table(artifact: Artifact) -> Table | Text:
    """Scores of this artifact, beside those of the models it was made from and of the nearest one that baselines were made for:
    of these very weights, for the recipe may have been changed and changed back, and a stage's name stay."""
    m, run = artifact.manifest, run_folder(artifact)
    there = of_run(run) if run else []
    nearest, compared = _compared(run, there, artifact) if run else (None, [])
    digests = {nearest.digest: nearest.stage} if nearest and nearest.digest != m.digest else {}
    digests |= {p.digest: p.stage for p in m.parents if p.kind == "checkpoint"} | {m.digest: m.stage}
    records = [r for digest in digests for r in _scores_of(run, there, digest)] if run else []
    if not records:
        return Text(f"No scores of {m.stage} in this run yet.")
    stages = [stage for stage in digests.values() if any(r.stage == stage for r in records)]
    return record_table([*records, *compared], stages, "Scores")


def _compared(run: Path, there: Sequence[Artifact], artifact: Artifact) -> tuple[Manifest | None, list[ScoreRecord]]:
    """The nearest model in the lineage that baselines of the run read the same as, and their scores; none if there is none."""
    made = [a for a in there if a.manifest.stage_kind == "baselines"]
    if not made:
        return None, []
    found = whole(latest(run, made))
    read = {r["model"]: _sorted(r["read"]) for r in found.manifest.config["readers"]}
    for ancestor in reversed(artifact.lineage()):
        if read.get(ancestor.manifest.stage) == _sorted([a.manifest.config for a in ancestor.lineage()]):
            own = [r for r in _records(found) if r.stage == ancestor.manifest.stage]
            return ancestor.manifest, [r for r in own if not r.metric.startswith(DEV)]  # those belong to a curve
    return None, []


def _sorted(configs: Sequence[dict[str, Any]]) -> list[str]:
    """What each configuration that reads a mix reads of it."""
    return sorted(json.dumps([c["mix"], c["tokens"], c["data_seed"]]) for c in configs if "data_seed" in c)


def _scores_of(run: Path, there: Sequence[Artifact], digest: str) -> list[ScoreRecord]:
    """The records of the model with that digest among the run's artifacts: of its last scoring, none if it was not scored."""
    found = [a for a in there if a.manifest.kind == "scores" and a.manifest.meta.get("frozen") == digest]
    if not found:
        return []
    return _records(whole(latest(run, found)))


def _records(scores: Artifact) -> list[ScoreRecord]:
    """None if its file is gone."""
    path = scores.path(SCORES)
    return read_records(path) if path.is_file() else []
