"""Each shape in which people write rows becomes turns; what is wrong with a row is said at its file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from lehr.config.chat import ConversationsSource
from lehr.data.synthetic.conversations import Message
from lehr.post.sets.audit import Audit, SetCounts
from lehr.post.sets.conversation_rows import conversation_of, verified_prompt_of
from lehr.post.sets.files import DataFile, files_of, rows
from lehr.post.sets.preference_rows import preference_of
from lehr.post.sets.prepare import read_set
from lehr.post.sets.shapes import BadRow, Preference, Rated
from lehr.runtime.errors import UserError

ASKED, SAID = Message("user", "2 + 2?"), Message("assistant", "4")
CALL = {"name": "add", "arguments": {"a": 2}}
CONVERSATIONS: dict[str, tuple[dict[str, Any], list[Message]]] = {
    "messages": ({"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}, [ASKED, SAID]),
    "messages as JSON, with parts": (
        {"messages": json.dumps([{"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]},
                                 {"from": "gpt", "value": "4"}])},
        [ASKED, SAID],
    ),
    "ShareGPT": ({"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]}, [ASKED, SAID]),
    "ShareGPT with system": (
        {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}], "system": "Be brief."},
        [Message("system", "Be brief."), ASKED, SAID],
    ),
    "prompt and completion": ({"prompt": "2 + 2?", "completion": "4"}, [ASKED, SAID]),
    "prompt and completion of turns": (
        {"prompt": [{"role": "user", "content": "2 + 2?"}], "completion": [{"role": "assistant", "content": "4"}]},
        [ASKED, SAID],
    ),
    "Alpaca": ({"instruction": "2 +", "input": "2?", "output": "4"}, [Message("user", "2 +\n2?"), SAID]),
    "Alpaca with history": ({"instruction": "And 3 + 3?", "output": "6", "history": [["2 + 2?", "4"]]},
                            [ASKED, SAID, Message("user", "And 3 + 3?"), Message("assistant", "6")]),
    "calls of tools": (
        {"messages": [{"role": "user", "content": "2 + 2?"},
                      {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {
                          "name": "add", "arguments": '{"a": 2}'}}]},
                      {"role": "tool", "name": "add", "content": "4"}, {"role": "assistant", "content": "4"}]},
        [ASKED, Message("assistant", "", (CALL,)), Message("tool", "4", (), "add"), SAID],
    ),
    "calls of tools in ShareGPT": (
        {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "function_call", "value": json.dumps(CALL)},
                           {"from": "observation", "value": "4"}, {"from": "gpt", "value": "4"}]},
        [ASKED, Message("assistant", "", (CALL,)), Message("tool", "4"), SAID],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_shape_is_recognised_and_becomes_turns(name: str) -> None:
    values, turns = CONVERSATIONS[name]
    assert list(conversation_of(values).messages) == turns
    assert conversation_of({**values, "tools": json.dumps([{"name": "add"}])}).tools == ({"name": "add"},)


def _talk(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


BAD_CONVERSATIONS: dict[str, dict[str, Any]] = {
    "no turn of an assistant": _talk(("user", "a")),
    'unknown role "wizard"': _talk(("user", "a"), ("wizard", "b")),
    "both of the role system": _talk(("system", "a"), ("system", "b"), ("user", "c"), ("assistant", "d")),
    "which can only be the first": _talk(("user", "a"), ("system", "b"), ("assistant", "d")),
    "turn 1, of the assistant, is empty": _talk(("user", "a"), ("assistant", " ")),
    "17 is no text": _talk(("user", 17), ("assistant", "b")),
    "a part of type": _talk(("user", [{"type": "image", "url": "x"}]), ("assistant", "b")),
    "lone surrogates": _talk(("user", "\ud800"), ("assistant", "b")),
    "a turn without a role": {"messages": [{"content": "a"}]},
    "not a list of turns": {"messages": []},
    "no shape of conversations is known with the keys text": {"text": "a"},
    "no call of a tool": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [{"x": 1}]}]},
    "are no object": {"messages": [{"role": "user", "content": "a"},
                                   {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "[1"}]}]},
}  # fmt: skip


@pytest.mark.parametrize("said", BAD_CONVERSATIONS)
def test_a_bad_conversation_is_one_line_at_its_place(said: str, tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    good = {"prompt": "a", "completion": "b"}
    path.write_text(json.dumps(good) + "\n" + json.dumps(BAD_CONVERSATIONS[said]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=said) as raised:
        _read(path, tmp_path)
    assert raised.value.where == f"{path}:2" and raised.value.remedy and "\n" not in str(raised.value)
    kept, counts = _read(path, tmp_path, bad_rows="drop")
    assert (kept, counts.read, counts.dropped.total()) == (1, 2, 1)
    (row,) = map(json.loads, gzip.decompress((tmp_path / "dropped.jsonl.gz").read_bytes()).splitlines())
    assert said in row["reason"] and row["source"] == "mine"


def _read(path: Path, out: Path, **keys: Any) -> tuple[int, SetCounts]:
    source = ConversationsSource(kind="conversations", path=str(path), **keys)
    with Audit(out) as audit:
        counts = audit.sets["mine"] = SetCounts()
        return len(list(read_set("mine", source, conversation_of, "conversations", audit))), counts


PREFERENCES: dict[str, dict[str, Any]] = {
    "text": {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"},
    "whole dialogues": {"chosen": _talk(("user", "2 + 2?"), ("assistant", "4"))["messages"],
                        "rejected": _talk(("user", "2 + 2?"), ("assistant", "5"))["messages"]},
    "ShareGPT pairs": {"conversations": [{"from": "human", "value": "2 + 2?"}], "chosen": {"from": "gpt", "value": "4"},
                       "rejected": {"from": "gpt", "value": "5"}},
    "message pairs": {"chosen_messages": _talk(("user", "2 + 2?"), ("assistant", "4"))["messages"],
                      "rejected_messages": _talk(("user", "2 + 2?"), ("assistant", "5"))["messages"]},
}  # fmt: skip


@pytest.mark.parametrize("name", PREFERENCES)
def test_a_preference_is_a_prompt_and_two_answers(name: str) -> None:
    assert preference_of(PREFERENCES[name]) == Preference((ASKED,), "4", "5")


def test_ratings_come_with_pairs_and_with_several_answers() -> None:
    rated = preference_of({**PREFERENCES["text"], "score_chosen": 9, "score_rejected": 2.5})
    assert isinstance(rated, Preference) and rated.ratings == (9.0, 2.5)
    aspects = {"helpfulness": 4, "honesty": 2}
    many = preference_of({"prompt": "2 + 2?", "answers": [{"text": "4", "rating": aspects}, {"text": "5", "rating": 1}]})
    assert many == Rated((ASKED,), (("4", 3.0), ("5", 1.0)))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": " b "}, "chosen and rejected are equal"),
        ({"prompt": "a", "chosen": "b", "rejected": ""}, "rejected: the answer is empty"),
        ({"prompt": "", "chosen": "b", "rejected": "c"}, "prompt: empty"),
        ({"chosen": "b", "rejected": "c"}, "no prompt before the answers"),
        ({**PREFERENCES["whole dialogues"], "rejected": _talk(("user", "3?"), ("assistant", "5"))["messages"]}, "not those of"),
        ({**PREFERENCES["whole dialogues"], "chosen": _talk(("assistant", "4"), ("user", "?"))["messages"]}, "last turn"),
        ({"prompt": "a", "answers": [{"text": "b", "rating": 1}]}, "1 answers, where two or more"),
        ({"prompt": "a", "answers": [{"text": "b", "rating": 1}, {"text": "c"}]}, "answers.1: not a text with a rating"),
    ],
)
def test_a_bad_preference_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRow, match=said):
        preference_of(values)


def test_a_prompt_has_a_verifier() -> None:
    found = verified_prompt_of({"prompt": "2 + 2?", "verifier": "last_integer", "arguments": '{"answer": "4"}'})
    assert found.prompt == (ASKED,) and (found.verifier, found.arguments) == ("last_integer", {"answer": "4"})
    with pytest.raises(BadRow, match="with the arguments 3"):
        verified_prompt_of({"prompt": "a", "verifier": "exact", "arguments": 3})
    with pytest.raises(BadRow, match="no verifier"):
        verified_prompt_of({"prompt": "a"})
    assert verified_prompt_of({"prompt": "a"}, needed=False).verifier == ""


def test_files_of_a_folder_a_pattern_and_every_kind(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import Table, parquet

    row = {"prompt": "a", "completion": "b"}
    (tmp_path / "data").mkdir()
    parquet.write_table(Table.from_pylist([row, {**row, "extra": None}]), tmp_path / "data/train-00000-of-00001.parquet")
    parquet.write_table(Table.from_pylist([row]), tmp_path / "data/test-00000-of-00001.parquet")
    (tmp_path / "dataset_infos.json").write_text("{}")
    (found,) = files_of(str(tmp_path), "train")
    assert [r.values for r in rows(found)] == [row, row] and Path(found.where).name.startswith("train")
    assert [Path(f.where).name[:4] for f in files_of(str(tmp_path), "test")] == ["test"]
    (tmp_path / "a.json").write_text(json.dumps([row, row, row]))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    assert [len(list(rows(file))) for file in files_of(str(tmp_path / "*.json*"), "train")] == [3, 1]
    with pytest.raises(UserError, match="no data files"):
        files_of(str(tmp_path / "*.parquet"), "train")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(UserError, match="damaged Parquet"):
        list(rows(DataFile(str(tmp_path / "broken.parquet"))))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"prompt": "\xff"}', "not UTF-8"),
        (b"{", "not JSON"),
        (b"[1]\n", "not a JSON object"),
        (b'"text"', "not a JSON object"),
    ],
)
def test_a_broken_line_is_named(raw: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(b'{"prompt": "a", "completion": "b"}\n' + raw)
    with pytest.raises(UserError, match=said) as raised:
        list(rows(DataFile(str(path))))
    assert raised.value.where == f"{path}:2"
