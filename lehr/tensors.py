"""Reading and writing safetensors files, with the errors that a user can mend told apart from ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lehr.errors import UserError


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write `tensors`, each copied out if it is a view. Raises OSError where the disk refuses: safetensors wraps it."""
    try:
        save_file({name: t.detach().clone().contiguous() for name, t in tensors.items()}, path)
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), str(error), str(path)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file; a damaged or missing one raises UserError."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"cannot read these tensors ({error})", where=path, remedy="delete the artifact and run again"
        ) from None
