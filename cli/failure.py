"""From an exception to one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import suppress

import click

from lehr.runtime.errors import Bug, Interrupted, LehrError, UserError, from_os_error, sentence
from lehr.runtime.redaction import masked
from lehr.runtime.text import visible

INTERRUPTED = Interrupted.exit_code
# Which extra of Lehr's brings a module that is imported where it is needed.
EXTRAS = {
    "mlflow": "track",
    "sqlalchemy": "track",
    "alembic": "track",
    "transformers": "export",
    "gguf": "export",
    "pyarrow": "parquet",
    "fastwarc": "web",
    "resiliparse": "web",
}
EXTRAS |= dict.fromkeys(("kubernetes", "urllib3", "boto3", "botocore", "s3transfer", "flytekitplugins"), "cluster")
EXTRAS |= dict.fromkeys(("math_verify", "regex", "jsonschema", "referencing"), "rl")
EXTRAS |= dict.fromkeys(("flytekit", "flyteidl", "grpc"), "flyte") | {"grafana_foundation_sdk": "dev"}


def report_failure(error: BaseException) -> int:
    """Print what a user needs to know about `error`; return the exit code. LEHR_DEBUG=1 adds the traceback."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if os.environ.get("LEHR_DEBUG") == "1":
        _say("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        with suppress(OSError):
            error.show()
        return error.exit_code
    if isinstance(error, click.ClickException):
        return _report_click(error)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        _say("interrupted; give the same command again to continue")
        return INTERRUPTED
    known = owned_error(error)
    if known is not None and not isinstance(known, Bug):
        label = "" if isinstance(known, Interrupted) else "error: "
        for line in (known, *(known.more if isinstance(known, UserError) else ())):
            _say(f"{label}{one_line(str(line))}")
        return known.exit_code
    what = one_line(str(known)) if known is not None else f"{type(error).__name__}: {one_line(str(error))}"
    _say(f"error: {what} ({_keep_traceback(error)})")
    return Bug.exit_code


def _say(text: str) -> None:
    """On stderr, if anybody is there to read it. A reader that is gone changes no exit code; what the interpreter would still
    flush at its end then goes nowhere."""
    try:
        print(masked(text), file=sys.stderr, flush=True)
    except (OSError, ValueError):  # a broken pipe, a full disk behind a redirection; a closed stream
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _report_click(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    hint = f" See '{context.command_path} --help'." if context is not None else ""
    _say(f"error: {sentence(one_line(error.format_message()))}{hint}")
    return error.exit_code


def owned_error(error: BaseException) -> LehrError | None:
    """The LehrError in `error` or under it, or one made of an operating system error or a package that is not installed; None
    for anything else."""
    chain = list(_unwrap(error))
    for inner in chain:
        if isinstance(inner, LehrError):
            return inner
    for inner in chain:
        if isinstance(inner, OSError):
            return from_os_error(inner)
        if isinstance(inner, ModuleNotFoundError) and (module := (inner.name or "").split(".")[0]) in EXTRAS:
            remedy = f"install Lehr with its extra: pip install 'lehr[{EXTRAS[module]}]'"
            return UserError(f"the package {module} is not installed", remedy=remedy)
    return None


def _unwrap(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        inner = waiting.pop(0)
        if isinstance(inner, BaseException) and id(inner) not in seen:
            seen.add(id(inner))
            yield inner
            waiting += [inner.__cause__, *getattr(inner, "exceptions", ())]


def one_line(text: str) -> str:
    return visible(" ".join(text.split()))


def _keep_traceback(error: BaseException) -> str:
    """Write the full traceback to a file of its own and say where; where no file can be written, print it."""
    text = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile("w", prefix="lehr-", suffix=".traceback", delete=False, encoding="utf-8") as f:
            f.write(masked(text))
    except OSError:
        _say(text)
        return "traceback above"
    return f"this is a fault of Lehr's own; full traceback: {f.name}"
