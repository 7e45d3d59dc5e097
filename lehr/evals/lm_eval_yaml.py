"""A task's YAML file of lm-eval 0.4.13 as a task of one's own. What cannot be translated is refused by name; no Python runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lehr.runtime.errors import UserError
from lehr.runtime.yaml_file import read_mapping, text_of

_REMEDY = "give the path of a task's YAML file (docs/evaluation.md)"
_MARKS = {"task", "include", "dataset_path", "output_type", "doc_to_text", "doc_to_target", "group"}
_FUNCTION = re.compile(r"^\s*-?\s*([\w.-]+):\s*!function\s+(\S+)", re.M)
_KINDS = {
    "multiple_choice": "choice",
    "loglikelihood": "continuation",
    "loglikelihood_rolling": "text",
    "generate_until": "generation",
}
# Keys that say nothing of the prompts and scores, or are read below.
_READ = {
    "task", "include", "dataset_path", "dataset_kwargs", "training_split", "validation_split", "test_split", "fewshot_split",
    "doc_to_text", "doc_to_target", "doc_to_choice", "description", "target_delimiter", "fewshot_delimiter", "fewshot_config",
    "num_fewshot", "metric_list", "output_type", "generation_kwargs", "filter_list",
}  # fmt: skip
_IDLE = {"task_alias", "tag", "metadata", "should_decontaminate", "doc_to_decontamination_query"}
_METRICS = {
    "multiple_choice": {"acc": "acc", "acc_norm": "acc_per_char", "acc_bytes": "acc_per_byte", "acc_mutual_info": "acc_pmi"},
    "loglikelihood": {"acc": "greedy_match", "perplexity": "answer_nats"},
    "loglikelihood_rolling": dict.fromkeys(("word_perplexity", "byte_perplexity", "bits_per_byte"), "bits_per_byte"),
    "generate_until": {"exact_match": "exact_match"},
}
_FLAGS = ("ignore_case", "ignore_punctuation", "ignore_numbers")
_REGEX = r"#### (\-?[0-9\.\,]+)"
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SEED = 1234  # of drawn shots, where its command names none
Values = dict[str, Any]


def is_lm_eval(path: Path) -> bool:
    """Whether a YAML file is of lm-eval's shape: it has some of its keys, and not `kind`, which every task of Lehr's has.
    Raises UserError for a file that is not there or no YAML, and for one that names a Python function."""
    if found := _FUNCTION.search(text_of(path, "task", _REMEDY)):
        what = f"{found[1]}: !function {found[2]} is Python code, which is not run"
        remedy = "write the rows as that function gives them to a file, and say the rest with fields and templates"
        raise UserError(what, where=path, remedy=remedy)
    raw = read_mapping(path, "task", _REMEDY)
    return "kind" not in raw and bool(_MARKS & set(raw))


def read_lm_eval(path: Path) -> tuple[Values, list[Path]]:
    """The keys of such a file with those that it includes, and all of these files. Raises UserError."""
    files: list[Path] = []
    return _merged(path, files), files


def _merged(path: Path, files: list[Path]) -> Values:
    if path in files:
        raise UserError("include: the files include each other, or one twice", where=path, remedy="break the circle")
    files.append(path)
    is_lm_eval(path)
    raw = read_mapping(path, "task", _REMEDY)
    included = raw.pop("include", [])
    merged: Values = {}
    for one in included if isinstance(included, list) else [included]:
        if not isinstance(one, str) or not (path.parent / one).is_file():
            raise UserError(f"include: there is no file {one!r}", where=path, remedy="correct the path, relative to this file")
        merged |= {k: v for k, v in _merged((path.parent / one).resolve(), files).items() if k != "task_list"}
    return merged | raw


def translated(path: Path, said: Values, files: list[Path]) -> tuple[Values, list[Path]]:
    """The keys of lehr.config.own_task.OwnTask that say the same, and the YAML files. Raises UserError, naming the key."""
    return _Translation(path, said).task(), files


class _Translation:
    def __init__(self, path: Path, said: Values) -> None:
        self.path, self.said = path, {key: value for key, value in said.items() if value is not None}
        self.output = self.said.get("output_type", "generate_until")

    def refuse(self, what: str, remedy: str) -> UserError:
        return UserError(what, where=self.path, remedy=remedy)

    def task(self) -> Values:
        self._check_keys()
        name = self.said.get("task", self.path.stem)
        if not isinstance(name, str):
            raise self.refuse("task: it lists several tasks", "name the file of each of them")
        test = "test_split" in self.said
        made: Values = {
            "name": name, "kind": _KINDS[self.output], "encoding": "lm-eval", "split": "held_out" if test else "dev",
            "data": self._file(self._scored()), "description": self.said.get("description", ""),
            "target_delimiter": self.said.get("target_delimiter", " "),
            "fewshot_delimiter": self.said.get("fewshot_delimiter", "\n\n"),
        }  # fmt: skip
        if self.output == "loglikelihood_rolling":
            return {**made, "text": self._text("doc_to_target")}
        made |= {"prompt": self._text("doc_to_text"), "target": self.said.get("doc_to_target")}
        if self.output == "multiple_choice":
            made |= {"choices": self._choices(self.said.get("doc_to_choice")), **self._judged()}
        elif "doc_to_choice" in self.said:
            raise self.refuse(
                f"doc_to_choice: it is not read for output_type {self.output}", "give the answers in doc_to_target"
            )
        if self.output == "generate_until":
            made |= self._generation()
        return made | self._shots()

    def _check_keys(self) -> None:
        for key, value in self.said.items():
            if key == "group" or key == "task_list":
                raise self.refuse(f"{key}: a group of tasks is not read", "name the file of each of its tasks")
            idle = (key == "repeats" and value == 1) or (value in (False, "", [], {}) and key not in _READ)
            if key not in _READ | _IDLE and not idle:
                raise self.refuse(f"{key}: it is not translated", "leave it out, or write the task as one of Lehr's")
        if self.output not in _KINDS:
            raise self.refuse(f"output_type: {self.output!r} is not read", f"write one of {', '.join(_KINDS)}")
        if (place := self.said.get("dataset_path")) not in ("json", "parquet"):
            what = f"dataset_path: {place!r} is not a local file, and nothing is downloaded"
            remedy = "save its rows, and write dataset_path: json with dataset_kwargs: {data_files: {test: rows.jsonl}}"
            raise self.refuse(what, remedy)
        for one in self.said.get("metric_list", []):
            metric = one.get("metric") if isinstance(one, dict) else one
            if metric not in _METRICS[self.output]:
                what = f"metric_list: {metric!r} of output_type {self.output} is not translated"
                raise self.refuse(what, f"name of {', '.join(_METRICS[self.output])}, or write the task as one of Lehr's")
            if one.get("aggregation", "mean") not in ("mean", "perplexity", "weighted_perplexity", "bits_per_byte"):
                raise self.refuse(f"metric_list: aggregation {one['aggregation']!r} is not translated", "leave it out")

    def _text(self, key: str) -> str:
        value = self.said.get(key)
        if not isinstance(value, str):
            raise self.refuse(f"{key}: it is not a text", "give a field's name or a template")
        return value

    # -- data

    def _scored(self) -> str:
        for key in ("test_split", "validation_split"):
            if key in self.said:
                return str(self.said[key])
        raise self.refuse("there is neither test_split nor validation_split", "name the split that is scored")

    def _file(self, split: str) -> str:
        kwargs = self.said.get("dataset_kwargs", {})
        files = kwargs.get("data_files") if isinstance(kwargs, dict) else None
        if wrong := set(kwargs) - {"data_files", "trust_remote_code"} if isinstance(kwargs, dict) else set():
            raise self.refuse(f"dataset_kwargs.{sorted(wrong)[0]}: it is not translated", "leave it out")
        files = files if isinstance(files, dict) else {"train": files}  # as `datasets` calls the split of files without one
        place = files.get(split)
        if isinstance(place, list) and len(place) == 1:
            place = place[0]
        if not isinstance(place, str):
            raise self.refuse(f"dataset_kwargs.data_files: there is no single file of the split {split!r}", "name one")
        # `datasets` takes a path from where it is started; a file beside the YAML comes first here.
        beside = (self.path.parent / place).absolute()
        return str(Path(place).absolute() if not beside.exists() and Path(place).exists() else beside)

    # -- what is asked and judged

    def _choices(self, said: Any) -> Any:
        said = list(said.values()) if isinstance(said, dict) else said
        if isinstance(said, list):  # lm-eval puts no row into these
            return [f"{{% raw %}}{one}{{% endraw %}}" if isinstance(one, str) and "{" in one else one for one in said]
        return said

    def _judged(self) -> Values:
        named = [one["metric"] if isinstance(one, dict) else one for one in self.said.get("metric_list", [])] or ["acc"]
        made: Values = {"judged_by": _METRICS["multiple_choice"][named[0]]}
        return {**made, "alone": ""} if "acc_mutual_info" in named else made

    def _generation(self) -> Values:
        kwargs = dict(self.said.get("generation_kwargs", {}))
        until = kwargs.pop("until", [self.said.get("fewshot_delimiter", "\n\n")])
        limits = [kwargs.pop(key, None) for key in _LIMITS]
        sampled, heat = kwargs.pop("do_sample", False), float(kwargs.pop("temperature", 0.0))
        if kwargs:
            raise self.refuse(f"generation_kwargs.{next(iter(kwargs))}: it is not translated", "leave it out")
        return {
            "stop": [text for text in ([until] if isinstance(until, str) else until) if text],
            "max_tokens": next((n for n in limits if n is not None), 256),
            **({"temperature": heat, "samples": 1} if sampled and heat else {}),
            "metrics": {"exact_match": self._exact()}, "extract": self._extract(),
        }  # fmt: skip

    def _exact(self) -> Values:
        listed = self.said.get("metric_list", [{"metric": "exact_match"}])
        said = listed[0] if isinstance(listed[0], dict) else {}
        known = {"metric", "aggregation", "higher_is_better", "regexes_to_ignore", *_FLAGS}
        if len(listed) > 1 or (wrong := set(said) - known):
            name = "metric_list" if len(listed) > 1 else f"metric_list.{sorted(wrong)[0]}"
            raise self.refuse(f"{name}: it is not translated", "leave one exact_match there")
        flags = {key: said[key] for key in _FLAGS if key in said}
        return {"normalise": "none", **flags, **({"remove": said["regexes_to_ignore"]} if "regexes_to_ignore" in said else {})}

    def _extract(self) -> Values:
        ways = {str(one.get("name")): self._steps(one.get("filter", [])) for one in self.said.get("filter_list", [])}
        return ways if any(ways.values()) or len(ways) > 1 else {}

    def _steps(self, said: list[Mapping[str, Any]]) -> list[Values]:
        made: list[Values] = []
        plain = {"remove_whitespace": "strip", "lowercase": "lower", "uppercase": "upper"}
        for one in said:
            function = one.get("function")
            if function == "regex" and set(one) <= {"function", "regex_pattern", "group_select", "fallback"}:
                step = {"pattern": one.get("regex_pattern", _REGEX), "group": one.get("group_select", 0)}
                made.append({"do": "regex", **step, "fallback": one.get("fallback", "[invalid]")})
            elif function in plain:
                made.append({"do": plain[function]})
            elif function != "take_first":
                raise self.refuse(f"filter_list: the filter {function!r} is not translated", "use regex, or leave it out")
        return made

    # -- shots

    def _shots(self) -> Values:
        number = self.said.get("num_fewshot", 0)
        if not number:
            return {}
        config = {key: value for key, value in self.said.get("fewshot_config", {}).items() if value is not None}
        fields = {"doc_to_text": "prompt", "doc_to_target": "target", "doc_to_choice": "choices"}
        if wrong := set(config) - {"sampler", "split", "samples", *fields}:
            raise self.refuse(f"fewshot_config.{sorted(wrong)[0]}: it is not translated", "leave it out")
        if (sampler := config.get("sampler", "default")) not in ("default", "first_n"):
            raise self.refuse(f"fewshot_config.sampler: {sampler!r} is not translated", "write default or first_n")
        split = config.get("split", self.said.get("fewshot_split"))
        made: Values = {"number": number, "order": "first" if sampler == "first_n" else "drawn", "seed": _SEED}
        made["fields"] = {name: config[key] for key, name in fields.items() if key in config}
        apart = split == self.said.get("test_split")  # where lm-eval leaves the scored row out
        if split is None and "samples" in config:
            return {"shots": {**made, "rows": config["samples"], "apart": apart}}
        place = self._file(str(split or self.said.get("training_split") or self._pool()))
        if place == self._file(self._scored()):  # where lm-eval might show the scored row, it is left out here
            return {"shots": made}
        return {"shots": {**made, "path": place, "apart": apart}}

    def _pool(self) -> str:
        return str(self.said.get("validation_split") or self._scored())
