"""The list of all metric names: exporters, dashboards, alert rules and docs/metrics.md take their names from here."""

from lehr.monitoring.metrics.fleet import FLEET_METRICS, Fleet
from lehr.monitoring.metrics.metric import LABELS, PREFIX, Label, Metric
from lehr.monitoring.metrics.recorded import RECORDED
from lehr.monitoring.metrics.run import METRICS
from lehr.monitoring.metrics.serving import SERVING_METRICS

__all__ = ["FLEET_METRICS", "LABELS", "METRICS", "PREFIX", "RECORDED", "SERVING_METRICS", "Fleet", "Label", "Metric"]
