"""The run's report: one HTML page without scripts or network, and the model card. Pure Python, no torch."""

from lehr.report.card import model_card
from lehr.report.data import Environment, PlannedStage, ReportData, Sample, Site, SourceFunnel, StageReport, Totals
from lehr.report.page import render, render_fragment
from lehr.report.scores import ScoreRecord

__all__ = [
    "Environment",
    "PlannedStage",
    "ReportData",
    "Sample",
    "ScoreRecord",
    "Site",
    "SourceFunnel",
    "StageReport",
    "Totals",
    "model_card",
    "render",
    "render_fragment",
]
