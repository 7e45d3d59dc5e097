"""What watches a run: metric names, Prometheus exporter, MLflow and terminal trackers, energy meter.

Import the module that you need: this package loads nothing by itself, so that `lehr.monitoring.metrics` stays free to read.
"""
