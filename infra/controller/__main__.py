"""`python -m lehr.infra.controller [SETTINGS.yaml]`, for images without the `lehr` command."""

from __future__ import annotations

import sys
from pathlib import Path

from lehr.infra.controller.run import run
from lehr.infra.controller.settings import Settings
from lehr.runtime.errors import LehrError


def main(arguments: list[str]) -> int:
    try:
        return run(Settings.load(Path(arguments[0])) if arguments else Settings())
    except LehrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
