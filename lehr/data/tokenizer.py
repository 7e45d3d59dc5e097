"""A byte-level BPE tokenizer trained from scratch, on Hugging Face `tokenizers`; every digit is a token of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from lehr.artifact import sha256_text, write_atomic
from lehr.data.words import Words, pre_tokenizer
from lehr.errors import UserError

EOS, PAD, SYSTEM, USER, ASSISTANT = SPECIALS = ("<|endoftext|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>")
FILE = "tokenizer.json"


END_OF_TEXT = (EOS, "<|end_of_text|>", "</s>")  # names of the end of a text in tokenizers that others made


class Tokenizer:
    """Text to ids and back, exactly, for any Unicode text. In ours ids 0-4 are the specials, which no text can produce.

    A tokenizer of others (of an imported model) has an end of text, stands in with it for a missing pad token, and has
    no roles of a chat.
    """

    def __init__(self, backend: Backend) -> None:
        """Raises UserError if `backend` has no end of text."""
        found = {token: backend.token_to_id(token) for token in (*SPECIALS, *END_OF_TEXT)}
        eos = next((found[token] for token in END_OF_TEXT if found[token] is not None), None)
        if eos is None:
            raise UserError(f"the tokenizer has none of {END_OF_TEXT}", remedy="use a tokenizer with an end-of-text token")
        self.eos_id: int = eos
        pad = found[PAD]
        self.pad_id: int = eos if pad is None else pad
        self._roles = {role: found[token] for role, token in (("system", SYSTEM), ("user", USER), ("assistant", ASSISTANT))}
        self._backend = backend
        backend.encode_special_tokens = True  # a user who types <|user|> gets its characters, not its token

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Learn merges until `vocab_size` entries, specials and the 256 bytes included. Equal texts, equal result."""
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

    def role_id(self, role: str) -> int:
        """The token that begins a message of `role` (system, user, assistant). Raises UserError if there is none."""
        found = self._roles.get(role)
        if found is None:
            raise UserError(f"the tokenizer has no token for role {role!r}", remedy="take a model that Lehr taught to chat")
        return found

    @property
    def system_id(self) -> int:
        return self.role_id("system")

    @property
    def user_id(self) -> int:
        return self.role_id("user")

    @property
    def assistant_id(self) -> int:
        return self.role_id("assistant")

    def save(self, folder: str | Path) -> None:
        write_atomic(Path(folder) / FILE, self._text)

    @cached_property
    def _text(self) -> str:
        text: str = self._backend.to_str(pretty=False)
        return text

    @cached_property
    def hash(self) -> str:
        """Hex SHA-256 of the tokenizer file: written into every shard and checkpoint."""
        return sha256_text(self._text)

    @property
    def vocab_size(self) -> int:
        size: int = self._backend.get_vocab_size()
        return size

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, never a special one."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    @property
    def dtype(self) -> np.dtype:
        """The smallest little-endian integers of 16 or 32 bits that hold every id."""
        return np.dtype("<u2") if self.vocab_size <= 1 << 16 else np.dtype("<u4")

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode` of each, as arrays of `dtype`."""
        if self._words is not None:
            return self._words.encode(texts)
        found = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        dtype = self.dtype
        return [np.array(e.ids, dtype) for e in found]

    @cached_property
    def _words(self) -> Words | None:
        return Words(self._backend, self.dtype) if Words.serve(self._backend) else None

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text; bytes that are no UTF-8 (a model may produce them) come as replacement characters."""
        text: str = self._backend.decode(list(ids), skip_special_tokens=skip_special)
        return text
