"""Where documents come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lehr.config.base import Config, NonNegative, Positive, Reported
from lehr.config.governance import Review

Format = Literal["auto", "jsonl", "parquet", "warc", "text", "code"]
# reference: lists and tables; math: formulas and problems; instruction: questions with answers
TextType = Literal["prose", "code", "reference", "math", "instruction"]
# steps: calculations as a text; annotated: the program, each value in a comment; answer: the answer alone.
ProgramStyle = Literal["steps", "annotated", "answer"]


class RowFields(Config):
    """The names that rows give to what Lehr knows of a document: columns of Parquet, keys of JSON lines; `meta.url` is `url`
    inside `meta`. What else a row has is kept with its document if it is a number or a short text."""

    text: str = "text"
    id: str = "id"  # of a row without one: the source's name, the file's and the line
    url: str = "url"
    license: str = "license"  # a name or a list of them; where it is missing, the source's
    language: str = "language"  # ISO 639, with or without a script or region


class Files(Config):
    """How files are read; `FilesSource` explains it."""

    format: Format = "auto"
    fields: RowFields = RowFields()
    split: str = "train"
    damaged: Literal["stop", "skip"] = "stop"
    text_type: TextType = "prose"  # which quality rules apply; to files of repositories always those for code


class FilesSource(Files):
    """Documents from files. `path` is a file, a folder, or a pattern, here or at `s3://`; of a folder, the files of the
    `format` are read, and of files of rows that name a split (a Hugging Face data set's `data/train-00000-of-00004.parquet`)
    those of `split`.

    Formats: `jsonl` (an object on each line), `parquet` (needs the extra `parquet`), `warc` (WARC and WET, the main text of web
    pages; needs the extra `web`), `text` (a file is a document), `code` (a repository, as a folder or a tar file; a file is a
    document). All but Parquet also compressed by gzip, bzip2, xz or Zstandard. `auto` looks at each file's content and name;
    of a folder it takes rows and archives, or else a repository (with `.git`), or else texts. `kind: jsonl` says
    `format: jsonl`.

    `damaged`: a bad row, a truncated file, a decompression bomb or a link out of the folder stops the stage, or is counted,
    named and passed over (`skip`); of a truncated file, what comes before is kept."""

    kind: Literal["files", "jsonl"]
    path: str  # relative to the file in which it is written
    license: str
    origin: str = ""  # where the text comes from, for the card
    review: Review | None = None

    @model_validator(mode="after")
    def _one_format(self) -> FilesSource:
        if not self.path.strip():  # which would be the folder that the command stands in
            raise ValueError("path: it is empty; name a file, a folder or a pattern")
        if self.kind == "jsonl" and self.format == "auto":
            self.format = "jsonl"
        if self.kind == "jsonl" and self.format != "jsonl":
            raise ValueError(f"format: kind jsonl reads JSON lines, not {self.format}; write kind: files")
        if self.format == "code" and "text_type" in self.model_fields_set and self.text_type != "code":
            raise ValueError(f"text_type: {self.text_type} is not what a repository holds; leave it out, or set format: text")
        if self.format == "code":
            self.text_type = "code"
        return self


class Programs(Config):
    """Word problems with Python programs that solve them, run to get the answers (OLMo 2 section 4.4.1: TinyGSM's, and GSM8K's
    with other numbers). One's own stand in JSON lines: `question`, `program` (assignments of arithmetic, or a function of
    them), and if wanted `answer`, which the program must give, `keep`, numbers that must stay, and `id`. With `programs`, a
    list, the first one counts that gives the result of more than half of them."""

    path: str = ""  # relative to the file in which it is written; empty: the built-in problems
    numbers: Literal["replaced", "own"] = "replaced"  # replaced: as many variants as there are natural ones; own: each once
    styles: list[ProgramStyle] = Field(default=["steps", "annotated"], min_length=1)  # drawn for each problem
    majority_of: NonNegative = 0  # programs that a problem must have to be voted on
    bad_rows: Literal["stop", "drop"] = "stop"  # a row that cannot be read ends the run, or is counted and left out


class SyntheticSource(Config):
    """Documents from a generator of `lehr.data.synthetic`: only its training problems, never dev or held-out ones.
    `calculations`: sums, differences, products and quotients in many wordings; `programs`: see there."""

    kind: Literal["synthetic"]
    generator: Literal["arithmetic", "word_problems", "calculations", "programs"]
    documents: Positive
    programs: Programs | None = None  # of the generator `programs`
    license: str = "CC0-1.0"
    review: Review | None = None

    @model_validator(mode="after")
    def _programs_of_their_generator(self) -> SyntheticSource:
        if self.generator == "programs" and self.programs is None:
            self.programs = Programs()
        if self.generator != "programs" and self.programs is not None:
            raise ValueError(f"programs: the generator {self.generator} has none; leave it out, or set generator: programs")
        return self


class ExternalSource(Files):
    """Documents held by others, and where they are; to run the recipe, put them on a disk or into a bucket and give `path`,
    with which the source is one of kind files.

    `reported` holds facts that no code uses: `tokens` as the report counts them, their `category` there."""

    kind: Literal["external"]
    uri: Annotated[str, Field(pattern=r"^[a-z0-9]+://\S+$")]  # hf://: a data set of the Hugging Face hub; s3://: your own copy
    license: str
    supply: str  # what must be supplied
    path: str = ""  # where you have put it
    review: Review | None = None
    reported: Reported = {}


def with_path(source: Any) -> Any:
    """A source as it is written; one that others hold and that has a `path` now, as one of files."""
    if not isinstance(source, dict) or source.get("kind") != "external" or not source.get("path"):
        return source
    kept = {key: value for key, value in source.items() if key not in ("kind", "uri", "supply", "reported")}
    return {"kind": "files", "origin": source.get("uri", ""), **kept}


Source = Annotated[FilesSource | SyntheticSource | ExternalSource, Field(discriminator="kind")]
