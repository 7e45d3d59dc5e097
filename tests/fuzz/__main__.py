"""`make fuzz`: the properties of this folder with fresh examples, one file after another, until FUZZ_MINUTES (60) are over.

Ends with 1 at the first example that fails, and says how to repeat it. An example that ends the whole process leaves its files.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path

HERE = Path(__file__).resolve().parent
FACTOR = 20  # times as many examples a round as in the test suite: a minute or two


def main() -> int:
    minutes = float(os.environ.get("FUZZ_MINUTES", "60"))
    ends = time.monotonic() + 60 * minutes
    files = [path for path in sorted(HERE.glob("test_*.py")) if not sys.argv[1:] or path.stem in sys.argv[1:]]
    rounds = 0
    for file in cycle(files):
        if time.monotonic() > ends:
            break
        seed = secrets.randbits(32)
        options = [str(file.relative_to(HERE.parents[1])), "-x", "--timeout=3600", f"--hypothesis-seed={seed}"]
        command = [sys.executable, "-m", "pytest", *options]
        done = subprocess.run(command, cwd=HERE.parents[1], env={**os.environ, "FUZZ_FACTOR": str(FACTOR)}, check=False)
        if done.returncode:
            print(f"failed; repeat it with: FUZZ_FACTOR={FACTOR} {' '.join(command)}", flush=True)
            return 1
        rounds += 1
    print(f"{minutes:g} minutes, {rounds} rounds over {len(files)} files: nothing found", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
