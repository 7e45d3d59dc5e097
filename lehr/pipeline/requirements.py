"""Checks of a new artifact for the stages after it, so that a shortage is reported before those stages begin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

from lehr.artifacts.artifact import Artifact
from lehr.config.names import is_address
from lehr.config.sources import FilesSource
from lehr.data.mix import counted
from lehr.data.synthetic.conversations import ChatExample
from lehr.data.tokenizer import Tokenizer
from lehr.evals.budget import too_long
from lehr.evals.corpus import family, rows_of
from lehr.evals.held_out import unscored
from lehr.evals.scores import EvaluateConfig
from lehr.evals.suites import NEEDS_CORPUS, NEEDS_PAIRS, examples
from lehr.pipeline.merge_templates import check_templates
from lehr.pipeline.node import Node
from lehr.post.asked import SPLITS, pair_prompts, pairs_seed, prompt_ids, refuse_long, roll_out_prompts
from lehr.post.rewards.agreement import check_reads
from lehr.post.sets.asked_prompts import generated
from lehr.post.template_tokens import with_template
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_object
from lehr.stages.best_of_n import BestOfNConfig, wish
from lehr.stages.brain import BrainConfig
from lehr.stages.documents import DocumentsConfig
from lehr.stages.grpo import GrpoConfig
from lehr.stages.merge import SearchedMergeConfig
from lehr.stages.midtrain import MidtrainConfig
from lehr.stages.ppo import PpoConfig
from lehr.stages.preferences import PreferencesConfig
from lehr.stages.pretrain import PretrainConfig
from lehr.stages.sft import SftConfig
from lehr.train.batches import Batches

Note = Callable[[str], None]
_REWARDS = ("rewards", "weak", "value")  # roles of checkpoints that judge a model's answers
CHECKED = ("documents", "tokenizer", "shards")  # kinds of stages whose artifacts are checked
_PROMPTS = 20_000  # of each step, checked beforehand, which takes seconds; the step itself checks all


def check_made(node: Node, folder: Path, nodes: Sequence[Node], context: int, note: Note) -> None:
    """Check the artifact of `node` in `folder`: documents must have the splits that `nodes` score; with a tokenizer, prompts
    and answers must fit the model's `context`; shards must have enough tokens for every mix, the last anneal's included. Raises
    UserError; problems that only affect a score are a `note`."""
    if node.kind == "documents" and isinstance(node.config, DocumentsConfig):
        _check_splits(node.config, folder, nodes)
    if node.kind == "tokenizer":
        plain = Tokenizer.load(folder)
        tokenizer = _taught(plain, nodes)
        check_templates(nodes, plain, tokenizer)
        for other in nodes:
            _check_prompts(other, tokenizer, context)
        _note_shortened(nodes, tokenizer, context, note)
    if node.kind == "shards":
        tokens = Artifact.open(folder, verify=False).manifest.meta["tokens"]
        for other in nodes:
            _check_mix(other, tokens, {n.name: n for n in nodes})


def check_rewards(folder: Path, nodes: Sequence[Node], fetch: Callable[[str], Path]) -> None:
    """With the tokenizer in `folder`: the rewards of other runs, named by their addresses, read the same tokens as this one's
    models. Those of the same run do. Raises UserError."""
    taught = _taught(Tokenizer.load(folder), nodes)
    for node in nodes:
        for address in (name for role in _REWARDS for name in node.inputs.get(role, ()) if is_address(name)):
            check_reads(address, fetch(address), taught, node.name)


def _taught(tokenizer: Tokenizer, nodes: Sequence[Node]) -> Tokenizer:
    """The tokenizer with the chat template that a step of SFT gives it."""
    chosen = next((node.config.template for node in nodes if isinstance(node.config, SftConfig) and node.config.template), "")
    return with_template(tokenizer, chosen) if chosen else tokenizer


def _check_mix(node: Node, tokens: Mapping[str, int], nodes: Mapping[str, Node]) -> None:
    """Mid-training has the batch size and windows of the pretraining before it. If that belongs to another run they are not
    known here, and the stage itself checks them."""
    first = node
    while isinstance(first.config, MidtrainConfig):
        parent = nodes.get(first.inputs["parent"][0])
        if parent is None:
            return
        first = parent
    c, of = node.config, first.config
    if not isinstance(c, PretrainConfig | MidtrainConfig) or not isinstance(of, PretrainConfig):
        return
    ramp = of.batch_ramp if node is first else None
    instances = Batches.of(c.tokens, of.batch_size, of.sequence_length, ramp).all_instances
    try:
        counted(c.mix, tokens, instances, of.sequence_length)
    except UserError as error:
        raise UserError(error.what, where=node.name, remedy=error.remedy) from None


def _check_splits(config: DocumentsConfig, folder: Path, nodes: Sequence[Node]) -> None:
    funnel = read_object(folder / "funnel.json", "delete the artifact and run the same command again")
    shares = {"dev": config.data.dev_share, "held_out": config.data.held_out_share}
    for split, user in wanted(nodes):
        if not any(row[split] for row in funnel.values()):
            why = _why_empty(config, folder, split, shares[split])
            what = f"no documents are held back for {split}, which {user} reads: {why}"
            raise UserError(
                what,
                remedy="give each document an id of its own, or none; add documents; raise the share; or score no running text",
            )
    for plan, seed in {p.task: (p, c.seed) for c in _evaluated(nodes) for p in c.tasks if p.task in NEEDS_CORPUS}.values():
        for split in plan.splits:
            examples(plan.task, split, plan.limit, seed, folder)  # raises UserError if there are too few


def wanted(nodes: Sequence[Node]) -> Iterator[tuple[str, str]]:
    """Splits of the documents that are read, each with its reader's name."""
    for config in _evaluated(nodes):
        for plan in config.tasks:
            if plan.task in NEEDS_CORPUS:
                yield from ((split, f"the task {plan.task}") for split in plan.splits)
    for node in nodes:
        if isinstance(node.config, SearchedMergeConfig) and node.config.search.task in NEEDS_CORPUS:
            yield "dev", f"the search of {node.name}"
    if any(getattr(node.config, "in_loop_steps", 0) for node in nodes):
        yield "dev", "evaluation.in_loop_steps"


def _evaluated(nodes: Sequence[Node]) -> list[EvaluateConfig]:
    return [node.config for node in nodes if isinstance(node.config, EvaluateConfig)]


def _why_empty(config: DocumentsConfig, folder: Path, split: str, share: float) -> str:
    names = [name for name, source in config.data.sources.items() if isinstance(source, FilesSource)]
    if not names:
        return "generated texts are never held back, and there is no other source"
    files = [folder / "documents" / f"{name}.jsonl.gz" for name in names]
    texts = [family(row) for path in [*files, folder / "dev.jsonl.gz", folder / "held_out.jsonl.gz"] for row in rows_of(path)]
    if len(set(texts)) == 1:
        return f"all {len(texts)} texts are of one document, {texts[0]!r}, and the chunks of one id are in one split"
    return f"none of {len(set(texts))} documents fell into data.{split}_share={share:g}"


def _check_prompts(node: Node, tokenizer: Tokenizer, context: int) -> None:
    c = node.config
    asked: Iterable[ChatExample]
    if isinstance(c, GrpoConfig | PpoConfig | BrainConfig):
        key, room, asked = f"posttraining.{node.name}", c.max_new_tokens, roll_out_prompts(c)
    elif isinstance(c, BestOfNConfig):
        key, room, asked = f"posttraining.{node.name.removesuffix('-rows')}", c.max_new_tokens, generated(wish(c))
    elif isinstance(c, PreferencesConfig):
        key, room = f"the pairs of {node.name}", c.pairs.max_new_tokens
        asked = chain.from_iterable(pair_prompts(c.pairs, split, pairs_seed(c.seed, c.stream, split)) for split in SPLITS)
    else:
        return
    refuse_long(key, (prompt_ids(example, tokenizer) for example in islice(asked, _PROMPTS)), context, room)


def _note_shortened(nodes: Sequence[Node], tokenizer: Tokenizer, context: int, note: Note) -> None:
    seen = set[str]()
    for c in _evaluated(nodes):
        for plan in c.tasks:
            if plan.task in seen or plan.task in NEEDS_CORPUS | NEEDS_PAIRS:
                continue
            seen.add(plan.task)
            found = unscored(examples(plan.task, plan.splits[0], plan.limit, c.seed, given=c.about), "lengths")
            if cut := too_long(found, tokenizer, context - c.max_new_tokens):
                room = f"the context of {context} less evaluation.max_new_tokens={c.max_new_tokens}"
                note(f"{plan.task}: {cut} of {len(found)} prompts lose their beginning, since they are longer than {room}")
