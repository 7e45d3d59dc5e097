"""A classifier's probability that an answer has a label, such as toxic: Lehr's own classifiers, or a server.

A server is asked for one text a request, `{"inputs": "text"}`: a list of two texts is a pair to
text-embeddings-inference, and two texts to others. Servers form batches themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from urllib.parse import urlsplit

from lehr.artifacts.artifact import canonical, sha256_text
from lehr.config.judged_checks import CLASSIFIER_URL, ClassifiedCheck
from lehr.data.filter_models import classifier
from lehr.evals.judged import Gave, ToJudge, address
from lehr.post.chat_model import KeptRows
from lehr.post.engine_client import ATTEMPTS, Called, EngineClient
from lehr.runtime.errors import UserError

TOKEN = "LEHR_CLASSIFIER_TOKEN"
_PROBE = "Good morning."


class Classifier(Protocol):
    """The probability of the label, in [0, 1], of each text, in order; `done` is told each as soon as it is there."""

    def __call__(self, texts: Sequence[str], done: Callable[[str, float], None], /) -> None: ...


class OwnClassifier:
    """A classifier that a stage of `data.models` wrote, or a fastText file."""

    def __init__(self, check: ClassifiedCheck) -> None:
        """Raises UserError for a model that is missing or damaged."""
        self._probability = classifier(check.path, check.label)

    def __call__(self, texts: Sequence[str], done: Callable[[str, float], None]) -> None:
        for text in texts:
            done(text, self._probability(text))


class ServedClassifier:
    """A server that answers {"inputs": text} with [{"label", "score"}], or with a list of one such list."""

    def __init__(self, check: ClassifiedCheck, attempts: int) -> None:
        """Raises UserError where no address is given."""
        url = urlsplit(url_of(check))
        self._check, self._path = check, url.path or "/"
        called, place = Called("the classifier", "the task's `metrics.classified`", TOKEN), f"{url.scheme}://{url.netloc}"
        self._client = EngineClient(place, check.timeout_seconds, called=called, attempts=attempts)

    def __call__(self, texts: Sequence[str], done: Callable[[str, float], None]) -> None:
        def ask(text: str) -> None:
            done(text, self._probability(text))

        with ThreadPoolExecutor(min(self._check.concurrency, max(1, len(texts))), "classifier") as pool:
            for _ in pool.map(ask, texts):
                pass

    def _probability(self, text: str) -> float:
        found = self._client.ask("POST", self._path, {"inputs": text, "truncate": True})
        if isinstance(found, list) and len(found) == 1 and isinstance(found[0], list):
            found = found[0]
        try:
            scores = {str(one["label"]): one["score"] for one in found}
        except (KeyError, TypeError):
            what = "its reply is no list of labels and scores"
            raise UserError(what, where=self._client.url + self._path, remedy="see the url and its path") from None
        if self._check.label not in scores:
            what = f"its reply has no label {self._check.label!r}; it has {', '.join(map(repr, scores))[:200] or 'none'}"
            remedy = "correct metrics.classified.label, or let the server return all labels"
            raise UserError(what, where=self._client.url + self._path, remedy=remedy)
        score = scores[self._check.label]
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0.0 <= score <= 1.0:
            what = f"the score of {self._check.label!r} is {score!r:.40}, no probability"
            raise UserError(what, where=self._client.url + self._path, remedy="let the server return probabilities")
        return float(score)


class Classifying:
    """The classifier of a check. `kept` has what it said."""

    def __init__(self, check: ClassifiedCheck, kept: KeptRows, attempts: int = ATTEMPTS) -> None:
        self._check, self._kept = check, kept
        self._classify: Classifier = OwnClassifier(check) if check.path else ServedClassifier(check, attempts)

    def probe(self) -> None:
        """Classify a text. Raises InfraError and UserError."""
        self._classify([_PROBE], lambda text, probability: None)

    def values(
        self,
        rows: Sequence[ToJudge],
        texts: Sequence[str],
        about: Mapping[str, Any],
        note: Callable[[str], None] = lambda words: None,
    ) -> tuple[Gave, Gave, Gave]:
        """Of each row's answers, equally many in `texts`: the share below the threshold, the mean probability and the highest
        one, whose mean over prompts is the expected maximum toxicity of so many answers (Gehman et al. 2020,
        "RealToxicityPrompts"). An answer of blanks alone has probability 0, unasked."""
        found = self._probabilities(rows[0].known, texts, about, len(texts) // len(rows), note)
        times, by = len(texts) // len(rows), rows[0].scored_by
        each = [found[n : n + times] for n in range(0, len(found), times)]
        under = [sum(p < self._check.threshold for p in one) / times for one in each]
        mean = [math.fsum(one) / times for one in each]
        return Gave(under, [], by), Gave(mean, [], by), Gave([max(one) for one in each], [], by)

    def _probabilities(
        self, known: str, texts: Sequence[str], about: Mapping[str, Any], times: int, note: Callable[[str], None]
    ) -> list[float]:
        keys = {text: sha256_text(canonical([known, text])) for text in texts}
        said = {str(row["key"]): float(row["probability"]) for row in self._kept.read() if "probability" in row}
        first = {text: n for n, text in reversed(list(enumerate(texts)))}
        left = [text for text in sorted(first, key=first.__getitem__) if text.strip() and keys[text] not in said]

        def done(text: str, probability: float) -> None:
            what = {"example": first[text] // times, "answer": first[text] % times, "classifier": self._check.model}
            self._kept.add({**about, **what, "text": text, "probability": probability, "key": keys[text]})
            said[keys[text]] = probability

        if left:
            note(f"{self._check.model} classifies {len(left):,} answers")
            self._classify(left, done)
        return [said[keys[text]] if text.strip() else 0.0 for text in texts]


def url_of(check: ClassifiedCheck) -> str:
    """The server's address. Raises UserError where none is given."""
    missing, remedy = "no classifier is given", "give classified.url or classified.path in the task's file"
    return address(check.url, CLASSIFIER_URL, True, missing, remedy)
