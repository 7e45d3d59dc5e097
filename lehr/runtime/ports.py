"""What the library asks of the world, as Protocols with null implementations: nothing here imports a service."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from lehr.artifacts.artifact import Artifact
from lehr.runtime.clock import Clock as Clock
from lehr.runtime.clock import SystemClock as SystemClock
from lehr.runtime.energy import NullPower as NullPower
from lehr.runtime.energy import Power as Power
from lehr.runtime.objects import Conflict as Conflict
from lehr.runtime.objects import Objects as Objects


class Tracker(Protocol):
    """Listens to a run. Every method returns quickly and never raises: training does not stop for its trackers.

    `stage` is a recipe's stage name (`stage1`, `anneal-42`, ...). Metric names carry their unit.
    """

    def stage_started(self, stage: str, *, total_steps: int, params: Mapping[str, object]) -> None: ...

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None: ...

    def evaluated(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Measured on development data on the way, of the model as it is after `step`."""
        ...

    def stage_finished(self, stage: str, *, uri: str, reused: bool, seconds: float) -> None: ...

    def scored(self, stage: str, records: list[dict[str, object]]) -> None: ...

    def note(self, text: str) -> None: ...


class NullTracker:
    """Hears everything, says nothing."""

    def stage_started(self, stage: str, *, total_steps: int, params: Mapping[str, object]) -> None:
        return None

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        return None

    def evaluated(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        return None

    def stage_finished(self, stage: str, *, uri: str, reused: bool, seconds: float) -> None:
        return None

    def scored(self, stage: str, records: list[dict[str, object]]) -> None:
        return None

    def note(self, text: str) -> None:
        return None


class Sampler(Protocol):
    """Who answers prompts, for roll-outs, preference pairs and evaluation: the model itself (lehr.model.generate), or an
    inference engine that serves its weights. Token ids go in and come out, so no tokenizer can differ."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        stop_ids: Sequence[int] = (),
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[list[int]]:
        """New ids for each prompt, in order, up to and including the first stop id. Temperature 0 is greedy; sampling is a
        function of `seed` and the prompts, or a run that goes on after a kill is another one."""
        ...

    def follow(self, step: int) -> None:
        """The model's weights are those after `step` updates from now on: an engine elsewhere takes them over before it
        answers again. Every rank calls it, before each roll-out of on-policy training."""
        ...


def itself(model: Any) -> Any:
    """A model is its own sampler."""
    return model


REMOTE = ".remote"  # ends the name of a file that says where a part of a save is which this machine does not have


class FencingToken(Protocol):
    """One attempt's right to publish under a name, be it a resume file or the artifact. Attempts can overlap; the right is
    lost for good at the moment when a newer attempt begins."""

    @property
    def number(self) -> int:
        """Counted from 1 over all attempts at the name."""
        ...

    @property
    def work(self) -> str:
        """Names the run and the work over all attempts and machines; empty for work that nothing else can be at."""
        ...

    @property
    def shared(self) -> bool:
        """Whether every machine of a job sees the scratch and the artifacts under the paths that this one sees."""
        ...

    def enter(self, scratch: Path, note: Callable[[str], None]) -> None:
        """The work begins in `scratch`: `note` what became of older attempts there, a line each, and hold a liveness lock by
        which the next attempt can tell how this one ends."""
        ...

    def leave(self, ending: str) -> None:
        """The work is over; `ending` says what with, in a line, and is empty where nobody needs to know."""
        ...

    def check(self) -> None:
        """Raises Preempted if a newer attempt has begun."""
        ...

    def critical_section(self) -> AbstractContextManager[None]:
        """While inside, no newer attempt can begin; raises Preempted if one has. For the renames alone, not for writing. Where
        the scratch is this attempt's own, what is renamed there is nobody else's yet, and a look at the start is enough."""
        ...

    def upload(self) -> None:
        """What the scratch holds now (the files in it, and RESUME) is a state to go on from: where the next attempt may begin
        on another machine, copy it there, beside the work. Called inside a critical section. Raises what an earlier copy
        failed with."""
        ...

    def flush(self) -> None:
        """Return when what was kept is safe. Raises what copying failed with."""
        ...

    def here(self, path: Path) -> Path:
        """This machine's own path for one that rank 0 gave: an artifact is fetched, a scratch made. Where all machines see the
        same folders, and on rank 0's, it is that path."""
        ...

    def send(self, part: Path) -> str:
        """Copy a rank's part of a save to where `keep` can name it, from a machine that is not rank 0's; returns its key there.
        Empty where rank 0 sees the file itself."""
        ...

    def bring(self, folder: Path) -> None:
        """Make the parts that were sent and stand in `folder` as `NAME` + REMOTE ({object, bytes, sha256}) files of it."""
        ...

    def keep_entry(self, scratch: Path, name: str, entry: str) -> None:
        """Keep `entry` of the cost ledger under `name`, which one rank of one attempt writes, where every machine and the next
        attempt find it; it replaces that rank's earlier one. Raises what writing raises."""
        ...

    def entries(self, scratch: Path, prefix: str = "") -> dict[str, str]:
        """The ledger's entries by name, of all attempts, whose names begin with `prefix`."""
        ...


class OnlyAttempt:
    """The token of work that nobody else can be at."""

    number = 1
    work = ""
    shared = True

    def enter(self, scratch: Path, note: Callable[[str], None]) -> None:
        return None

    def leave(self, ending: str) -> None:
        return None

    def check(self) -> None:
        return None

    def critical_section(self) -> AbstractContextManager[None]:
        return nullcontext()

    def upload(self) -> None:
        return None

    def flush(self) -> None:
        return None

    def here(self, path: Path) -> Path:
        return path

    def send(self, part: Path) -> str:
        return ""

    def bring(self, folder: Path) -> None:
        return None

    def keep_entry(self, scratch: Path, name: str, entry: str) -> None:
        return None

    def entries(self, scratch: Path, prefix: str = "") -> dict[str, str]:
        return {}


ONLY_ATTEMPT = OnlyAttempt()


RESUME = "resume"  # the folder in a scratch whose files are always complete: they are replaced, never changed


class Store(Protocol):
    """Holds artifacts. A name is absent or complete; there is no third state.

    `get` and `put` are for small values, such as the record of attempts. In a store without locks, such as an object store,
    `put` is also the fence: what an attempt publishes becomes visible through one put on condition of the version that it read
    when it began.
    """

    def find(self, name: str) -> str | None:
        """The uri of the complete artifact `name`, or None."""
        ...

    def fetch(self, uri: str) -> Path:
        """A local folder with the artifact's files. Raises UserError if there is none."""
        ...

    def described(self, uri: str) -> Artifact:
        """The artifact's manifest, with or without its files. Raises UserError if there is none."""
        ...

    def earlier(self, stage: str) -> list[str]:
        """The uris of the complete artifacts whose names begin with that of a stage."""
        ...

    def begin(self, name: str) -> FencingToken:
        """Begin an attempt at `name`: older attempts are fenced off from now on."""
        ...

    def unfinished(self) -> dict[str, dict[str, str]]:
        """The ledgers (see FencingToken.entries) of work that has led to no artifact so far, by its name."""
        ...

    def scratch(self, name: str, fencing: FencingToken) -> Path:
        """The folder of this attempt at `name`, with the saves of earlier attempts: whatever must survive a kill."""
        ...

    def commit(self, name: str, folder: Path, fencing: FencingToken) -> str:
        """Publish `folder` (with its artifact.json) as `name`, atomically, and delete the scratch it is in. Returns the uri.
        Raises Preempted if a newer attempt has begun."""
        ...

    def get(self, key: str) -> tuple[str, str] | None:
        """A value and its version, or None."""
        ...

    def put(self, key: str, value: str, version: str | None) -> str:
        """Replace the value of that version (None: no value yet) and return the new version, atomically: S3's If-Match and
        If-None-Match. Raises Conflict if the present version is another."""
        ...
