"""Errors carry their owner, who decides whether a retry can help and which exit code a user sees."""

from __future__ import annotations

import errno
import gzip
import re
from pathlib import Path

_WORD = re.compile(r"(?!lehr\b)[a-z]+[ ,:;]")


class LehrError(Exception):
    """Base of every error that Lehr raises on purpose. `owner` is who can fix it; `exit_code` is the command's."""

    owner = "bug"
    exit_code = 1


class UserError(LehrError):
    """Bad input. Never retried: the same input fails the same way.

    `what` is wrong, `where` it is (file, line, key), and `remedy` is what to do about it.
    """

    owner = "user"
    exit_code = 2

    def __init__(self, what: str, *, where: str | Path = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, str(where), remedy
        self.more: tuple[UserError, ...] = ()  # further mistakes in the same input, printed one per line
        super().__init__(what)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        mend = f" {sentence(self.remedy, begins=True)}" if self.remedy else ""
        return f"{place}{sentence(self.what)}{mend}"

    def __reduce__(self) -> tuple[object, ...]:
        # Exception's own pickling loses keyword-only arguments, and ranks send errors to each other.
        return (_rebuild_user_error, (self.what, self.where, self.remedy, self.more))


def sentence(text: str, *, begins: bool = False) -> str:
    """`text` with a full stop, unless it ends in punctuation. If it `begins` a further sentence, its first word gets a capital,
    unless that is a key, a path or a command."""
    if begins and _WORD.match(text):
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "?", "!", "?)")) else f"{text}."


def validators_words(message: str) -> str:
    """A message of pydantic's without the words that it puts before those of our own validators."""
    return message.removeprefix("Value error, ")


def _rebuild_user_error(what: str, where: str, remedy: str, more: tuple[UserError, ...]) -> UserError:
    error = UserError(what, where=where, remedy=remedy)
    error.more = more
    return error


def diverged(what: str) -> UserError:
    """The error of training that diverged: its loss or weights are not finite, and no artifact is made of them."""
    remedy = "lower the learning rate, lengthen its warm-up, or clip gradients lower"
    return UserError(f"training diverged: {what}", remedy=remedy)


class InfraError(LehrError):
    """The machine, network or store failed. A retry elsewhere can help."""

    owner = "infra"
    exit_code = 75  # EX_TEMPFAIL: a caller may try again


class NodeFault(InfraError):
    """A device of this machine failed, by the driver's own message. A retry must go to another machine."""

    owner = "node"


class Preempted(LehrError):
    """The machine was taken away (SIGTERM), or a newer attempt began. The state is saved; run again to continue."""

    owner = "preempted"
    exit_code = 143


class Interrupted(Preempted):
    """Ctrl-C was pressed. What can be saved is saved; run again to continue."""

    exit_code = 130  # 128 + SIGINT, as in shells


class Bug(LehrError):
    """A broken invariant of our own code."""

    owner = "bug"
    exit_code = 70


_KINDS = {kind.__name__: kind for kind in (InfraError, NodeFault, Preempted, Interrupted, Bug)}


def in_words(error: BaseException) -> dict[str, str]:
    """`error` as plain values, to send to another process. Exceptions that are no LehrError become a Bug; KeyboardInterrupt
    becomes Interrupted, other BaseExceptions Preempted."""
    if isinstance(error, OSError):
        error = from_os_error(error)
    if isinstance(error, UserError):
        return {"kind": "UserError", "what": error.what, "where": error.where, "remedy": error.remedy}
    if isinstance(error, LehrError):
        return {"kind": type(error).__name__, "what": str(error), "notes": "\n".join(getattr(error, "__notes__", []))}
    kind = "Bug" if isinstance(error, Exception) else "Interrupted" if isinstance(error, KeyboardInterrupt) else "Preempted"
    return {"kind": kind, "what": f"{type(error).__name__}: {error}"}


def from_words(words: dict[str, str]) -> LehrError:
    """The error that `in_words` described."""
    if words["kind"] == "UserError":
        return UserError(words["what"], where=words["where"], remedy=words["remedy"])
    error = _KINDS[words["kind"]](words["what"])
    if words.get("notes"):
        error.add_note(words["notes"])
    return error


# CUDA's messages for a failed device (cudaError 46, 100, 214, 220, 714, 721, 802, 999). Illegal addresses, assertions and
# exhausted memory are left out: those are mistakes of programs.
_DEVICE = (
    "cuda-capable device(s) is/are busy or unavailable",
    "no cuda-capable device is detected",
    "uncorrectable ecc error",
    "uncorrectable nvlink error",
    "hardware stack error",
    "contained by hardware",
    "unknown error",
    "system not yet initialized",
)
# How PyTorch begins a message that quotes the driver. Anywhere else the same words may come from a file name or a user's text.
_QUOTES_DRIVER = re.compile(
    r"(?:CUDA (?:driver )?error: |NCCL error[^\n]*\n(?:[^\n]*\n)*?(?:Last error: *)?Cuda failure (?:\d+ )?'"
    r"|Unexpected error from cudaGetDeviceCount\(\)\.[^\n]* Error \d+: )"
    rf"(?:{'|'.join(map(re.escape, _DEVICE))})",
    re.IGNORECASE,
)
_MESSAGE_CHARACTERS = 20_000  # searched at most: bounds the time of the regular expression


def node_fault(error: BaseException) -> NodeFault | None:
    """`error` as a NodeFault if it is one, or if it reports that a device of this process failed; otherwise None.

    Only the driver's own messages count: errors of PyTorch that begin with them, and errors of NVML. Our own errors, those of
    the operating system and those of another rank (an InfraError here) may quote paths, documents and another machine's faults.
    """
    if isinstance(error, NodeFault):
        return error
    text = str(error)[:_MESSAGE_CHARACTERS]
    if type(error).__module__.split(".")[0] == "pynvml":
        failed = text.lower().startswith("gpu is lost")
    else:
        failed = isinstance(error, RuntimeError) and _QUOTES_DRIVER.match(text) is not None
    return NodeFault(" ".join(text.split())[:500]) if failed else None


_FREE = "free some space or choose another --out; then run the same command again"
_MAY = "choose a folder that you may write with --out, or change its permissions"
_NAME = "give another path"
# Errors that the same command meets again however often it is retried: only a person can remove the cause.
_LASTING = {
    errno.ENOSPC: ("the disk is full", _FREE),
    errno.EDQUOT: ("the disk quota is used up", _FREE),
    errno.EFBIG: ("a file grew beyond what the system allows", "raise the limit (`ulimit -f`), or choose another --out"),
    errno.EACCES: ("permission denied", _MAY),
    errno.EPERM: ("operation not permitted", _MAY),
    errno.EROFS: ("the file system is read-only", "choose a writable folder with --out"),
    errno.ENOTDIR: ("a file is where a folder is needed", "choose another --out, or move that file away"),
    errno.EISDIR: ("a folder is where a file is needed", "give a file, or move that folder away"),
    errno.EEXIST: ("this name is already in use", "move it away, or give another path"),
    errno.ENOTEMPTY: ("a folder that is not empty has this name already", "move it away, or give another path"),
    errno.ENOENT: ("no such file or folder", "find out what removed it, or give another path; then run the same command again"),
    errno.ENAMETOOLONG: ("the name is too long", "give a shorter path"),
    errno.ELOOP: ("its symbolic links form a circle", "mend the links, or give another path"),
    errno.EINVAL: ("the system does not accept such a path or value here", _NAME),
    errno.EILSEQ: ("the file system does not accept such a name", _NAME),
    errno.ENXIO: ("no such device", _NAME),
    errno.ENODEV: ("no such device", _NAME),
    errno.EOPNOTSUPP: ("the file system cannot do this", "choose another --out"),
}
_OF_SOCKETS_TOO = (errno.EINVAL, errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP)  # without a path they may concern the network


def from_os_error(error: OSError, where: str | Path = "") -> LehrError:
    """An operating system error as one with an owner and a remedy: what a retry cannot fix is a UserError."""
    place = str(where or error.filename or "")
    if isinstance(error, gzip.BadGzipFile):
        return UserError(f"damaged gzip file ({error})", where=place, remedy="fetch or make the file again")
    known = _LASTING.get(error.errno or 0)
    if known is None or (not place and error.errno in _OF_SOCKETS_TOO):
        return InfraError(f"{place}: {error.strerror or error}" if place else str(error))
    return UserError(known[0], where=place, remedy=known[1])


def whose(error: BaseException) -> str:
    """Who owns an error, in one word: `user`, `machine`, `preempted` or `lehr`."""
    known = from_os_error(error) if isinstance(error, OSError) else error
    if isinstance(known, UserError):
        return "user"
    if isinstance(known, InfraError):
        return "machine"
    return "preempted" if isinstance(known, Preempted | KeyboardInterrupt) else "lehr"
