"""The model card: a Hugging Face README.md made of the same data as the report."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from lehr.report import format as fmt
from lehr.report.data import ReportData, StageReport
from lehr.report.headline import measured
from lehr.report.inputs import REVIEWED
from lehr.report.provenance import counted, lost
from lehr.report.scores import JUDGED_NOTE, Column, ScoreRecord
from lehr.runtime.text import fenced, markdown, markdown_code, visible


def model_card(
    data: ReportData,
    *,
    model_id: str = "",
    stage: str = "",
    architecture: str = "",
) -> str:
    """README.md with YAML front matter. `stage` is the exported one (by default the last scored); `model_id` is the name
    or folder that the loading example uses."""
    final = stage or (data.table().stages[-1] if data.scores else "")
    parts = [
        _front_matter(data, final),
        f"# {markdown(data.run)}",
        _intro(data, final, architecture),
        "## How to load it",
        _loading(model_id or "model", chat=any(s.phase == "post-training" for s in _making(data, final))),
        "## How it was made",
        _stages(data),
        "## Scores",
        _scores(data, final),
        "## Data and licences",
        _data(data),
        "## Energy and carbon",
        _footprint(data),
        "## Limitations",
        _limitations(data),
        "## How to reproduce it",
        _reproduce(data),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _making(data: ReportData, final: str) -> list[StageReport]:
    """The stage `final` and all that it was made from, in the order of the stages; every stage where it is not known."""
    waiting = [stage] if (stage := data.stage(final)) else list(data.stages)
    seen: set[str] = set()
    while waiting:
        if (stage := waiting.pop()).name not in seen:
            seen.add(stage.name)
            waiting += data.parents_of(stage)
    return [s for s in data.stages if s.name in seen]


def _tags(data: ReportData, final: str) -> list[str]:
    """What the model went through, as people search for it."""
    made = [s for s in _making(data, final) if s.kind == "checkpoint"]
    found = ["lehr", *(["from-scratch"] if data.from_scratch else [])]
    found += ["model-soup"] if any(s.phase == "soup" for s in made) else []
    kinds = [s.stage_kind.replace("_", "-") for s in made if s.phase == "post-training" and s.stage_kind]
    return list(dict.fromkeys([*found, *kinds]))


def _front_matter(data: ReportData, final: str) -> str:
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": f"{column.task} (held out)", "type": column.task},
            "metrics": [{"type": column.metric, "value": round(record.value, 6), "name": column.metric}],
        }
        for column, record in _final_scores(data, final)
    ]
    head: dict[str, object] = {
        "license": _license(data),
        "language": ["en"],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
    }
    head["tags"] = list(_tags(data, final))
    if results:
        head["model-index"] = [{"name": data.run, "results": results}]
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip()}\n---"


def _license(data: ReportData) -> str:
    """Ours to give where every source states a licence; a text whose terms nobody stated leaves the model's open."""
    stated = all(source.license not in ("", "unknown") for source in data.funnel.values())
    return "apache-2.0" if stated else "unknown"


def _final_scores(data: ReportData, final: str) -> list[tuple[Column, ScoreRecord]]:
    table = data.table("held_out")
    return [(c, table.cells[final, c]) for c in table.of_models if (final, c) in table.cells]


def _intro(data: ReportData, final: str, architecture: str) -> str:
    size = f"{fmt.count(data.totals.parameters)}-parameter " if data.totals.parameters else ""
    text = f"A {size}language model{f' of the {markdown(architecture)} architecture' if architecture else ''}, "
    text += f"trained{' from scratch' if data.from_scratch else ''} with Lehr"
    text += f" on {fmt.count(data.tokens)} tokens." if data.tokens else "."
    if data.description:
        text += f" {markdown(data.description)}."
    return text + (f" This is the model after stage {markdown_code(final)}." if final else "")


def _loading(model_id: str, chat: bool) -> str:
    """An example that answers a question, or goes on with a text where no stage has taught the model to chat."""
    if not chat:
        return f"""```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({_literal(model_id)})
tokenizer = AutoTokenizer.from_pretrained({_literal(model_id)})
inputs = tokenizer("The sea was calm, and", return_tensors="pt")
text = model.generate(input_ids=inputs["input_ids"], max_new_tokens=60, do_sample=False)
print(tokenizer.decode(text[0], skip_special_tokens=True))
```"""
    return f"""```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({_literal(model_id)})
tokenizer = AutoTokenizer.from_pretrained({_literal(model_id)})
chat = [{{"role": "user", "content": "What is 17 + 25?"}}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**inputs, max_new_tokens=60, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```"""


def _literal(text: str) -> str:
    """A Python literal on one line, without a fence's marks."""
    return repr(visible(text)).replace("`", "\\x60")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table of cells that are Markdown already; the first `left` columns are set left, the others right."""
    rule = ["---" if i < left else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def _stages(data: ReportData) -> str:
    if not data.stages:
        return "No stages are recorded."
    rows = [
        [
            markdown_code(s.name),
            markdown(s.kind),
            ", ".join(markdown_code(p.name) for p in data.parents_of(s)) or "–",
            fmt.count(s.tokens) if s.tokens else "–",
            fmt.duration(s.seconds),
            markdown_code(s.digest[:12]) if s.digest else "–",
        ]
        for s in data.stages
    ]
    return _table(["stage", "makes", "from", "tokens", "time", "digest"], rows, left=3)


def _scores(data: ReportData, final: str) -> str:
    table = data.table("held_out")
    if not table.columns:
        return "No held-out scores are recorded."
    rows = []
    for column in table.columns:
        largest = max((record for _, record in table.of(column)), key=lambda record: record.n)
        cells = [_shown(table.cells.get((stage, column)), column) for stage in table.stages]
        rows.append([markdown(column.task), markdown(table.heading(column)), fmt.sample(largest.n, largest.clusters), *cells])
    note = (
        "Held-out examples, which no stage has trained on; value ± one standard error (`60 in 12`: 60 examples "
        "cut from 12 documents or asked of 12 prompts, which the error is over); ↓: less is better."
    )
    note += f" {JUDGED_NOTE}" if table.judged else ""
    return f"{note}\n\n" + _table(["task", "metric", "n", *map(markdown, table.stages)], rows, left=2)


def _shown(record: ScoreRecord | None, column: Column) -> str:
    if record is None:
        return "–"
    value = fmt.value(record.value, column.about)
    error = fmt.error(record.value, record.stderr, record.n, column.about)
    return f"{value} {error}".rstrip()


def _data(data: ReportData) -> str:
    if not data.funnel:
        return "No record of the sources is there."
    rows = [
        [
            *(markdown(text) for text in (name, s.origin or "–", s.license or "not stated")),
            f"{s.kept:,} of {s.read:,}",
            fmt.count(s.characters),
        ]
        for name, s in data.funnel.items()
    ]
    head = ["source", "origin", "licence", "documents kept", "characters"]
    held = any(r.contamination and r.contamination.kept for r in data.scores)
    text = "Documents were filtered, deduplicated and compared with the evaluation sets; every dropped one is on record."
    text += " Some that hold evaluation examples stayed: the report says which, and the scores without them." if held else ""
    reviews = [
        [markdown(text) for text in (name, *(s.review.get(key) or "–" for key in REVIEWED))]
        for name, s in data.funnel.items()
        if s.review
    ]
    cleared = _table(["source", *(key.replace("_", " ") for key in REVIEWED)], reviews, left=len(REVIEWED) + 1)
    return f"{text}\n\n{_table(head, rows, left=3)}" + (f"\n\nReviews of the sources:\n\n{cleared}" if reviews else "")


def _footprint(data: ReportData) -> str:
    if data.it_energy is None:
        return "No energy was recorded."
    text = (
        f"{fmt.duration(data.seconds)} of work and {fmt.energy(data.it_energy)} of IT energy over all stages, "
        f"{markdown(measured(data))}.{counted(data)}"
    )
    if spent := lost(data):
        text += f" {spent.name}, in the same place, are part of it" + (f": {fmt.energy(spent.it)}." if spent.it else ".")
    if data.energy_gaps:
        text += f" Missing from it: {markdown('; '.join(data.energy_gaps[:8]))}."
    if data.carbon_kg is not None and data.site:
        s = data.site
        text += f" With a PUE of {s.pue:g} that is {fmt.energy(data.facility_energy)} at the building and, "
        text += f"at {s.carbon_kg_per_kwh:g} kg per kWh, {fmt.mass(data.carbon_kg)} of CO₂ equivalent"
        text += f" and {fmt.volume(data.water_liters)} of water" if data.water_liters is not None else ""
        text += f" (constants: {markdown(s.citation)})." if s.citation else "."
    return text + " Counted are the model's ancestors and what failed in its run's place: experiments elsewhere are not."


def _limitations(data: ReportData) -> str:
    size = f" It has {fmt.count(data.totals.parameters)} parameters." if data.totals.parameters else ""
    sources = "its sources hold" if data.from_scratch or not data.stages else "its sources and the model before it hold"
    return (
        f"- It knows only what {sources}, as of when they were written, with their errors and their views.{size}\n"
        "- It states falsehoods fluently. Do not use it for decisions about people, health, law or money.\n"
        "- It was not trained or tested for safety: it has no refusals and no filter on what it writes.\n"
        "- Scores are on examples like those it was trained for; they say little about other tasks or languages."
    )


def _reproduce(data: ReportData) -> str:
    env = data.environment
    facts = [
        ("Lehr", env.lehr_version),
        ("code", env.code_fingerprint[:12]),
        ("git", env.git_sha[:12]),
        ("Python", env.python),
        ("PyTorch", env.torch),
    ]
    known = ", ".join(f"{name} {markdown(value)}" for name, value in facts if value)
    command = fenced(env.command, "sh") if env.command else "The command is not recorded."
    return command + (f"\n\n{known}. The resolved recipe is `recipe.yaml` of the run." if known else "")
