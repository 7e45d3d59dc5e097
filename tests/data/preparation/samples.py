"""A small sample of each source that a released recipe names, in the form in which whoever holds it gives it out."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import zstandard

from lehr.config.sources import ExternalSource
from lehr.data.document import read_jsonl
from tests.data.paragraphs import TEXTS
from tests.data.readers.made import MIT, in_members, in_parquet, record, tar

PACK = Path(__file__).resolve().parents[3] / "recipes/data"
ROWS = 6  # documents of a source in English
PARQUET = ("uonlp/CulturaX", "tiiuae", "HuggingFaceFW", "open-web-math", "bigcode", "HuggingFaceTB", "storytracer")
ZSTANDARD = ("dclm", "proof-pile-2")
MANY = ("multilingual_wikipedia", "multilingual_webhose", "madlad_12", "europarl")  # sources in several languages
GPL = "GNU GENERAL PUBLIC LICENSE Version 3, 29 June 2007\nEveryone is permitted to copy and distribute verbatim copies.\n"
MORE = {  # in scripts without blanks words cannot be put into another order
    "ja": (
        (
            "山の上の小さな村では、毎年春になるとお祭りがあります。子どもたちは朝早く起きて、川のそばで花を集めてから、家の前にかざります。"
            "夜になると、大人たちは広場に集まって、昔から伝わる歌をうたいながら、みんなで食事をするのです。"
        ),
        (
            "図書館で働いている友だちは、古い本を読むことがとても好きだと言っていました。それは、書いた人の気持ちが分かるような気がするからだ"
            "そうです。わたしも時間があるときには、静かな部屋でゆっくり本を読みたいと思っています。"
        ),
    ),
    "zh": (
        (
            "山上的小村子里，每年春天都会有一个节日。孩子们很早就起来，到河边去采花，然后把花放在自己家的门前。到了晚上，大人们都来到广场上，"
            "一边唱着很久以前就有的歌，一边和大家一起吃饭。没有人会在这个时候想到明天还要工作。"
        ),
        (
            "我的朋友在图书馆工作，他说他非常喜欢看旧书，因为这样可以知道以前的人是怎么想的。如果有时间的话，我也想在一个安静的房间里慢慢地看书，"
            "不过现在我每天都要去学校上课，所以只能等到放假的时候再说了。"
        ),
    ),
}


@cache
def prose() -> tuple[str, ...]:
    """Pieces of some 1,200 characters of the shipped speeches and plays, no two alike."""
    found = []
    for document in read_jsonl(PACK / "speeches.jsonl.gz", "speeches"):
        sentences = re.split(r"(?<=[.!?])\s+", document.text[:24_000])
        found += [" ".join(sentences[i : i + 8]) for i in range(0, len(sentences) - 8, 8)]
    return tuple(text for text in found if 800 < len(text) < 3000)


@cache
def code() -> tuple[str, ...]:
    """Pieces of the shipped programs, no two alike."""
    found = []
    for document in read_jsonl(PACK / "code.jsonl.gz", "code"):
        parts = re.split(r"\n\n(?=def |class )", document.text)
        found += [part for part in parts if 600 < len(part) < 4000]
    return tuple(dict.fromkeys(found))


def in_language(language: str, number: int) -> str:
    """Some eighty words; those of another `number` are no near-duplicate."""
    if language in MORE:
        return (TEXTS[language], *MORE[language])[number] * 2
    words = (TEXTS[language] * 2).split()
    random.Random(number).shuffle(words)
    return " ".join(words)


def problems(seed: int, question: str) -> Iterator[str]:
    rng = random.Random(seed)
    while True:
        a, b = rng.randrange(10, 10**6), rng.randrange(10, 10**6)
        yield f"{question} What is {a} + {b} - {b // 3}?\nAnswer: {a} + {b} = {a + b}, less {b // 3} is {a + b - b // 3}."


def rows(name: str, source: ExternalSource, number: int) -> list[dict[str, Any]]:
    """Rows of the source, the `number`th of its recipe."""
    text = source.fields.text
    if found := re.fullmatch(r"cultura_x_(\w\w)", name):
        texts = [in_language(found[1], i) for i in range(10, 10 + ROWS)] if found[1] != "en" else _english(number)
    elif name in MANY:
        every = [language for language in TEXTS if language != "la" or name == "europarl"]
        texts = [in_language(language, MANY.index(name) % 3) for language in every]
    elif source.text_type == "code":
        texts = list(code()[number * ROWS : (number + 1) * ROWS])
    elif source.text_type in ("math", "instruction"):
        texts = list(islice(problems(number, f"From {name}."), ROWS))
    else:
        texts = _english(number)
    return [{text: each, "id": f"{name}/{i}", "url": f"https://{name}.example/{i}"} for i, each in enumerate(texts)]


def _english(number: int) -> list[str]:
    return list(prose()[number * ROWS : (number + 1) * ROWS])


def write(folder: Path, name: str, source: ExternalSource, found: list[dict[str, Any]]) -> Path:
    """Write the rows; returns the path to give to the recipe."""
    place = folder / name
    place.mkdir(parents=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found).encode()
    if name == "webhose":
        pages = [_page(row["url"], row["text"]) for row in found]
        (place / "crawl.warc.gz").write_bytes(in_members(pages))
    elif name == "code_pile":
        files = {f"one/{i}.py": row["text"].encode() for i, row in enumerate(found)}
        others = {"one/LICENSE": MIT.encode(), "two/COPYING": GPL.encode(), "two/main.py": code()[-1].encode()}
        data = {"one/data.xml": b'<?xml version="1.0"?><a>' + b"<b>letters</b>" * 20, "one/few.txt": b"0123456789 +-*/ " * 40}
        path = place / "repositories.tar.zst"
        path.write_bytes(zstandard.compress(tar({**files, **others, **data})))
        return path
    elif any(part in source.uri for part in PARQUET):
        (place / "data").mkdir()
        (place / "data/train-00000-of-00001.parquet").write_bytes(in_parquet(found))
    elif any(part in source.uri for part in ZSTANDARD):
        (place / "0000.jsonl.zst").write_bytes(zstandard.compress(lines))
    else:
        (place / "0000.json.gz").write_bytes(gzip.compress(lines))
    return place


def _page(url: str, text: str) -> bytes:
    paragraphs = "".join(f"<p>{part}</p>" for part in text.split("\n"))
    page = f"<html lang='en'><head><title>A page</title></head><body><main><article>{paragraphs}</article></main></body></html>"
    return record(page.encode(), url=url)
