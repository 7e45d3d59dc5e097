"""Every number that training logs or scoring reports, declared once: its title, its unit, which direction is better.

Objectives, recorder and evaluation emit names; report, score tables, live display and exporter look up here what they mean. A
name has one meaning, in training logs and scores alike. A module that emits numbers of its own declares them beside the code
that computes them; nothing else needs a change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from lehr.runtime.errors import Bug
from lehr.runtime.text import visible

SHARE = "share"  # the unit of a number in [0, 1], displayed in per cent
DEV = "dev_"  # prefix of a score measured during training, on development data
LOWER_MARK = "↓"


@dataclass(frozen=True)
class Metric:
    """How a number is shown to people.

    `title` names it without the unit; `short` is used where there is little space. `unit` is written as in "nats/token",
    "bits/byte", "tokens/s", "s", "bytes"; "share" is a number in [0, 1]. `format` is Python's format of the value (of a share:
    of its percentage), by default three significant digits. `live`: the terminal shows it during training. `baseline_of` is the
    metric with which this one, a simpler model's score on the same texts, is compared; both are recorded under the model's
    name. `panel`: the report draws it over the steps, with a logarithmic `axis` or one that begins at 0. `order` sorts metrics,
    lower first; equal ones keep the order of declaration.
    """

    name: str
    title: str
    unit: str = ""
    better: Literal["lower", "higher", ""] = ""
    format: str = ""
    short: str = ""
    live: bool = True
    panel: bool = True
    axis: Literal["", "log", "zero"] = ""
    order: int = 0
    baseline_of: str = ""

    @property
    def is_share(self) -> bool:
        """Whether it is displayed in per cent."""
        return self.unit == SHARE

    @property
    def shown_unit(self) -> str:
        """The unit as displayed after a value: `%` for a share."""
        return "%" if self.is_share else self.unit

    @property
    def heading(self) -> str:
        """`exact match, %`, `bits per byte ↓`: the title, the unit unless it is in the title, an arrow if lower is better."""
        unit = self.shown_unit.replace("/", " per ")
        named = self.title if not unit or unit in self.title else f"{self.title}, {unit}"
        return named + self.mark

    @property
    def brief(self) -> str:
        """The heading for narrow columns, with the short title."""
        return replace(self, title=self.short or self.title).heading

    @property
    def label(self) -> str:
        """The text before a value in a line: `short` as it is, or the title with its arrow."""
        return self.short or self.title + self.mark

    @property
    def mark(self) -> str:
        """An arrow, after a non-breaking space, if lower is better."""
        return f"\N{NO-BREAK SPACE}{LOWER_MARK}" if self.better == "lower" else ""


_DECLARED: dict[str, Metric] = {}


def declare(metric: Metric) -> Metric:
    """Register `metric` and return it. Raises Bug if its name already has another meaning."""
    known = _DECLARED.setdefault(metric.name, metric)
    if known != metric:
        raise Bug(f"the metric {metric.name} is declared twice, as {known} and as {metric}: give one of them another name")
    return metric


def find(name: str) -> Metric | None:
    """The declaration of `name`, or None. `dev_X` is X measured during training, `X@PART` is X of one part of the data."""
    whole, at, part = name.partition("@")
    if at and (of := find(whole)) is not None:
        title = name if of.title == f"{whole}@k" else f"{of.title}, {' '.join(visible(part).split())}"
        return replace(of, name=name, title=title, short="", live=False, panel=False)
    known = _DECLARED.get(name)
    base = _DECLARED.get(name.removeprefix(DEV)) if known is None and name.startswith(DEV) else None
    if base is None:
        return known
    compared = DEV + base.baseline_of if base.baseline_of else ""
    return replace(base, name=name, title=f"dev {base.title}", short="", live=False, baseline_of=compared)


def metric(name: str) -> Metric:
    """The declaration of `name`; for an undeclared name one made from its words, without unit or better direction."""
    return find(name) or Metric(name, name.replace("_", " "), format=".3f", live=False)


def require(names: Iterable[str]) -> None:
    """Raise Bug if one of `names` is not declared. Called where numbers originate, so that none is shown without its
    meaning."""
    unknown = sorted({name for name in names if find(name) is None})
    if unknown:
        raise Bug(f"undeclared metrics: {', '.join(unknown)}; lehr.runtime.metrics.declare each where it is computed")


def ordered(names: Iterable[str]) -> list[Metric]:
    """The declarations of `names`, each once, in display order; undeclared ones last, by name."""
    places = {name: place for place, name in enumerate(_DECLARED)}

    def key(m: Metric) -> tuple[int, int, str]:
        return m.order, places.get(m.name, places.get(m.name.removeprefix(DEV), len(places))), m.name

    return sorted((metric(name) for name in set(names)), key=key)


def declared() -> list[Metric]:
    """Every declaration, in display order."""
    return ordered(_DECLARED)


def _logged(name: str, title: str, unit: str = "", better: Literal["lower", "higher", ""] = "", format: str = "") -> Metric:
    """A number about the run rather than the model: for the log and MLflow only."""
    return Metric(name, title, unit, better, format, live=False, panel=False)


def _baseline(name: str, title: str, short: str) -> Metric:
    return Metric(
        f"bits_per_byte_{name}", f"{title} on the same tokens, bits per byte", "bits/byte", "lower", ".3f", short, live=False,
        panel=False, baseline_of="bits_per_byte",
    )  # fmt: skip


_GRAMS = {2: "token bigram", 3: "token trigram", **{n: f"token {n}-gram" for n in (4, 5, 6)}}
NGRAMS = {n: _baseline(f"{n}gram", words, f"{n}-gram") for n, words in _GRAMS.items()}
COMPRESSOR = _baseline("xz", "xz", "xz")

BUILT_IN = (
    # Reported by objectives at every step.
    Metric("loss", "loss", better="lower", short="loss"),
    Metric("reward", "mean reward", better="higher", short="reward"),
    Metric("kl", "KL from reference", "nats/token", short="KL"),
    # DPO's: how much more a chosen answer gained over the reference model than the rejected one. A score knows no reference.
    Metric("margin_over_reference", "gain on the reference, chosen − rejected", "nats/token", "higher", ".3f", short="margin"),
    Metric("logprob_margin", "log-probability, chosen − rejected", "nats/token", "higher", ".3f", short="log-probability"),
    Metric("preference_accuracy", "preference accuracy", SHARE, "higher"),
    Metric("chat_loss", "loss on answers", "nats/token", "lower", short="chat loss"),
    _logged("cross_entropy", "cross entropy", "nats/token", "lower"),  # the loss without its regularisers
    Metric("response_tokens", "length of an answer", "tokens", live=False),
    Metric("answer_kl", "KL from reference, of an answer", "nats", live=False),
    Metric("kl_coefficient", "coefficient of the KL", live=False),
    Metric("value_loss", "loss of the value model", better="lower", live=False),
    Metric("explained_variance", "returns' variance that values explain", better="higher", live=False),
    Metric("posterior_kl", "KL of the policy from the posterior, on samples", "nats", "lower", live=False),
    Metric("posterior_samples", "effective samples of the posterior", "samples", live=False),
    Metric("policy_samples", "effective samples of the policy", "samples", live=False),
    Metric("clipped", "tokens held by the clip", SHARE, live=False),
    Metric("unfinished", "answers without an end", SHARE, "lower", live=False),
    Metric("sampler_difference", "log-probability, sampler against trainer", "nats/token", "lower", ".2e", live=False),
    Metric("masked_instances", "masked instances", live=False),
    Metric("least_load", "least load of an expert", better="higher", live=False),  # 1 is balanced, 0 an expert without tokens
    # Scores.
    Metric("bits_per_byte", "bits per byte", "bits/byte", "lower", ".3f"),
    Metric("bits_per_byte_over_sources", "bits per byte, mean over sources", "bits/byte", "lower", ".3f"),
    Metric("bits_per_byte_over_domains", "bits per byte, mean over domains", "bits/byte", "lower", ".3f"),
    Metric("perplexity", "perplexity per token", "", "lower", ".2f"),
    Metric("perplexity_over_sources", "perplexity, mean over sources", "", "lower", ".2f"),
    Metric("perplexity_over_domains", "perplexity, mean over domains", "", "lower", ".2f"),
    *NGRAMS.values(),
    COMPRESSOR,
    Metric("accuracy", "accuracy", SHARE, "higher"),
    Metric("acc", "accuracy", SHARE, "higher"),
    Metric("acc_per_char", "accuracy per character", SHARE, "higher"),
    Metric("acc_per_byte", "accuracy per byte", SHARE, "higher"),
    Metric("acc_per_token", "accuracy per token", SHARE, "higher"),
    Metric("acc_pmi", "accuracy by mutual information", SHARE, "higher"),
    Metric("greedy_match", "right answers by greedy decoding", SHARE, "higher"),
    Metric("answer_nats", "negative log-probability of the answer", "nats", "lower", ".3f"),
    Metric("answer_bits_per_byte", "bits per byte of the answer", "bits/byte", "lower", ".3f"),
    Metric("exact_match", "exact match", SHARE, "higher"),
    Metric("f1", "F1", SHARE, "higher"),
    *(
        Metric(check, title, SHARE, "higher")
        for check, title in {
            "last_number": "last number", "last_integer": "last integer", "math_equal": "equal expression",
            "mentions": "mentions", "regex": "pattern found", "instructions": "instructions followed",
            "code_tests": "tests passed", "json_schema": "JSON by its schema", "json_object": "JSON object",
            "tool_call": "tool call",
        }.items()
    ),
    Metric("pass", "pass@k", SHARE, "higher"),  # emitted as pass@1, pass@10
    # By a model: their records say which (scored_by).
    Metric("judge_rating", "a judge's rating", SHARE, "higher"),  # between the worst and the best of its scale
    Metric("judge_win_rate", "wins by a judge", SHARE, "higher"),  # a tie is half a win
    Metric("judge_unreadable", "unreadable replies of a judge", SHARE, "lower"),
    Metric("classified_under", "answers below a classifier's threshold", SHARE, "higher"),
    Metric("classified_probability", "a classifier's probability", SHARE, "lower"),
    Metric("classified_max", "a classifier's highest probability of a prompt's answers", SHARE, "lower"),
    Metric("strict", "strict", SHARE, "higher"),
    Metric("asked_format", "asked format", SHARE, "higher"),
    Metric("right", "right answers", SHARE, "higher"),
    Metric("sampled_accuracy", "sampled accuracy", SHARE, "higher"),
    Metric("sampled_exact_match", "sampled exact match", SHARE, "higher"),
    # Added by the recorder to every step, and norms at an interval.
    Metric("embedding_norm", "embedding norm", live=False),
    Metric("grad_norm", "gradient norm before clipping", short="grad norm", axis="log", order=1),
    Metric("learning_rate", "learning rate", live=False, axis="zero", order=1),
    Metric("tokens_per_second", "speed", "tokens/s", "higher", ",.0f", short="tokens/s", panel=False, order=2),
    *(
        _logged(f"grad_norm_{of}", f"gradient norm of {words}")
        for of, words in {
            "embedding": "the embedding", "attention": "attention", "mlp": "the MLP", "norms": "norms", "head": "the head",
        }.items()
    ),
    _logged("step", "step", format=",.0f"),
    _logged("tokens", "tokens", "tokens", format=",.0f"),
    _logged("seconds", "time of a step", "s", "lower"),
    _logged("step_seconds", "time of a step", "s", "lower"),
    _logged("data_seconds", "wait for a step's batch", "s", "lower"),
    *(
        _logged(f"{part}_seconds", words, "s", "lower")
        for part, words in {
            "forward": "forward pass", "backward": "backward pass", "sampling": "sampling of answers",
            "communication": "sums over ranks", "optimizer": "clipping and update",
        }.items()
    ),
    _logged("straggler_ratio", "time of the slowest rank over the middle one's", better="lower", format=".2f"),
    _logged("slowest_rank", "slowest rank", format=",.0f"),
    _logged("guard_loss_limit", "loss above which the guard refuses an update"),
    _logged("guard_grad_norm_limit", "gradient norm above which the guard refuses an update"),
    _logged("rework", "step that was made before"),
    _logged("rolled_back", "went back to a save"),
    _logged("flops", "floating point operations of a step", "FLOP"),
    _logged("skipped", "update refused"),
    _logged("not_finite", "loss or gradient not finite"),
    _logged("checkpoint_seconds", "wait for a checkpoint", "s", "lower"),
    _logged("evaluation_seconds", "wait for an evaluation", "s", "lower"),
    _logged("copy_seconds", "wait for a copy in memory", "s", "lower"),
    _logged("checkpoint_bytes", "size of a checkpoint", "bytes", format=",.0f"),
    _logged("rolled_back_from", "step that a rollback came from", format=",.0f"),
    _logged("skip_first", "first batch that a rollback left out", format=",.0f"),
    _logged("skip_last", "last batch that a rollback left out", format=",.0f"),
    # About a whole stage.
    _logged("spike_score_loss_percent", "spike score of the loss", "%", "lower", ".2f"),
    _logged("spike_score_grad_norm_percent", "spike score of the gradient norm", "%", "lower", ".2f"),
)  # fmt: skip
for _metric in BUILT_IN:
    declare(_metric)
