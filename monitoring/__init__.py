"""What observes a run: metric names, Prometheus exporter, MLflow and terminal trackers, energy meter.

Import the module that you need: the package itself imports nothing, so that `lehr.monitoring.metrics` is cheap to import.
"""
