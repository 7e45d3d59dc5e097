"""A byte-level BPE tokenizer on Hugging Face `tokenizers`: trained here, with every digit its own token, or an existing one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from lehr.artifacts.artifact import sha256_text, write_atomic
from lehr.config.data import Tokenizer as Config
from lehr.data.foreign import FILE, read
from lehr.data.special_tokens import END_OF_TEXT, PAD, ROLES, SPECIALS, end_of_text, special_ids
from lehr.data.words import Words, pre_tokenizer
from lehr.runtime.errors import UserError

__all__ = ["FILE", "Tokenizer"]


class Tokenizer:
    """Text to ids and back, exactly, for any Unicode text. In tokenizers trained here ids 0-4 are the special tokens, which no
    text can produce. An existing tokenizer has an end-of-text token, which replaces a missing pad token, and seldom tokens for
    the roles of a chat. One with NFC normalization, such as GPT-NeoX's, restores a text only up to that.
    """

    def __init__(self, backend: Backend) -> None:
        """Raises UserError if `backend` has no end-of-text token."""
        eos = end_of_text(backend)
        if eos is None:
            raise UserError(f"the tokenizer has none of {END_OF_TEXT}", remedy="use a tokenizer with an end-of-text token")
        specials = special_ids(backend)
        self.eos_id: int = eos
        self.pad_id: int = specials.get(PAD, eos)
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
        found = cls(read(config))
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
        """From `tokenizer.json` in `folder`. Raises UserError if it is missing, damaged, or lacks our special tokens."""
        path = Path(folder) / FILE
        try:
            backend = Backend.from_str(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError("no tokenizer here", where=path, remedy="give the folder of a tokenizer or checkpoint") from None
        except Exception as error:  # noqa: BLE001 (the library raises bare Exceptions on bad files)
            raise UserError(f"not a tokenizer file ({error})", where=path, remedy="build the tokenizer again") from None
        try:
            return cls(backend)
        except UserError as error:
            raise UserError(error.what, where=path, remedy=error.remedy) from None

    def token(self, token_id: int) -> str:
        """The entry of the vocabulary with that id."""
        return str(self._backend.id_to_token(token_id))

    def role_id(self, role: str) -> int | None:
        """The special token that begins a message of `role` (system, user, assistant), or None."""
        return self._roles[role]

    def save(self, folder: str | Path) -> None:
        write_atomic(Path(folder) / FILE, self._text)

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
