"""Reading and writing safetensors files; a damaged file raises UserError, a full disk OSError."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lehr.runtime.errors import Bug, UserError
from lehr.runtime.json_files import refuse_pointer

_NAMES = {torch.float32: "F32", torch.int64: "I64"}


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write `tensors`, each cloned if it is a view. Raises OSError if the disk refuses."""
    write_tensors({name: t.detach().clone().contiguous() for name, t in tensors.items()}, path)


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write `tensors`, which share no memory, to a file with the mode of any other new file, because safetensors makes its own
    readable by the owner only. Raises OSError if the disk refuses, which safetensors wraps in its own error."""
    new = not path.exists()
    path.touch()  # creates it with the umask applied; reading the umask itself would mean changing it for the whole process
    mode = path.stat().st_mode & 0o777
    try:
        save_file(tensors, path, metadata)
        path.chmod(mode)
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if new:
            path.unlink(missing_ok=True)
        if found is None:
            raise
        raise OSError(int(found[1]), str(error), str(path)) from error


def stream_tensors(path: Path, layout: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], parts: Iterable[Tensor]) -> None:
    """Write a file of the tensors in `layout`, in its order; `parts` are their elements in row-major order, in any number of
    chunks, of which one at a time is in memory. Raises Bug if they are more or fewer elements than the layout has."""
    header, end = {}, 0
    for name, (dtype, shape) in layout.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the format pads its header with spaces so that tensors start at a multiple of 8
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for part in parts:
            file.write(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        if file.tell() != 8 + len(text) + end:
            raise Bug(f"{path}: {file.tell() - 8 - len(text)} bytes were written for tensors of {end} bytes")


_REPEAT = "delete the artifact and run again"


def read_tensors(path: Path, remedy: str = _REPEAT) -> dict[str, Tensor]:
    """The tensors of a file. Raises UserError with `remedy` if it is missing, damaged, or a Git LFS pointer."""
    refuse_pointer(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read these tensors ({error})", where=path, remedy=remedy) from None


def read_shapes(path: Path, remedy: str = _REPEAT) -> dict[str, tuple[int, ...]]:
    """The shapes of a file's tensors, without reading the tensors. Raises UserError as `read_tensors` does; that the file has
    the length that its header claims is checked here too."""
    refuse_pointer(path)
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read these tensors ({error})", where=path, remedy=remedy) from None
