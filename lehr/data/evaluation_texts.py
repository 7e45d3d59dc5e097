"""The texts of evaluation examples, by task, and by what a training document is said to hold one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

_NEVER = 1 << 62  # n-grams, more than a document has


class TextsByTask(Mapping[str, list[str]]):
    """Task -> texts. Making them takes half a second, so each task's are made on first access: a run reads its documents, and
    reports errors in them, before that. `by_paragraph`: the tasks of which whole paragraphs alone count, as Paloma's do."""

    def __init__(
        self, tasks: Sequence[str], make: Callable[[str], list[str]], by_paragraph: frozenset[str] = frozenset()
    ) -> None:
        self._tasks, self._make, self.by_paragraph = dict.fromkeys(tasks), make, by_paragraph
        self._made: dict[str, list[str]] = {}

    def __getitem__(self, task: str) -> list[str]:
        if task in self._tasks and task not in self._made:
            self._made[task] = self._make(task)
        return self._made[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)


def least_ngrams(texts: Mapping[str, Sequence[str]], hits: int) -> dict[str, int]:
    """From how many shared n-grams on a document holds a task's texts: `hits`, and never where paragraphs alone count."""
    by_paragraph = texts.by_paragraph if isinstance(texts, TextsByTask) else frozenset[str]()
    return {task: _NEVER if task in by_paragraph else hits for task in texts}
