"""What one check of a set-up found: `lehr doctor` makes a line of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lehr.runtime.errors import LehrError, UserError

WARN_SECONDS, FAIL_SECONDS = 30.0, 300.0  # S3 refuses a request that is 15 minutes off; tokens and Leases bear less


class Verdict(StrEnum):
    """`warn`: works, and less well than it could. `fail`: will not work. `not looked at`: it could not be found out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNSEEN = "not looked at"


@dataclass(frozen=True)
class Finding:
    """`found` says what was seen, `remedy` how to mend it; both for people, without a full stop."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, Verdict.OK, found)


def warn(check: str, found: str, remedy: str = "") -> Finding:
    return Finding(check, Verdict.WARN, found, remedy)


def fail(check: str, found: str, remedy: str = "") -> Finding:
    return Finding(check, Verdict.FAIL, found, remedy)


def unseen(check: str, found: str, remedy: str = "") -> Finding:
    return Finding(check, Verdict.UNSEEN, found, remedy)


def of_error(check: str, error: LehrError) -> Finding:
    """A failed check, in the words of the error that a command would have ended with."""
    if isinstance(error, UserError):
        return fail(check, f"{error.where}: {error.what}" if error.where else error.what, error.remedy)
    return fail(check, " ".join(str(error).split()))


def clock_skew(check: str, theirs: float | None, ours: float, whose: str) -> Finding:
    """`theirs` and `ours` are Unix seconds at one moment; None where the other side does not tell its time."""
    if theirs is None:
        return unseen(check, f"{whose} does not say what time it is")
    ahead = ours - theirs
    if abs(ahead) < WARN_SECONDS:
        return ok(check, f"within {WARN_SECONDS:.0f} s of {whose}'s")
    found = f"this machine's is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} {whose}'s"
    remedy = "let NTP set the one that is wrong (chrony, or `timedatectl set-ntp true`)"
    return (fail if abs(ahead) >= FAIL_SECONDS else warn)(check, found, remedy)
