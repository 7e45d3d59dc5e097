"""`lehr serve` whose decoding hangs or fails while FOLDER has a file of that name: faulty_server.py FOLDER ARGUMENT ..."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from lehr.cli.main import main
from lehr.model.online import OnlineDecoder, Picked


def break_on_demand(folder: Path) -> None:
    whole = OnlineDecoder.step

    def step(decoder: OnlineDecoder) -> list[Picked]:
        while (folder / "hang").exists():
            time.sleep(0.05)
        if (folder / "fail").exists():
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return whole(decoder)

    OnlineDecoder.step = step  # type: ignore[method-assign]


if __name__ == "__main__":
    break_on_demand(Path(sys.argv[1]))
    sys.exit(main(["serve", *sys.argv[2:]]))
