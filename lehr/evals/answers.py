"""What is made of a generated answer: the part that counts, and how it is judged against the right ones."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lehr.evals import drop
from lehr.post.verifiers import verify
from lehr.post.verifiers.matching import normalised

_SECONDS = 1.0  # for a regular expression on one answer
_FLAGS = ("ignore_case", "ignore_punctuation", "ignore_numbers", "remove")
# Judged here, with these arguments.
OWN_CHECKS = {"exact_match": ("normalise", *_FLAGS, "separator"), "f1": ("normalise", "separator")}
NORMALISED = {"exact_match": ("none", "spaces", "squad", "drop"), "f1": ("squad", "drop")}
_PUNCTUATION, _DIGITS = (str.maketrans("", "", those) for those in (string.punctuation, string.digits))

Step = tuple[str, str, int, str]  # what to do, pattern, group, fallback


def extracted(text: str, steps: Sequence[Step]) -> str:
    """What the steps take out of an answer (lehr.config.own_task.Step)."""
    for do, pattern, group, fallback in steps:
        if do == "regex":
            text = _found(text, pattern, group, fallback)
        else:
            text = text.strip() if do == "strip" else text.lower() if do == "lower" else text.upper()
    return text


def _found(text: str, pattern: str, group: int, fallback: str) -> str:
    """A pattern that takes over a second does not match: some take years on what a model writes."""
    import regex

    try:
        matches = regex.compile(pattern).findall(text, timeout=_SECONDS)
    except TimeoutError:
        return fallback
    if not -len(matches) <= group < len(matches):
        return fallback
    match = matches[group]
    if isinstance(match, tuple):  # several groups: the first that took part
        match = next(filter(None, match), fallback)
    return str(match).strip()


def judged(check: str, args: Mapping[str, Any], text: str) -> float:
    """The score of an answer between 0 and 1. `args` have the right ones as `answers` for those judged here, with
    `normalise: drop` each a text or a list of spans; all other checks are verifiers of lehr.post.verifiers. An answer without
    an end counts as it stands: benchmarks judge it so."""
    if check in OWN_CHECKS and args.get("normalise") == "drop":
        ours, of_spans = drop.spans(text, args.get("separator", "")), drop.f1 if check == "f1" else drop.exact_match
        return max(of_spans(ours, [right] if isinstance(right, str) else right) for right in args["answers"])
    if check == "exact_match":
        right = {_plain(answer, args) for answer in args["answers"]}
        return float(_plain(text, args) in right)
    if check == "f1":
        return max(f1_squad(text, answer) for answer in args["answers"])
    return verify(check, args, text, True)


def _plain(text: str, args: Mapping[str, Any]) -> str:
    """The text as exact match compares it: `remove`d what these patterns match, then without case, ASCII punctuation and digits
    where these are ignored, then `normalise`d."""
    for pattern in args.get("remove", ()):
        text = re.sub(pattern, "", text)
    text = text.lower() if args.get("ignore_case") else text
    text = text.translate(_PUNCTUATION) if args.get("ignore_punctuation") else text
    text = text.translate(_DIGITS) if args.get("ignore_numbers") else text
    return normalised(text, args.get("normalise", "spaces"))


def f1_squad(answer: str, right: str) -> float:
    """Harmonic mean of precision and recall over the words that both have, each as often as in both (Rajpurkar et al. 2016,
    section 6.1): lower case, without ASCII punctuation and articles. Two empty ones agree."""
    ours, theirs = normalised(answer, "squad").split(), normalised(right, "squad").split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs))  # = 2pr/(p+r) with p = shared/ours, r = shared/theirs


def pass_at(k: int, samples: int, right: int) -> float:
    """The chance that at least one of `k` answers drawn without replacement out of `samples` is among the `right` ones:
    1 - C(n-c, k) / C(n, k), as a product (Chen et al. 2021, equation 1), an unbiased estimate of pass@k."""
    if samples - right < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(samples - right + 1, samples + 1))
