"""Errors carry their owner: the owner decides whether a retry can help and which exit code a user sees."""

from __future__ import annotations

import errno
import gzip
import re
from pathlib import Path

_WORD = re.compile(r"(?!lehr\b)[a-z]+[ ,:;]")


class LehrError(Exception):
    """Base of every error Lehr raises on purpose. `owner` is who can mend it; `exit_code` is the command's."""

    owner = "bug"
    exit_code = 1


class UserError(LehrError):
    """Bad input. Never retried: the same input fails the same way.

    `what` is wrong, `where` it stands (file, line, key), and `remedy` is what to do about it.
    """

    owner = "user"
    exit_code = 2

    def __init__(self, what: str, *, where: str | Path = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, str(where), remedy
        self.more: tuple[UserError, ...] = ()  # further mistakes of the same input, a line each
        super().__init__(what)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        mend = f" {sentence(self.remedy, begins=True)}" if self.remedy else ""
        return f"{place}{sentence(self.what)}{mend}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive Exception's own pickling, and ranks send errors to each other.
        return (_rebuild_user_error, (self.what, self.where, self.remedy, self.more))


def sentence(text: str, *, begins: bool = False) -> str:
    """With a full stop, unless it has its end. One that `begins` after another has a capital, where a word stands first and not
    a key, a path or a command."""
    if begins and _WORD.match(text):
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "?", "!", "?)")) else f"{text}."


def _rebuild_user_error(what: str, where: str, remedy: str, more: tuple[UserError, ...]) -> UserError:
    error = UserError(what, where=where, remedy=remedy)
    error.more = more
    return error


def diverged(what: str) -> UserError:
    """Training that diverged: its loss or weights are not finite, and nothing of it is kept as an artifact."""
    remedy = "lower the learning rate, lengthen its warm-up, or clip gradients lower"
    return UserError(f"training diverged: {what}", remedy=remedy)


class InfraError(LehrError):
    """The machine, network or store failed. A retry elsewhere can help."""

    owner = "infra"
    exit_code = 75  # EX_TEMPFAIL: a caller may try again


class NodeFault(InfraError):
    """A device of this machine failed, by its own word. A retry must go to another machine."""

    owner = "node"


class Preempted(LehrError):
    """Somebody took the machine away. State is saved; run again to continue."""

    owner = "preempted"
    exit_code = 143


class Interrupted(Preempted):
    """Somebody pressed Ctrl-C. What can be saved is; run again to continue."""

    exit_code = 130  # 128 + SIGINT, as a shell has it


class Bug(LehrError):
    """An invariant of ours does not hold."""

    owner = "bug"
    exit_code = 70


_KINDS = {kind.__name__: kind for kind in (InfraError, NodeFault, Preempted, Interrupted, Bug)}


def in_words(error: BaseException) -> dict[str, str]:
    """`error` as plain values, for another process. What is no LehrError becomes a Bug, what is no Exception Preempted
    or Interrupted."""
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


# CUDA's words for a device that failed (cudaError 46, 100, 214, 220, 714, 721, 802, 999). Not among them: illegal
# addresses, assertions and memory that ran out, which are programs' mistakes.
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
# How PyTorch begins a message that quotes the driver. Anywhere else the same words may be a file's name or a text of users.
_QUOTES_DRIVER = re.compile(
    r"(?:CUDA (?:driver )?error: |NCCL error[^\n]*\n(?:[^\n]*\n)*?(?:Last error: *)?Cuda failure (?:\d+ )?'"
    r"|Unexpected error from cudaGetDeviceCount\(\)\.[^\n]* Error \d+: )"
    rf"(?:{'|'.join(map(re.escape, _DEVICE))})",
    re.IGNORECASE,
)
_MESSAGE_CHARACTERS = 20_000


def node_fault(error: BaseException) -> NodeFault | None:
    """`error` as a NodeFault if it is one, or if in it a device of this process says that it failed; else None.

    Only the driver's own words count: what PyTorch raised and begins with them, or an error of NVML. An error of ours, of the
    system or of another rank (InfraError in its words) may quote paths, documents and another machine.
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
# What the same command meets again however often it is tried: no retry mends it, a person does.
_LASTING = {
    errno.ENOSPC: ("the disk is full", _FREE),
    errno.EDQUOT: ("the disk quota is used up", _FREE),
    errno.EFBIG: ("a file grew beyond what the system allows", "raise the limit (`ulimit -f`), or choose another --out"),
    errno.EACCES: ("permission denied", _MAY),
    errno.EPERM: ("operation not permitted", _MAY),
    errno.EROFS: ("the file system is read-only", "choose a writable folder with --out"),
    errno.ENOTDIR: ("a file stands where a folder is needed", "choose another --out, or move that file away"),
    errno.EISDIR: ("a folder stands where a file is needed", "give a file, or move that folder away"),
    errno.EEXIST: ("something stands there already", "move it away, or give another path"),
    errno.ENOTEMPTY: ("a folder that is not empty stands there already", "move it away, or give another path"),
    errno.ENOENT: ("no such file or folder", "see what took it away, or give another path; then run the same command again"),
    errno.ENAMETOOLONG: ("the name is too long", "give a shorter path"),
    errno.ELOOP: ("its links lead round in a circle", "mend the links, or give another path"),
    errno.EINVAL: ("the system takes no such path or value here", _NAME),
    errno.EILSEQ: ("the file system takes no such name", _NAME),
    errno.ENXIO: ("no such device", _NAME),
    errno.ENODEV: ("no such device", _NAME),
    errno.EOPNOTSUPP: ("the file system cannot do this", "choose another --out"),
}
_OF_SOCKETS_TOO = (errno.EINVAL, errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP)  # without a path the network may mean them


def from_os_error(error: OSError, where: str | Path = "") -> LehrError:
    """Turn an operating system error into one that names its owner and its remedy: what a retry cannot mend is the user's."""
    place = str(where or error.filename or "")
    if isinstance(error, gzip.BadGzipFile):
        return UserError(f"damaged gzip file ({error})", where=place, remedy="fetch or make the file again")
    known = _LASTING.get(error.errno or 0)
    if known is None or (not place and error.errno in _OF_SOCKETS_TOO):
        return InfraError(f"{place}: {error.strerror or error}" if place else str(error))
    return UserError(known[0], where=place, remedy=known[1])
