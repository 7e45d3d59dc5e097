"""Safetensors files of one layout, read side by side in blocks: memory does not grow with the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from lehr.runtime.errors import UserError
from lehr.runtime.json_files import object_in

BLOCK = 1 << 18  # elements of a tensor at once, of each file
_AGAIN = "make this checkpoint again"
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@dataclass(frozen=True)
class Place:
    """A tensor in a file: `begin` is the offset of its first byte, from the file's beginning."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * self.dtype.itemsize


class WeightFile:
    """An open safetensors file. `header` are its bytes before the tensors, which are listed in the file's order."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        """Raises UserError for a damaged or truncated file."""
        self.path, self._file = path, file
        try:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError("its header is longer than the file")
            raw = file.read(length)
            self.header = length.to_bytes(8, "little") + raw
            self.tensors = _places(object_in(raw, str(path), _AGAIN), len(self.header))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError) as error:
            raise UserError(f"not a whole safetensors file ({error})", where=path, remedy=_AGAIN) from None
        if len(self.header) + sum(place.bytes for place in self.tensors.values()) != size:
            raise UserError("truncated or grown", where=path, remedy=_AGAIN)

    def blocks(self, name: str) -> Iterator[Tensor]:
        """The elements of a tensor in row-major order, in fp32. Raises UserError if one is NaN or infinite, for a sum with it
        would be too."""
        place = self.tensors[name]
        for start in range(0, place.elements, BLOCK):
            size = place.dtype.itemsize
            self._file.seek(place.begin + start * size)
            raw = bytearray(self._file.read(min(BLOCK, place.elements - start) * size))
            numbers = torch.frombuffer(raw, dtype=place.dtype).to(torch.float32)
            if not bool(numbers.isfinite().all()):
                raise UserError("its weights hold NaN or infinity", where=self.path, remedy=_AGAIN)
            yield numbers


def _places(header: dict[str, Any], body: int) -> dict[str, Place]:
    """Raises ValueError, KeyError or TypeError for a header that does not describe adjacent tensors."""
    header.pop("__metadata__", None)
    found, end = dict[str, Place](), 0
    for name, said in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, after = said["data_offsets"]
        place = Place(_DTYPES[said["dtype"]], tuple(said["shape"]), body + begin)
        if begin != end or after - begin != place.bytes:
            raise ValueError(f"tensor {name!r} is not where its size puts it")
        found[name], end = place, after
    return found


@dataclass(frozen=True)
class NamedTensor:
    """One tensor of all files: of those that are merged, and of their ancestor where a method needs it."""

    name: str
    parents: Sequence[WeightFile]
    base: WeightFile | None

    @property
    def elements(self) -> int:
        return self.parents[0].tensors[self.name].elements

    def differences(self, number: int) -> Iterator[Tensor]:
        """Parent `number` less the ancestor, block by block."""
        assert self.base is not None
        pairs = zip(self.parents[number].blocks(self.name), self.base.blocks(self.name), strict=True)
        return (own - base for own, base in pairs)


# A block of the result from the number of its first element, the parents' blocks and the ancestor's (fp32; none: empty).
Combine = Callable[[int, Sequence[Tensor], Tensor], Tensor]
# How one tensor is merged; it may read the tensor as often as it likes before it answers.
Method = Callable[[NamedTensor], Combine]


def merge_files(paths: Sequence[Path], base: Path | None, out: Path, method: Method) -> None:
    """Write `out`: each tensor of the files at `paths`, merged by `method` in fp32 and cast once to its dtype. Files may hold
    their tensors in different orders; `out` has the first one's. Raises UserError for a damaged file, for weights that are not
    finite before or after, and if names, shapes or dtypes differ from the first file's."""
    with ExitStack() as stack:
        parents = [WeightFile(path, stack.enter_context(path.open("rb"))) for path in paths]
        ancestor = WeightFile(base, stack.enter_context(base.open("rb"))) if base else None
        _check_alike([*parents, *([ancestor] if ancestor else [])])
        target = stack.enter_context(out.open("wb"))
        target.write(parents[0].header)
        for name in parents[0].tensors:
            _write(target, NamedTensor(name, parents, ancestor), method)


def _check_alike(files: Sequence[WeightFile]) -> None:
    first = {name: (place.dtype, place.shape) for name, place in files[0].tensors.items()}
    for other in files[1:]:
        if {name: (place.dtype, place.shape) for name, place in other.tensors.items()} != first:
            what = f"its tensors are not the first one's, {files[0].path}"
            raise UserError(what, where=other.path, remedy="merge checkpoints of one architecture and dtype")


def _write(target: BinaryIO, tensor: NamedTensor, method: Method) -> None:
    dtype, start = tensor.parents[0].tensors[tensor.name].dtype, 0
    combine = method(tensor)
    ancestor = tensor.base.blocks(tensor.name) if tensor.base else None
    for group in zip(*(parent.blocks(tensor.name) for parent in tensor.parents), strict=True):
        merged = combine(start, group, next(ancestor) if ancestor else torch.empty(0)).to(dtype)
        if not bool(merged.isfinite().all()):
            kind = next(name for name, known in _DTYPES.items() if known == dtype)
            what = f"tensor {tensor.name!r}: the merged weights overflow {kind}"
            raise UserError(what, where=tensor.parents[0].path, remedy="lower the weights, the scale or the drop")
        target.write(merged.view(torch.uint8).numpy().tobytes())
        start += len(group[0])
