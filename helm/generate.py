"""Writes what follows from the chart's values: `python -m helm.generate` (make chart).

`helm/lehr/values.yaml` is the source. Above each key stand comments: `# -- ` begins its description, `# @schema ` says what it
may be where its default does not tell, by the name of a definition in `helm/definitions.yaml` or as a YAML flow mapping. Out of
these come `values.schema.json` (strict: what is not in values.yaml is refused) and the table of README.md, whose text is
`helm/README.template.md`. The thresholds of `nodes.policy` are those of `infra/fleet/policy.py`; what NOTES look for in Flyte's
settings is what `lehr doctor` looks for, `infra/doctor/flyte.yaml`. With --check nothing is written, and the exit code is 1 if
a file would change.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lehr import __version__
from lehr.infra.doctor.flyte import NEEDED
from lehr.infra.fleet.policy import Policy

FOLDER = Path(__file__).resolve().parent
CHART = FOLDER / "lehr"
Schema = dict[str, Any]
TYPES = {"bool": "boolean", "int": "integer", "float": "number", "str": "string", "map": "object", "seq": "array"}
# Helm puts `global` into the values of every chart that another one includes.
GLOBAL = {"type": "object", "description": "Helm's own, where another chart includes this one"}


class Mistake(Exception):
    """values.yaml does not say enough of a key."""


@dataclass
class Key:
    """One key of values.yaml. `children` are those of a mapping, or of the first entry of a list of mappings."""

    path: str
    default: Any
    kind: str
    description: str
    declared: Schema
    children: list[Key] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def required(self) -> bool:
        return bool(self.declared.get("required"))


def keys(text: str) -> list[Key]:
    """The keys of values.yaml. Raises Mistake for one without a description or whose kind cannot be told."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(node, yaml.MappingNode)
    return _children(node, text.splitlines(), "")


def _children(node: yaml.MappingNode, lines: list[str], above: str) -> list[Key]:
    return [_key(name, value, lines, above) for name, value in node.value]


def _key(name: yaml.ScalarNode, value: yaml.Node, lines: list[str], above: str) -> Key:
    path = f"{above}.{name.value}" if above else str(name.value)
    description, declared = _comments(lines, name.start_mark.line, name.start_mark.column)
    made = Key(path, _plain(value), TYPES[value.tag.rpartition(":")[2]], description, declared)
    if isinstance(value, yaml.MappingNode) and value.value and not declared:
        made.children = _children(value, lines, path)
    elif isinstance(value, yaml.SequenceNode) and not declared and value.value:
        first = value.value[0]
        if isinstance(first, yaml.MappingNode):
            made.children = _children(first, lines, f"{path}[]")
    if not made.description and not made.children:
        raise Mistake(f"{path}: no description (`# -- ...` above it)")
    if made.kind in ("object", "array") and not made.children and not declared:
        raise Mistake(f"{path}: what may stand there? (`# @schema ...` above it)")
    return made


def _plain(node: yaml.Node) -> Any:
    return yaml.safe_load(yaml.serialize(node))


def _comments(lines: list[str], line: int, column: int) -> tuple[str, Schema]:
    """Description and declaration in the comment lines right above; those of a list's first key begin behind its dash."""
    found: list[str] = []
    for number in range(line - 1, -1, -1):
        text = lines[number]
        stripped = text.strip().removeprefix("- ").strip()
        if not stripped.startswith("#"):
            break
        found.insert(0, stripped.removeprefix("#").strip())
        if text.strip().startswith("- "):
            break
    start = max((i for i, text in enumerate(found) if text.startswith("-- ")), default=len(found))
    mine = found[start:]
    declared = [text.removeprefix("@schema ") for text in mine if text.startswith("@schema ")]
    words = [text.removeprefix("-- ") for text in mine if not text.startswith("@schema ")]
    return " ".join(words), _declared(declared[0]) if declared else {}


def _declared(text: str) -> Schema:
    return yaml.safe_load(text) if text.startswith("{") else {"$ref": f"#/definitions/{text}"}


def schema(found: Sequence[Key], definitions: Schema) -> Schema:
    """The JSON schema (draft 7, which both Helm 3 and 4 read)."""
    policy = {**_without_titles(Policy.model_json_schema()), "examples": [{"lemon_quarantines": 3}]}
    top = _object(found, {**definitions, "policy": policy})
    top["properties"]["global"] = GLOBAL
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart lehr"}
    return {**head, **top, "definitions": definitions}


def _object(found: Sequence[Key], definitions: Schema) -> Schema:
    properties = {key.name: _one(key, definitions) for key in found}
    made: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    if required := [key.name for key in found if key.required]:
        made["required"] = required
    return made


def _one(key: Key, definitions: Schema) -> Schema:
    declared = {name: value for name, value in key.declared.items() if name not in ("required", "$ref")}
    described = {"description": key.description} if key.description else {}
    if "$ref" in key.declared:  # written out: draft 7 lets nothing stand beside a reference, and Helm's words are shorter so
        return {**described, **definitions[key.declared["$ref"].rpartition("/")[2]], **declared}
    made = {**described, "type": "number" if "exclusiveMinimum" in declared else key.kind, **declared}
    if key.children:
        inner = _object(key.children, definitions)
        made |= {"items": inner} if key.kind == "array" else inner
    return made


def _without_titles(data: Any) -> Any:
    """What pydantic says, without what it says twice."""
    if isinstance(data, list):
        return [_without_titles(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {name: _without_titles(value) for name, value in data.items() if name not in ("title", "default", "description")}


def table(found: Sequence[Key]) -> str:
    """The README's tables: one for each first key, and one for what stands alone."""
    alone = [key for key in found if not key.children]
    parts = ["\n".join([_HEAD, *(_row(key) for key in alone)])]
    for key in (key for key in found if key.children):
        title = f"### {key.path}" + (f"\n{key.description}" if key.description else "")
        parts.append("\n".join([title, "", _HEAD, *(_row(leaf) for leaf in leaves(key.children))]))
    return "\n\n".join(parts)


_HEAD = "| key | default | what it is |\n|---|---|---|"


def leaves(found: Sequence[Key]) -> list[Key]:
    """All keys that hold no others; a list of mappings stands before the keys of its entries."""
    out: list[Key] = []
    for key in found:
        if not key.children or key.kind == "array":
            out.append(key)
        out += leaves(key.children)
    return out


def _row(key: Key) -> str:
    default = json.dumps(key.default, ensure_ascii=False)
    if key.children:
        default = f"{len(key.default)} entr{'y' if len(key.default) == 1 else 'ies'}"
    shown = default if key.children else f"`{default}`"
    return f"| `{key.path}` | {shown} | {key.description.replace('|', chr(92) + '|')} |"


def readme(found: Sequence[Key], template: str) -> str:
    """README.md out of its template: `{{values}}` is the table, `{{file NAME}}` a file of the chart."""
    text = template.replace("{{values}}", table(found)).replace("{{version}}", __version__)
    return re.sub(r"\{\{file ([^}]+)\}\}", lambda match: (CHART / match[1]).read_text(encoding="utf-8").rstrip("\n"), text)


def files() -> dict[Path, str]:
    """Every file that is written, with what belongs there. Raises Mistake."""
    found = keys((CHART / "values.yaml").read_text(encoding="utf-8"))
    definitions = yaml.safe_load((FOLDER / "definitions.yaml").read_text(encoding="utf-8"))
    chart = (CHART / "Chart.yaml").read_text(encoding="utf-8")
    return {
        CHART / "values.schema.json": json.dumps(schema(found, definitions), indent=2, ensure_ascii=False) + "\n",
        CHART / "README.md": readme(found, (FOLDER / "README.template.md").read_text(encoding="utf-8")),
        CHART / "files/flyte/needed.yaml": NEEDED.read_text(encoding="utf-8"),
        CHART / "Chart.yaml": re.sub(r'(?m)^appVersion: "[^"]*"', f'appVersion: "{__version__}"', chart),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write what follows from the chart's values.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file would change")
    check = parser.parse_args(arguments).check
    changed = {path: text for path, text in files().items() if not path.exists() or path.read_text(encoding="utf-8") != text}
    for path, text in changed.items():
        print(f"{path.relative_to(FOLDER.parent)}: {'would change' if check else 'written'}")
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
