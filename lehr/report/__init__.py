"""The run's report: one HTML page without scripts or network, and the model card. Pure Python, no torch.

A name is loaded when it is asked for: what watches a run needs the formats of numbers, and no page.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lehr.report.card import model_card
    from lehr.report.data import (
        Environment,
        PlannedStage,
        ReportData,
        Sample,
        Site,
        StageReport,
        Totals,
    )
    from lehr.report.inputs import SetReport, SourceFunnel
    from lehr.report.page import render, render_fragment
    from lehr.report.scores import ScoreRecord
    from lehr.report.unfinished import Unfinished

__all__ = [
    "Environment",
    "PlannedStage",
    "ReportData",
    "Sample",
    "ScoreRecord",
    "SetReport",
    "Site",
    "SourceFunnel",
    "StageReport",
    "Totals",
    "Unfinished",
    "model_card",
    "render",
    "render_fragment",
]
_ELSEWHERE = {"model_card": "card", "render": "page", "render_fragment": "page", "ScoreRecord": "scores"}
_ELSEWHERE["Unfinished"] = "unfinished"  # others: data


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'data')}"), name)
