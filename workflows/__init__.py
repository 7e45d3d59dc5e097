"""Flyte workflows: wiring, no arithmetic."""

import sys
from importlib import import_module

if __name__ == "workflows":
    # pyflyte names a file by its folder. What it gets under that name is `lehr.workflows`: a pod finds tasks by the names that
    # they are registered under, an installation has no other, and no file is loaded twice.
    for _name in (f"{__name__}.run", __name__):
        sys.modules[_name] = import_module(f"lehr.{_name}")
