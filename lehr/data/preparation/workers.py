"""Parts of a corpus over processes of this machine. What is done stays done: a killed run repeats the parts that it was at."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, Self, TypeVar

from lehr.runtime.errors import InfraError, from_words, in_words
from lehr.runtime.jail.kernel import die_with_parent

_DEATHS = 4  # times that workers are killed, by the kernel for want of memory or by anybody, before the run gives up


class Task(Protocol):
    """The work on one part: a picklable value. Its last file makes it `done`."""

    def done(self) -> bool: ...

    def fetched(self) -> Self:
        """The same work for a process that reaches nothing but this machine's disk."""
        ...

    def __call__(self) -> Any: ...


T = TypeVar("T", bound=Task)


def run_all(tasks: Sequence[T], workers: int, finished: Callable[[T], None]) -> None:
    """Call every task that is not done, in `workers` processes; `finished` is called for each, in any order, also for those
    that were done before. Raises what a task raises, and InfraError if workers keep being killed."""
    todo = _undone(tasks, finished)
    if workers <= 1 or len(todo) <= 1:
        for task in todo:
            _call_undone(task)
            finished(task)
        return
    for _ in range(_DEATHS):
        try:
            for task in _in_processes(todo, min(workers, len(todo))):
                todo = [other for other in todo if other is not task]
                finished(task)
            return
        except BrokenProcessPool:
            todo = _undone(todo, finished)
    what = f"{_DEATHS} times a process that prepared data was killed, perhaps for want of memory"
    raise InfraError(f"{what}; run again with lower data.processes: what is done is kept")


def _undone(tasks: Sequence[T], finished: Callable[[T], None]) -> list[T]:
    """Those of `tasks` that are not done; the others are told of."""
    todo = []
    for task in tasks:
        if task.done():
            finished(task)
        else:
            todo.append(task)
    return todo


def _in_processes(todo: Sequence[T], processes: int) -> Iterator[T]:
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), begin)
    try:
        waiting = iter([*todo])
        running: dict[Future[dict[str, str] | None], T] = {}
        while True:
            while len(running) < 2 * processes and (task := next(waiting, None)) is not None:
                running[pool.submit(_call, task.fetched())] = task
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                if words := future.result():
                    raise from_words(words)
                yield task
    finally:
        for child in set(multiprocessing.active_children()) - before:
            child.kill()  # idle ones too: all is on disk
        pool.shutdown(cancel_futures=True)


def begin() -> None:
    """The first thing that a worker process does: it ends with whoever started it."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever gave the work ends it
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def _call_undone(task: Task) -> None:
    """By now somebody else may have done it: on a cluster, an attempt that has not left yet."""
    if not task.done():
        task()


def _call(task: Task) -> dict[str, str] | None:
    """Errors as words: not every exception survives pickling."""
    try:
        _call_undone(task)
    except Exception as error:  # noqa: BLE001 - told to the process that gave the work
        return in_words(error)
    return None
