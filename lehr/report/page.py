"""The page: sections in reading order, one style sheet, no script, no network."""

from __future__ import annotations

from lehr.report import headline, learning, plan, provenance, results, timeline
from lehr.report.data import ReportData
from lehr.report.format import esc
from lehr.report.style import CSS

# The page forbids itself everything but its own styles: text of a model or a data set can do nothing here.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def _sections(data: ReportData) -> tuple[list[tuple[str, str, str]], list[str]]:
    """(anchor, name in the contents, section), in reading order, of those that there is something for; names of the others."""
    every = [
        ("scores", "Scores", results.scores(data)),
        *results.soups(data),
        ("conversations", "Before and after", results.conversations(data)),
        ("timeline", "Stages", timeline.timeline(data)),
        ("learning", "Pretraining", learning.pretraining(data)),
        ("post-training", "Post-training", learning.post_training(data)),
        ("data", "Data", provenance.funnel(data)),
        ("lineage", "Lineage", provenance.graph(data)),
        ("cost", "Time and energy", provenance.cost(data)),
        ("plan", "Plan and reality", plan.plan_section(data)),
        ("reproduce", "Reproduce it", provenance.reproduce(data)),
    ]
    return [section for section in every if section[2]], [name for _, name, html in every if not html]


def render_fragment(data: ReportData) -> str:
    """The report without <html> and <head>, for a page that has its own: a Flyte Deck."""
    sections, absent = _sections(data)
    links = "".join(f'<a href="#{anchor}">{esc(name)}</a>' for anchor, name, _ in sections)
    contents = f'<nav aria-label="Sections">{links}</nav>'
    body = "".join(html for _, _, html in sections)
    if absent:  # said, or a reader would look for them
        body += f'<p class="caption">Not in this run: {esc(", ".join(absent))}.</p>'
    return f'<style>{CSS}</style><div class="lehr-report"><main>{headline.headline(data)}{contents}{body}</main></div>'


def render(data: ReportData) -> str:
    """The whole report as one HTML file."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{esc(data.run)} · Lehr run report</title><style>body{{margin:0}}</style></head>"
        f"<body>{render_fragment(data)}</body></html>\n"
    )
