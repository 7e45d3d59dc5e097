"""The size under xz of a text alone, and with each of other texts appended: the long text is compressed only once.

Run as a program of its own (by `compressed_sizes`): the state of Python's compressor cannot be copied, but a process can be
forked, safely if it has no threads. It reads a line of JSON with the texts' sizes, then the texts, and prints a list of sizes.
"""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from collections.abc import Sequence

_LEAST, _LARGEST = 1 << 16, 1536 << 20  # bytes of the dictionary; the largest is liblzma's own limit
_PIECE = 1 << 16  # bytes in one call: liblzma leaves most of a longer input to the end, where every fork would repeat it


def compressed_sizes(first: bytes, others: Sequence[bytes]) -> list[int]:
    """The compressed size of `first` alone, then of `first` with each of the others appended, as xz -6 without a container
    header and with a dictionary that holds everything. Raises OSError if the program fails."""
    head = json.dumps([len(first), *map(len, others)]).encode()
    told = b"".join([head, b"\n", first, *others])
    # -I: isolated from the environment and the current folder, whose modules could shadow the standard library's.
    done = subprocess.run([sys.executable, "-I", __file__], input=told, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise OSError(f"the compressor process for {len(first):,} bytes ended with exit code {done.returncode}")
    sizes: list[int] = json.loads(done.stdout)
    return sizes


def main() -> None:
    sizes = json.loads(sys.stdin.buffer.readline())
    first, *others = (sys.stdin.buffer.read(size) for size in sizes)
    dictionary = min(max(len(first) + max(map(len, others), default=0), _LEAST), _LARGEST)
    compressor = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": dictionary}])
    so_far = sum(len(compressor.compress(first[at : at + _PIECE])) for at in range(0, len(first), _PIECE))
    print(json.dumps([_finished(compressor, so_far, other) for other in (b"", *others)]))


def _finished(compressor: lzma.LZMACompressor, so_far: int, rest: bytes) -> int:
    """The whole size with `rest` at the end, computed in a forked copy of this process, which leaves this compressor
    unchanged."""
    answer, question = os.pipe()
    child = os.fork()
    if child == 0:
        size = so_far + len(compressor.compress(rest)) + len(compressor.flush())
        os.write(question, b"%d" % size)
        os._exit(0)  # not sys.exit, which would go back up through the parent's code
    os.close(question)  # else the pipe would never end for the reader
    with os.fdopen(answer, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return int(said)


if __name__ == "__main__":
    main()
