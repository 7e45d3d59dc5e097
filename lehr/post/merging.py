"""Checkpoint soups: the plain mean of several anneals of one parent (OLMo 2 section 4.5; Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from lehr.artifacts.artifact import Artifact
from lehr.data.template_file import template_in
from lehr.runtime.errors import Bug, UserError
from lehr.runtime.json_files import object_in
from lehr.train.checkpointing.checkpoint import WEIGHTS, described


def check_ingredients(ingredients: Sequence[Artifact]) -> None:
    """Raises UserError unless all are checkpoints of one architecture, one tokenizer, one chat template and one parent.

    Weights of runs that branched before a skill was learned lie in different basins of the loss, and their mean may have the
    skills of none. Soups therefore require a common parent.
    """
    if len(ingredients) < 2:
        raise UserError(
            f"a soup needs at least two ingredients, not {len(ingredients)}", remedy="give more seeds in anneals.seeds"
        )
    first = ingredients[0]
    for other in ingredients[1:]:
        other.expect("checkpoint")
        ours, theirs = (described(a.folder) for a in (first, other))
        for key in ("architecture", "tokenizer"):
            if ours[key] != theirs[key]:
                raise UserError(
                    f"{key} differs from {first.folder.name}'s", where=other.folder, remedy="soup checkpoints of one run"
                )
        if template_in(first.folder) != template_in(other.folder):
            what = f"its chat template differs from {first.folder.name}'s"
            raise UserError(what, where=other.folder, remedy="soup checkpoints of one run")
        if [p.digest for p in first.manifest.parents] != [p.digest for p in other.manifest.parents]:
            raise UserError(
                f"it does not share its parents with {first.folder.name}",
                where=other.folder,
                remedy="soup anneals of one parent",
            )


def average(ingredients: Sequence[Artifact], out: Path) -> None:
    """Write the mean of the weights to the file `out`: summed in fp32 in the order given, then cast once to the weights' dtype.

    Files are read in blocks of 1 MiB, so memory does not grow with the model. Raises UserError for a damaged file, for weights
    that are not finite, and if names, shapes or dtypes differ from the first ingredient's.
    """
    paths = [a.path(WEIGHTS) for a in ingredients]
    layouts = [_layout(path) for path in paths]
    first = layouts[0]
    for path, layout in zip(paths, layouts, strict=True):
        if layout.tensors != first.tensors:
            raise UserError("its tensors are not the first ingredient's", where=path, remedy="soup checkpoints of one run")
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")) for path in paths]
        target = stack.enter_context(out.open("wb"))
        # The layouts are equal, so the first file's header is the result's header.
        target.write(files[0].read(first.body))
        for file, layout in zip(files, layouts, strict=True):
            file.seek(layout.body)
        for dtype, size in first.spans:
            for start in range(0, size, _BLOCK):
                target.write(_mean_of_blocks(files, paths, min(_BLOCK, size - start), dtype))


_AGAIN = "make this ingredient again"
_BLOCK = 1 << 20  # bytes of each file at once; a multiple of every dtype's size
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@dataclass(frozen=True)
class _Layout:
    """A safetensors file: the offset of its body, its tensors by name, and the (dtype, bytes) of each in file order."""

    body: int
    tensors: dict[str, tuple[str, list[int], list[int]]]
    spans: list[tuple[torch.dtype, int]]


def _layout(path: Path) -> _Layout:
    try:
        with path.open("rb") as f:
            length = int.from_bytes(f.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = object_in(f.read(length), str(path), _AGAIN)
        header.pop("__metadata__", None)
        tensors = {name: (t["dtype"], t["shape"], t["data_offsets"]) for name, t in header.items()}
        ordered = sorted(tensors.values(), key=lambda t: t[2])
        spans = [(_DTYPES[dtype], end - begin) for dtype, _, (begin, end) in ordered]
        whole = 8 + length + sum(size for _, size in spans) == path.stat().st_size
    except (OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise UserError(f"not a whole safetensors file ({error})", where=path, remedy=_AGAIN) from None
    if not whole:
        raise UserError("truncated or grown", where=path, remedy=_AGAIN)
    return _Layout(8 + length, tensors, spans)


def _mean_of_blocks(files: Sequence[BinaryIO], paths: Sequence[Path], size: int, dtype: torch.dtype) -> bytes:
    """The mean of the next `size` bytes of every file, as bytes. Raises UserError if a weight is NaN or infinite, since the
    soup would be too."""
    total: Tensor | None = None
    for file, path in zip(files, paths, strict=True):
        numbers = torch.frombuffer(bytearray(file.read(size)), dtype=dtype).to(torch.float32)
        if not bool(numbers.isfinite().all()):
            raise UserError("its weights hold NaN or infinity", where=path, remedy=_AGAIN)
        total = numbers.clone() if total is None else total.add_(numbers)
    if total is None:
        raise Bug("a soup of nothing")
    mean = total.div_(len(files)).to(dtype)
    return mean.view(torch.uint8).numpy().tobytes()
