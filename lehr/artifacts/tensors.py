"""Reading and writing safetensors files, with the errors that a user can mend told apart from ours."""

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
    """Write `tensors`, each copied out if it is a view. Raises OSError where the disk refuses."""
    write_tensors({name: t.detach().clone().contiguous() for name, t in tensors.items()}, path)


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write `tensors`, which share no memory, to a file that has the mode of any other new one: safetensors makes its own
    readable by its owner alone. Raises OSError where the disk refuses, which safetensors wraps."""
    new = not path.exists()
    path.touch()  # the system applies the umask here; to ask for it, it would have to be changed
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
    """Write a file of the tensors in `layout`, in its order; `parts` are their elements in row-major order, in as many pieces
    as one likes, of which one at a time is in memory. Raises Bug if they are more or fewer than the layout says."""
    header, end = {}, 0
    for name, (dtype, shape) in layout.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for part in parts:
            file.write(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        if file.tell() != 8 + len(text) + end:
            raise Bug(f"{path}: {file.tell() - 8 - len(text)} bytes were given for tensors of {end}")


_REPEAT = "delete the artifact and run again"


def read_tensors(path: Path, remedy: str = _REPEAT) -> dict[str, Tensor]:
    """The tensors of a file; a damaged or missing one, and a pointer in its place, raises UserError with `remedy`."""
    refuse_pointer(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read these tensors ({error})", where=path, remedy=remedy) from None


def read_shapes(path: Path, remedy: str = _REPEAT) -> dict[str, tuple[int, ...]]:
    """The shapes of a file's tensors, without the tensors. Raises UserError as `read_tensors`: that the file is as long as
    its header says is checked here too."""
    refuse_pointer(path)
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read these tensors ({error})", where=path, remedy=remedy) from None
