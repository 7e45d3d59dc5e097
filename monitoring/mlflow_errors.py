"""What an error of MLflow's means for the record that was being sent: wait, or go on without it."""

from __future__ import annotations

import shutil

# Codes of an answer about this record, which no repetition can change.
_NEVER = frozenset({"INVALID_PARAMETER_VALUE", "MALFORMED_REQUEST"})
# Those of an older server, or for a user with few rights: the run is recorded there without these parts.
LACKS = frozenset({"ENDPOINT_NOT_FOUND", "FEATURE_DISABLED", "NOT_IMPLEMENTED", "PERMISSION_DENIED", "RESOURCE_DOES_NOT_EXIST"})
EXISTS = frozenset({"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"})


class Gone(Exception):
    """Somebody deleted the run to which a record belongs."""

    error_code = "INVALID_PARAMETER_VALUE"


def code_of(error: BaseException) -> str:
    """MLflow's code of the error, or empty."""
    return str(getattr(error, "error_code", ""))


def refused(error: Exception, extra: bool = False) -> bool:
    """Whether sending the same again cannot help. `extra`: the record of a run is complete without this part, so that it is
    left out on errors of ours and of this machine's disk too."""
    code = code_of(error)
    if not extra:
        return code in _NEVER
    local = isinstance(error, shutil.Error) or (isinstance(error, OSError) and error.filename is not None)
    return code in _NEVER | LACKS or local or isinstance(error, LookupError | TypeError | ValueError | AttributeError)


def brief(error: BaseException) -> str:
    """The error's type and first line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
