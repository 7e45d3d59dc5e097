"""Which documents count as copies of others, and which of them stays."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lehr.config.base import Config, NonNegative, Positive

Share = Annotated[float, Field(gt=0, le=1)]


class NearDuplicates(Config):
    """Near-duplicates: MinHash-LSH finds pairs, and the true Jaccard similarity of the two sets of shingles decides.

    Granite 3.0 (section 3.1) names the method and no number of it; the numbers are ours."""

    threshold: Share = 0.8  # Jaccard similarity from which on two documents count as one
    shingle_words: Positive = 5  # a character of a script without blanks (Chinese, Japanese, Thai ...) counts as a word
    permutations: Annotated[int, Field(ge=16, le=1024)] = 128
    recall: Annotated[float, Field(gt=0, lt=1)] = 0.99  # of the pairs exactly at the threshold, those that become candidates
    keep: Literal["first", "longest", "best"] = "first"  # which one stays; equals: the first in order of reading
    score: str = ""  # of `best`: the filters' score, of which the highest stays, such as `quality.score`

    @model_validator(mode="after")
    def _score_where_it_decides(self) -> NearDuplicates:
        if (self.keep == "best") != bool(self.score):
            raise ValueError(
                f"score={self.score!r} with keep={self.keep!r}: `best` needs the name of a score, others have none"
            )
        return self


class RepeatedParagraphs(Config):
    """Paragraphs that occurred before are removed, as in Dolma: a paragraph is a line, and its first occurrence stays. A Bloom
    filter remembers them, so a share of new paragraphs (`false_positives`, once it holds `expected` ones) is removed too."""

    expected: Positive  # different paragraphs in all sources; 3.0 MB of memory for each million at the default rate
    false_positives: Annotated[float, Field(gt=0, lt=1)] = 1e-5  # the default of Dolma's tools
    min_characters: NonNegative = 0  # shorter paragraphs stay; Dolma's tools remove them, headings too
    drop_share: Share = 1.0  # a document is dropped when at least this share of its characters is removed


_MASTER = r"^(local(\[([0-9]+|\*)\])?|spark://.+|k8s://.+|yarn)$"


class SparkCluster(Config):
    """Where Apache Spark computes the joins. Its driver is the stage's own process (and a Java process beside it)."""

    master: Annotated[str, Field(pattern=_MASTER)] = "local[2]"  # as `spark-submit --master`
    shared: str = ""  # a folder that the stage and all executors see under this path; left out: the stage's scratch folder
    settings: dict[Annotated[str, Field(pattern=r"^spark\.")], str] = {}  # such as spark.executor.memory: 8g


# Keys that change where joins are computed, and nothing of what they give.
WHERE = ("engine", "memory_mib", "spark")


class Deduplication(Config):
    """Over all sources, in the order in which they are written in the recipe: by URL, by text, near-duplicates, paragraphs."""

    url: bool = False  # the first document of a URL stays
    exact: bool = True  # the first of several texts that are equal up to case and white space stays
    fuzzy: NearDuplicates | None = None
    paragraphs: RepeatedParagraphs | None = None
    against: list[str] = []  # folders of signatures of earlier corpora, which stay; what is like them is dropped here
    save: bool = False  # keep the signatures, so that a later corpus can be held against this one
    engine: Literal["duckdb", "spark"] = "duckdb"  # who joins; `spark` (to be installed) on a cluster; bytes are the same
    memory_mib: Annotated[int, Field(ge=40)] = 40  # of DuckDB; beyond it, it writes to disk
    spark: SparkCluster | None = None  # of the engine `spark`

    @model_validator(mode="after")
    def _something_to_compare(self) -> Deduplication:
        if (self.against or self.save) and not (self.url or self.exact or self.fuzzy):
            raise ValueError("against, save: turn on url, exact or fuzzy, which compare signatures")
        if self.spark and self.engine != "spark":
            raise ValueError("spark: it says where the engine `spark` runs; set engine: spark, or leave it out")
        return self
