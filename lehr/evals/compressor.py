"""How many bytes xz makes of a text alone, and of that text with each of others behind it: the long one is read once.

Run as a program of its own (`compressed_sizes` does): the state of Python's compressor cannot be copied, but a process can, and
one without threads can do so safely. It reads a line of JSON with the texts' sizes and then the texts, and prints a list.
"""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from collections.abc import Sequence

_LEAST, _LARGEST = 1 << 16, 1536 << 20  # bytes of the dictionary
_PIECE = 1 << 16  # bytes at a time: of what it is given at once, liblzma puts all but the first part off to the end


def compressed_sizes(first: bytes, others: Sequence[bytes]) -> list[int]:
    """Of `first` alone, then of `first` with each of the others behind it; as xz -6 compresses them, with a dictionary that
    holds everything and without a container's header. Raises OSError where the program could not do so."""
    head = json.dumps([len(first), *map(len, others)]).encode()
    told = b"".join([head, b"\n", first, *others])
    done = subprocess.run([sys.executable, "-I", __file__], input=told, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise OSError(f"the compressor of {len(first):,} bytes ended with {done.returncode}")
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
    """The whole size with `rest` as the end, found in a copy of this process: here the compressor stays as it is."""
    answer, question = os.pipe()
    child = os.fork()
    if child == 0:
        size = so_far + len(compressor.compress(rest)) + len(compressor.flush())
        os.write(question, b"%d" % size)
        os._exit(0)
    os.close(question)
    with os.fdopen(answer, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return int(said)


if __name__ == "__main__":
    main()
