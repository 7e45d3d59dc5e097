"""A byte-level BPE tokenizer on Hugging Face `tokenizers`: trained here, with every digit its own token, or an existing one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from lehr.artifacts.artifact import sha256_text, write_atomic
from lehr.config.tokenizer import Tokenizer as Config
from lehr.data.foreign import FILE, files_of, read
from lehr.data.special_tokens import APART, END_OF_TEXT, PAD, ROLES, SPECIALS, end_of_text, special_ids
from lehr.data.template_file import TEMPLATE, template_beside, template_in
from lehr.data.words import Words, pre_tokenizer
from lehr.runtime.errors import UserError

__all__ = ["FILE", "Tokenizer"]

_MOST_GROWN = 16  # special tokens that steps may have added to a tokenizer whose shards are still read


class Tokenizer:
    """Text to ids and back, exactly, for any Unicode text. In tokenizers trained here ids 0-4 are the special tokens, which no
    text can produce. An existing tokenizer has an end-of-text token, which replaces a missing pad token, and seldom tokens for
    the roles of a chat. One with NFC normalization, such as GPT-NeoX's, restores a text only up to that.

    `chat_template` is the Jinja template of its own, which travels with it beside `tokenizer.json`; empty: the house's
    (lehr.post.chat).
    """

    def __init__(self, backend: Backend, chat_template: str = "") -> None:
        """Raises UserError if `backend` has no end-of-text token."""
        self.chat_template = chat_template
        eos = end_of_text(backend)
        if eos is None:
            raise UserError(f"the tokenizer has none of {END_OF_TEXT}", remedy="use a tokenizer with an end-of-text token")
        specials = special_ids(backend)
        self.eos_id: int = eos
        self.pad_id: int = specials.get(PAD, eos)
        self.special_ids: Mapping[str, int] = specials
        self.special_names: tuple[str, ...] = tuple(specials)
        self._roles = {role: specials.get(name) for role, name in ROLES.items()}
        self._backend = backend
        backend.encode_special_tokens = True  # <|user|> in a user's text becomes tokens of its characters, not the role
        backend.no_truncation()
        backend.no_padding()

    @classmethod
    def given(cls, config: Config) -> Tokenizer:
        """The tokenizer that `config.path` names: `tokenizer.json`, a folder that holds one, or a file of tiktoken ranks.

        Raises UserError as `lehr.data.foreign.read` does, and if its size differs from `config.vocab_size`, if that is set.
        """
        found = cls(read(config), "" if config.is_ranks else template_beside(files_of(config.path)[0]))
        if config.vocab_size not in (0, found.vocab_size):
            what = f"tokenizer.vocab_size={config.vocab_size}, but it has {found.vocab_size}"
            raise UserError(what, where=config.path, remedy="leave tokenizer.vocab_size out")
        return found

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Learn merges until `vocab_size` entries, special tokens and the 256 bytes included. Equal texts give equal
        results."""
        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizer()
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIALS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        return cls(backend)

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """From `tokenizer.json` in `folder`, with its chat template if there is one. Raises UserError if it is missing,
        damaged, or lacks our special tokens."""
        path = Path(folder) / FILE
        try:
            backend = Backend.from_str(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError("no tokenizer here", where=path, remedy="give the folder of a tokenizer or checkpoint") from None
        except Exception as error:  # noqa: BLE001 (the library raises bare Exceptions on bad files)
            raise UserError(f"not a tokenizer file ({error})", where=path, remedy="build the tokenizer again") from None
        try:
            return cls(backend, template_in(path.parent))
        except UserError as error:
            raise UserError(error.what, where=error.where or path, remedy=error.remedy) from None

    def with_template(self, chat_template: str, markers: Sequence[str] = ()) -> Tokenizer:
        """This tokenizer with another chat template and, after all its ids, those of the special tokens `markers` that it
        lacks. Old ids and the ids of every text stay what they are. Raises UserError for a marker that is an ordinary token."""
        backend = Backend.from_str(self._text)
        for name in [name for name in markers if name not in self.special_ids]:
            if backend.token_to_id(name) is not None:
                remedy = "choose another chat template"
                raise UserError(f"the tokenizer has an ordinary token {name!r}, which texts can produce", remedy=remedy)
            backend.add_special_tokens([AddedToken(name, **{key: on for key, on in APART.items() if key != "special"})])
        return Tokenizer(backend, chat_template)

    def reads(self, hash_: str) -> bool:
        """Whether ids made with the tokenizer of this hash mean the same here: it is this one, or this one without the last
        special tokens, which no text can produce."""
        if hash_ == self.hash:
            return True
        spec = json.loads(self._text)
        vocab, added = spec["model"]["vocab"], spec["added_tokens"]
        ordinary = set(vocab) if isinstance(vocab, dict) else {row[0] for row in vocab}
        for _ in range(_MOST_GROWN):
            last = max(added, key=lambda token: int(token["id"]), default=None)
            if last is None or not last["special"] or last["content"] in ordinary or last["id"] in (self.eos_id, self.pad_id):
                return False
            added.remove(last)
            if Tokenizer(Backend.from_str(json.dumps(spec, ensure_ascii=False))).hash == hash_:
                return True
        return False

    @property
    def template_tokens(self) -> Mapping[str, str]:
        """The tokens that a chat template can name: those of every export."""
        return {"eos_token": self.token(self.eos_id), "pad_token": self.token(self.pad_id)}

    def token(self, token_id: int) -> str:
        """The entry of the vocabulary with that id."""
        return str(self._backend.id_to_token(token_id))

    def role_id(self, role: str) -> int | None:
        """The special token that begins a message of `role` (system, user, assistant), or None."""
        return self._roles[role]

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json`, and `chat_template.jinja` if it has a template of its own."""
        write_atomic(Path(folder) / FILE, self._text)
        if self.chat_template:
            write_atomic(Path(folder) / TEMPLATE, self.chat_template)

    @cached_property
    def _text(self) -> str:
        text: str = self._backend.to_str(pretty=False)
        return text

    @cached_property
    def hash(self) -> str:
        """Hex SHA-256 of the tokenizer file, recorded in every shard and checkpoint made with it."""
        return sha256_text(self._text)

    @cached_property
    def vocab_size(self) -> int:
        """The highest id plus one: the number of embedding rows that a model needs."""
        return 1 + max(self._backend.get_vocab(with_added_tokens=True).values())

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, never special ones."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    @property
    def dtype(self) -> np.dtype:
        """The smaller of little-endian uint16 and uint32 that holds every id."""
        return np.dtype("<u2") if self.vocab_size <= 1 << 16 else np.dtype("<u4")

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode` of each text, as arrays of `dtype`."""
        if self._words is not None:
            return self._words.encode(texts)
        found = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        dtype = self.dtype
        return [np.array(e.ids, dtype) for e in found]

    @cached_property
    def _words(self) -> Words | None:
        return Words(self._backend, self.dtype) if Words.serve(self._backend) else None

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text; bytes that are not UTF-8 (a model can produce them) become replacement characters."""
        text: str = self._backend.decode(list(ids), skip_special_tokens=skip_special)
        return text
