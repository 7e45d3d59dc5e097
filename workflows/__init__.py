"""Flyte workflows: they only connect tasks and compute nothing."""

import sys
from importlib import import_module

if __name__ == "workflows":
    # pyflyte names a file's module by its folder: `workflows`. Map that name to `lehr.workflows`: a pod finds tasks by the
    # names under which they were registered, only `lehr.workflows` exists in an installation, and no file may be loaded twice.
    for _name in (f"{__name__}.run", f"{__name__}.plans", __name__):
        sys.modules[_name] = import_module(f"lehr.{_name}")
