"""The page: sections in reading order, one style sheet, no script, no network."""

from __future__ import annotations

from lehr.report import headline, learning, plan, provenance, results
from lehr.report.data import ReportData
from lehr.report.format import esc
from lehr.report.style import CSS

_NAV = (
    ("scores", "Scores"),
    ("soup", "Soup"),
    ("conversations", "Before and after"),
    ("timeline", "Stages"),
    ("learning", "Pretraining"),
    ("post-training", "Post-training"),
    ("data", "Data"),
    ("lineage", "Lineage"),
    ("cost", "Time and energy"),
    ("plan", "Plan and reality"),
    ("reproduce", "Reproduce it"),
)
# The page forbids itself everything but its own styles: text of a model or a data set can do nothing here.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def render_fragment(data: ReportData) -> str:
    """The report without <html> and <head>, for a page that has its own: a Flyte Deck."""
    links = "".join(f'<a href="#{anchor}">{esc(name)}</a>' for anchor, name in _NAV)
    parts = [
        headline.headline(data),
        f'<nav aria-label="Sections">{links}</nav>',
        results.scores(data),
        results.soup(data),
        results.conversations(data),
        headline.timeline(data),
        learning.pretraining(data),
        learning.post_training(data),
        provenance.funnel(data),
        provenance.graph(data),
        provenance.cost(data),
        plan.plan_section(data),
        provenance.reproduce(data),
    ]
    return f'<style>{CSS}</style><div class="lehr-report"><main>{"".join(parts)}</main></div>'


def render(data: ReportData) -> str:
    """The whole report as one HTML file."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{esc(data.run)} · Lehr run report</title><style>body{{margin:0}}</style></head>"
        f"<body>{render_fragment(data)}</body></html>\n"
    )
