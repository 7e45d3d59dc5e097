"""The templates' environment. Every text is escaped; markup is what `svg.figure` drew, and says so by its type."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lehr.report import format as fmt
from lehr.report.differences import difference_cells
from lehr.runtime.text import visible

_HERE = Path(__file__).parent


def _shown(value: object) -> object:
    """Of every expression, before it is escaped: characters that a browser would obey are made visible."""
    return value if isinstance(value, Markup) else visible(str(value))


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader([_HERE / "templates", _HERE]),  # the second: style sheets
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    # `count` takes the place of Jinja's own, which is `length` by another name.
    for show in (fmt.count, fmt.duration, fmt.energy, fmt.error, fmt.sample, fmt.mass, fmt.number, fmt.value, fmt.words):
        found.filters[show.__name__] = show
    found.filters["difference"] = difference_cells
    found.filters["thousands"] = "{:,}".format
    return found


def rendered(template: str, **values: object) -> str:
    """A template of lehr/report/templates, filled. Raises jinja2.UndefinedError where it asks for what is not in `values`."""
    return _environment().get_template(template).render(values)
